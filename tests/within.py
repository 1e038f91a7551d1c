"""A command in this process, in a workspace of its own: for tests in which the process is not the point. Its
imports and a Ray of its own take longer than most of what it does."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from harness import command


def within(*arguments: str, home: Path, **env: str) -> command.Ended:
    """As `command.distmer`: the same arguments, environment, status and streams."""
    from distmer import cli

    out, err, code = io.StringIO(), io.StringIO(), 0
    with _surroundings(command.environment(home, **env)), redirect_stdout(out), redirect_stderr(err):
        try:
            cli.main(list(arguments))
        except SystemExit as ended:
            code = int(str(ended.code or 0))
    return command.Ended(code, out.getvalue(), err.getvalue())


@contextmanager
def _surroundings(environ: dict[str, str]) -> Iterator[None]:
    """This environment, and a root logger without handlers, as a process begins."""
    root, before = logging.getLogger(), dict(os.environ)
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    _become(environ)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        _become(before)


def _become(environ: dict[str, str]) -> None:
    for name in os.environ.keys() - environ.keys():
        del os.environ[name]
    os.environ.update(environ)


def loso(*arguments: str, home: Path, **env: str) -> command.Ended:
    return within("run", *arguments, home=home, **env)
