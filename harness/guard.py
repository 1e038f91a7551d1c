"""Ends what a process of the tests or of the benchmarks started, once that process is gone, however it went.

``begin`` leaves a mark in the environment, which every process started from then on inherits: a
command, Ray's daemons, their workers. A watcher in a session of its own waits until the process is no
more, and then ends all that bear the mark. So nothing is left by a SIGKILL either, which no handler and no
fixture sees.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from contextlib import suppress

import psutil

MARK = "DISTMER_TESTS_STARTED_BY"


def begin() -> None:
    """Watch over this process from here on; a second call does nothing."""
    if os.environ.get(MARK, "").startswith(f"{os.getpid()}-"):
        return
    mark = f"{os.getpid()}-{secrets.token_hex(8)}"
    unmarked = {name: value for name, value in os.environ.items() if name != MARK}
    watcher = [sys.executable, __file__, str(os.getpid()), mark]
    quiet = subprocess.DEVNULL
    subprocess.Popen(watcher, env=unmarked, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
    os.environ[MARK] = mark


def marked(mark: str) -> list[psutil.Process]:
    """The living processes that bear the mark, and what these started (a process that renames itself may lose
    its environment)."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found |= {one.pid: one for one in (process, *process.children(recursive=True))}
    return list(found.values())


def end(mark: str) -> None:
    while left := marked(mark):
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=1)


def main() -> None:
    watched, mark = int(sys.argv[1]), sys.argv[2]
    while os.getppid() == watched:
        time.sleep(0.2)
    end(mark)


if __name__ == "__main__":
    main()
