"""`distmer ui`: MLflow's server over a workspace, and its end."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from harness import command

pytestmark = pytest.mark.slow


def answers(port: int) -> bool:
    with suppress(URLError, OSError), urlopen(f"http://127.0.0.1:{port}/health", timeout=30) as reply:
        return reply.status == 200
    return False


def test_the_server_ends_with_the_command(tmp_path: Path) -> None:
    """SIGTERM, which takes the way of Ctrl-C from there on."""
    port = command.free_port()
    words = [sys.executable, "-m", "distmer.cli", "ui", "--port", str(port), "--workspace", str(tmp_path)]
    process = subprocess.Popen(words, env=command.environment(tmp_path), start_new_session=True, text=True)
    command.wait_for(lambda: answers(port), process)
    process.send_signal(signal.SIGTERM)
    process.wait(command.PATIENCE)
    waiting = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], text=True)
    try:  # its processes end one after the other
        command.wait_for(lambda: not answers(port), waiting)
    finally:
        waiting.kill()
        waiting.wait()
