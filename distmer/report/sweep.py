"""A finished sweep: what was chosen where, what the search believed and what came of it; tables, figures,
settings files."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import cast

import matplotlib
import optuna
import pandas as pd
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState

from distmer.experiment.plan import acting_settings
from distmer.process import only_errors_of
from distmer.report.curves import curves_json
from distmer.report.document import Document, Facts, Lines, Part
from distmer.report.page import write_page
from distmer.report.run_folder import read_results, write_figures, write_predictions, write_results
from distmer.report.settings import short_value
from distmer.report.svg import plain_text
from distmer.report.table import Column, Row, Table
from distmer.report.tables import clock, run_report
from distmer.storage import Place, write
from distmer.sweep.plan import Search, SweepPlan, Trial
from distmer.sweep.result import Outcome, SweepResult
from distmer.sweep.space import SweepConfig
from distmer.types import BadInput, JsonValue


def sweep_report(result: SweepResult) -> Document:
    """A sweep's end: the outer score as of any run, each search's choice, what the search cost, and how much
    it flattered."""
    report = run_report(result.results)
    parts: list[Part] = [_choices(result.outcomes)] if result.outcomes else []
    return replace(report, parts=[*report.parts, *parts, Lines(_closing(result))])


def _choices(outcomes: Sequence[Outcome]) -> Table:
    inner = (Column("inner UAR", right=True), Column("inner UF1", right=True))
    columns = (Column("search"), Column("trial", right=True), Column("chosen setting"), *inner)
    return Table((*columns, Column("stopped")), [Row(_cells(outcome)) for outcome in outcomes])


def trial_frame(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """One row a trial: its search, setting, state, and its scores at the last rung it reached."""
    rows: list[dict[str, JsonValue]] = []
    for outcome in outcomes:
        for trial in outcome.trials:
            last = trial.rungs[-1] if trial.rungs else None
            rows.append(
                {
                    "search": trial.search,
                    "trial": trial.index,
                    **{name: short_value(value) for name, value in trial.setting.items()},
                    "state": trial.state,
                    "chosen": trial is outcome.chosen,
                    "budget": last.budget if last else 0,
                    "inner_uar": last.uar if last else None,
                    "inner_uf1": last.uf1 if last else None,
                    "trainings": len(trial.folds),
                    "epochs": trial.epochs,
                    "reason": trial.reason,
                }
            )
    return pd.DataFrame(rows)


def sweep_figures(plan: SweepPlan, outcomes: Sequence[Outcome]) -> dict[str, Callable[[], Figure]]:
    """Optuna's figures over the trials of all searches, by name; drawn when called. Importances need three
    trials that differ."""
    trials = [trial for outcome in outcomes for trial in outcome.trials if trial.state == "complete"]
    if len(trials) < 2:
        return {}
    kept = study(plan.sweep, trials)
    named = {"target": lambda trial: trial.value, "target_name": f"inner {plan.sweep.metric.upper()}"}
    coordinates = partial(optuna.visualization.matplotlib.plot_parallel_coordinate, **named)
    found = {"parallel_coordinates": partial(_drawn, coordinates, kept)}
    if len({trial.score(plan.sweep.metric) for trial in trials}) > 2:
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        plot = partial(optuna.visualization.matplotlib.plot_param_importances, evaluator=evaluator, **named)
        found["importances"] = partial(_drawn, plot, kept)
    return found


def study(sweep: SweepConfig, trials: Sequence[Trial]) -> optuna.Study:
    """Complete trials as Optuna knows them."""
    with only_errors_of("optuna"):  # it announces every study
        found = optuna.create_study(direction="maximize")
    domains = {name: domain.distribution for name, domain in sweep.space.items()}
    for trial in trials:
        drawn = {name: sweep.space[name].drawn(value) for name, value in trial.setting.items()}
        kept: FrozenTrial = optuna.create_trial(
            state=TrialState.COMPLETE,
            params=drawn,
            distributions=domains,
            value=trial.score(sweep.metric),
        )
        found.add_trial(kept)
    return found


def _drawn(plot: Callable[[optuna.Study], Axes], study: optuna.Study) -> Figure:
    """Optuna draws with pyplot, which keeps every figure: this one is taken out of its hands."""
    import matplotlib.pyplot as plt

    before = plt.get_backend()
    plt.switch_backend("Agg")  # no window, and none of a thread
    try:
        # Optuna sets a style of its own for the whole process
        with warnings.catch_warnings(), matplotlib.rc_context():
            # Optuna's word for all of its matplotlib figures
            warnings.simplefilter("ignore", ExperimentalWarning)
            axes = plot(study)
        figure = cast(Figure, axes.figure)
        plain_text(figure)
        figure.set_size_inches(11, 5.5)
        plt.close(figure)
        return figure
    finally:
        try:
            plt.switch_backend(before)
        except ImportError:  # it was named in MPLBACKEND and cannot be loaded here: it stays named
            matplotlib.rcParams["backend"] = before


def chosen_files(result: SweepResult) -> dict[str, str]:
    """The chosen settings as configuration files that a run takes: `chosen/<search>.yaml`, and the clips
    where they must be named."""
    files: dict[str, str] = {}
    for outcome in result.outcomes:
        if outcome.chosen is None:
            continue
        config, model = result.plan.space.config(outcome.chosen.setting)
        name, tree = f"chosen/{slug(outcome.search.id)}.yaml", acting_settings(config, model)
        # a clip that another searched feature setting could not use
        if len(result.plan.keys) > 1 and result.plan.base.failures:
            files["chosen/clips.txt"] = "\n".join(clip.id for clip in result.plan.base.clips) + "\n"
            tree["data"]["include"] = f"{result.run_dir}/chosen/clips.txt"
        files[name] = _head(result, outcome, name) + yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    return files


def _head(result: SweepResult, outcome: Outcome, name: str) -> str:
    assert outcome.chosen is not None
    alone = [f"--fold {fold.id}" for fold in outcome.search.outer] if len(result.plan.searches) > 1 else []
    setting = ", ".join(f"{key} = {short_value(value)}" for key, value in outcome.chosen.setting.items())
    rung = outcome.chosen.rungs[-1]
    return (
        f"# Chosen by the search {outcome.search.id} of {result.plan.sweep.wanted} trials"
        f" ({result.plan.sweep.mode}): {setting}\n"
        f"# Inner validation: UAR {rung.uar:.4f}, UF1 {rung.uf1:.4f}\n"
        f"# Command: python jobs/loso.py {result.run_dir}/{name} {' '.join(alone)}".rstrip()
        + f"\n# Gives the sweep's own score{' of that fold' if alone else ''}:"
        f" {', '.join(result.stamps) or 'no stamp'}.\n"
    )


def search_record(outcome: Outcome) -> bytes:
    """A finished search as its file holds it: what it tried, and what it chose."""
    tree = {
        "trials": [trial.to_json() for trial in outcome.trials],
        "chosen": None if outcome.chosen is None else outcome.chosen.index,
    }
    return json.dumps(tree, indent=1).encode()


def read_records(folder: Place, searches: Sequence[Search]) -> dict[str, Outcome]:
    """The searches that an earlier run of the sweep has finished. A file that is no whole record counts as
    none."""
    found: dict[str, Outcome] = {}
    for search in searches:
        try:
            tree = json.loads((folder / record_key(search)).read_bytes())
            trials = tuple(Trial.of_json(trial) for trial in tree["trials"])
            chosen = next((trial for trial in trials if trial.index == tree["chosen"]), None)
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            continue
        if all(trial.search == search.id for trial in trials):
            found[search.id] = Outcome(search, trials, chosen)
    return found


def earlier_seconds(folder: Place) -> float | None:
    """How long the sweep took when it was made; None where no earlier run came to an end."""
    try:
        earlier = read_results(folder)
    except BadInput:  # it is written anew
        return None
    return earlier.seconds if earlier else None


def record_key(search: Search) -> str:
    return f"searches/{slug(search.id)}.json"


def finish_sweep_folder(folder: Place, result: SweepResult) -> None:
    """Predictions, curves, trials, figures, chosen settings, the report and ``results.json``, and last the
    page of all this."""
    write_predictions(folder, result.predictions)
    write(folder / "curves.json", curves_json(result.folds))
    write(folder / "trials.csv", trial_frame(result.outcomes).to_csv(index=False).encode())
    for name, text in chosen_files(result).items():
        write(folder / name, text.encode())
    write_figures(folder, sweep_figures(result.plan, result.outcomes), dpi=130, bbox_inches="tight")
    write_results(folder, result.results, sweep_report(result))
    write_page(folder)


def sweep_plan_text(plan: SweepPlan, known: Mapping[str, int], hours: Mapping[str, str], folder: str) -> str:
    """What a sweep would do. ``known``: of the foreseen trainings, how many there are and how many the ledger
    has."""
    sweep = plan.sweep
    rows = [
        ("mode", f"{sweep.mode}" + (f"; NOT A HEADLINE: {', '.join(plan.stamps)}" if plan.stamps else "")),
        (
            "searches",
            f"{len(plan.searches)} ({sweep.searcher}, {sweep.scheduler}), {known['recorded']}"
            " finished already",
        ),
        (
            "trials",
            f"{sweep.wanted} a search, {sweep.wanted * len(plan.searches)} in all,"
            f" {sweep.concurrent} of a search at once",
        ),
        (
            "trainings",
            f"{plan.trainings} if no trial is stopped, and {known['refits']} refits of what is chosen",
        ),
        (
            "foreseen",
            f"{known['foreseen']} trainings whatever is learnt; the ledger has {known['done']} of them",
        ),
        *hours.items(),
        ("results", folder),
    ]
    base = plan.base
    title = f"sweep of {base.model.info.name} on {base.manifest.protocol}, {len(base.folds)} outer folds"
    space = {name: domain.model_dump(mode="json", exclude_none=True) for name, domain in sweep.space.items()}
    searched = Lines([f"{name}: {json.dumps(domain)}" for name, domain in space.items()], "searched settings")
    return Document(title, parts=[searched, Facts(rows)]).text()


def _cells(outcome: Outcome) -> tuple[str, ...]:
    stopped = f"{sum(trial.state == 'stopped' for trial in outcome.trials)} of {len(outcome.trials)}"
    if outcome.chosen is None:
        return (outcome.search.id, "", "none: no trial went through", "", "", stopped)
    rung = outcome.chosen.rungs[-1]
    setting = ", ".join(
        f"{name.split('.', 1)[1]}={short_value(value)}" for name, value in outcome.chosen.setting.items()
    )
    return (
        outcome.search.id,
        str(outcome.chosen.index),
        setting,
        f"{rung.uar:.4f}",
        f"{rung.uf1:.4f}",
        stopped,
    )


def _closing(result: SweepResult) -> list[str]:
    counts = result.counts
    lines: list[str] = []
    inner, optimism, outer = result.inner, result.optimism, result.summary
    if inner and optimism and outer:
        lines.append(
            f"optimism: the search believes UAR {inner.uar:.4f}, UF1 {inner.uf1:.4f}; on the outer folds UAR"
            f" {outer.uar:.4f}, UF1 {outer.uf1:.4f}: {optimism.uar:+.4f}, {optimism.uf1:+.4f}"
        )
    states = ", ".join(
        f"{counts[state]} {state}" for state in ("complete", "stopped", "failed") if counts[state]
    )
    # a classical model has none
    epochs = (
        f", epochs: {counts['epochs']} of {counts['epochs_without_stopping']}" if counts["epochs"] else ""
    )
    lines.append(
        f"trials: {counts['trials']} ({states or 'none'}); trainings: {counts['trainings']} of"
        f" {counts['trainings_without_stopping']} without a scheduler{epochs}; {result.trained} trained now,"
        f" {clock(result.seconds)}"
    )
    lines.append(f"chosen settings, to be run by jobs/loso.py: {result.run_dir}/chosen")
    return lines


def slug(name: str) -> str:
    """A search's id as a file name."""
    return re.sub(r"[/\\:]", "-", name)
