"""Running a plan: what the ledger holds is done, the rest is trained, every finished fold is kept at once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace

import numpy as np

from distmer.experiment.audit import Audit
from distmer.experiment.events import FoldFinished, Observer, Observers, RunEnded, RunStarted, Step
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
    ``audit`` is the verdict on the plan, if there is one. A fold that is in the ledger without the weights
    that are wanted is trained again for them; its predictions stay as they are.

    Ctrl-C ends the run cleanly: what is finished is kept, the result is partial. Observers hear of the end
    when the result is kept, because a user who stops us may not wait for a tracker. BadInput: unknown fold.
    """
    started = time.perf_counter()
    ids = {fold.id: fold for fold in plan.folds}
    wanted = {lookup(ids, name, "fold").id for name in only} or ids.keys()
    known = ledger.known(job.digest for job in plan.jobs)
    bare = {job.digest for job in without_weights(plan.jobs, known) if job.fold.id in wanted}
    done = known.keys() - bare
    missing = [job for job in plan.jobs if job.digest not in done and job.fold.id in wanted]
    folds = list(known.values())
    failures: list[FoldFailure] = []
    notify = Observers(observers)
    notify(RunStarted(plan, run_dir, cached=len(done), to_train=len(missing)))
    for fold in folds:
        if fold.digest in done:
            notify(FoldFinished(fold, cached=True))
    try:
        for report in _reports(train, missing, inputs):
            match report:
                case FoldResult() | FoldFailure() if report.digest in bare:
                    notify(FoldFinished(_with_weights(ledger, known[report.digest], report), cached=False))
                case FoldResult():
                    kept = ledger.put(report)
                    folds.append(kept)
                    notify(FoldFinished(kept, cached=False))
                case FoldFailure():
                    failures.append(report)
                    notify(report)
                case FoldBegun():
                    notify(report)
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


def without_weights(jobs: Sequence[FoldJob], known: Mapping[str, FoldResult]) -> list[FoldJob]:
    """The jobs whose weights are wanted, and whose fold is in the ledger without them."""
    return [job for job in jobs if job.keep_weights and job.digest in known and not known[job.digest].kept]


def _with_weights(ledger: Ledger, before: FoldResult, report: FoldResult | FoldFailure) -> FoldResult:
    """A fold of the ledger, with the weights of its second training if that gave the same answers."""
    if isinstance(report, FoldFailure):
        why = report.reason
    elif np.array_equal(report.predictions.prob_NK, before.predictions.prob_NK):
        return ledger.put(replace(before, weights=report.weights))
    else:
        most = np.abs(report.predictions.prob_NK - before.predictions.prob_NK).max()
        why = (
            f"it answers otherwise than the one in the ledger, by up to {most:.2g} of a probability: that was"
            " trained on another kind of processor, or with other libraries; use a new workspace"
        )
    why = why.rstrip(".")
    _log.warning("fold %s, seed %d: its weights are not kept (%s).", before.fold_id, before.seed, why)
    return before


def train_jobs(
    jobs: Sequence[FoldJob],
    train: Train,
    inputs: Callable[[], Inputs],
    ledger: Ledger,
    observers: Sequence[Observer],
    what: str,
) -> tuple[dict[str, FoldResult], list[FoldFailure]]:
    """Folds that are not one run, by digest, and those that failed: what the ledger lacks is trained.
    ``what`` names them on the progress display. Ctrl-C is passed on; what is finished is kept."""
    unique = {job.digest: job for job in jobs}
    found = ledger.known(unique)
    missing = [job for digest, job in unique.items() if digest not in found]
    failures: list[FoldFailure] = []
    notify, cached = Observers(observers), len(found)
    notify(Step(what, cached, len(unique), cached))
    for report in _reports(train, missing, inputs):
        match report:
            case FoldResult():
                found[report.digest] = ledger.put(report)
            case FoldFailure():
                failures.append(report)
            case FoldBegun():
                continue
        notify(Step(what, len(found) + len(failures), len(unique), cached, len(failures)))
    return found, failures


def _reports(train: Train, missing: Sequence[FoldJob], inputs: Callable[[], Inputs]) -> Iterator[Report]:
    if missing:  # a run that is all in the ledger loads no feature and starts no worker
        with closing(train(missing, inputs())) as reports:
            yield from reports
