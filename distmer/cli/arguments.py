"""What several commands share: their arguments, and how they print a report."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from distmer.report.document import Document
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
retry_option = click.option(
    "--retry-failed", is_flag=True, help="Extract the clips with a stored failure again."
)
train_locally = click.option(
    "--local", is_flag=True, help="Train in this process, one fold after the other, without Ray."
)
extract_locally = click.option("--local", is_flag=True, help="Extract missing features without Ray.")
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print the result as one last line of JSON."
)


def experiment(command: Callable[..., int | None], *, required: bool = False) -> Callable[..., int | None]:
    """CONFIG, --set and --workspace, which the command gets as one value, ``given``. ``required``: whether
    CONFIG must be given."""

    @functools.wraps(command)
    def with_given(config: Place | None, overrides: tuple[str, ...], workspace: str | None, **others: Any):
        from distmer.commands.session import Given

        return command(Given(config, overrides, workspace), **others)

    argument = click.argument("config", type=PLACE, required=required)
    return workspace_option(set_option(argument(with_given)))


experiment_in_file = functools.partial(experiment, required=True)


def show(report: Document, width: int = 100) -> None:
    """Print a report, in colour on a terminal. Tables are folded to ``width`` characters."""
    click.echo(report.text(width=width, colour=sys.stdout.isatty()))


def keep_freed_memory() -> None:
    """Folds are trained in this process, and it is ours."""
    from distmer.training.runtime import keep_memory

    keep_memory()


def folder_of(name: str, workspace: str | None) -> Place:
    """The folder of a run or of another result: by its path or address, or by the 12 digits that commands
    print of it."""
    from distmer.workspace import Workspace

    return Workspace.find(workspace, os.environ).named(name)
