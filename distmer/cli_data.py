"""`distmer data …`: the arguments of its commands, which `distmer.commands.data` does."""

from __future__ import annotations

from pathlib import Path

import click

from distmer.arguments import experiment, open_session
from distmer.ending import COMPLETE


@click.group()
def data() -> None:
    """The clips of a protocol."""


@data.command("check")
@experiment
def data_check(config: Path | None, overrides: tuple[str, ...], workspace: str | None) -> int:
    """Counts by data set, class and subject against the published ones.

    Every row that cannot be used is listed with the reason.
    """
    from distmer.commands.data import check_data

    click.echo(check_data(open_session(config, overrides, workspace)))
    return COMPLETE


@data.command("new")
@click.argument("folder")
def data_new(folder: str) -> int:
    """Begin a manifest.csv of your own clips.

    FOLDER holds one folder for each subject, with videos or folders of frames in it. One row is written for
    each clip; what is to be filled in is said.
    """
    from distmer.datasets.first_manifest import write_first_manifest
    from distmer.storage import place

    click.echo(write_first_manifest(place(folder)))
    return COMPLETE
