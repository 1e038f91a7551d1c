"""distmer, stopped at a moment that its test chooses: `STOP="SIGKILL 2" python harness/scripts/stopped.py run
…`.

With a number, it signals itself when it is about to file the fold after that many; with ``within``, between
the third fold's bytes and their place in the ledger. So no test has to look and to signal in time.
"""

from __future__ import annotations

import os
import signal
import sys

from distmer import cli
from distmer.experiment.ledger import Ledger
from distmer.types import FoldResult

how, moment = os.environ["STOP"].split()
put, in_place = Ledger.put, os.replace
filed: list[object] = []


def stop() -> None:
    os.kill(os.getpid(), signal.Signals[how])


def put_or_stop(self: Ledger, result: FoldResult) -> FoldResult:
    if len(filed) == int(moment):
        stop()
    filed.append(result)
    return put(self, result)


def replace_or_stop(source: str, target: str) -> None:
    if "/ledger/" in str(target):
        filed.append(target)
        if len(filed) == 3:
            stop()
    in_place(source, target)


if __name__ == "__main__":
    if moment == "within":
        os.replace = replace_or_stop
    else:
        Ledger.put = put_or_stop
    cli.main(sys.argv[1:])
