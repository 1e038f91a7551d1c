"""Whole runs: `python -m benchmarks.whole loso|orchestration|start [--json FILE]`.

``loso``: STSTNet's LOSO on the published flow maps, from the command line to the scores in an empty
workspace, against the plain script (which uses both cores through PyTorch's threads). ``orchestration``: what
is around the training, of 72 folds of some seconds and of 960 tiny ones. ``start``: `distmer --help`, and a
run that is all cached, with what it spends its time on.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, Row, keep, machine, paired, wall

# its own; the epochs are cut
RECIPE = ["model.name=ststnet", "model.size=28", "train.batch_size=256", "train.lr=5e-5"]


def run(
    home: Path, *settings: str, config: str = "configs/flowmaps.yaml", root: Path | None = None
) -> tuple[float, dict[str, Any]]:
    """Seconds of the whole command, and its result."""
    chosen = [*settings, *([f"data.root={root}"] if root else [])]
    sets = [part for setting in chosen for part in ("--set", setting)]
    seconds, out = wall(sys.executable, "jobs/loso.py", config, *sets, "--workspace", home, "--json")
    return seconds, json.loads(out.strip().splitlines()[-1])


def loso(root: Path, epochs: int, rounds: int) -> list[Row]:
    scores: dict[str, list[float]] = {"plain": [], "ours": []}

    def plain() -> float:
        seconds, out = wall(sys.executable, "-m", "benchmarks.plain.loso", root, "--epochs", epochs)
        scores["plain"].append(json.loads(out)["uar"])
        return seconds

    def ours() -> float:
        with tempfile.TemporaryDirectory(prefix="loso-") as home:
            seconds, result = run(Path(home), *RECIPE, f"train.epochs={epochs}", root=root)
        scores["ours"].append(result["uar"])
        return seconds

    figures = paired(rounds, plain, ours)
    return [
        {
            "LOSO": f"ststnet, {epochs} epochs",
            **figures,
            **{f"UAR {side}": statistics.mean(uar) for side, uar in scores.items()},
        }
    ]


def orchestration(root: Path, epochs: int) -> list[Row]:
    return [_around(root, epochs, seeds=3), _around(root, 1, seeds=40)]


def _around(root: Path, epochs: int, seeds: int) -> Row:
    with tempfile.TemporaryDirectory(prefix="folds-") as home:
        settings = [*RECIPE, f"train.epochs={epochs}", f"seeds={list(range(seeds))}"]
        whole, result = run(Path(home), *settings, root=root)
        (log,) = Path(home).glob("runs/*/events.jsonl")
        events = [json.loads(line) for line in log.read_text().splitlines()]
    # the first of each kind
    at = {event["event"]: datetime.fromisoformat(event["at"]) for event in reversed(events)}
    last = max(datetime.fromisoformat(event["at"]) for event in events if event["event"] == "fold_finished")
    seconds = (last - at["fold_started"]).total_seconds()
    folds, cores = result["folds"] * seeds, os.cpu_count() or 1
    pure = result["fold_seconds"] / cores
    return {
        "folds": folds,
        "epochs": epochs,
        "s a fold": result["fold_seconds"] / folds,
        "first to last fold s": seconds,
        "Σ training s ÷ cores": pure,
        "ratio": f"{seconds / pure:.3f}",
        "around a fold ms": 1000 * (seconds - pure) * cores / folds,
        "before and after s": whole - seconds,
    }


def start(rounds: int) -> list[Row]:
    rows: list[Row] = []
    helps = [wall(sys.executable, "-m", "distmer.cli", "--help")[0] for _ in range(rounds)]
    rows.append(
        {
            "what": "distmer --help",
            "seconds": statistics.median(helps),
            "spread": f"[{min(helps):.2f}, {max(helps):.2f}]",
        }
    )
    with tempfile.TemporaryDirectory(prefix="demo-") as home:
        cold, _ = run(Path(home), config="configs/demo.yaml")
        rows.append({"what": "make demo's run, empty workspace (once)", "seconds": cold})
        again = [run(Path(home), config="configs/demo.yaml")[0] for _ in range(rounds)]
        rows.append(
            {
                "what": "the same, all cached",
                "seconds": statistics.median(again),
                "spread": f"[{min(again):.2f}, {max(again):.2f}]",
            }
        )
        rows += [
            {"what": f"  of it, importing {name}", "seconds": seconds}
            for name, seconds in _imports(Path(home)).items()
        ]
    return rows


def _imports(home: Path) -> dict[str, float]:
    """Seconds of the largest imports of a cached run, by Python's own clock; each may hold others that it
    imports first."""
    command = [
        sys.executable,
        "-X",
        "importtime",
        "jobs/loso.py",
        "configs/demo.yaml",
        "--workspace",
        str(home),
    ]
    log = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=True).stderr
    found = dict.fromkeys(("torch", "sklearn.metrics", "mlflow", "pandas", "matplotlib.figure", "cv2"), 0.0)
    for _, total, name in re.findall(r"^import time:\s+(\d+) \|\s+(\d+) \|\s+(\S+)$", log, re.MULTILINE):
        if name in found:
            found[name] = int(total) / 1e6
    return {name: seconds for name, seconds in found.items() if seconds}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["loso", "orchestration", "start"])
    parser.add_argument(
        "--maps", type=Path, help="a folder of published flow maps, which `start` does not need"
    )
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json")
    asked = parser.parse_args()
    if asked.what != "start" and asked.maps is None:
        parser.error(
            "--maps FOLDER is needed: flow maps as STSTNet publishes them, <subject>/u_test/<0|1|2>/*.png"
        )
    begun = machine()
    match asked.what:
        case "loso":
            rows = loso(asked.maps, asked.epochs, asked.rounds)
        case "orchestration":
            rows = orchestration(asked.maps, asked.epochs)
        case _:
            rows = start(asked.rounds)
    keep(asked.json, begun, rows)


if __name__ == "__main__":
    main()
