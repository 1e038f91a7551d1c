"""How a command ends: its exit status, and for every foreseen error one sentence in place of a traceback."""

from __future__ import annotations

import errno
import gc
import logging
import os
import select
import sys
from typing import Any

import click

from distmer.process import terminable
from distmer.types import BadInput, RunError

COMPLETE, ERROR, BAD_INPUT, PARTIAL = 0, 1, 2, 3
# A full disk, a limit, no permission, a path through a file, a failing device: not distmer's fault, so no
# traceback.
_OF_THE_WORLD = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EIO,
}


def status_of(result: str) -> int:
    """The exit status for how a run, a sweep or a curve has ended."""
    return {"complete": COMPLETE, "some-folds": COMPLETE, "partial": PARTIAL}.get(result, ERROR)


class Commands(click.Group):
    """Commands that end with an exit status, and on a foreseen error with one sentence."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        return guarded(lambda: super(Commands, self).main(*args, **{**kwargs, "standalone_mode": False}))


def guarded(command: Any) -> Any:
    """Run a command and exit with its status: 2 on bad input, 1 where something around it fails, 3 when it
    was stopped before its end."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, stream=sys.stderr)
    try:
        with terminable():
            sys.exit(command() or COMPLETE)
    except BadInput as error:
        click.echo(f"bad input: {error}", err=True)
        sys.exit(BAD_INPUT)
    except RunError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(ERROR)
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        # As in `| head`. All results are kept; what Python still prints as it ends goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ERROR)
    except OSError as error:
        if error.errno not in _OF_THE_WORLD:
            raise
        reason = f"{error.filename or 'a file'}: {error.strerror}"
        click.echo(f"error: {reason}. Fix this and run again; what was finished is kept.", err=True)
        sys.exit(ERROR)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.exceptions.Abort):
        # True of every command: an audit or `fit` begins its own trainings again.
        kept = "features, and folds of a run, that were finished are kept and not computed again"
        click.echo(f"stopped; {kept}.", err=True)
        sys.exit(PARTIAL)
    finally:
        # else Python searches all of torch and MLflow for garbage once more as it ends, which takes a second
        gc.freeze()


def _nobody_reads() -> bool:
    """Whether the other end of our standard output is closed."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(flags & (select.POLLERR | select.POLLHUP) for _, flags in poll.poll(0))
    except (OSError, ValueError):  # it has no descriptor: a test, a notebook
        return False
