"""What several commands share: their arguments, and the session that they open."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from distmer.commands.session import Session
    from distmer.storage import Place


class _PlaceType(click.ParamType):
    """A path, or an address on an object store."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Place:
        from distmer.storage import place

        return place(value) if isinstance(value, str) else value

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return click.Path().shell_complete(ctx, param, incomplete)


PLACE = _PlaceType()
set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="a.b=value",
    help="Change a setting. May be given several times.",
)
workspace_option = click.option(
    "--workspace", help="Where everything is written; else $DISTMER_HOME, else ~/distmer."
)


def experiment(command: Any) -> Any:
    """The arguments that every command on an experiment shares."""
    for decorator in (
        click.argument("config", type=PLACE, required=False),
        set_option,
        workspace_option,
    ):
        command = decorator(command)
    return command


def retry_option(command: Any) -> Any:
    """Of the commands that extract features."""
    words = "Extract the clips with a stored failure again."
    return click.option("--retry-failed", is_flag=True, help=words)(command)


def local_option(command: Any) -> Any:
    """Of the commands that train folds."""
    words = "Train in this process, one fold after the other, without Ray."
    return click.option("--local", is_flag=True, help=words)(command)


def keep_freed_memory() -> None:
    """Folds are trained in this process, and it is ours."""
    from distmer.training.runtime import keep_memory

    keep_memory()


def open_session(config: Place | None, overrides: tuple[str, ...], workspace: str | None) -> Session:
    from distmer.commands.session import Session

    return Session.open(config, overrides, workspace, os.environ)


def folder_of(name: str, workspace: str | None) -> Place:
    """The folder of a run or of another result: by its path or address, or by the 12 digits that commands
    print of it."""
    from distmer.workspace import Workspace

    return Workspace.find(workspace, os.environ).named(name)


def is_sweep(config: Place) -> bool:
    from distmer.config_layers import load_settings

    return "sweep" in load_settings(config, (), workspace=Path(), environ={})[1]
