"""Nodes lost in the midst of work: `python -m benchmarks.node_loss --kills 20 --seed 1 [--json FILE]`.

A Ray cluster of raylets on this machine: a head without CPUs, on which the driver is, and two workers of one
CPU. Small extractions, LOSO runs and sweeps run on it as `jobs/*.py` do. Once in each, at a moment drawn from
the seed, a node that has work running is ended by SIGKILL of all its processes, and a new one joins. The run
must finish, with what the undisturbed run gave, to the bit.

``repeated`` are tasks of this run's kind that Ray began again, by its own record (a fold is a task; so is a
clip, in batches of one). ``lost`` is against the undisturbed run before it, start of the driver included;
other people's load on the machine is in it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.common import keep, machine
from harness import command, nodes, toy


@dataclass(frozen=True)
class Kind:
    """A sort of work: its job, its arguments, how far it is, what it found, and the names of its tasks."""

    job: str
    arguments: tuple[str, ...]
    units: int
    done: Callable[[Path], int]
    found: Callable[[Path], Any]
    doing: str


def features(home: Path) -> dict[str, Any]:
    """Every stored row by its key."""
    rows: dict[str, Any] = {}
    for path in home.glob("features/*/parts/*.parquet"):
        part = pq.read_table(path)
        rows |= {key: part.slice(i, 1) for i, key in enumerate(part["key"].to_pylist())}
    return rows


def searched(home: Path) -> Any:
    """A sweep's outer predictions and all that its searches recorded."""
    (path,) = home.glob("sweeps/*/predictions.parquet")
    return pq.read_table(path).to_pylist(), {
        p.name: json.loads(p.read_text()) for p in home.glob("sweeps/*/searches/*.json")
    }


def kinds(folder: Path) -> dict[str, Kind]:
    maps = toy.write_flowmaps(folder / "maps", subjects=8)
    quiet = ["tracking.enabled=false"]
    extraction = [
        "data.synthetic.subjects=4",
        "data.synthetic.clips_per_subject=8",
        "cluster.extract_batch=1",
        *quiet,
    ]
    sets = tuple(part for setting in extraction for part in ("--set", setting))
    return {
        "LOSO": Kind(
            "loso.py",
            tuple(toy.settings(maps, *quiet, epochs=40)),
            8,
            lambda home: len(command.ledger(home)),
            command.predictions,
            nodes.FOLD,
        ),
        "sweep": Kind(
            "tune.py",
            (str(toy.sweep_file(folder, maps)),),
            16,
            lambda home: len(command.ledger(home)),
            searched,
            nodes.FOLD,
        ),
        "extraction": Kind(
            "extract.py",
            sets,
            32,
            lambda home: len(list(home.glob("features/*/parts/*.parquet"))),
            features,
            nodes.CLIPS,
        ),
    }


def begin(cluster: nodes.Nodes, kind: Kind, home: Path, like: Path | None = None) -> Any:
    if like is not None and (like / "data").exists():
        shutil.copytree(like / "data", home / "data")
    return command.start(
        *kind.arguments, home=home, script=command.ROOT / "jobs" / kind.job, **cluster.driver
    )


def disturbed(
    cluster: nodes.Nodes, name: str, kind: Kind, rng: random.Random, calm: tuple[Path, float], home: Path
) -> dict[str, Any]:
    before = count(cluster, kind)
    after, delay = rng.randint(0, int(kind.units * 0.8)), rng.uniform(0, 1.5)
    started = time.perf_counter()
    process = begin(cluster, kind, home, calm[0])
    due: list[float] = []

    def when() -> bool:
        if kind.done(home) >= after and not due:
            due.append(time.perf_counter() + delay)
        return bool(due) and time.perf_counter() >= due[0]

    victim, work = cluster.lose_one(process, when, kind.doing, rng.choice)
    moment, done = time.perf_counter() - started, kind.done(home)
    cluster.add()
    ended = command.finish(process, timeout=600)
    seconds = time.perf_counter() - started
    same = ended.code == 0 and kind.found(home) == kind.found(calm[0])
    if not same:
        print(ended.code, ended.out[-2000:], ended.err[-4000:], flush=True)
    return {
        "kind": name,
        "second": moment,
        "done": f"{done} of {kind.units}" if name != "sweep" else str(done),
        "node": victim.ip,
        "running": "; ".join(re.sub(r"flowmaps/| seed 0", "", title) for title in work),
        "repeated": count(cluster, kind) - before,
        "exit": ended.code,
        "identical": same,
        "lost s": seconds - calm[1],
    }


def count(cluster: nodes.Nodes, kind: Kind) -> int:
    return sum(times for name, times in cluster.repeated().items() if re.search(kind.doing, name))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="one kind: LOSO, sweep or extraction")
    parser.add_argument("--json")
    asked = parser.parse_args()
    rng, rows, begun = random.Random(asked.seed), list[dict[str, Any]](), machine()
    folder = Path(tempfile.mkdtemp(prefix="loss-"))
    with nodes.Nodes() as cluster:
        for _ in range(2):
            cluster.add()
        chosen = {name: kind for name, kind in kinds(folder).items() if asked.only in (None, name)}
        calm: dict[str, tuple[Path, float]] = {}
        for name, kind in chosen.items():
            first = folder / f"{name}-calm"
            if name == "extraction":  # the embedded set is generated before the clock starts
                assert command.finish(begin(cluster, kind, first), timeout=600).code == 0
            home, started = folder / f"{name}-calm-again", time.perf_counter()
            assert command.finish(begin(cluster, kind, home, first), timeout=600).code == 0
            calm[name] = (home, time.perf_counter() - started)
            print(f"{name} undisturbed: {calm[name][1]:.1f} s, load {os.getloadavg()[0]:.1f}", flush=True)
        names = list(chosen)
        while len(rows) < asked.kills:
            name = names[len(rows) % len(names)]
            home = folder / f"{name}-{len(rows)}"
            try:
                rows.append(disturbed(cluster, name, chosen[name], rng, calm[name], home))
            except command.EndedFirstError:  # the moment that was drawn came too late: draw another
                shutil.rmtree(home)
            keep(
                asked.json,
                begun,
                rows,
                seed=asked.seed,
                undisturbed={name: seconds for name, (_, seconds) in calm.items()},
            )
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
