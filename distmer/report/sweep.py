"""A finished sweep: its report, tables, figures, and files of the chosen settings."""

from __future__ import annotations

import json
import re
import shlex
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
from distmer.report.document import Document, Facts, Lines
from distmer.report.page import write_page
from distmer.report.run_folder import read_results, write_figures, write_predictions, write_results
from distmer.report.settings import short_settings, short_value
from distmer.report.svg import plain_text
from distmer.report.table import Column, Row, Table
from distmer.report.tables import clock, run_report
from distmer.storage import Place, write
from distmer.sweep.plan import Search, SweepPlan, Trial
from distmer.sweep.result import Outcome, SweepResult
from distmer.sweep.space import SweepConfig
from distmer.types import BadInput, JsonValue


def sweep_report(result: SweepResult) -> Document:
    """The outer score as of any run, each search's choice, the optimism of the search, and its cost."""
    report = run_report(result.results)
    return replace(report, parts=[*report.parts, _choices(result.outcomes), Lines(_closing(result))])


def _choices(outcomes: Sequence[Outcome]) -> Table:
    inner = (Column("inner UAR", right=True), Column("inner UF1", right=True))
    columns = (Column("search"), Column("trial", right=True), Column("chosen setting"), *inner)
    rows: list[Row] = []
    for outcome in outcomes:
        choice = ("", "none: no trial went through", "", "")
        if (chosen := outcome.chosen) is not None:
            given = chosen.setting.items()
            setting = ", ".join(f"{name.split('.', 1)[1]}={short_value(value)}" for name, value in given)
            rung = chosen.rungs[-1]
            choice = (str(chosen.index), setting, f"{rung.uar:.4f}", f"{rung.uf1:.4f}")
        stopped = f"{sum(trial.state == 'stopped' for trial in outcome.trials)} of {len(outcome.trials)}"
        rows.append(Row((outcome.search.id, *choice, stopped)))
    return Table((*columns, Column("stopped")), rows)


def trial_frame(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """One row for each trial: its search, setting, state, and its scores at the last rung it reached."""
    return pd.DataFrame([_trial_row(trial, outcome) for outcome in outcomes for trial in outcome.trials])


def _trial_row(trial: Trial, outcome: Outcome) -> dict[str, JsonValue]:
    last = trial.rungs[-1] if trial.rungs else None
    return {
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


def sweep_figures(plan: SweepPlan, outcomes: Sequence[Outcome]) -> dict[str, Callable[[], Figure]]:
    """Name → one of Optuna's figures over the trials of all searches; drawn when called. Importances need
    three trials that differ."""
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
    """A figure of Optuna's, which draws with pyplot: the figure is closed there, and styles are put back."""
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
    """The chosen settings as configuration files, `chosen/<search>.yaml`, and a list of the clips where it
    is needed."""
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
    alone = (
        [f"--fold {shlex.quote(fold.id)}" for fold in outcome.search.outer]
        if len(result.plan.searches) > 1
        else []
    )
    rung = outcome.chosen.rungs[-1]
    return (
        f"# Chosen by the search {outcome.search.id} of {result.plan.sweep.wanted} trials"
        f" ({result.plan.sweep.mode}): {short_settings(outcome.chosen.setting)}\n"
        f"# Inner validation: UAR {rung.uar:.4f}, UF1 {rung.uf1:.4f}\n"
        f"# Command: distmer run {shlex.quote(f'{result.run_dir}/{name}')} {' '.join(alone)}".rstrip()
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
    """The searches that an earlier run of the sweep has finished. A damaged record is passed over."""
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
    """The seconds that an earlier run of the sweep took to its end, or None."""
    try:
        earlier = read_results(folder)
    except BadInput:  # it is written anew
        return None
    return earlier.seconds if earlier else None


def record_key(search: Search) -> str:
    return f"searches/{slug(search.id)}.json"


def finish_sweep_folder(folder: Place, result: SweepResult) -> None:
    """Write predictions, curves, trials, figures, chosen settings, the report, ``results.json`` and the
    page."""
    write_predictions(folder, result.predictions)
    write(folder / "curves.json", curves_json(result.folds))
    write(folder / "trials.csv", trial_frame(result.outcomes).to_csv(index=False).encode())
    for name, text in chosen_files(result).items():
        write(folder / name, text.encode())
    write_figures(folder, sweep_figures(result.plan, result.outcomes), dpi=130, bbox_inches="tight")
    write_results(folder, result.results, sweep_report(result))
    write_page(folder)


def sweep_plan_text(plan: SweepPlan, known: Mapping[str, int], hours: Mapping[str, str], folder: str) -> str:
    """What a sweep would do. ``known``: how many trainings are foreseen, and how many the ledger has."""
    sweep, base, searches = plan.sweep, plan.base, len(plan.searches)
    stamps = f"; NOT A HEADLINE: {', '.join(plan.stamps)}" if plan.stamps else ""
    trials = f"{sweep.wanted} a search, {sweep.wanted * searches} in all"
    least, most = known["foreseen"], plan.trainings
    rows = {
        "mode": f"{sweep.mode}{stamps}",
        "searches": f"{searches} ({sweep.searcher}, {sweep.scheduler}), {known['recorded']} finished already",
        "trials": f"{trials}, {sweep.concurrent} of a search at once",
        "trainings": f"{most} if no trial is stopped, and {known['refits']} refits of what is chosen",
        "foreseen": f"{least} trainings whatever is learnt; the ledger has {known['done']} of them",
        **hours,
        "results": folder,
    }
    title = f"sweep of {base.model.info.name} on {base.manifest.protocol}, {len(base.folds)} outer folds"
    space = {name: domain.model_dump(mode="json", exclude_none=True) for name, domain in sweep.space.items()}
    searched = Lines([f"{name}: {json.dumps(domain)}" for name, domain in space.items()], "searched settings")
    return Document(title, parts=[searched, Facts(list(rows.items()))]).text()


def _closing(result: SweepResult) -> list[str]:
    counts = result.counts
    lines: list[str] = []
    inner, optimism, outer = result.inner, result.optimism, result.summary
    if inner and optimism and outer:
        lines.append(
            f"optimism: the search believes UAR {inner.uar:.4f}, UF1 {inner.uf1:.4f}; on the outer folds UAR"
            f" {outer.uar:.4f}, UF1 {outer.uf1:.4f}: {optimism.uar:+.4f}, {optimism.uf1:+.4f}"
        )
    ended = [f"{counts[state]} {state}" for state in ("complete", "stopped", "failed") if counts[state]]
    epochs = ""
    if counts["epochs"]:  # a classical model has none
        epochs = f", epochs: {counts['epochs']} of {counts['epochs_without_stopping']}"
    lines.append(
        f"trials: {counts['trials']} ({', '.join(ended) or 'none'}); trainings: {counts['trainings']} of"
        f" {counts['trainings_without_stopping']} without a scheduler{epochs}; {result.trained} trained now,"
        f" {clock(result.seconds)}"
    )
    lines.append(f"chosen settings, to be run by distmer run: {result.run_dir}/chosen")
    return lines


def slug(name: str) -> str:
    """A search's id as a file name."""
    return re.sub(r"[/\\:]", "-", name)
