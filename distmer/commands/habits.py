"""`distmer habits`: what each dishonest habit of evaluation is worth, on the clips of a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import yaml

from distmer.commands.run import describe_rows, outlook, planned_rows, prepared
from distmer.commands.session import Given, Session, keep_environment
from distmer.config import Config, parse
from distmer.config_effect import require_effect
from distmer.config_layers import warn_of_unused
from distmer.digests import digest
from distmer.experiment.backend import Backend
from distmer.experiment.events import Observer
from distmer.experiment.ledger import Ledger
from distmer.experiment.plan import Plan
from distmer.experiment.prepare import Features
from distmer.experiment.run import train_jobs
from distmer.habits.config import Case, HabitsConfig, expand
from distmer.habits.prices import Price
from distmer.habits.pricing import Pricing
from distmer.habits.trainings import Splits, Trainings
from distmer.models import is_network, resolve
from distmer.report.habits import PriceList, habits_csv, habits_report
from distmer.report.plan import PlannedRow
from distmer.storage import Place, write
from distmer.training.fold_inputs import Inputs
from distmer.types import BadInput, FoldResult


def price_habits(given: Given, *, local: bool = False) -> tuple[PriceList, Place]:
    """The price list of a configuration with a ``habits:`` section, and its folder.

    Finished folds are in the ledger, so the same command continues. Nothing is written into a run folder or
    to MLflow. If the configuration does not fit, BadInput comes before anything is trained.
    """
    section, cases, base, tree = _opened(given)
    base.workspace.require()
    prices: list[Price] = []
    unpriced: list[tuple[str, str, str]] = []
    digests: set[str] = set()
    plan: Plan | None = None
    with base.at_work(local=local) as (live, backend):
        backend.require(base.config.cluster)
        for case in cases:  # the models share one connection to Ray, which sends the code of all of them
            Session(case.config, given.place).try_code()
        for case in cases:
            session = Session(case.config, given.place)
            plan, features = prepared(session, backend, live)
            fit = partial(_fit, session, features, [clip.id for clip in plan.clips], backend, live, digests)
            for found in Pricing(case, section, Splits(plan, features.keys), fit).prices():
                if isinstance(found, Price):
                    prices.append(found)
                else:
                    unpriced.append((case.label, *found))
    assert plan is not None  # `expand` gives at least one model
    of_data = (plan.manifest.protocol, len(plan.clips), len({clip.subject_key for clip in plan.clips}))
    how = base.config.evaluation
    identity = {
        "jobs": sorted(digests),
        "habits": section.model_dump(mode="json"),
        "bootstrap": [how.bootstrap, how.confidence],
    }
    listed = PriceList(*of_data, how.confidence, tuple(prices), tuple(unpriced), digest(identity))
    folder = base.workspace.habits_dir(listed.digest)
    # the settings, from which this list can be made again
    write(folder / "habits.yaml", yaml.safe_dump(tree, sort_keys=False).encode())
    keep_environment(folder)
    write(folder / "habits.md", habits_report(listed).markdown().encode())
    write(folder / "habits.csv", habits_csv(listed).encode())
    return listed, folder


def plan_of_habits(given: Given) -> str:
    """What a price list would train, model by model and habit by habit, as text. Nothing is extracted or
    trained; a few steps are timed."""
    section, cases, base, _ = _opened(given)
    rows, unextracted = list[PlannedRow](), set[tuple[str, str]]()
    for case in cases:
        session = Session(case.config, given.place)
        found = outlook(session)
        pricing = Pricing(case, section, Splits(found.plan, found.keys), partial(_in_ledger, session.ledger))
        parts = ((f"{case.label}: {what}", jobs) for what, jobs in pricing.trainings())
        rows += planned_rows(parts, session.ledger)
        unextracted |= found.unextracted
    return describe_rows(
        f"{base.config.name}: habits of {len(cases)} models", rows, len(unextracted), base.config.cluster
    )


def _opened(given: Given) -> tuple[HabitsConfig, list[Case], Session, dict[str, Any]]:
    """The section, its models, the session of the base, and all settings as they were read."""
    layers, tree = given.settings()
    section, cases = expand(tree, given.origin)
    if given.overrides:
        require_effect(layers, "habits", lambda tree: _configs(expand(tree, given.origin)[1]), is_network)
    warn_of_unused(layers, [config.model_dump() for config in _configs(cases)], is_network)
    of_base = {key: value for key, value in tree.items() if key != "habits"}
    return section, cases, Session(parse(Config, of_base, given.origin), given.place), tree


def _configs(cases: Sequence[Case]) -> list[Config]:
    return [config for case in cases for config in (case.config, *case.tuned)]


def _in_ledger(ledger: Ledger, own: Trainings, what: str) -> list[FoldResult]:
    """These folds, if all of them are trained; else BadInput."""
    known = ledger.known(job.digest for job in own.jobs)
    if len(known) < len(own.jobs):
        raise BadInput(f"{what}: not trained yet")
    return [known[job.digest] for job in own.jobs]


def _fit(
    session: Session,
    features: Features,
    clips: Sequence[str],
    backend: Backend,
    live: Observer,
    digests: set[str],
    own: Trainings,
    what: str,
) -> list[FoldResult]:
    """The folds that a habit needs, in the order of their jobs. Their digests are added to ``digests``.
    BadInput if one failed."""

    def inputs() -> Inputs:
        return own.inputs(features.inputs(clips, resolve(own.config.model), own.config.inputs))

    found, failures = train_jobs(own.jobs, backend.train, inputs, session.ledger, [live], what)
    if failures:
        first = failures[0]
        reason = f"{len(failures)} of {len(own.jobs)} folds failed, the first of them {first.fold_id}"
        raise BadInput(f"{reason}: {first.reason}")
    digests.update(found)
    return [found[job.digest] for job in own.jobs]
