"""What concerns a whole process, a notebook's too: set within a block, and put back at its end."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM (`ray job stop`, a spot notice) ends the block as Ctrl-C does. For commands."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


_lock = threading.Lock()
_variables: Counter[str] = Counter()  # that we have set, by the blocks that need them
# that we have quietened: their level before, and the blocks that want it
_loggers: dict[str, tuple[int, int]] = {}


@contextmanager
def environment(defaults: Mapping[str, str]) -> Iterator[None]:
    """Environment variables that libraries read, within the block; what the user has set stays. Blocks of
    several threads may overlap: a variable goes with the last of them."""
    with _lock:
        ours = [name for name in defaults if name in _variables or name not in os.environ]
        os.environ.update({name: defaults[name] for name in ours if name not in _variables})
        _variables.update(ours)
    try:
        yield
    finally:
        with _lock:
            _variables.subtract(ours)
            for name in [name for name in ours if not _variables[name]]:
                del _variables[name]
                os.environ.pop(name, None)


@contextmanager
def only_errors_of(*loggers: str) -> Iterator[None]:
    """Loggers of libraries that announce what we say ourselves: errors alone, within the block. Blocks of
    several threads may overlap, as those of `environment`."""
    with _lock:
        for name in loggers:
            level, blocks = _loggers.get(name, (logging.getLogger(name).level, 0))
            _loggers[name] = level, blocks + 1
            logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        with _lock:
            for name in loggers:
                level, blocks = _loggers.pop(name)
                if blocks > 1:
                    _loggers[name] = level, blocks - 1
                else:
                    logging.getLogger(name).setLevel(level)
