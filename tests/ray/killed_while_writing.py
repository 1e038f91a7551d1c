"""distmer, killed between the third fold's bytes and their place in the ledger. Started by test_kill_and_resume."""

import os
import signal
import sys

from distmer.cli import main

in_place = os.replace
written = []


def replace(source: str, target: str) -> None:
    if "/ledger/" in str(target):
        written.append(target)
        if len(written) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
    in_place(source, target)


if __name__ == "__main__":
    os.replace = replace
    main(sys.argv[1:])
