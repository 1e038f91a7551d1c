"""`distmer run`, `distmer features` and `distmer plan`: an experiment, or a part of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from distmer.commands.session import Session, keep_environment, tracking_of
from distmer.config import ClusterConfig
from distmer.experiment.audit import read_audit
from distmer.experiment.backend import Backend
from distmer.experiment.events import Observer
from distmer.experiment.ledger import Ledger
from distmer.experiment.plan import Plan
from distmer.experiment.prepare import Features, extract_missing
from distmer.experiment.processes import describe_extraction
from distmer.experiment.result import RunResult
from distmer.experiment.run import run, without_weights
from distmer.features.methods import acting_methods
from distmer.report.jsonl import JsonLines
from distmer.report.plan import PlannedRow, plan_text, rows_text, time_text
from distmer.report.run_folder import begin_folder, finish_folder, write_results
from distmer.storage import Place
from distmer.training.estimate import describe_executor, estimate_seconds, folds_at_once
from distmer.training.fold_inputs import Inputs
from distmer.types import FoldJob, Manifest


def run_experiment(
    session: Session,
    *,
    local: bool = False,
    only: Sequence[str] = (),
    retry_failed: bool = False,
    progress: bool = True,
) -> RunResult:
    """Clips to scores. If possible, BadInput comes before anything is started."""
    session.model()
    session.require()
    with session.at_work(local=local, progress=progress) as (live, backend):
        return run_with(session, backend, live, only, retry_failed=retry_failed)


def run_with(
    session: Session,
    backend: Backend,
    live: Observer,
    only: Sequence[str] = (),
    *,
    retry_failed: bool = False,
) -> RunResult:
    """One experiment (or ``only`` some of its folds) on a backend that may serve several experiments. With
    ``retry_failed``, clips whose failure is stored are extracted again."""
    backend.require(session.config.cluster)  # before an hour of extraction
    plan, inputs, run_dir = planned(session, backend, live, retry_failed=retry_failed)
    with tracking_of(session) as tracker:
        result = run(
            plan,
            backend.train,
            inputs,
            session.ledger,
            [live, JsonLines(run_dir / "events.jsonl"), *tracker.observers],
            str(run_dir),
            only,
            partial(finish_folder, run_dir),
            read_audit(run_dir, plan.digest),
        )
        result = tracker.signed(result)
    write_results(run_dir, result.results)
    return result


def planned(
    session: Session, backend: Backend, live: Observer, *, retry_failed: bool = False
) -> tuple[Plan, Callable[[], Inputs], Place]:
    """The plan of a session, the model's inputs, and the run's folder with the files of its beginning.
    Missing features are extracted now."""
    plan, features = prepared(session, backend, live, retry_failed=retry_failed)
    run_dir = session.workspace.run_dir(plan.digest)
    begin_folder(run_dir, plan, features.stored)
    keep_environment(run_dir)
    ids = [clip.id for clip in plan.clips]
    return plan, lambda: features.inputs(ids, plan.model, session.config.inputs), run_dir


def prepared(
    session: Session, backend: Backend, live: Observer, *, retry_failed: bool = False
) -> tuple[Plan, Features]:
    """The plan of a session, and the features of its clips. Missing ones are extracted now."""
    session.try_code()  # before a clip is touched
    manifest = session.manifest([live], backend)
    session.require_evaluation(manifest)  # before an hour of extraction
    found = session.features(manifest, retry_failed=retry_failed)
    features = extract_missing(manifest, found, session.config.features, backend, [live])
    return session.plan(manifest, features), features


def extracted(
    session: Session, *, local: bool = False, retry_failed: bool = False
) -> tuple[Manifest, Features, Features]:
    """The clips, and their features before and after the missing ones were extracted."""
    session.try_methods()
    session.workspace.require()
    with session.at_work(local=local) as (live, backend):
        manifest = session.manifest([live], backend, folds=False)
        before = session.features(manifest, retry_failed=retry_failed)
        return manifest, before, extract_missing(manifest, before, session.config.features, backend, [live])


def extract_features(session: Session, *, local: bool = False, retry_failed: bool = False) -> str:
    """Features of the protocol's clips into the store. With ``retry_failed``, clips whose failure is stored
    are extracted again."""
    manifest, before, after = extracted(session, local=local, retry_failed=retry_failed)
    new = len(before.missing)
    lines = [f"{len(after.keys)} clips: {new} extracted, {len(before.keys) - new} were there."]
    lines += [f"not usable: {f.clip}: {f.reason}" for f in (*manifest.failures, *after.failures)]
    lines += [f"note: {clip}: {row.note}" for clip, row in after.stored.items() if row.note]
    lines += [f"apex chosen: {clip}: {row.apex_file}" for clip, row in after.stored.items() if row.apex_file]
    return "\n".join([*lines, f"store: {after.store.folder}"])


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a run would do: its plan; the feature key of each clip, and the (clip, key) whose features are
    missing; how many folds are in the ledger already, which of these lack the weights that are wanted, and
    all that are to be trained."""

    plan: Plan
    keys: Mapping[str, str]
    unextracted: frozenset[tuple[str, str]]
    done: int
    bare: Sequence[FoldJob]
    to_train: Sequence[FoldJob]

    def seconds_a_fold(self) -> float:
        """See `seconds_of_one`."""
        return seconds_of_one(self.to_train)


def outlook(session: Session) -> Outlook:
    """What a run would do. Nothing is extracted or trained."""
    session.try_code()
    manifest = session.manifest()
    session.require_evaluation(manifest)
    features = session.features(manifest)
    plan = session.plan(manifest, features)
    done = session.ledger.known(job.digest for job in plan.jobs)
    bare = without_weights(plan.jobs, done)
    missing = [*bare, *(job for job in plan.jobs if job.digest not in done)]
    unextracted = frozenset((clip.id, features.keys[clip.id]) for clip in features.missing)
    return Outlook(plan, features.keys, unextracted, len(done), bare, missing)


def seconds_of_one(folds: Sequence[FoldJob]) -> float:
    """What one of these folds takes, by a few timed steps of the first; 0 if there is none."""
    return estimate_seconds(folds[0]) if folds else 0.0


def planned_rows(parts: Iterable[tuple[str, Sequence[FoldJob]]], ledger: Ledger) -> list[PlannedRow]:
    """How many folds of each named part are to be trained. A fold of several parts is trained for the first
    of them."""
    rows, counted = list[PlannedRow](), set[str]()
    for name, jobs in parts:
        own = {job.digest: job for job in jobs}
        done = counted | ledger.known(own).keys()
        left = [job for digest, job in own.items() if digest not in done]
        counted |= own.keys()
        rows.append(PlannedRow(name, len(own), len(left), seconds_of_one(left)))
    return rows


def describe_rows(title: str, rows: Sequence[PlannedRow], unextracted: int, cluster: ClusterConfig) -> str:
    """What an experiment of several parts would do, as text. ``unextracted`` clips have no features yet."""
    seconds, folds = sum(row.seconds for row in rows), sum(row.to_train for row in rows)
    return rows_text(title, rows, unextracted, _time(seconds, folds, cluster))


def _time(seconds: float, folds: int, cluster: ClusterConfig) -> str:
    """How long so many folds take in all, in words. Of a cluster this machine tells nothing."""
    beside = 1 if cluster.named(os.environ) or cluster.gpus_per_fold else folds_at_once(cluster)
    return time_text(seconds, folds, min(beside, folds))


def describe_plan(session: Session) -> str:
    """What a run would do, as text. Nothing is extracted or trained; a few steps are timed."""
    found = outlook(session)
    plan, missing, clips = found.plan, found.to_train, len(found.unextracted)
    cluster, scratch = session.config.cluster, str(session.workspace.scratch)
    takes = _time(found.seconds_a_fold() * len(missing), len(missing), cluster)
    how = describe_executor(missing[0], cluster, scratch) if missing else ""
    run_dir = str(session.workspace.run_dir(plan.digest))
    of_frames = clips and acting_methods(session.config)
    by = describe_extraction(clips, cluster, os.environ) if of_frames else ""
    return plan_text(plan, clips, by, found.done, takes, how, run_dir, len(found.bare))
