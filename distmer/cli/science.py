"""The commands that ask how far a score can be trusted, and what would raise it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from distmer.cli.arguments import (
    experiment,
    experiment_in_file,
    json_option,
    keep_freed_memory,
    retry_option,
    show,
    train_locally,
)
from distmer.cli.ending import COMPLETE, PARTIAL, status_of

if TYPE_CHECKING:
    from distmer.commands.session import Given


@click.command()
@experiment
@train_locally
@retry_option
@json_option
def curve(given: Given, local: bool, retry_failed: bool, as_json: bool) -> int:
    """Draw a learning curve over the number of training subjects.

    Every fold is trained on 25, 50, 75 and 100 % of its training subjects. If the curve still rises at its
    end, the model would very likely gain from more subjects. CONFIG is a configuration for `distmer run`. It
    may have a `curve:` section. Finished work is not repeated.
    """
    from distmer.commands.curve import draw_learning_curve
    from distmer.report.curve import curve_report

    if local:
        keep_freed_memory()
    found, folder = draw_learning_curve(given, local=local, retry_failed=retry_failed)
    show(curve_report(found), width=120)
    click.echo(f"page: {folder / 'report.html'}")
    if as_json:
        click.echo(json.dumps(found))
    return status_of(found["status"])


@click.command()
@experiment_in_file
@train_locally
@json_option
def habits(given: Given, local: bool, as_json: bool) -> int:
    """Say how much dishonest habits of evaluation raise a score.

    For each habit, the score that it reports and the honest score are compared. CONFIG is a configuration
    with a `habits:` section. No number that is printed may be a headline. Finished work is not repeated.
    """
    from distmer.commands.habits import price_habits
    from distmer.report.habits import habits_json, habits_report

    if local:
        keep_freed_memory()
    found, folder = price_habits(given, local=local)
    show(habits_report(found), width=140)
    click.echo(f"tables: {folder}")
    if as_json:
        click.echo(json.dumps(habits_json(found)))
    return PARTIAL if found.unpriced else COMPLETE


ALL = (curve, habits)
