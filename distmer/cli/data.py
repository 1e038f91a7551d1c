"""`distmer data …`: the arguments of its commands, which `distmer.commands.data` does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from distmer.cli.arguments import experiment, extract_locally

if TYPE_CHECKING:
    from distmer.commands.session import Given


@click.group()
def data() -> None:
    """Check, list, show and export the clips of a protocol."""


@data.command("check")
@experiment
def data_check(given: Given) -> None:
    """Count the clips by data set, class and subject.

    The published counts are printed beside them. Every row that cannot be used is listed with the reason.
    """
    from distmer.commands.data import check_data
    from distmer.commands.session import Session

    click.echo(check_data(Session.open(given)))


@data.command("new")
@click.argument("folder")
def data_new(folder: str) -> None:
    """Begin a manifest.csv of your own clips.

    FOLDER holds one folder for each subject, with videos or folders of frames in it. One row is written for
    each clip, and the output says what to fill in.
    """
    from distmer.datasets.first_manifest import write_first_manifest
    from distmer.storage import place

    click.echo(write_first_manifest(place(folder)))


@data.command("export")
@experiment
@click.option("--to", type=click.Path(path_type=Path), required=True, help="An empty folder, or a new one.")
@click.option(
    "--as",
    "form",
    type=click.Choice(["npy", "maps"]),
    default="npy",
    show_default=True,
    help="npy: flow in px, strain in px/px. maps: PNG in the folders that STSTNet and HTNet read.",
)
@click.option("--size", type=click.IntRange(1, 1024), help="Side of the maps in px; else features.size.")
@extract_locally
def data_export(given: Given, to: Path, form: Literal["npy", "maps"], size: int | None, local: bool) -> None:
    """Write flow and strain of the clips as files for other code."""
    from distmer.commands.data import export_features
    from distmer.commands.session import Session

    click.echo(export_features(Session.open(given), to, form, size, local=local))


@data.command("look")
@experiment
@click.option(
    "--to",
    type=click.Path(path_type=Path),
    help="The page's file; else look/<protocol>.html in the workspace.",
)
@extract_locally
@click.option("--spot", is_flag=True, help="Also compare each apex with the frame that has moved most.")
def data_look(given: Given, to: Path | None, local: bool, spot: bool) -> None:
    """Write one page of all clips, to look at them.

    Each clip has its frames, face, flow, strain and label, and what looks wrong. Missing features are
    extracted first. The page shows faces, and is written to this machine's disk only.
    """
    from distmer.commands.look import look_at_clips
    from distmer.commands.session import Session

    click.echo(look_at_clips(Session.open(given), to, local=local, spot=spot))


@data.command("list")
@experiment
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, which data.include accepts.")
def data_list(given: Given, as_csv: bool) -> None:
    """List every usable clip.

    The list has its files, its label, how its apex was found, and the errata that were applied.
    """
    from distmer.commands.data import list_clips
    from distmer.commands.session import Session

    click.echo(list_clips(Session.open(given), as_csv), nl=False)


@data.command("lock")
@experiment
@click.option(
    "--to",
    type=click.Path(path_type=Path),
    default=Path("clips.csv"),
    show_default=True,
    help="The file of the list.",
)
def data_lock(given: Given, to: Path) -> None:
    """Write the list of clips with a digest of each one's images.

    A run whose data.include names this list uses exactly these clips. It is stamped lock-mismatch if an image
    or a label has changed.
    """
    from distmer.commands.data import lock_clips
    from distmer.commands.session import Session

    click.echo(lock_clips(Session.open(given), to))


ALL = (data,)
