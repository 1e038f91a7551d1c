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


@data.command("list")
@experiment
@click.option("--csv", "as_csv", is_flag=True, help="As CSV, which data.include takes.")
def data_list(config: Path | None, overrides: tuple[str, ...], workspace: str | None, as_csv: bool) -> int:
    """Every usable clip: its files, its label, the apex's policy, the errata applied."""
    from distmer.commands.data import list_clips

    click.echo(list_clips(open_session(config, overrides, workspace), as_csv), nl=False)
    return COMPLETE


@data.command("lock")
@experiment
@click.option(
    "--to", type=click.Path(path_type=Path), default=Path("clips.csv"), show_default=True, help="The list."
)
def data_lock(config: Path | None, overrides: tuple[str, ...], workspace: str | None, to: Path) -> int:
    """Write the list of clips with a digest of each one's images.

    A run whose data.include names this list uses exactly these clips, and is stamped lock-mismatch if an
    image or a label is another one.
    """
    from distmer.commands.data import lock_clips

    click.echo(lock_clips(open_session(config, overrides, workspace), to))
    return COMPLETE
