"""Tests that are ended by a signal leave no process behind: not a command, not a daemon in a session of its
own, not a Ray node."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness import command, guard

# A daemon: the process that started it has ended, and its session is its own. Then a wait for a child that
# never ends.
DAEMON = """
import os, subprocess, sys
import pytest

@pytest.fixture
def torn_down(request):
    yield
    open({torn!r}, "w").close()

def test_that_waits(torn_down):
    sleep = f"import time; open({begun!r}, 'w').close(); time.sleep(600)"
    start = f"subprocess.Popen([sys.executable, '-c', {{sleep!r}}], start_new_session=True)"
    leave = f"import subprocess, sys; {{start}}"
    subprocess.run([sys.executable, "-c", leave])
    subprocess.run([sys.executable, "-c", "import time; time.sleep(600)"])
"""
NODE = """
import time
import pytest
from harness import nodes
pytestmark = pytest.mark.slow

def test_that_waits():
    with nodes.Nodes():
        open({begun!r}, "w").close()
        time.sleep(600)
"""


@pytest.mark.parametrize(
    ("how", "text"),
    [
        (signal.SIGTERM, DAEMON),
        (signal.SIGKILL, DAEMON),
        pytest.param(signal.SIGKILL, NODE, marks=pytest.mark.slow),
    ],
    ids=["SIGTERM", "SIGKILL", "SIGKILL, a Ray node"],
)
def test_a_session_that_is_ended_leaves_no_process(how: signal.Signals, text: str, tmp_path: Path) -> None:
    begun, torn = tmp_path / "begun", tmp_path / "torn"
    (tmp_path / "test_inner.py").write_text(text.format(begun=str(begun), torn=str(torn)))
    mark = f"{guard.MARK}_OF_THE_TEST"
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-p",
        "tests.conftest",
        f"--rootdir={tmp_path}",
        str(tmp_path),
    ]
    environ = {**os.environ, mark: str(tmp_path)}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(words, cwd=command.ROOT, env=environ, text=True, stdout=log, stderr=log)
    try:
        command.wait_for(begun.exists, process)
        started = living(mark, str(tmp_path))
        assert len(started) >= 3, started
        process.send_signal(how)
        status = process.wait(60)
        assert status == {signal.SIGTERM: 143, signal.SIGKILL: -9}[how], (tmp_path / "log").read_text()
        # well before the 600 s after which what it looks for would end by itself
        deadline = time.monotonic() + 300
        while (
            left := living(mark, str(tmp_path)) | {p for p in started if p.is_running()}
        ) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not left
        assert torn.exists() == (how == signal.SIGTERM)  # fixtures see a SIGTERM
    finally:
        for one in living(mark, str(tmp_path)):
            one.kill()


def living(mark: str, value: str) -> set[psutil.Process]:
    """Every process that the inner session started, and itself: told by an inherited variable, for sessions
    and parents change."""
    found: set[psutil.Process] = set()
    for process in psutil.process_iter():
        try:
            if process.environ().get(mark) == value and process.status() != psutil.STATUS_ZOMBIE:
                found.add(process)
        except psutil.Error:
            continue
    return found
