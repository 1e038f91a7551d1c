"""The commands that make and score experiments."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from distmer.cli.arguments import (
    PLACE,
    experiment,
    folder_of,
    is_sweep,
    keep_freed_memory,
    local_option,
    open_session,
    retry_option,
    set_option,
    workspace_option,
)
from distmer.cli.ending import COMPLETE, ERROR, PARTIAL
from distmer.types import BadInput

if TYPE_CHECKING:
    from distmer.storage import Place


@click.command()
@experiment
@local_option
@click.option(
    "--fold",
    "only",
    multiple=True,
    metavar="ID",
    help="Only this fold, for example casme2/sub01. May be given several times.",
)
@retry_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as one last line of JSON.")
def run(
    config: Place | None,
    overrides: tuple[str, ...],
    workspace: str | None,
    local: bool,
    only: tuple[str, ...],
    retry_failed: bool,
    as_json: bool,
) -> int:
    """Run an experiment: extract features, train and score all folds, write to MLflow.

    Finished work is not repeated, so the same command continues a run that was stopped.
    """
    from distmer.api.runs import in_session

    if local:
        keep_freed_memory()
    ended = in_session(
        open_session(config, overrides, workspace), local=local, only=only, retry_failed=retry_failed
    )
    click.echo(ended.report.text(colour=sys.stdout.isatty()))
    if as_json:
        click.echo(json.dumps(ended.to_json()))
    return {"complete": COMPLETE, "some-folds": COMPLETE, "partial": PARTIAL}.get(ended.status, ERROR)


@click.command()
@experiment
@click.option("--folds", default=3, show_default=True, type=click.IntRange(min=1), help="How many folds.")
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(min=0), help="For drawing the folds."
)
@click.option("--local", is_flag=True, help="Extract missing features without Ray.")
def audit(
    config: Place | None,
    overrides: tuple[str, ...],
    workspace: str | None,
    folds: int,
    seed: int,
    local: bool,
) -> int:
    """Try a model for leaks: does its result depend on held-out clips where it must not?

    Some folds are drawn. Each is trained again with other held-out pixels and labels, and its model predicts
    the held-out clips together with other clips. Every later report of the run has the verdict. The exit
    status is 1 for a leak.
    """
    from distmer.commands.audit import audit_experiment, audit_report

    session = open_session(config, overrides, workspace)
    keep_freed_memory()
    verdict = audit_experiment(session, folds, seed, local=local)
    click.echo(audit_report(verdict, session.model().info.name).text(colour=sys.stdout.isatty()))
    return COMPLETE if verdict.passed else ERROR


@click.command()
@experiment
@click.option("--local", is_flag=True, help="Without Ray.")
@retry_option
def features(
    config: Place | None, overrides: tuple[str, ...], workspace: str | None, local: bool, retry_failed: bool
) -> int:
    """Align the clips, compute flow and strain, and store them. Stored clips are skipped."""
    from distmer.commands.run import extract_features

    click.echo(
        extract_features(open_session(config, overrides, workspace), local=local, retry_failed=retry_failed)
    )
    return COMPLETE


@click.command()
@click.argument("paths", nargs=-1, required=True)
@set_option
@workspace_option
@click.option("--local", is_flag=True, help="Without Ray.")
@retry_option
def compare(
    paths: tuple[str, ...], overrides: tuple[str, ...], workspace: str | None, local: bool, retry_failed: bool
) -> int:
    """Compare several experiments, with paired tests.

    PATHS: one configuration with a `compare:` section (without one: every registered model), or the folders
    (or their 12 digits) of finished runs, also with files of predictions as `distmer score` reads them.
    """
    from distmer.api.several import Compared
    from distmer.commands.compare import compare_runs, run_comparison

    if local:
        keep_freed_memory()
    places = [folder_of(path, workspace) for path in paths]
    if len(places) == 1 and not places[0].is_dir():
        found = run_comparison(
            places[0], overrides, workspace, os.environ, local=local, retry_failed=retry_failed
        )
    elif retry_failed:
        raise click.UsageError(
            "--retry-failed extracts clips, and finished runs are only read; give a configuration."
        )
    else:
        found = compare_runs(places, workspace, os.environ, overrides)
    click.echo((compared := Compared(*found)).report.text(width=140, colour=sys.stdout.isatty()))
    click.echo(f"tables: {compared.folder}")
    return compared.comparison.exit_status


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
    help="Of the intervals.",
)
@click.option(
    "--metric", "metrics", multiple=True, metavar="NAME", help="UAR, UF1 and this one; else all usual ones."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one line of JSON for each file in place of the tables."
)
def score(
    files: tuple[Path, ...], resamples: int, confidence: float, metrics: tuple[str, ...], as_json: bool
) -> int:
    """Score predictions that other code made.

    FILES are tables with one row for each clip: clip, subject, y_true, and y_pred or one column prob_CLASS
    for each class; also dataset, fold and seed if there are several.
    """
    from distmer.api.scores import Scored
    from distmer.commands.score import named_metrics, read_predictions, score_report

    named, shown = named_metrics(metrics), sys.stdout.isatty()
    for file in files:
        scored = Scored(*score_report(read_predictions(file), str(file), resamples, confidence, named))
        click.echo(json.dumps(scored.to_json()) if as_json else scored.report.text(colour=shown))
    return COMPLETE


@click.command()
@click.argument("config", type=PLACE)
@set_option
@workspace_option
@retry_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as one last line of JSON.")
def sweep(
    config: Place, overrides: tuple[str, ...], workspace: str | None, retry_failed: bool, as_json: bool
) -> int:
    """Search settings on inner folds, and score the chosen ones on subjects that the search has not seen.

    CONFIG is a configuration with a `sweep:` section. Finished work is not repeated. A sweep needs Ray, and
    starts one on this machine where no cluster is named.
    """
    from distmer.api.several import Swept
    from distmer.commands.sweep import run_sweep

    swept = Swept(run_sweep(config, overrides, workspace, os.environ, retry_failed=retry_failed))
    click.echo(swept.report.text(width=120, colour=sys.stdout.isatty()))
    if as_json:
        click.echo(json.dumps(swept.to_json()))
    return {"complete": COMPLETE, "partial": PARTIAL}.get(swept.status, ERROR)


@click.command()
@experiment
@click.option("--gpus", type=click.IntRange(0), default=0, help="For a sweep: the time on this many GPUs.")
@click.option(
    "--speedup",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    help="How many times faster a GPU trains a fold than a core here.",
)
@click.option("--price", type=click.FloatRange(0), default=0.0, help="Of one GPU for an hour: adds the cost.")
def plan(
    config: Place | None,
    overrides: tuple[str, ...],
    workspace: str | None,
    gpus: int,
    speedup: float,
    price: float,
) -> int:
    """Say what `run` or `sweep` would do: clips, folds, trials, what is done already, and the time."""
    of_sweep = config is not None and is_sweep(config)
    if ((gpus or price) and not of_sweep) or (price and not gpus):
        raise BadInput("--gpus is for the plan of a sweep, and --price goes with it.")
    if config is not None and of_sweep:
        from distmer.commands.sweep import plan_of_sweep

        click.echo(
            plan_of_sweep(config, overrides, workspace, os.environ, gpus=gpus, speedup=speedup, price=price)
        )
        return COMPLETE
    from distmer.commands.run import describe_plan

    click.echo(describe_plan(open_session(config, overrides, workspace)))
    return COMPLETE


ALL = (run, audit, features, compare, score, sweep, plan)
