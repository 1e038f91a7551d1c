"""The arguments of the commands that write pages."""

from __future__ import annotations

from pathlib import Path

import click

from distmer.cli.arguments import folder_of, workspace_option
from distmer.types import BadInput


@click.command()
@click.argument("folder")
@click.option("--output", help="Another file than report.html in the folder.")
@workspace_option
def report(folder: str, output: str | None, workspace: str | None) -> None:
    """Write the page of a finished run, comparison, sweep or curve.

    The page is report.html in its FOLDER. FOLDER may also be the 12 digits of its name. The page shows
    scores, hard subjects and clips, settings, and how to repeat it. It needs no network.
    """
    from distmer.report.page import write_page
    from distmer.storage import place

    click.echo(str(write_page(folder_of(folder, workspace), place(output) if output else None)))


@click.command()
@workspace_option
def index(workspace: str | None) -> None:
    """Write one page of all runs and sweeps of a workspace.

    The page is index.html in the workspace. There you can filter the runs, and see which can be compared.
    """
    from distmer.commands.board import write_index

    click.echo(str(write_index(workspace)))


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default="results")
@click.option("--add", "runs", multiple=True, metavar="RUN", help="Keep a run's results first.")
@workspace_option
@click.option("--name", help="What the added run is called; else protocol and model.")
@click.option("--output", type=click.Path(path_type=Path), default="site/board.html", show_default=True)
def board(folder: Path, runs: tuple[str, ...], workspace: str | None, name: str | None, output: Path) -> None:
    """Write a page of results that are kept to be published.

    The results are in FOLDER, by default results. Every row has its interval, its floor, the verdict of its
    audit, and the command that repeats it. With --add, the results and the configuration of a finished run
    are first copied into FOLDER, without the places of this machine. RUN is the folder of the run, or the 12
    digits of its name.
    """
    from distmer.commands.board import add_to_board, write_board

    if name is not None and len(runs) != 1:
        raise BadInput("--name is the name of one run; give --add RUN once with it.")
    for run in runs:
        click.echo(str(add_to_board(folder, folder_of(run, workspace), name)))
    click.echo(str(write_board(folder, output)))


ALL = (report, index, board)
