"""The commands around an experiment: what there is, whether the machines are fit, MLflow."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from distmer.cli.arguments import experiment, folder_of, show
from distmer.cli.ending import COMPLETE, ERROR

if TYPE_CHECKING:
    from distmer.commands.session import Given


@click.command()
@click.option(
    "--size", type=click.IntRange(1, 1024), help="Side of the maps in px; else each model's native size."
)
@click.option("--model", "only", metavar="NAME", help="Only this model.")
@click.option("--no-time", is_flag=True, help="Count from the shapes only; build and time nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def models(size: int | None, only: str | None, no_time: bool, as_json: bool) -> None:
    """List the models, with their costs, options and sources.

    The costs of each variant are beside the reference paper's figures.
    """
    from distmer.commands.models import list_models

    rows = list_models(size, only, timed=not no_time)
    if as_json:
        click.echo(json.dumps(rows))
    else:
        from distmer.costs.table import models_text

        click.echo(models_text(rows))


@click.command()
@click.argument("kind", required=False)
def plugins(kind: str | None) -> None:
    """List what a configuration can name, with its options.

    KIND is one of models, losses, augmentations, metrics, flows, strains; without it, all are listed.
    """
    from distmer.commands.plugins import list_plugins

    show(list_plugins(kind), width=120)


@click.command()
@click.argument("run_dir")
@click.option("--workspace", help="The workspace of the run; else the one that its folder is in.")
def track(run_dir: str, workspace: str | None) -> None:
    """Write a finished run or sweep to MLflow, from the ledger.

    You need this if the server did not answer at the end of the run, for example. Nothing is written twice.
    """
    from distmer.commands.session import Session
    from distmer.commands.track import track_run

    folder = folder_of(run_dir, workspace)
    if (folder / "sweep.yaml").exists():
        from distmer.commands.sweep import track_sweep

        click.echo(track_sweep(folder, workspace))
    else:
        click.echo(track_run(folder, Session.reopen(folder, workspace)))


@click.command()
@experiment
@click.option("--gpus", type=click.IntRange(1), help="Ask the cluster for this many GPUs, and wait for them.")
@click.option("--wait", default=600.0, show_default=True, help="Seconds that the GPUs may take to join.")
@click.option("--timeout", default=60.0, show_default=True, help="Seconds that the nodes may take to answer.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON at the end, and nothing else.")
def doctor(given: Given, gpus: int | None, wait: float, timeout: float, as_json: bool) -> int:
    """Check whether the cluster is ready for this experiment.

    There is one line for each check: versions, storage, GPUs, clocks and disks of the driver and of every
    node, and the tracking server. A line that fails says what to fix. The exit status is then 1.
    """
    from distmer.commands.doctor import check_up
    from distmer.commands.session import Session

    checks = []
    for check in check_up(Session.open(given), gpus=gpus or 0, wait=wait, timeout=timeout):
        checks.append(asdict(check))
        if not as_json:
            click.echo(check.line)
    well = all(check["ok"] for check in checks)
    if as_json:
        click.echo(json.dumps({"ok": well, "checks": checks}))
    return COMPLETE if well else ERROR


@click.command()
@click.option("--workspace", help="The workspace; else $DISTMER_HOME, else ~/distmer.")
@click.option("--port", default=5000, show_default=True)
def ui(workspace: str | None, port: int) -> int:
    """Show the runs of the workspace in MLflow's pages.

    The pages are on this machine's loopback address only.
    """
    from distmer.commands.ui import serve_ui

    return serve_ui(workspace, port)


ALL = (models, plugins, track, doctor, ui)
