"""The commands that make and score experiments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from distmer.cli.arguments import (
    experiment,
    experiment_in_file,
    extract_locally,
    folder_of,
    json_option,
    keep_freed_memory,
    retry_option,
    set_option,
    show,
    train_locally,
    workspace_option,
)
from distmer.cli.ending import COMPLETE, ERROR, status_of
from distmer.types import BadInput

if TYPE_CHECKING:
    from distmer.commands.session import Given


@click.command()
@experiment
@train_locally
@click.option(
    "--fold",
    "only",
    multiple=True,
    metavar="ID",
    help="Only this fold, for example casme2/sub01. May be given several times.",
)
@retry_option
@json_option
def run(given: Given, local: bool, only: tuple[str, ...], retry_failed: bool, as_json: bool) -> int:
    """Run an experiment: train all folds, and score them.

    Missing features are extracted first, and the result is written to MLflow. Finished work is not repeated,
    so the same command continues a run that was stopped.
    """
    from distmer.commands.run import run_experiment
    from distmer.commands.session import Session
    from distmer.report.tables import run_report

    if local:
        keep_freed_memory()
    session = Session.open(given)
    results = run_experiment(session, local=local, only=only, retry_failed=retry_failed).results
    show(run_report(results))
    if as_json:
        click.echo(json.dumps(results.to_json()))
    return status_of(results.status)


@click.command()
@experiment
@click.option(
    "--folds", default=3, show_default=True, type=click.IntRange(min=1), help="How many folds are audited."
)
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(min=0),
    help="The seed by which the folds are drawn.",
)
@extract_locally
def audit(given: Given, folds: int, seed: int, local: bool) -> int:
    """Test whether a model leaks information from held-out clips.

    Some folds are drawn at random. Each is trained again with other held-out pixels and labels, and must give
    the same model. This model is asked about the held-out clips again, beside other clips, and must give the
    same answers. Every later report of the run has the verdict. The exit status is 1 if there is a leak.
    """
    from distmer.commands.audit import audit_experiment, audit_report
    from distmer.commands.session import Session

    session = Session.open(given)
    keep_freed_memory()
    verdict = audit_experiment(session, folds, seed, local=local)
    show(audit_report(verdict, session.model().info.name))
    return COMPLETE if verdict.passed else ERROR


@click.command()
@experiment
@extract_locally
@retry_option
def features(given: Given, local: bool, retry_failed: bool) -> None:
    """Align the clips, compute flow and strain, and store them.

    Clips whose features are stored are skipped.
    """
    from distmer.commands.run import extract_features
    from distmer.commands.session import Session

    click.echo(extract_features(Session.open(given), local=local, retry_failed=retry_failed))


@click.command()
@click.argument("paths", nargs=-1, required=True)
@set_option
@workspace_option
@click.option("--local", is_flag=True, help="Do everything in this process, without Ray.")
@retry_option
def compare(
    paths: tuple[str, ...], overrides: tuple[str, ...], workspace: str | None, local: bool, retry_failed: bool
) -> int:
    """Compare several experiments, with paired tests.

    PATHS is one configuration with a `compare:` section. If it has no such section, every registered model is
    compared. Or PATHS are the folders of finished runs (or the 12 digits of their names), also together with
    files of predictions as `distmer score` reads them.
    """
    from distmer.commands.compare import compare_runs, run_comparison
    from distmer.commands.session import Given
    from distmer.report.comparison import comparison_report

    if local:
        keep_freed_memory()
    places = [folder_of(path, workspace) for path in paths]
    if len(places) == 1 and not places[0].is_dir():
        given = Given(places[0], overrides, workspace)
        comparison, folder = run_comparison(given, local=local, retry_failed=retry_failed)
    elif retry_failed:
        raise click.UsageError(
            "--retry-failed extracts clips, and finished runs are only read; give a configuration."
        )
    else:
        comparison, folder = compare_runs(places, Given(None, overrides, workspace))
    show(comparison_report(comparison), width=140)
    click.echo(f"tables: {folder}")
    return comparison.exit_status


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--resamples", type=click.IntRange(min=100), default=2000, show_default=True, help="Bootstrap resamples."
)
@click.option(
    "--confidence",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="The confidence of the intervals.",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    help="Give UAR, UF1 and this metric. Without it: all usual metrics.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each file, and no tables.")
def score(
    files: tuple[Path, ...], resamples: int, confidence: float, metrics: tuple[str, ...], as_json: bool
) -> None:
    """Score predictions that other code made.

    FILES are tables with one row for each clip: clip, subject, y_true, and y_pred or one column prob_CLASS
    for each class; also dataset, fold and seed if there are several.
    """
    from distmer.commands.score import named_metrics, read_predictions, score_report

    named = named_metrics(metrics)
    for file in files:
        report, found = score_report(read_predictions(file), str(file), resamples, confidence, named)
        if as_json:
            click.echo(json.dumps(found))
        else:
            show(report)


@click.command()
@experiment_in_file
@retry_option
@json_option
def sweep(given: Given, retry_failed: bool, as_json: bool) -> int:
    """Search settings on inner folds, and score the chosen ones.

    With `mode: nested`, the default, the score is of subjects that the search has not seen. CONFIG is a
    configuration with a `sweep:` section. Finished work is not repeated. A sweep needs Ray. If no cluster is
    named, Ray is started on this machine.
    """
    from distmer.commands.sweep import run_sweep
    from distmer.report.sweep import sweep_report

    swept = run_sweep(given, retry_failed=retry_failed)
    results = swept.results
    show(sweep_report(swept), width=120)
    if as_json:
        click.echo(json.dumps(results.to_json()))
    return status_of(results.status)


@click.command()
@experiment
@click.option(
    "--gpus", type=click.IntRange(0), default=0, help="For a sweep: estimate the time on this many GPUs."
)
@click.option(
    "--speedup",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    help="How many times faster a GPU trains a fold than a core here.",
)
@click.option(
    "--price",
    type=click.FloatRange(0),
    default=0.0,
    help="The price of a GPU for an hour, from which the cost follows.",
)
def plan(given: Given, gpus: int, speedup: float, price: float) -> None:
    """Say what an experiment would do, and how long it takes.

    CONFIG is for `run`, `compare`, `sweep`, `curve` or `habits`. The output has the clips, the folds, the
    trials, and what is done already. A learning curve is planned if there is a `curve:` section or setting.
    """
    from distmer.commands.session import Session

    sections = given.settings()[1]
    if ((gpus or price) and "sweep" not in sections) or (price and not gpus):
        raise BadInput("--gpus is for the plan of a sweep, and --price goes with it.")
    if "compare" in sections:
        from distmer.commands.compare import plan_of_comparison

        click.echo(plan_of_comparison(given))
    elif "sweep" in sections:
        from distmer.commands.sweep import plan_of_sweep

        click.echo(plan_of_sweep(given, gpus=gpus, speedup=speedup, price=price))
    elif "curve" in sections:
        from distmer.commands.curve import plan_of_curve

        click.echo(plan_of_curve(given))
    elif "habits" in sections:
        from distmer.commands.habits import plan_of_habits

        click.echo(plan_of_habits(given))
    else:
        from distmer.commands.run import describe_plan

        click.echo(describe_plan(Session.open(given)))


ALL = (run, audit, features, compare, score, sweep, plan)
