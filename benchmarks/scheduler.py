"""What is around the folds: `python -m benchmarks.scheduler [--lanes 8 16 32 64] [--gpu] [--many 2680] [--json FILE]`.

The real path (`RayFoldExecutor`, its tasks, the Train trainer inside, the ledger) with a body that sleeps instead of training. A lane is what one fold
holds: one CPU in a pooled process, or with ``--gpu`` one declared GPU, for which distmer starts a process a fold. Nodes of 8 lanes each are raylets on
this machine. Efficiency is Σ fold seconds ÷ (lanes × wall); processes are warmed up first, and how long that took is reported apart.
``--many N`` runs N folds of no length with ledger and event log instead: reports a second, memory of the driver.
"""

from __future__ import annotations

import argparse
import os
import pickle
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.common import keep, machine
from distmer.cluster.connect import session
from distmer.config import ClusterConfig
from distmer.experiment.events import FoldFinished
from distmer.experiment.ledger import Ledger
from distmer.report.jsonl import JsonLines
from distmer.storage import Store
from distmer.training.data import Inputs
from distmer.training.fit import as_predictions
from distmer.training.network import Runtime
from distmer.types import FoldJob, FoldResult
from tests import nodes, toy

_NODE = 8
_MIB = 2**20


class Sleep:
    """A fold's body that holds its resources for so long, and answers as a training would."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, job: FoldJob, inputs: Inputs, runtime: Runtime) -> FoldResult:
        time.sleep(self.seconds)
        prob_NK = np.full((len(job.fold.test), 3), 1 / 3)
        predictions = as_predictions(job.fold.test, job.labels, prob_NK, job.fold.id, job.seed)
        return FoldResult(job.digest, job.fold.id, job.seed, predictions, 1, {"train_loss": (1.0,)}, self.seconds, "cpu")


def jobs(count: int) -> tuple[list[FoldJob], Inputs]:
    """Fold jobs of 67 persons and 442 clips, again and again under other digests."""
    clips = toy.clips(67, 7)[:442]
    folds = toy.jobs(toy.config(), clips)
    many = [replace(folds[i % len(folds)], digest=f"{i:064x}", seed=i // len(folds)) for i in range(count)]
    return many, toy.inputs(clips)


def run(config: ClusterConfig, some: Sequence[FoldJob], inputs: Inputs, seconds: float) -> tuple[float, float]:
    """Wall seconds, and seconds until the first fold has ended."""
    from distmer.cluster.folds import RayFoldExecutor

    started, first, done = time.perf_counter(), 0.0, 0
    for report in RayFoldExecutor(config, tempfile.gettempdir(), Sleep(seconds)).run(some, inputs):
        if isinstance(report, FoldResult):
            done, first = done + 1, first or time.perf_counter() - started
    assert done == len(some), f"{len(some) - done} folds failed"
    return time.perf_counter() - started, first


def lanes(cluster: nodes.Nodes, asked: argparse.Namespace, wanted: int) -> dict[str, Any]:
    gpus = {"gpus_per_fold": 1.0, "cpus_per_fold": 0.01} if asked.gpu else {}
    config = ClusterConfig(in_flight=wanted * 2, **gpus)
    while len(cluster.workers) * _NODE < wanted:
        cluster.add(cpus=_NODE, gpus=_NODE)
    some, inputs = jobs(wanted * asked.each)
    warm = 0.0
    if not asked.gpu:
        # Long enough that every lane takes one, though their processes start one after the other.
        warm = run(config, some[:wanted], inputs, asked.warm * wanted / _NODE)[0] - asked.warm * wanted / _NODE
    before = psutil.Process().cpu_times()
    wall, _ = run(config, some, inputs, asked.seconds)
    after = psutil.Process().cpu_times()
    busy = asked.seconds * len(some)
    return {
        "lanes": wanted,
        "nodes": len(cluster.workers),
        "process": "one a fold" if asked.gpu else "pooled",
        "folds": len(some),
        "fold s": asked.seconds,
        "warm-up s": warm,
        "wall s": wall,
        "efficiency": round(busy / (wanted * wall), 3),
        "driver CPU s": after.user - before.user + after.system - before.system,
        "load": os.getloadavg()[0],
        "free GiB": psutil.virtual_memory().available / 2**30,
    }


def many(cluster: nodes.Nodes, count: int) -> dict[str, Any]:
    """Folds of no length, as many as a large comparison has, through ledger and event log."""
    from distmer.cluster.folds import RayFoldExecutor

    cluster.add(cpus=2)
    folder = Path(tempfile.mkdtemp(prefix="many-"))
    some, inputs = jobs(count)
    ledger, log = Ledger(Store(folder / "ledger")), JsonLines(folder / "events.jsonl")
    run(ClusterConfig(), some[:4], inputs, 0)
    process = psutil.Process()
    memory, started, reports = process.memory_info().rss, time.perf_counter(), 0
    for report in RayFoldExecutor(ClusterConfig(), str(folder), Sleep(0)).run(some, inputs):
        reports += 1
        if isinstance(report, FoldResult):
            ledger.put(report)
            log(FoldFinished(report, cached=False))
    wall = time.perf_counter() - started
    known, listed = ledger, time.perf_counter()
    assert len(known.known(job.digest for job in some)) == count
    return {
        "folds": count,
        "wall s": wall,
        "folds a second": count / wall,
        "reports a second": reports / wall,
        "job kB": len(pickle.dumps(some[0])) / 1000,
        "driver RSS MiB before": memory / _MIB,
        "after": process.memory_info().rss / _MIB,
        "ledger.known s": time.perf_counter() - listed,
        "load": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lanes", type=int, nargs="*", default=[8, 16, 32, 64])
    parser.add_argument("--gpu", action="store_true", help="declared GPUs, a process a fold")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--each", type=int, default=8, help="folds a lane")
    parser.add_argument("--warm", type=float, default=40.0, help="seconds in which 8 processes surely start here")
    parser.add_argument("--many", type=int, default=0)
    parser.add_argument("--json")
    asked = parser.parse_args()
    begun, rows = machine(), list[dict[str, Any]]()
    with nodes.Nodes() as cluster:
        os.environ.update(cluster.driver)
        with session(ClusterConfig(address=cluster.address)):
            if asked.many:
                keep(asked.json, begun, [many(cluster, asked.many)])
                return
            for wanted in asked.lanes:
                rows.append(lanes(cluster, asked, wanted))
                keep(asked.json, begun, rows)


if __name__ == "__main__":
    main()
