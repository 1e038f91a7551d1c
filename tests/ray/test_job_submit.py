"""`ray job submit` to a real head node with token authentication: the predictions of the plain command, to
the bit."""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import command, nodes, toy
from tests.within import loso

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def head() -> Iterator[dict[str, str]]:
    """The environment in which to talk to a head node with a dashboard, which takes jobs."""
    dashboard = command.free_port()
    where = ("--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}")
    with nodes.Nodes(("--num-cpus=2", *where)) as started:
        yield {**started.environ, "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}"}


def submit(environ: dict[str, str], home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    runtime = f'{{"env_vars": {{"DISTMER_HOME": "{home}"}}}}'
    job = [
        nodes.RAY,
        "job",
        "submit",
        "--working-dir",
        ".",
        "--runtime-env-json",
        runtime,
        "--",
        "python",
        "jobs/loso.py",
        *arguments,
    ]
    deadline = time.monotonic() + command.PATIENCE
    while True:
        done = subprocess.run(
            job, cwd=command.ROOT, env=environ, text=True, capture_output=True, timeout=command.PATIENCE
        )
        refused = "Failed to connect" in done.stderr or "No available agent" in done.stdout + done.stderr
        if not refused or time.monotonic() > deadline:
            return done
        time.sleep(1)  # the dashboard is still on its way up


def test_a_submitted_job_gives_the_bits_of_the_command(head: dict[str, str], tmp_path: Path) -> None:
    """The job's network, loss and augmentation are a laboratory's own, and installed on no node."""
    maps = toy.write_flowmaps(tmp_path / "maps", subjects=4)
    chosen = [f"data.root={maps}", "data.protocol=flowmaps", "inputs.normalise=minmax"]
    chosen += ["train.epochs=3", "tracking.enabled=false"]
    settings = ["examples/own-model/own-model.yaml", *(p for one in chosen for p in ("--set", one))]
    here, there = tmp_path / "here", tmp_path / "there"
    assert loso(*settings, "--local", home=here).code == 0
    done = submit(head, there, *settings, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"status": "complete"' in done.stdout
    assert command.predictions(here) == command.predictions(there)
    assert command.ledger(here).keys() == command.ledger(there).keys()


def test_without_the_token_nothing_is_submitted(head: dict[str, str], tmp_path: Path) -> None:
    stranger = {**head, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    done = subprocess.run(
        [nodes.RAY, "job", "list"], env=stranger, text=True, capture_output=True, timeout=command.PATIENCE
    )
    assert done.returncode != 0
    assert "auth" in (done.stdout + done.stderr).lower()


def test_bad_input_in_a_job_is_told_in_its_log(head: dict[str, str], tmp_path: Path) -> None:
    done = submit(head, tmp_path, "--set", "train.epocs=3")
    assert done.returncode != 0
    assert "train.epocs is not a setting; did you mean 'epochs'" in done.stdout
    assert os.listdir(tmp_path) == []
