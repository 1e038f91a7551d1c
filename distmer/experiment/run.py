"""Running a plan: what the ledger holds is done, the rest is trained, every finished fold is kept at once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing

from distmer.experiment.audit import Audit
from distmer.experiment.events import (
    FoldFailed,
    FoldFinished,
    FoldStarted,
    Observer,
    Observers,
    RunEnded,
    RunStarted,
)
from distmer.experiment.ledger import Ledger
from distmer.experiment.plan import Plan
from distmer.experiment.result import RunResult, conclude
from distmer.registry import lookup
from distmer.training.fold_inputs import Inputs
from distmer.types import FoldBegun, FoldFailure, FoldJob, FoldResult

_log = logging.getLogger(__name__)

Report = FoldBegun | FoldResult | FoldFailure
Train = Callable[[Sequence[FoldJob], Inputs], Generator[Report]]  # see `distmer.experiment.backend.Backend`


def run(
    plan: Plan,
    train: Train,
    inputs: Callable[[], Inputs],
    ledger: Ledger,
    observers: Sequence[Observer],
    run_dir: str,
    only: Sequence[str] = (),
    keep: Callable[[RunResult], None] = lambda result: None,
    audit: Audit | None = None,
) -> RunResult:
    """Train what the ledger lacks (of ``only`` these folds, if any are named), and ``keep`` the result.
    ``audit`` is the verdict on the plan, if there is one.

    Ctrl-C ends the run cleanly: what is finished is kept, the result is partial. Observers are told of
    everything, and last of the end, when the result is kept: a user who stops us may not wait for a tracker.
    BadInput for a fold that is none.
    """
    started = time.perf_counter()
    ids = {fold.id: fold for fold in plan.folds}
    wanted = {lookup(ids, name, "fold").id for name in only} or ids.keys()
    known = ledger.known(job.digest for job in plan.jobs)
    missing = [job for job in plan.jobs if job.digest not in known and job.fold.id in wanted]
    folds = list(known.values())
    failures: list[FoldFailure] = []
    notify = Observers(observers)
    notify(RunStarted(plan, run_dir, cached=len(known), to_train=len(missing)))
    for fold in folds:
        notify(FoldFinished(fold, cached=True))
    try:
        for report in _reports(train, missing, inputs):
            match report:
                case FoldResult():
                    ledger.put(report)
                    folds.append(report)
                    notify(FoldFinished(report, cached=False))
                case FoldFailure():
                    failures.append(report)
                    notify(FoldFailed(report))
                case FoldBegun():
                    notify(FoldStarted(report))
    except KeyboardInterrupt:
        _log.warning(
            "Stopped: %d of %d folds are finished and kept; the same command goes on from there.",
            len(folds),
            len(plan.jobs),
        )
    result = conclude(plan, folds, failures, time.perf_counter() - started, run_dir, only, audit)
    keep(result)
    notify(RunEnded(result))
    return result


def _reports(train: Train, missing: Sequence[FoldJob], inputs: Callable[[], Inputs]) -> Iterator[Report]:
    if missing:  # a run that is all in the ledger loads no feature and starts no worker
        with closing(train(missing, inputs())) as reports:
            yield from reports
