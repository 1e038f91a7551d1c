"""`distmer data …`: the arguments of its commands, which `distmer.commands.data` does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from distmer.cli.arguments import experiment, open_session
from distmer.cli.ending import COMPLETE

if TYPE_CHECKING:
    from distmer.storage import Place


@click.group()
def data() -> None:
    """Check, list, see and export the clips of a protocol."""


@data.command("check")
@experiment
def data_check(config: Place | None, overrides: tuple[str, ...], workspace: str | None) -> int:
    """Count the clips by data set, class and subject, beside the published counts.

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
    each clip, and the output says what to fill in.
    """
    from distmer.datasets.first_manifest import write_first_manifest
    from distmer.storage import place

    click.echo(write_first_manifest(place(folder)))
    return COMPLETE


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
@click.option("--local", is_flag=True, help="Extract what is missing without Ray.")
def data_export(
    config: Place | None,
    overrides: tuple[str, ...],
    workspace: str | None,
    to: Path,
    form: Literal["npy", "maps"],
    size: int | None,
    local: bool,
) -> int:
    """Write flow and strain of the clips as files for other code."""
    from distmer.commands.data import export_features

    click.echo(export_features(open_session(config, overrides, workspace), to, form, size, local=local))
    return COMPLETE


@data.command("look")
@experiment
@click.option(
    "--to",
    type=click.Path(path_type=Path),
    help="The page's file; else look/<protocol>.html in the workspace.",
)
@click.option("--local", is_flag=True, help="Extract what is missing without Ray.")
@click.option("--spot", is_flag=True, help="Also compare each apex with the frame that has moved most.")
def data_look(
    config: Place | None,
    overrides: tuple[str, ...],
    workspace: str | None,
    to: Path | None,
    local: bool,
    spot: bool,
) -> int:
    """Write one page of all clips: frames, face, flow, strain, label and what looks wrong.

    Missing features are extracted first. For this, Ray is started unless --local is given. The page shows
    faces, and is written to this machine's disk only.
    """
    from distmer.commands.look import look_at_clips

    session = open_session(config, overrides, workspace)
    click.echo(look_at_clips(session, to, local=local, spot=spot))
    return COMPLETE


@data.command("list")
@experiment
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, which data.include accepts.")
def data_list(config: Place | None, overrides: tuple[str, ...], workspace: str | None, as_csv: bool) -> int:
    """List every usable clip: its files, its label, how its apex was found, the errata applied."""
    from distmer.commands.data import list_clips

    click.echo(list_clips(open_session(config, overrides, workspace), as_csv), nl=False)
    return COMPLETE


@data.command("lock")
@experiment
@click.option(
    "--to", type=click.Path(path_type=Path), default=Path("clips.csv"), show_default=True, help="The file."
)
def data_lock(config: Place | None, overrides: tuple[str, ...], workspace: str | None, to: Path) -> int:
    """Write the list of clips with a digest of each one's images.

    A run whose data.include names this list uses exactly these clips. It is stamped lock-mismatch if an image
    or a label has changed.
    """
    from distmer.commands.data import lock_clips

    click.echo(lock_clips(open_session(config, overrides, workspace), to))
    return COMPLETE


ALL = (data,)
