"""What all tests share: one token, one Ray for those that kill nothing of it, and an end that leaves no
process behind.

It also puts the repository on the import path (pytest does so for a conftest in a package), so that tests can
share ``tests.fixtures``.
"""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Iterator

import pytest

from harness import guard, nodes


def pytest_configure() -> None:
    """Whatever ends this process, what its tests started ends too; SIGTERM lets fixtures be torn down first,
    as SIGINT does."""
    guard.begin()
    # A shell without job control has background commands ignore SIGINT, and so would all that tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("ended by SIGTERM", returncode=128 + signal.SIGTERM))


# The files that take longest, so that no process is left alone with one at the end (`--dist loadfile
# --no-loadscope-reorder`).
LONG = (
    "test_executors",
    "test_sweep",
    "test_node_loss",
    "test_doctor",
    "test_demo",
    "test_kill_and_resume",
    "test_remote_storage",
    "test_mlflow",
    "test_own_code",
    "test_service",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, then whatever is slow, then the rest: else in the order given."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    place = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONG) + (item.path not in slow)))


@pytest.fixture(scope="session", autouse=True)
def one_token() -> None:
    """One token for every Ray of this process: Ray reads it once, whichever test loads it first, and a
    cluster started with another would refuse its own driver."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # MLflow's telemetry keeps its session in the environment, which every process started here would inherit.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.fixture(scope="session")
def one_ray(one_token: None) -> Iterator[str]:
    """The address of a Ray of two CPUs that lives as long as the tests of this process, for all that kill
    nothing of it.

    It is begun by `ray start`, as a person begins one, so that commands join and leave it."""
    given = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1"}  # as `connect.session` gives a Ray of its own
    with nodes.Nodes(("--num-cpus=2", "--num-gpus=0"), given) as cluster:
        yield cluster.address
