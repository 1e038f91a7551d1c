"""What the measurements share: which machine it was, and tables that read as text and as Markdown."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from harness import guard

Row = Mapping[str, Any]
ROOT = Path(__file__).parents[1]


def machine() -> dict[str, Any]:
    """This machine, and how busy others keep it: a figure without it says nothing.

    From here on, what the measurement starts ends with it.
    """
    guard.begin()
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpus": os.cpu_count(),
        "load": [round(load, 1) for load in os.getloadavg()],
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{name: _version(name) for name in ("ray", "torch", "pyarrow")},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # a machine for `benchmarks.gpu` needs no Ray
        return "not installed"


def paired(rounds: int, plain: Callable[[], float], ours: Callable[[], float]) -> dict[str, Any]:
    """Seconds of both, measured in turn: medians, and how many times faster ours is, with the least and the
    most of a round."""
    pairs: list[tuple[float, float]] = []
    for number in range(rounds):  # the one that goes first changes
        if number % 2:
            second = ours()
            pairs.append((plain(), second))
        else:
            pairs.append((plain(), ours()))
    ratios = sorted(a / b for a, b in pairs)
    seconds = [statistics.median(side) for side in zip(*pairs, strict=True)]
    spread = f"[{ratios[0]:.2f}, {ratios[-1]:.2f}]"
    return {
        "plain s": seconds[0],
        "ours s": seconds[1],
        "times faster": f"{statistics.median(ratios):.2f}",
        "spread": spread,
        "rounds": rounds,
    }


def wall(*command: object, env: Mapping[str, str] | None = None) -> tuple[float, str]:
    """Seconds of a whole process, start and end included, and what it printed; CalledProcessError when it
    fails."""
    begun = time.perf_counter()
    done = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        text=True,
        capture_output=True,
    )
    if done.returncode:
        print(done.stderr[-4000:], file=sys.stderr)
    done.check_returncode()
    return time.perf_counter() - begun, done.stdout


def table(rows: Sequence[Row]) -> str:
    """Rows under their names, in Markdown."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names, *([_text(row.get(name, "")) for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def keep(path: str | None, begun: Mapping[str, Any], rows: Sequence[Row], **more: Any) -> None:
    """Print the table; write everything as JSON, if a place is named."""
    print(table(rows), flush=True)
    if path:
        result = {"begun": begun, "ended": machine(), **more, "rows": list(rows)}
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


def _text(value: Any) -> str:
    return (
        f"{value:.3g}"
        if isinstance(value, float) and abs(value) < 10
        else f"{value:.1f}"
        if isinstance(value, float)
        else str(value)
    )
