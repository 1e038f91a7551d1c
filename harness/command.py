"""Running distmer as a person does: a process of its own, a workspace of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import guard

ROOT = Path(__file__).parents[1]
STOPPED = ROOT / "harness" / "scripts" / "stopped.py"
DECLARED = ROOT / "harness" / "scripts" / "declared.py"
# Seconds after which a test takes something for hung. Only what never comes pays for it, so a slow machine is
# no failure.
PATIENCE = 900.0


class EndedFirstError(AssertionError):
    """A process was over before what was awaited of it."""


@dataclass(frozen=True)
class Ended:
    """How a command ended: status, the two streams, and the last line of JSON if it printed one."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out.strip().splitlines()[-1])


def environment(home: Path, **more: str) -> dict[str, str]:
    """This environment with a workspace of the test's own, and without what would point elsewhere.

    What is started in it ends with this process (`guard`)."""
    guard.begin()
    foreign = {"MLFLOW_TRACKING_URI", "DISTMER_DATA", "RAY_ADDRESS", "DISTMER_HOME"}
    foreign |= {"_MLFLOW_TELEMETRY_SESSION_ID"}  # of MLflow in this process
    inherited = {name: value for name, value in os.environ.items() if name not in foreign}
    path = f"{Path(sys.executable).parent}{os.pathsep}{inherited.get('PATH', '')}"
    return {**inherited, "PATH": path, "DISTMER_HOME": str(home), **more}


def start(
    *arguments: str, home: Path, script: Path = ROOT / "jobs" / "loso.py", cwd: Path = ROOT, **env: str
) -> subprocess.Popen[str]:
    """A job in a session of its own, so that whatever it leaves behind can be ended with it."""
    command = [sys.executable, str(script), *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        command, cwd=cwd, env=environment(home, **env), text=True, start_new_session=True, **pipes
    )  # type: ignore[call-overload]


def finish(process: subprocess.Popen[str], timeout: float = PATIENCE) -> Ended:
    out, err = process.communicate(timeout=timeout)
    return Ended(process.returncode, out, err)


def loso(*arguments: str, home: Path, cwd: Path = ROOT, **env: str) -> Ended:
    return finish(start(*arguments, home=home, cwd=cwd, **env))


def stopped(*arguments: str, at: str, home: Path, **env: str) -> Ended:
    """A command that stops itself: ``at`` is a signal's name and a moment (`harness/scripts/stopped.py`)."""
    return finish(start(*arguments, home=home, script=STOPPED, STOP=at, **env))


def distmer(*arguments: str, home: Path, **env: str) -> Ended:
    command = [sys.executable, "-m", "distmer.cli", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(home, **env), text=True, capture_output=True, timeout=PATIENCE
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def wait_for(
    condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = PATIENCE
) -> None:
    deadline = time.monotonic() + seconds
    while True:
        looked = time.monotonic()
        if condition():
            return
        if process.poll() is not None:
            raise EndedFirstError(f"it ended first: {process.communicate()}")
        assert time.monotonic() < deadline, "it never came"
        # a look that costs much (all processes, a request) is rarer: the machine is for what is waited for
        time.sleep(max(0.01, 4 * (time.monotonic() - looked)))


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def kill(process: subprocess.Popen[str], how: signal.Signals = signal.SIGKILL) -> None:
    os.kill(process.pid, how)
    process.communicate(timeout=PATIENCE)


def ledger(home: Path) -> dict[str, int]:
    """The finished folds of a workspace: digest → the moment it was written, in ns."""
    return {path.stem: path.stat().st_mtime_ns for path in (home / "ledger").glob("*/*.parquet")}


def predictions(home: Path) -> Sequence[dict[str, Any]]:
    """The rows of the workspace's one finished run."""
    import pyarrow.parquet as pq

    (path,) = (home / "runs").glob("*/predictions.parquet")
    return pq.read_table(path).to_pylist()
