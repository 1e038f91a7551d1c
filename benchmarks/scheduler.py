"""What is around the folds: `python -m benchmarks.scheduler [--lanes 8 16 32 64] [--gpu] [--many 2680]
[--json FILE]`.

The real path (`RayWorkers`, its tasks, the Train trainer inside, the ledger) with a body that sleeps
instead of training. A lane is what one fold holds: one CPU in a pooled process, or with ``--gpu`` one
declared GPU in a process that keeps it. Nodes of ``--node`` lanes each are raylets on this machine.
Efficiency is Σ fold seconds ÷ (lanes × wall), warm from the moment on at which every lane has a process: a
first fold in each waits for that. Until then it is the cold start, in which each process loads torch and Ray
on the same two cores. ``--many N`` runs N folds of no length with ledger and event log instead: reports a
second, memory of the driver.
"""

from __future__ import annotations

import argparse
import os
import pickle
import tempfile
import time
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
from distmer.training.fit import as_predictions
from distmer.training.fold_inputs import Inputs
from distmer.training.runtime import Runtime
from distmer.types import FoldBegun, FoldJob, FoldResult
from harness import nodes, toy

_MIB = 2**20


class Sleep:
    """A fold's body that holds its resources for so long, and answers as a training would. The first
    ``warming`` folds hold them until the file ``go`` is there: until every lane has a fold."""

    def __init__(self, seconds: float, warming: int = 0, go: str = "") -> None:
        self.seconds, self.warming, self.go = seconds, warming, go

    def __call__(self, job: FoldJob, inputs: Inputs, runtime: Runtime) -> FoldResult:
        if int(job.digest, 16) < self.warming:
            while not Path(self.go).exists():
                time.sleep(0.05)
        else:
            time.sleep(self.seconds)
        prob_NK = np.full((len(job.fold.test), 3), 1 / 3)
        predictions = as_predictions(job.fold.test, job.labels, prob_NK, job.fold.id, job.seed)
        return FoldResult(
            job.digest, job.fold.id, job.seed, predictions, 1, {"train_loss": (1.0,)}, self.seconds, "cpu"
        )


def jobs(count: int, **cluster: float) -> tuple[list[FoldJob], Inputs]:
    """Fold jobs of 67 persons and 442 clips, again and again under other digests. ``cluster``: what a fold
    asks for."""
    clips = toy.clips(67, 7)[:442]
    folds = toy.jobs(toy.config(cluster=cluster), clips)
    many = [replace(folds[i % len(folds)], digest=f"{i:064x}", seed=i // len(folds)) for i in range(count)]
    return many, toy.inputs(clips)


def lanes(cluster: nodes.Nodes, asked: argparse.Namespace, wanted: int) -> dict[str, Any]:
    from distmer.cluster.folds import RayWorkers

    gpus = {"gpus_per_fold": 1.0, "cpus_per_fold": 0.01} if asked.gpu else {}
    config = ClusterConfig(in_flight=wanted * 2, **gpus)
    while len(cluster.workers) * asked.node < wanted:
        cluster.add(cpus=asked.node, gpus=asked.node)
    some, inputs = jobs(wanted * (asked.each + 1), **gpus)
    go = Path(tempfile.mkdtemp(prefix="lanes-")) / "go"
    before, started = psutil.Process().cpu_times(), time.perf_counter()
    begun, done, full = 0, 0, 0.0
    for report in RayWorkers(config, tempfile.gettempdir(), Sleep(asked.seconds, wanted, str(go))).run(
        some, inputs
    ):
        begun += isinstance(report, FoldBegun)
        done += isinstance(report, FoldResult)
        if begun == wanted and not go.exists():
            full = time.perf_counter() - started
            go.touch()
    assert done == len(some), f"{len(some) - done} folds failed"
    wall, after = time.perf_counter() - started, psutil.Process().cpu_times()
    spent = asked.seconds * wanted * asked.each
    return {
        "lanes": wanted,
        "nodes": len(cluster.workers),
        "folds": wanted * asked.each,
        "fold s": asked.seconds,
        "wall s": wall,
        "cold start s": full,
        "efficiency warm": round(spent / (wanted * (wall - full)), 3),
        "and cold": round(spent / (wanted * wall), 3),
        "driver CPU s": after.user - before.user + after.system - before.system,
        "load": os.getloadavg()[0],
        "free GiB": psutil.virtual_memory().available / 2**30,
    }


def many(cluster: nodes.Nodes, count: int) -> dict[str, Any]:
    """Folds of no length, as many as a large comparison has, through ledger and event log."""
    from distmer.cluster.folds import RayWorkers

    cluster.add(cpus=2)
    folder = Path(tempfile.mkdtemp(prefix="many-"))
    some, inputs = jobs(count)
    ledger, log = Ledger(folder / "ledger"), JsonLines(folder / "events.jsonl")
    for _ in RayWorkers(ClusterConfig(), str(folder), Sleep(0)).run(some[:4], inputs):
        pass  # the processes start
    process = psutil.Process()
    memory, started, reports = process.memory_info().rss, time.perf_counter(), 0
    for report in RayWorkers(ClusterConfig(), str(folder), Sleep(0)).run(some, inputs):
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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lanes", type=int, nargs="*", default=[8, 16, 32, 64])
    parser.add_argument("--gpu", action="store_true", help="declared GPUs, a process a fold")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--each", type=int, default=8, help="folds a lane")
    parser.add_argument(
        "--node", type=int, default=8, help="lanes a node; fewer raylets leave more memory to their processes"
    )
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
