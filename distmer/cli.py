"""The command line: thin, and quick to start. Every command is one function of `distmer.commands`."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import click

from distmer import __version__, cli_kept, cli_pages
from distmer.arguments import (
    experiment,
    is_sweep,
    keep_freed_memory,
    open_session,
    retry_option,
    set_option,
    workspace_option,
)
from distmer.cli_data import data
from distmer.ending import COMPLETE, ERROR, PARTIAL, Commands
from distmer.types import BadInput


@click.group(cls=Commands, commands=cli_kept.ALL, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="distmer")
def main() -> None:
    """Leave-one-subject-out micro-expression recognition on Ray.

    CONFIG is a YAML file of settings; without one, the reference paper's settings on the embedded data set.
    """


main.add_command(data)


@main.command()
@experiment
@click.option(
    "--local", is_flag=True, help="In this process, one fold after the other, without Ray: the same numbers."
)
@click.option(
    "--fold",
    "only",
    multiple=True,
    metavar="ID",
    help="Only this fold, e.g. casme2/sub01; may be given again.",
)
@retry_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as one last line of JSON.")
def run(
    config: Path | None,
    overrides: tuple[str, ...],
    workspace: str | None,
    local: bool,
    only: tuple[str, ...],
    retry_failed: bool,
    as_json: bool,
) -> int:
    """Clips to scores: features, folds, tracking. What is done already is not done again."""
    from distmer.commands.run import run_experiment
    from distmer.report.tables import run_report

    if local:
        keep_freed_memory()
    result = run_experiment(
        open_session(config, overrides, workspace), local=local, only=only, retry_failed=retry_failed
    )
    click.echo(run_report(result.results).text(colour=sys.stdout.isatty()))
    if as_json:
        click.echo(json.dumps(result.to_json()))
    return {"complete": COMPLETE, "some-folds": COMPLETE, "partial": PARTIAL}.get(result.status, ERROR)


@main.command()
@experiment
@click.option("--folds", default=3, show_default=True, type=click.IntRange(min=1), help="How many to audit.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Draws the folds.")
@click.option("--local", is_flag=True, help="Extract missing features without Ray.")
def audit(
    config: Path | None, overrides: tuple[str, ...], workspace: str | None, folds: int, seed: int, local: bool
) -> int:
    """Try a model for leaks: does its result depend on held-out clips where it must not?

    Each drawn fold is trained again with other held-out pixels and labels, and its model answers for the
    held-out clips in other company. The verdict stands in every later report of the run. Exit status 1 for a
    leak.
    """
    from distmer.commands.audit import audit_experiment, audit_report

    session = open_session(config, overrides, workspace)
    keep_freed_memory()
    verdict = audit_experiment(session, folds, seed, local=local)
    click.echo(audit_report(verdict, session.model().info.name).text(colour=sys.stdout.isatty()))
    return COMPLETE if verdict.passed else ERROR


@main.command()
@experiment
@click.option("--local", is_flag=True, help="Without Ray.")
@retry_option
def features(
    config: Path | None, overrides: tuple[str, ...], workspace: str | None, local: bool, retry_failed: bool
) -> int:
    """Align the clips and compute flow and strain, into the store; only those that are not there yet."""
    from distmer.commands.run import extract_features

    click.echo(
        extract_features(open_session(config, overrides, workspace), local=local, retry_failed=retry_failed)
    )
    return COMPLETE


@main.command()
@click.argument("paths", nargs=-1, required=True)
@set_option
@workspace_option
@click.option("--local", is_flag=True, help="Without Ray.")
@retry_option
def compare(
    paths: tuple[str, ...], overrides: tuple[str, ...], workspace: str | None, local: bool, retry_failed: bool
) -> int:
    """Several experiments side by side, with paired tests.

    PATHS: one configuration with a `compare:` section (without one: every registered model), or the folders
    of finished runs, also with files of predictions as `distmer score` reads them.
    """
    from distmer.commands.compare import compare_runs, run_comparison
    from distmer.report.comparison import comparison_report
    from distmer.storage import place

    if local:
        keep_freed_memory()
    places = [place(path) for path in paths]
    if len(places) == 1 and not places[0].is_dir():
        comparison, folder = run_comparison(
            places[0], overrides, workspace, os.environ, local=local, retry_failed=retry_failed
        )
    elif retry_failed:
        raise click.UsageError(
            "--retry-failed extracts clips, and finished runs are only read; give a configuration."
        )
    else:
        comparison, folder = compare_runs(places, workspace, os.environ, overrides)
    click.echo(comparison_report(comparison).text(width=140, colour=sys.stdout.isatty()))
    click.echo(f"tables: {folder}")
    return comparison.exit_status


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--resamples", type=click.IntRange(min=100), default=2000, show_default=True, help="Of the bootstrap."
)
@click.option(
    "--confidence", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.95, show_default=True
)
@click.option(
    "--metric", "metrics", multiple=True, metavar="NAME", help="UAR, UF1 and these; else all usual ones."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one line of JSON for each file in place of the tables."
)
def score(
    files: tuple[Path, ...], resamples: int, confidence: float, metrics: tuple[str, ...], as_json: bool
) -> int:
    """Score predictions that other code made. FILES are tables with one row a clip: clip, subject, y_true,
    and y_pred or one column prob_CLASS for each class; dataset, fold and seed if there are several."""
    from distmer.commands.score import named_metrics, read_predictions, score_report

    named = named_metrics(metrics)
    for file in files:
        document, found = score_report(read_predictions(file), str(file), resamples, confidence, named)
        click.echo(json.dumps(found) if as_json else document.text(colour=sys.stdout.isatty()))
    return COMPLETE


@main.command()
@click.argument("config", type=click.Path(path_type=Path))
@set_option
@workspace_option
@retry_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as one last line of JSON.")
def sweep(
    config: Path, overrides: tuple[str, ...], workspace: str | None, retry_failed: bool, as_json: bool
) -> int:
    """Search settings on inner folds alone, and score what is chosen on subjects that the search has not
    seen. CONFIG is a configuration with a `sweep:` section. What is done already is not done again.
    """
    from distmer.commands.sweep import run_sweep
    from distmer.report.sweep import sweep_report

    result = run_sweep(config, overrides, workspace, os.environ, retry_failed=retry_failed)
    click.echo(sweep_report(result).text(width=120, colour=sys.stdout.isatty()))
    if as_json:
        click.echo(json.dumps(result.to_json()))
    return {"complete": COMPLETE, "partial": PARTIAL}.get(result.status, ERROR)


@main.command()
@experiment
@click.option("--gpus", type=click.IntRange(0), default=0, help="Of a sweep: how long on so many GPUs.")
@click.option(
    "--speedup",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    help="How many times faster a GPU trains a fold than a core here.",
)
@click.option("--price", type=click.FloatRange(0), default=0.0, help="Of a GPU and hour, for the cost.")
def plan(
    config: Path | None,
    overrides: tuple[str, ...],
    workspace: str | None,
    gpus: int,
    speedup: float,
    price: float,
) -> int:
    """What `run` or `sweep` would do: clips, folds, trials, what is cached, and about how long it takes."""
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


@main.command()
@click.option(
    "--size", type=click.IntRange(1, 1024), help="Side of the maps in px; else each model's native size."
)
@click.option("--model", "only", metavar="NAME", help="This model alone.")
@click.option("--no-time", is_flag=True, help="Only what follows from the shapes: nothing is built or timed.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def models(size: int | None, only: str | None, no_time: bool, as_json: bool) -> int:
    """The models and their variants: costs beside the reference paper's figures, options, sources."""
    from distmer.commands.models import list_models

    rows = list_models(size, only, timed=not no_time)
    if as_json:
        click.echo(json.dumps(rows))
    else:
        from distmer.costs.table import models_text

        click.echo(models_text(rows))
    return COMPLETE


@main.command()
@click.argument("kind", required=False)
def plugins(kind: str | None) -> int:
    """What a configuration can name, with its options. KIND: models, losses, augmentations, metrics, …"""
    from distmer.commands.plugins import list_plugins

    click.echo(list_plugins(kind).text(width=120, colour=sys.stdout.isatty()))
    return COMPLETE


@main.command()
@click.argument("run_dir")
@click.option("--workspace", help="The workspace the run was made in; else the one that its folder lies in.")
def track(run_dir: str, workspace: str | None) -> int:
    """Write a finished run or sweep to MLflow (again): from the ledger, exactly once.

    For when the server was away.
    """
    from distmer.commands.session import Session
    from distmer.commands.track import track_run
    from distmer.storage import place

    folder = place(run_dir)
    if (folder / "sweep.yaml").exists():
        from distmer.commands.sweep import track_sweep

        click.echo(track_sweep(folder, workspace, os.environ))
        return COMPLETE
    click.echo(track_run(folder, Session.reopen(folder, workspace, os.environ)))
    return COMPLETE


@main.command()
@experiment
@click.option("--gpus", type=click.IntRange(1), help="Ask the cluster for so many GPUs, and wait for them.")
@click.option("--wait", default=600.0, show_default=True, help="Seconds that the GPUs may take to join.")
@click.option("--timeout", default=60.0, show_default=True, help="Seconds that the nodes may take to answer.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON at the end, and nothing else.")
def doctor(
    config: Path | None,
    overrides: tuple[str, ...],
    workspace: str | None,
    gpus: int | None,
    wait: float,
    timeout: float,
    as_json: bool,
) -> int:
    """Is the cluster fit for this experiment? Versions, storage, GPUs, clocks and disks of the driver and of
    every node, and the tracking server: a line each, with what to fix. Exit status 1 if something is to be
    fixed.
    """
    from distmer.commands.doctor import check_up

    session = open_session(config, overrides, workspace)
    checks = []
    for check in check_up(session, gpus=gpus or 0, wait=wait, timeout=timeout):
        checks.append(asdict(check))
        if not as_json:
            click.echo(check.line)
    well = all(check["ok"] for check in checks)
    if as_json:
        click.echo(json.dumps({"ok": well, "checks": checks}))
    return COMPLETE if well else ERROR


@main.command()
@click.option("--workspace", help="The workspace; else $DISTMER_HOME, else ~/distmer.")
@click.option("--port", default=5000, show_default=True)
def ui(workspace: str | None, port: int) -> int:
    """MLflow's pages over the workspace's runs, on this machine's loopback address alone."""
    from distmer.commands.ui import serve_ui

    return serve_ui(workspace, port, os.environ)


cli_pages.add_to(main)
if __name__ == "__main__":
    main()
