"""How time grows: `python -m benchmarks.growth [--json FILE]`, with the exponent b of seconds = a·n^b, fitted
by least squares of logs.

``clips``: 50 to 5,000 toy clips of 28 px through what a run does with all of them at once (keys of ready-made
maps, the feature store, the plan of ten groups, and of LOSO with seven clips a person). ``folds``: as many
folds of no length through Ray, ledger and event log. ``trials``: whole sweeps of a model that is fitted in
milliseconds.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from benchmarks.common import Row, keep, machine, wall
from benchmarks.scheduler import Sleep, jobs
from distmer.cluster.connect import session
from distmer.commands.session import Given, Session
from distmer.config import ClusterConfig
from distmer.experiment.ledger import Ledger
from distmer.experiment.local import LocalBackend
from distmer.experiment.plan import build_plan
from distmer.features.pipeline import FeatureRequest
from distmer.models import resolve
from distmer.types import FoldResult, Manifest
from harness import toy

CLIPS, FOLDS, TRIALS = (50, 200, 1000, 5000), (50, 200, 1000, 4000), (4, 16, 64)


def maps(count: int, folder: Path) -> None:
    """Ready-made maps of noise, ten people."""
    rng = np.random.default_rng(0)
    for i in range(count):
        path = folder / f"s{i % 10}" / "u_test" / str(i // 10 % 3) / f"s{i % 10}_{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 256, (28, 28, 3), dtype=np.uint8))


def clips(count: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="growth-") as work:
        home, root = Path(work) / "home", Path(work) / "maps"
        maps(count, root)
        settings = ("data.protocol=flowmaps", f"data.root={root}", "inputs.normalise=minmax", "model.size=28")
        some = Session.open(Given(None, settings, str(home)))
        clock = [time.perf_counter()]

        def lap() -> float:
            clock.append(time.perf_counter())
            return clock[-1] - clock[-2]

        manifest = some.manifest()
        took = {"manifest": lap()}
        found = some.features(manifest)
        took["keys"] = lap()
        for rows in LocalBackend().extract(
            [FeatureRequest(clip.id, clip.source) for clip in found.missing], some.config.features, 64
        ):
            found.store.write(rows)
        took["extract and store"] = lap()
        found = some.features(manifest)
        assert not found.missing
        took["look up again"] = lap()
        found.inputs([clip.id for clip in manifest.clips], some.model(), some.config.inputs)
        took["load"] = lap()
    for name, folds in (("plan, ten groups", "group_kfold"), ("plan, LOSO of 7 clips a person", "loso")):
        people = Manifest("toy", ("a", "b", "c"), tuple(toy.clips(-(-count // 7), 7)[:count]))
        config = toy.config(
            evaluation={"folds": folds, **({"k": min(10, count // 7)} if folds == "group_kfold" else {})}
        )
        keys = {clip.id: f"{n:064x}" for n, clip in enumerate(people.clips)}
        lap()
        build_plan(config, people, resolve(config.model), keys, ())
        took[name] = lap()
    return took


def folds(count: int) -> dict[str, float]:
    from distmer.cluster.folds import RayWorkers

    with tempfile.TemporaryDirectory(prefix="growth-") as work:
        some, inputs = jobs(count)
        ledger = Ledger(Path(work))
        begun = time.perf_counter()
        for report in RayWorkers(ClusterConfig(), work, Sleep(0)).run(some, inputs):
            if isinstance(report, FoldResult):
                ledger.put(report)
        through = time.perf_counter() - begun
        begun = time.perf_counter()
        assert len(Ledger(Path(work)).known(job.digest for job in some)) == count
        return {
            "through Ray into the ledger": through,
            "found again in the ledger": time.perf_counter() - begun,
        }


def trials(count: int) -> dict[str, float]:
    """A whole sweep of the linear model, flat, random, on the maps of six toy persons: its trials' trainings
    take milliseconds."""
    with tempfile.TemporaryDirectory(prefix="growth-") as work:
        path = Path(work) / "sweep.yaml"
        sweep = {
            "mode": "flat",
            "searcher": "random",
            "trials": count,
            "inner_folds": 2,
            "space": {"model.c": {"loguniform": [1e-4, 1.0]}},
        }
        tree = {
            "data": {
                "protocol": "flowmaps",
                "root": str(toy.write_flowmaps(Path(work) / "maps", subjects=6)),
            },
            "inputs": {"normalise": "minmax"},
            "model": {"name": "linear"},
            "evaluation": {"folds": "group_kfold", "k": 2},
            "sweep": sweep,
        }
        path.write_text(yaml.safe_dump(tree))
        return {
            "a whole sweep": wall(sys.executable, "jobs/tune.py", path, "--workspace", Path(work) / "home")[0]
        }


def grown(what: str, sizes: Iterable[int], measured: Callable[[int], dict[str, float]]) -> list[Row]:
    counts = list(sizes)
    took = [measured(count) for count in counts]
    rows: list[Row] = []
    for name in took[0]:
        seconds = [each[name] for each in took]
        # The smallest sizes hold what does not depend on the size at all: the slope of the last two is beside
        # the fitted one.
        slope = float(np.polyfit(np.log(counts), np.log(seconds), 1)[0])
        last = float(np.log(seconds[-1] / seconds[-2]) / np.log(counts[-1] / counts[-2]))
        by_size: dict[str, Any] = {
            f"{count:,}": second for count, second in zip(counts, seconds, strict=True)
        }
        rows.append({what: name, **by_size, "exponent": f"{slope:.2f}", "of the last two": f"{last:.2f}"})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json")
    asked = parser.parse_args()
    begun = machine()
    clips(21)  # what is loaded at first use
    by_clips = grown("seconds by clips", CLIPS, clips)
    keep(None, begun, by_clips)
    with session(ClusterConfig()):
        folds(4)  # the processes start
        by_folds = grown("seconds by folds", FOLDS, folds)
    keep(None, begun, by_folds)
    by_trials = grown("seconds by trials", TRIALS, trials)
    keep(asked.json, begun, by_trials, clips=by_clips, folds=by_folds)


if __name__ == "__main__":
    main()
