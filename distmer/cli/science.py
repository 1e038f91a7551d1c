"""The commands that ask how far a score can be trusted, and what would raise it."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import click

from distmer.cli.arguments import (
    PLACE,
    experiment,
    keep_freed_memory,
    local_option,
    retry_option,
    set_option,
    workspace_option,
)
from distmer.cli.ending import COMPLETE, ERROR, PARTIAL

if TYPE_CHECKING:
    from distmer.storage import Place


@click.command()
@experiment
@local_option
@retry_option
@click.option("--json", "as_json", is_flag=True, help="Print the curve as one last line of JSON.")
def curve(
    config: Place | None,
    overrides: tuple[str, ...],
    workspace: str | None,
    local: bool,
    retry_failed: bool,
    as_json: bool,
) -> int:
    """Draw a learning curve: train every fold on 25, 50, 75 and 100 % of its training subjects.

    If the curve still rises at its end, more subjects would help. CONFIG is a configuration for `distmer
    run`; it may have a `curve:` section. Finished work is not repeated.
    """
    from distmer.commands.curve import draw_learning_curve
    from distmer.report.curve import curve_report

    if local:
        keep_freed_memory()
    found, folder = draw_learning_curve(
        config, overrides, workspace, os.environ, local=local, retry_failed=retry_failed
    )
    click.echo(curve_report(found).text(width=120, colour=sys.stdout.isatty()))
    click.echo(f"page: {folder / 'report.html'}")
    if as_json:
        click.echo(json.dumps(found))
    return {"complete": COMPLETE, "partial": PARTIAL}.get(found["status"], ERROR)


@click.command()
@click.argument("config", type=PLACE)
@set_option
@workspace_option
@local_option
@click.option("--json", "as_json", is_flag=True, help="Print the prices as one last line of JSON.")
def habits(
    config: Place, overrides: tuple[str, ...], workspace: str | None, local: bool, as_json: bool
) -> int:
    """Price dishonest habits of evaluation: the score that each one reports, less the honest one.

    CONFIG is a configuration with a `habits:` section. No number of it is a headline. Finished work is not
    repeated.
    """
    from distmer.commands.habits import price_habits
    from distmer.report.habits import habits_json, habits_report

    if local:
        keep_freed_memory()
    found, folder = price_habits(config, overrides, workspace, os.environ, local=local)
    click.echo(habits_report(found).text(width=140, colour=sys.stdout.isatty()))
    click.echo(f"tables: {folder}")
    if as_json:
        click.echo(json.dumps(habits_json(found)))
    return PARTIAL if found.unpriced else COMPLETE


ALL = (curve, habits)
