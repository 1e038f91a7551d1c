"""`distmer track`: a run written to MLflow (again), from its folder and the ledger."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from distmer.commands.session import Session, tracking_of
from distmer.experiment.events import Event, FoldFinished, RunEnded, RunStarted
from distmer.experiment.plan import Plan
from distmer.experiment.result import NOT_ASKED, NOT_REACHED, conclude
from distmer.report.run_folder import finish_folder, planned_digest
from distmer.storage import Place
from distmer.types import BadInput, FoldFailure, FoldResult


def track_run(run_dir: Place, session: Session) -> str:
    """Write a run to MLflow from the ledger; what is there already stays as it is.

    The plan is made again from the clips: BadInput where these, or the code, are no longer what the run was made of.
    """
    manifest = session.manifest()
    plan = session.plan(manifest, session.features(manifest))
    if planned_digest(run_dir) != plan.digest:
        raise BadInput(
            f"{run_dir}: the clips, their features or distmer's code have changed since this run was made,"
            " so its plan cannot be made again; restore them, or run it anew."
        )
    folds = session.ledger.known(job.digest for job in plan.jobs)
    if not folds:
        raise BadInput(f"{run_dir}: the ledger {session.workspace.ledger} holds no fold of this run; run it first.")
    kept = run_dir / "results.json"
    seconds = json.loads(kept.read_text())["seconds"] if kept.exists() else sum(fold.seconds for fold in folds.values())
    failures = [] if not kept.exists() else _kept_failures(json.loads(kept.read_text()), plan, folds)
    asked = _kept_choice(json.loads(kept.read_text()), plan) if kept.exists() else ()
    result = conclude(plan, list(folds.values()), failures, seconds, str(run_dir), asked)
    events: list[Event] = [RunStarted(plan, str(run_dir), len(folds), to_train=0)]
    events += [FoldFinished(fold, cached=True) for fold in result.folds]
    with tracking_of(session) as tracker:
        for event in [*events, RunEnded(result)]:
            for observe in tracker.observers:
                observe(event)
        result = tracker.signed(result)
    finish_folder(run_dir, result)
    tracker.require_written()
    return f"{len(folds)} of {len(plan.jobs)} folds; MLflow run {result.mlflow_run_id}"


def _kept_failures(results: dict[str, Any], plan: Plan, folds: Mapping[str, FoldResult]) -> list[FoldFailure]:
    """The folds that failed for a reason, as ``results.json`` has them; one merely not reached is no failure."""
    told = [f for f in results["failed"] if "fold" in f and f["reason"] not in {NOT_REACHED, NOT_ASKED}]
    reasons = {(f["fold"], f["seed"]): f["reason"] for f in told}
    open_jobs = [job for job in plan.jobs if job.digest not in folds]
    failed = [(job, reasons.get((job.fold.id, str(job.seed)))) for job in open_jobs]
    return [FoldFailure(job.digest, job.fold.id, job.seed, reason) for job, reason in failed if reason]


def _kept_choice(results: dict[str, Any], plan: Plan) -> set[str]:
    """The folds that the last run was asked for, by ``results.json``; none, where it was all of them."""
    others = {f["fold"] for f in results["failed"] if f["reason"] == NOT_ASKED}
    return {fold.id for fold in plan.folds} - others if others else set()
