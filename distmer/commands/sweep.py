"""`distmer sweep`: features of every searched setting, searches, trainings of what was chosen, MLflow."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from statistics import fmean
from typing import Any

import yaml

from distmer.cluster.backend import RayBackend
from distmer.commands.session import (
    Given,
    Session,
    home_of,
    keep_environment,
    remove_leftovers_of,
    tracking_of,
)
from distmer.config import Config
from distmer.experiment.events import Observers
from distmer.experiment.plan import build_plan
from distmer.experiment.prepare import Features, extract_missing
from distmer.models import ResolvedModel
from distmer.report.live_sweep import SweepProgress
from distmer.report.run_folder import planned_digest, write_results
from distmer.report.sweep import (
    earlier_seconds,
    finish_sweep_folder,
    read_records,
    record_key,
    search_record,
    sweep_plan_text,
    sweep_report,
)
from distmer.report.tables import clock
from distmer.storage import Place, write
from distmer.sweep.events import SearchEnded, SweepEnded, SweepEvent
from distmer.sweep.loop import Sweep
from distmer.sweep.plan import Search, SweepPlan, feature_digest, plan_sweep
from distmer.sweep.result import Outcome, SweepResult
from distmer.sweep.space import Space
from distmer.training.estimate import estimate_seconds, folds_at_once
from distmer.training.fold_inputs import Inputs
from distmer.types import BadInput, ClipFailure, FoldJob, Manifest

_log = logging.getLogger(__name__)
_TIMED = 5  # settings of which a step is timed
Extract = Callable[[Session, Features], Features]


def run_sweep(
    given: Given, *, clips: Manifest | None = None, retry_failed: bool = False, progress: bool = True
) -> SweepResult:
    """Search, train the chosen settings, score. Finished searches and trainings are kept, and not repeated.
    With ``retry_failed``, clips whose failure is stored are extracted again."""
    session, space = open_sweep(given)
    session = replace(session, clips=clips)
    session.require()
    for config, _ in space.with_each_name():
        Session(config, session.workspace).try_code()
    remove_leftovers_of(session)
    backend = _backend(session)
    with Observers([SweepProgress()] if progress else []) as live, closing(backend):
        manifest = session.manifest([live], backend)
        session.require_evaluation(manifest)  # before an hour of extraction

        def extract(own: Session, features: Features) -> Features:
            return extract_missing(manifest, features, own.config.features, backend, [live])

        plan, features = _plan(session, space, manifest, extract, retry_failed=retry_failed)
        folder = session.workspace.sweep_dir(plan.digest)
        _begin(folder, plan)
        keep_environment(folder)
        with tracking_of(session) as tracker:
            observers = [live, *tracker.observers]
            result = tracker.signed(_sweep(session, plan, features, backend, observers, folder))
    write_results(folder, result.results, sweep_report(result))
    return result


def plan_of_sweep(given: Given, *, gpus: int, speedup: float, price: float) -> str:
    """What a sweep would do, take and cost. Nothing is extracted or trained; a few steps are timed."""
    session, space = open_sweep(given)
    for config, _ in space.with_each_name():
        Session(config, session.workspace).try_code()
    manifest = session.manifest()
    plan, _ = _plan(session, space, manifest)
    folder = session.workspace.sweep_dir(plan.digest)
    recorded = read_records(folder, plan.searches)
    jobs = _foreseen(plan)
    known = session.ledger.known(jobs)
    refits = len(plan.base.folds) * len(session.config.seeds)
    counts = {"recorded": len(recorded), "foreseen": len(jobs), "done": len(known), "refits": refits}
    left = [search for search in plan.searches if search.id not in recorded]
    hours = _hours(plan, left, gpus, speedup, price) if left else {"estimate": "every search is finished"}
    return sweep_plan_text(plan, counts, hours, str(folder))


def track_sweep(folder: Place, workspace: str | None) -> str:
    """Write a finished sweep to MLflow (again), from its records and the ledger. BadInput if it is not
    finished, or if something that it depends on has changed."""
    session, space = open_sweep(Given(folder / "sweep.yaml", (), home_of(folder, workspace)), kept=True)
    if session.config.storage.sweeps:
        session = session.moved_to(workspace)
    manifest = session.manifest()
    plan, features = _plan(session, space, manifest)
    if planned_digest(folder) != plan.digest:
        raise BadInput(
            f"{folder}: the clips, the code or the settings have changed since this sweep was"
            " made; run it again."
        )
    recorded = read_records(folder, plan.searches)
    chosen = [
        job.digest for o in recorded.values() if o.chosen for job in plan.refits(o.search, o.chosen.setting)
    ]
    if len(recorded) < len(plan.searches) or len(session.ledger.known(chosen)) < len(chosen):
        raise BadInput(f"{folder}: this sweep is not finished; run the same `distmer sweep` command again.")
    with tracking_of(session) as tracker:
        backend = _backend(session)
        result = tracker.signed(_sweep(session, plan, features, backend, tracker.observers, folder))
    write_results(folder, result.results, sweep_report(result))
    tracker.require_written()
    return f"{result.counts['trials']} trials; MLflow run {result.mlflow_run_id}"


def open_sweep(given: Given, *, kept: bool = False) -> tuple[Session, Space]:
    """The base configuration's session, and the space. ``kept``: distmer wrote the file."""
    layers, tree = given.settings()
    space = Space.read(tree, given.origin)
    if space.base().train.keep_weights:
        raise BadInput(
            f"{space.origin}: a sweep keeps no weights; leave train.keep_weights out, and run the chosen"
            " settings with it."
        )
    if not kept:
        for note in space.unused(layers):
            _log.warning("%s", note)
    return Session(space.base(), given.place), space


def _plan(
    session: Session,
    space: Space,
    manifest: Manifest,
    extract: Extract = lambda own, features: features,
    *,
    retry_failed: bool = False,
) -> tuple[SweepPlan, dict[str, Features]]:
    """The plan on the clips that every searched feature setting can use, and the features by setting."""
    # without searched features, the base alone
    choices = [space.config(setting) for setting in space.feature_settings()]
    frames = session.frames(manifest, [config.features for config, _ in choices])  # once for all settings
    found: dict[str, Features] = {}
    for config, _ in choices:
        own = Session(config, session.workspace)
        located = own.features(manifest, frames, retry_failed=retry_failed)
        found[feature_digest(config.features)] = extract(own, located)
    config, model = choices[0]
    features = found[feature_digest(config.features)]
    features.inputs((), model, config.inputs)  # settings that do not fit the maps are told here
    lost = {failure.clip: failure for some in found.values() for failure in some.failures}
    unusable = [ClipFailure(clip, failure.reason) for clip, failure in sorted(lost.items())]
    base = build_plan(config, manifest, model, features.keys, unusable, features.notes)
    return plan_sweep(space, base, {key: some.keys for key, some in found.items()}), found


def _sweep(
    session: Session,
    plan: SweepPlan,
    features: Mapping[str, Features],
    backend: RayBackend,
    observers: Sequence[Any],
    folder: Place,
) -> SweepResult:
    ids = [clip.id for clip in plan.base.clips]

    def inputs(config: Config, model: ResolvedModel) -> Inputs:
        return features[feature_digest(config.features)].inputs(ids, model, config.inputs)

    cluster = session.config.cluster
    # Enough trials to keep busy what may be in flight; on a cluster of our own, what its cores can be.
    busy = (
        cluster.in_flight if cluster.named(os.environ) else min(cluster.in_flight, 4 * folds_at_once(cluster))
    )
    at_once = max(1, -(-busy // plan.sweep.concurrent))
    search = partial(backend.search, plan.space)
    sweep = Sweep(plan, search, session.ledger, inputs, observers, at_once, _keep(folder))
    return sweep.run(read_records(folder, plan.searches), str(folder), earlier_seconds(folder))


def _backend(session: Session) -> RayBackend:
    cluster = session.config.cluster
    # It is not known which settings train for long before they are drawn.
    return RayBackend(cluster, str(session.workspace.scratch), groups=cluster.workers_per_fold != 0)


def _begin(folder: Place, plan: SweepPlan) -> None:
    write(folder / "sweep.yaml", yaml.safe_dump(plan.settings, sort_keys=False, allow_unicode=True).encode())
    data = {"data": plan.base.data_digest, "data_by_features": plan.data_by_features}
    write(folder / "plan.json", json.dumps({"digest": plan.digest, **data}, indent=1).encode())


def _keep(folder: Place) -> Callable[[SweepEvent], None]:
    """An observer that writes the sweep's folder: each search when it has ended, the rest at the end."""

    def keep(event: SweepEvent) -> None:
        if isinstance(event, SearchEnded) and not event.recorded and _worth_keeping(event.outcome):
            write(folder / record_key(event.outcome.search), search_record(event.outcome))
        elif isinstance(event, SweepEnded):
            finish_sweep_folder(folder, event.result)

    return keep


def _worth_keeping(outcome: Outcome) -> bool:
    """False for a search that lost a worker or has nothing to choose: the next run repeats it."""
    return outcome.chosen is not None and not any(trial.lost for trial in outcome.trials)


def _foreseen(plan: SweepPlan) -> dict[str, FoldJob]:
    """The trainings that are certain. With a scheduler, these are the ones before it can stop a trial."""
    jobs: dict[str, FoldJob] = {}
    for setting in plan.space.foreseen():
        for search in plan.searches:
            for rung in search.rungs if plan.sweep.scheduler == "none" else search.rungs[:1]:
                try:
                    jobs |= {job.digest: job for job in plan.jobs(setting, rung)}
                except BadInput:
                    continue  # it fails as a trial, without a training
    return jobs


def _hours(
    plan: SweepPlan, searches: Sequence[Search], gpus: int, speedup: float, price: float
) -> dict[str, str]:
    """Estimates in words, if no trial is stopped: from the steps of a few settings, timed here."""
    config, settings = plan.base.config, plan.space.foreseen()
    few = settings[:: max(1, len(settings) // _TIMED)][:_TIMED]
    timed = [seconds for setting in few if (seconds := _whole_fold(plan, setting)) is not None]
    impossible = ""
    if len(timed) < len(few):
        impossible = f"; {len(few) - len(timed)} of the {len(few)} settings that were tried cannot be used"
    if not timed:
        return {"estimate": f"none{impossible}: the warnings above say why"}
    each = fmean(timed)
    epochs = config.train.epochs
    rungs = [rung for search in searches for rung in search.rungs]
    trials = plan.sweep.wanted * sum(len(rung.folds) * (rung.epochs or epochs) / epochs for rung in rungs)
    total = each * (trials + sum(len(search.outer) for search in searches) * len(config.seeds))
    beside = folds_at_once(config.cluster)
    here = f"about {clock(total / beside)} on this machine ({beside} folds at once, {each:.1f} s each)"
    lines = {"estimate": f"{here} if no trial is stopped{impossible}"}
    if gpus:
        share = config.cluster.gpus_per_fold or 1.0
        there = total / min(gpus / share, config.cluster.in_flight) / speedup
        lines["on GPUs"] = (
            f"about {clock(there)} on {gpus}, {share:g} of one a fold, each {speedup:g} times as fast as a"
            " core here"
        )
        if price:
            lines["cost"] = f"about {there / 3600 * gpus * price:.2f}, at {price:g} a GPU and hour"
    return lines


def _whole_fold(plan: SweepPlan, setting: Mapping[str, Any]) -> float | None:
    """The seconds of a training of all epochs; None if the setting is impossible."""
    try:
        return estimate_seconds(plan.jobs(setting, plan.searches[0].rungs[-1])[0])
    except BadInput as error:
        _log.warning("an impossible setting, %s: %s", json.dumps(setting), error)
        return None
