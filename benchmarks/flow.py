"""TV-L1 by distmer's solver against OpenCV's: `python -m benchmarks.flow [--clips 96] [--json FILE]`.

One thread, and each pair by both in turn, the first one changing; seconds are of this process alone, so a
busy machine changes them little. Pairs are the aligned crops of the embedded data set, and images of a known
flow. "OpenCV from itself": how far its answer moves when x and y are exchanged in both images, which changes
nothing but the order of its sums.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Row, keep, machine
from distmer.commands.session import Given, Session
from distmer.config import FeatureConfig, Named
from distmer.features.flow import tvl1
from distmer.features.pipeline import FeatureRequest, extract, one_thread
from distmer.features.tvl1 import tvl1_numpy

Pair = tuple[Any, Any]

# u = a + b x + c y, v = d + e x + f y: px, with x and y in px from the middle
_MOTIONS = {
    "still": (0, 0, 0, 0, 0, 0),
    "translation": (0.6, 0, 0, -0.4, 0, 0),
    "zoom": (0, 0.012, 0, 0, 0, 0.012),
    "rotation": (0, 0, -0.012, 0, 0.012, 0),
    "shear": (0.3, 0, 0.015, 0, 0, 0),
}


def known_flows(size: int = 128) -> Iterator[tuple[str, Any, Any, Any]]:
    """Name, onset_HW, apex_HW, and the flow_HW2 between them, px. A texture given by a formula is moved by an
    affine map."""
    rng = np.random.default_rng(0)
    waves_W2 = rng.uniform(-0.9, 0.9, (40, 2))  # rad/px
    height_W, phase_W = rng.uniform(0.3, 1, 40), rng.uniform(0, 2 * np.pi, 40)

    def texture(x_HW: Any, y_HW: Any) -> Any:
        angle_HWW = x_HW[..., None] * waves_W2[:, 0] + y_HW[..., None] * waves_W2[:, 1] + phase_W
        return np.clip(np.rint(128 + 18 * (height_W * np.sin(angle_HWW)).sum(-1)), 0, 255).astype(np.uint8)

    y_HW, x_HW = np.mgrid[:size, :size] - (size - 1) / 2
    for name, (a, b, c, d, e, f) in _MOTIONS.items():
        # apex(x + u) = onset(x): the apex shows at p what the onset shows at the x that goes there
        back_22 = np.linalg.inv([[1 + b, c], [e, 1 + f]])
        from_x_HW = back_22[0, 0] * (x_HW - a) + back_22[0, 1] * (y_HW - d)
        from_y_HW = back_22[1, 0] * (x_HW - a) + back_22[1, 1] * (y_HW - d)
        flow_HW2 = np.stack([a + b * x_HW + c * y_HW, d + e * x_HW + f * y_HW], axis=-1)
        yield name, texture(x_HW, y_HW), texture(from_x_HW, from_y_HW), flow_HW2.astype(np.float32)


def crops(home: Path, clips: int) -> list[Pair]:
    """The aligned onset and apex of so many clips of the embedded data set."""
    found = Session.open(Given(None, (), str(home))).manifest().clips
    chosen = found[:: max(1, len(found) // clips)][:clips]
    config = FeatureConfig(flow=Named(name="dis"))
    rows = [extract(FeatureRequest(clip.id, clip.source), config) for clip in chosen]
    return [(row.channels["onset"], row.channels["apex"]) for row in rows]


def transposed(onset_HW: Any, apex_HW: Any) -> Any:
    """OpenCV's flow of the images with their axes exchanged, exchanged back."""
    flow_WH2 = tvl1(np.ascontiguousarray(onset_HW.T), np.ascontiguousarray(apex_HW.T))
    return flow_WH2.transpose(1, 0, 2)[..., ::-1]


def seconds(flow: Callable[..., Any], pair: Pair) -> tuple[float, Any]:
    begun = time.process_time()
    flow_HW2 = flow(*pair)
    return time.process_time() - begun, flow_HW2


def apart(one: Sequence[Any], other: Sequence[Any]) -> Any:
    """The endpoint differences of all pixels, px."""
    return np.stack([np.hypot(*np.moveaxis(a - b, -1, 0)) for a, b in zip(one, other, strict=True)])


def compared(what: str, pairs: Sequence[Pair]) -> Row:
    theirs, ours, ratios, plain, quick = [], [], [], [], []
    for number, pair in enumerate(pairs):
        both = {}
        for flow in (tvl1, tvl1_numpy) if number % 2 else (tvl1_numpy, tvl1):
            both[flow] = seconds(flow, pair)
        theirs.append(both[tvl1][1])
        ours.append(both[tvl1_numpy][1])
        plain.append(both[tvl1][0])
        quick.append(both[tvl1_numpy][0])
        ratios.append(plain[-1] / quick[-1])
    difference, rounding = apart(ours, theirs), apart([transposed(*pair) for pair in pairs], theirs)
    return {
        "pairs": f"{len(pairs)} {what}",
        "OpenCV ms": 1000 * float(np.median(plain)),
        "ours ms": 1000 * float(np.median(quick)),
        "times faster": f"{np.median(ratios):.2f}",
        "spread": f"[{min(ratios):.2f}, {max(ratios):.2f}]",
        "mean |flow| px": f"{np.mean([np.hypot(*np.moveaxis(flow, -1, 0)) for flow in theirs]):.3f}",
        "difference px: mean": f"{difference.mean():.4f}",
        "p99": f"{np.percentile(difference, 99):.3f}",
        "OpenCV from itself: mean": f"{rounding.mean():.4f}",
        "p99 ": f"{np.percentile(rounding, 99):.3f}",
    }


def known() -> list[Row]:
    """How far each is from the truth, where there is one."""
    rows = []
    for name, onset_HW, apex_HW, flow_HW2 in known_flows():
        row: dict[str, Any] = {
            "known flow": name,
            "mean |flow| px": f"{np.hypot(*np.moveaxis(flow_HW2, -1, 0)).mean():.3f}",
        }
        for side, method in (("OpenCV", tvl1), ("ours", tvl1_numpy)):
            error = apart([method(onset_HW, apex_HW)], [flow_HW2])
            row |= {
                f"{side}, px from it: mean": f"{error.mean():.4f}",
                f"{side} p99": f"{np.percentile(error, 99):.3f}",
            }
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=96)
    parser.add_argument("--json")
    asked = parser.parse_args()
    begun = machine()
    with tempfile.TemporaryDirectory(prefix="flows-") as folder, one_thread():
        home = Path(os.environ.get("DISTMER_BENCHMARKS", folder))
        rows = [
            compared("of the embedded set", crops(home, asked.clips)),
            compared("of a known flow", [(onset_HW, apex_HW) for _, onset_HW, apex_HW, _ in known_flows()]),
        ]
    keep(None, begun, rows)
    keep(asked.json, begun, known(), rates=rows)


if __name__ == "__main__":
    main()
