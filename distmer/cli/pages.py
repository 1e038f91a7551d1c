"""The arguments of the commands that write pages."""

from __future__ import annotations

import os

import click

from distmer.cli.ending import COMPLETE


@click.command()
@click.argument("folder")
@click.option("--output", help="Another file than report.html in the folder.")
def report(folder: str, output: str | None) -> int:
    """Write the page of a finished run, comparison or sweep: report.html in its FOLDER.

    The page shows scores, hard subjects and clips, settings, and how to repeat it. It needs no network.
    """
    from distmer.commands.report import write_report
    from distmer.storage import place

    click.echo(str(write_report(place(folder), place(output) if output else None)))
    return COMPLETE


@click.command()
@click.option("--workspace", help="The workspace; else $DISTMER_HOME, else ~/distmer.")
def index(workspace: str | None) -> int:
    """Write one page of all runs and sweeps of a workspace: index.html in the workspace.

    There you can filter them, and see which can be compared.
    """
    from distmer.commands.index import write_index

    click.echo(str(write_index(workspace, os.environ)))
    return COMPLETE


ALL = (report, index)
