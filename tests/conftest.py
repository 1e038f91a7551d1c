"""What all tests share: one token, an order, and an end that leaves no process behind.

It also puts the repository on the import path (pytest does so for a conftest in a package), so that tests can
share ``tests.fixtures``.
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
from collections.abc import Iterator

import pytest

from harness import guard
from tests.imports import forget


def pytest_configure() -> None:
    """Whatever ends this process, what its tests started ends too; SIGTERM lets fixtures be torn down first,
    as SIGINT does."""
    # Three processes share two cores: threads of OpenMP that wait for one another only cost time.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
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
    "test_own_code",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, then whatever else needs Ray, whatever is slow, and the rest: else in the order
    given."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}

    def place(item: pytest.Item) -> int:
        if item.path.stem in LONG:
            return LONG.index(item.path.stem)
        return len(LONG) + (0 if item.path.parent.name == "ray" else 1 if item.path in slow else 2)

    items.sort(key=place)


@pytest.fixture(scope="session", autouse=True)
def one_token() -> None:
    """One token for every Ray of this process: Ray reads it once, whichever test loads it first, and a
    cluster started with another would refuse its own driver."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # MLflow's telemetry keeps its session in the environment, which every process started here would inherit.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


def _as_before(factory: pytest.TempPathFactory) -> Iterator[None]:
    path, imported = sys.path[:], set(sys.modules)
    yield
    sys.path[:] = path
    if set(sys.modules) - imported or getattr(sys.modules.get("distmer.plugins"), "_FOUND", ()):
        forget(factory.getbasetemp(), imported)


@pytest.fixture(autouse=True)
def _nothing_stays_imported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a test wrote and imported is forgotten with it: the next one's ``mine.py`` is another."""
    yield from _as_before(tmp_path_factory)


@pytest.fixture(autouse=True, scope="module")
def _nothing_stays_imported_by_fixtures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    yield from _as_before(tmp_path_factory)
