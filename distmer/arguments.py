"""The arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

set_option = click.option(
    "--set", "overrides", multiple=True, metavar="a.b=value", help="Override a setting; may be given again."
)
workspace_option = click.option(
    "--workspace", help="Where everything is written; else $DISTMER_HOME, else ~/distmer."
)


def experiment(command: Any) -> Any:
    """The arguments that every command on an experiment shares."""
    for decorator in (
        click.argument("config", type=click.Path(path_type=Path), required=False),
        set_option,
        workspace_option,
    ):
        command = decorator(command)
    return command


def retry_option(command: Any) -> Any:
    """Of the commands that extract features."""
    words = "Extract again the clips whose failure is stored; the new outcome takes its place."
    return click.option("--retry-failed", is_flag=True, help=words)(command)
