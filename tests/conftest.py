"""Puts the repository on the import path (pytest does so for a conftest in a package), so that tests can share ``tests.fixtures``."""

from __future__ import annotations

import os
import secrets

import pytest


@pytest.fixture(scope="session", autouse=True)
def one_token() -> None:
    """One token for every Ray of this process: Ray reads it once, whichever test loads it first, and a cluster started with another
    would refuse its own driver."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
