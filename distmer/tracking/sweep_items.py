"""What is tracked of a sweep, as values: the sweep is a run, its trials are runs below it, and their folds
are steps and a table.

MLflow's pages show two levels and cannot show thousands of children (mlflow#2414, #4563), so folds are runs
only on request. A trial's scores are named ``rung_…`` and, if it is complete, ``inner_…``, so that a search
for the scores of runs does not find them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import yaml

from distmer.digests import digest
from distmer.report.settings import flatten, setting_text
from distmer.report.sweep import chosen_files, sweep_figures, sweep_report, trial_frame
from distmer.sweep.plan import SweepPlan, Trial
from distmer.sweep.result import SweepResult
from distmer.tracking.environment import Environment
from distmer.tracking.items import (
    Child,
    LogItem,
    Metric,
    Params,
    Tag,
    Text,
    fold_metrics,
    folds_table,
    origin_items,
    score_items,
    stamp_items,
    table,
)
from distmer.types import FoldResult


def sweep_plan_items(plan: SweepPlan, environment: Environment) -> Iterator[LogItem]:
    """What is known before the first trial: the space, the base configuration, the data."""
    sweep = plan.settings["sweep"]
    base = plan.base
    yield Params(
        {
            "model": base.model.info.name,
            "dataset": base.manifest.protocol,
            "selection": f"sweep:{plan.sweep.mode}",
            "outer_folds": str(len(base.folds)),
            "clips": str(len(base.clips)),
            **flatten({"sweep": {name: value for name, value in sweep.items() if name != "space"}}),
            **{f"space.{name}": json.dumps(domain) for name, domain in sweep["space"].items()},
        }
    )
    yield from stamp_items(plan.stamps)
    yield from origin_items("sweep", base, environment)
    yield Text("sweep.yaml", yaml.safe_dump(plan.settings, sort_keys=False, allow_unicode=True))


def trial_items(
    trial: Trial, folds: Sequence[FoldResult], plan: SweepPlan, *, fold_runs: bool
) -> Iterator[LogItem]:
    """A trial as a run below the sweep: its setting, its validation scores by rung, and its folds."""
    setting = {name: setting_text(value) for name, value in trial.setting.items()}
    items: list[LogItem] = [
        Params({"search": trial.search, "trial": str(trial.index), **setting}),
        Tag("distmer.kind", "trial"),
        Tag("distmer.trial", trial.state),
        *stamp_items(("inner-validation",)),
    ]
    items += [Tag("mlflow.note.content", f"failed: {trial.reason}")] if trial.reason else []
    for rung in trial.rungs:
        items += [Metric("rung_uar", rung.uar, rung.budget), Metric("rung_uf1", rung.uf1, rung.budget)]
    # of a stopped one, a score on fewer folds or epochs would stand beside these as if it were one of them
    if trial.state == "complete":
        items += [Metric("inner_uar", trial.rungs[-1].uar), Metric("inner_uf1", trial.rungs[-1].uf1)]
    items += [Metric("budget", trial.rungs[-1].budget if trial.rungs else 0), Metric("epochs", trial.epochs)]
    for step, fold in enumerate(folds):
        items += fold_metrics(fold, plan.base, step)
        if fold_runs:
            own = (Tag("distmer.kind", "fold"), Params({"fold": fold.fold_id}))
            metrics = fold_metrics(fold, plan.base, step=0)
            items.append(Child(f"{fold.fold_id} · seed {fold.seed}", fold.digest, (*own, *metrics)))
    if folds:
        items.append(folds_table(folds, plan.base))
    yield Child(f"{trial.search} · trial {trial.index}", trial_key(plan, trial), tuple(items))


def trial_key(plan: SweepPlan, trial: Trial) -> str:
    """A trial's identity within the tracker. It changes if a repeated search gives another result."""
    rungs = [list(asdict(rung).values()) for rung in trial.rungs]
    return digest([plan.digest, trial.search, trial.index, dict(trial.setting), trial.state, rungs])


def sweep_result_items(result: SweepResult) -> Iterator[LogItem]:
    """The end of a sweep: outer scores, inner scores of the choices, optimism, figures, tables, settings."""
    for name, values in (("inner", result.inner), ("optimism", result.optimism)):
        if values:
            yield from (Metric(f"{name}_uar", values.uar), Metric(f"{name}_uf1", values.uf1))
    yield from (Metric(name, float(value)) for name, value in result.counts.items())
    yield from (Text(path, text) for path, text in chosen_files(result).items())
    yield table("trials.csv", trial_frame(result.outcomes))
    yield from score_items(result, sweep_report(result), sweep_figures(result.plan, result.outcomes))
