"""What grows with clips and folds: `python -m benchmarks.limits [--clips 500 1000 2000 4000] [--json FILE]`.

The plan of a LOSO run over ever more clips (7 a person, as in the published sets), beside one of ten groups:
its seconds, its memory, the size of a job as it travels; and a ledger of as many entries as there are folds,
written and read.
"""

from __future__ import annotations

import argparse
import gc
import pickle
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import keep, machine
from distmer.experiment.ledger import Ledger
from distmer.experiment.plan import build_plan
from distmer.models import resolve
from distmer.training.fit import as_predictions
from distmer.types import FoldJob, FoldResult, Manifest
from harness import toy

_MB = 1e6


def result(job: FoldJob) -> FoldResult:
    prob_NK = np.full((len(job.fold.test), 3), 1 / 3)
    predictions = as_predictions(job.fold.test, job.labels, prob_NK, job.fold.id, job.seed)
    return FoldResult(
        job.digest, job.fold.id, job.seed, predictions, 30, {"train_loss": (1.0,) * 30}, 1.0, "cpu"
    )


def measure(clips: int, folds: str) -> dict[str, Any]:
    some = toy.clips(-(-clips // 7), 7)[:clips]
    manifest = Manifest("toy", ("a", "b", "c"), tuple(some))
    config = toy.config(evaluation={"folds": folds, **({"k": 10} if folds == "group_kfold" else {})})
    keys = {clip.id: f"{n:064x}" for n, clip in enumerate(some)}
    gc.collect()
    started = time.perf_counter()
    plan = build_plan(config, manifest, resolve(config.model), keys, ())
    seconds = time.perf_counter() - started
    jobs, job = len(plan.jobs), len(pickle.dumps(plan.jobs[0]))
    del plan
    tracemalloc.start()  # apart, for it slows down what it watches
    plan = build_plan(config, manifest, resolve(config.model), keys, ())
    memory = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    ledger = Ledger(Path(tempfile.mkdtemp(prefix="ledger-")))
    started = time.perf_counter()
    for each in plan.jobs:
        ledger.put(result(each))
    put = time.perf_counter() - started
    started = time.perf_counter()
    assert len(ledger.known(each.digest for each in plan.jobs)) == jobs
    known = time.perf_counter() - started
    return {
        "clips": clips,
        "split": folds,
        "folds": jobs,
        "plan s": seconds,
        "plan MB": memory / _MB,
        "bytes a clip and fold": memory / clips / jobs,
        "job kB": job / 1000,
        "put ms": put / jobs * 1000,
        "known ms": known / jobs * 1000,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, nargs="*", default=[500, 1000, 2000, 4000])
    parser.add_argument("--json")
    asked = parser.parse_args()
    begun, rows = machine(), list[dict[str, Any]]()
    for clips in asked.clips:
        rows += [measure(clips, "loso"), measure(clips, "group_kfold")]
    keep(asked.json, begun, rows)


if __name__ == "__main__":
    main()
