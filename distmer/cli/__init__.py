"""The command line: thin, and quick to start. Every command is one function of `distmer.commands`."""

from __future__ import annotations

import click

from distmer import __version__
from distmer.cli import data, experiments, kept, pages, science, tools
from distmer.cli.ending import Commands


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="distmer")
def main() -> None:
    """Leave-one-subject-out micro-expression recognition on Ray.

    CONFIG is a YAML file of settings. If it is left out, a command takes the reference paper's settings and
    the embedded data set.
    """


for _command in (*experiments.ALL, *science.ALL, *data.ALL, *kept.ALL, *pages.ALL, *tools.ALL):
    main.add_command(_command)
