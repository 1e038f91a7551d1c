"""`distmer audit`: a configuration's model, tried for leaks on a few of its folds."""

from __future__ import annotations

import time

from distmer.commands.run import planned
from distmer.commands.session import Session, require_no_kept_weights
from distmer.commands.track import write_again
from distmer.experiment.audit import Audit, drawn, gather, write_audit
from distmer.experiment.events import Step
from distmer.report.document import Document, Facts, Lines
from distmer.report.run_folder import read_results
from distmer.training.audit import audit_fold


def audit_experiment(
    session: Session, folds: int, seed: int, *, local: bool = False, progress: bool = True
) -> Audit:
    """Audit ``folds`` folds of an experiment, drawn with ``seed``, and keep the verdict in its run folder.

    Missing features are extracted first. The report and the MLflow run of a finished run are written again,
    with the verdict. BadInput where a fold cannot be trained.
    """
    require_no_kept_weights(session.config, "an audit keeps nothing that it trains")
    session.require()
    with session.at_work(local=local, progress=progress) as (live, backend):
        plan, inputs, run_dir = planned(session, backend, live)
        started = time.perf_counter()
        jobs, clips, found = drawn(plan.jobs, folds, seed), inputs(), []
        for job in jobs:
            live(Step("auditing folds", len(found), len(jobs)))
            found.append(audit_fold(job, clips))
        live(Step("auditing folds", len(found), len(jobs)))
    verdict = gather(plan.digest, found, time.perf_counter() - started)
    write_audit(run_dir, verdict)
    if read_results(run_dir) is not None:
        write_again(run_dir, session)
    return verdict


def audit_report(verdict: Audit, model: str) -> Document:
    """The verdict, what leaked, and what the audit cost."""
    folds = len(verdict.folds)
    leaks = [f"{leak.name}: {leak.sentence} ({leak.folds} of {folds} folds)" for leak in verdict.leaks]
    facts = [
        ("verdict", verdict.verdict),
        ("folds", ", ".join(verdict.folds)),
        ("cost", f"{verdict.trainings} trainings, {verdict.seconds:.0f} s"),
    ]
    if verdict.difference:
        words = f"probabilities differ by up to {verdict.difference:.1g} in batches of another size"
        facts.append(("rounding", words))
    return Document(f"audit of {model}", [], [Facts(facts), Lines(leaks, "leaks")])
