"""`distmer track`: a run written to MLflow (again), from its folder and the ledger."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from distmer.commands.session import Session, Tracking, tracking_of
from distmer.experiment.audit import read_audit
from distmer.experiment.events import Event, FoldFinished, RunEnded, RunStarted
from distmer.experiment.plan import Plan
from distmer.experiment.prepare import Features
from distmer.experiment.result import NOT_ASKED, NOT_REACHED, RunResult, conclude
from distmer.experiment.results_file import FoldLeftOut
from distmer.report.run_folder import finish_folder, planned_digest, read_results, write_results
from distmer.storage import Place
from distmer.types import BadInput, FoldFailure


def track_run(run_dir: Place, session: Session) -> str:
    """Write a run to MLflow from the ledger. What MLflow has already is kept. BadInput as `write_again`."""
    result, tracker = write_again(run_dir, session)
    tracker.require_written()
    return f"{len(result.folds)} of {len(result.plan.jobs)} folds; MLflow run {result.mlflow_run_id}"


def write_again(run_dir: Place, session: Session) -> tuple[RunResult, Tracking]:
    """Write a run's folder again from the ledger, and to MLflow if tracking is on. The plan is made again
    from the clips. BadInput if the clips or the code have changed since the run."""
    plan, _ = plan_again(run_dir, session)
    folds = session.ledger.known(job.digest for job in plan.jobs)
    if not folds:
        raise BadInput(
            f"{run_dir}: the ledger {session.workspace.ledger} holds no fold of this run; run it first."
        )
    kept = read_results(run_dir)
    seconds = kept.seconds if kept else sum(fold.seconds for fold in folds.values())
    left_out = [row for row in kept.failed if isinstance(row, FoldLeftOut)] if kept else []
    failures, asked = _failures(left_out, plan, folds), _asked_for(left_out, plan)
    verdict = read_audit(run_dir, plan.digest)
    result = conclude(plan, list(folds.values()), failures, seconds, str(run_dir), asked, verdict)
    finish_folder(run_dir, result)  # the tracker takes the page from there
    events: list[Event] = [RunStarted(plan, str(run_dir), len(folds), to_train=0)]
    events += [FoldFinished(fold, cached=True) for fold in result.folds]
    with tracking_of(session) as tracker:
        for event in [*events, RunEnded(result)]:
            for observe in tracker.observers:
                observe(event)
        result = tracker.signed(result)
    write_results(run_dir, result.results)
    return result, tracker


def plan_again(run_dir: Place, session: Session) -> tuple[Plan, Features]:
    """The plan of a run's folder, made again from the clips, and their features. BadInput if it differs."""
    manifest = session.manifest()
    features = session.features(manifest)
    plan = session.plan(manifest, features)
    if planned_digest(run_dir) != plan.digest:
        raise BadInput(
            f"{run_dir}: the clips, their features or distmer's code have changed since this run was made,"
            " so its plan cannot be made again; restore them, or run it anew."
        )
    return plan, features


def _failures(left_out: Sequence[FoldLeftOut], plan: Plan, known: Collection[str]) -> list[FoldFailure]:
    """Of the folds that the last run left out, those that failed and are still not in the ledger (``known``
    digests). A fold that was not reached is no failure."""
    left_out = [row for row in left_out if row.reason not in {NOT_REACHED, NOT_ASKED}]
    reasons = {(row.fold, row.seed): row.reason for row in left_out}
    open_jobs = [job for job in plan.jobs if job.digest not in known]
    failed = [(job, reasons.get((job.fold.id, str(job.seed)))) for job in open_jobs]
    return [FoldFailure(job.digest, job.fold.id, job.seed, reason) for job, reason in failed if reason]


def _asked_for(left_out: Sequence[FoldLeftOut], plan: Plan) -> set[str]:
    """The folds that the last run was asked for; empty if it was asked for all of them."""
    others = {row.fold for row in left_out if row.reason == NOT_ASKED}
    return {fold.id for fold in plan.folds} - others if others else set()
