"""A fold out of memory, and a fold ten times as slow: `python -m benchmarks.troubles memory|slow`.

``memory``: of six folds one takes more and more memory, on a node whose Ray watches for it
(`RAY_memory_usage_threshold` is set some GiB above what this machine uses now), until Ray ends its process;
others go on. ``slow``: of six folds on two CPUs, one takes ten times as long as the others.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.common import keep, machine
from benchmarks.scheduler import Sleep, jobs
from distmer.cluster.connect import session
from distmer.config import ClusterConfig
from distmer.training.fold_inputs import Inputs
from distmer.training.runtime import Runtime
from distmer.types import FoldBegun, FoldFailure, FoldJob, FoldResult
from harness import nodes

_GIB = 2**30


class Hungry(Sleep):
    """The first fold eats ``gib`` GiB; each of its attempts leaves a mark in ``marks``."""

    def __init__(self, marks: Path, gib: float) -> None:
        super().__init__(1.0)
        self.marks, self.gib = marks, gib

    def __call__(self, job: FoldJob, inputs: Inputs, runtime: Runtime) -> FoldResult:
        if int(job.digest, 16) == 0:
            (self.marks / f"{time.time_ns()}").touch()
            eaten: list[bytearray] = []
            while len(eaten) < self.gib * 8:
                eaten.append(bytearray(os.urandom(1)) * (_GIB // 8))
                time.sleep(0.3)
            time.sleep(20)
        return super().__call__(job, inputs, runtime)


class Slow(Sleep):
    """The first fold takes ten times as long as the others."""

    def __call__(self, job: FoldJob, inputs: Inputs, runtime: Runtime) -> FoldResult:
        return Sleep(self.seconds * (10 if int(job.digest, 16) == 0 else 1))(job, inputs, runtime)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("trouble", choices=["memory", "slow"])
    parser.add_argument("--retries", type=int, default=2)
    parser.add_argument(
        "--gib", type=float, default=5.0, help="that the hungry fold takes; half of it is allowed"
    )
    parser.add_argument("--patience", type=float, default=150.0)
    asked = parser.parse_args()
    begun, marks = machine(), Path(tempfile.mkdtemp(prefix="marks-"))
    some, inputs = jobs(6)
    now = psutil.virtual_memory()
    allowed = (now.total - now.available + asked.gib / 2 * _GIB) / now.total
    env = (
        {"RAY_memory_usage_threshold": f"{allowed:.3f}", "RAY_memory_monitor_refresh_ms": 250}
        if asked.trouble == "memory"
        else {}
    )
    body = Hungry(marks, asked.gib) if asked.trouble == "memory" else Slow(4.0)
    rows, started = [], time.perf_counter()
    with nodes.Nodes() as cluster:
        cluster.add(cpus=2, **env)
        os.environ.update(cluster.driver)
        config = ClusterConfig(address=cluster.address, retries=asked.retries)
        with session(config):
            from distmer.cluster.folds import RayWorkers

            for report in RayWorkers(config, str(marks), body).run(some, inputs):
                if not isinstance(report, FoldBegun):
                    what = report.reason if isinstance(report, FoldFailure) else "done"
                    rows.append(
                        {"second": time.perf_counter() - started, "fold": report.fold_id, "what": what}
                    )
                    keep(None, begun, rows[-1:])
            print(
                "begun again:",
                cluster.repeated(),
                "hungry attempts:",
                len(list(marks.iterdir())),
                "threshold:",
                round(allowed, 3),
            )


if __name__ == "__main__":
    main()
