"""One Ray for the tests that kill nothing of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness import nodes


@pytest.fixture(scope="package")
def one_ray(one_token: None) -> Iterator[str]:
    """The address of a Ray of two CPUs, for all tests of this folder that kill nothing of it. It ends with
    the last of them, for a Ray without work still takes some hundredths of a core.

    It is begun by `ray start`, as a person begins one, so that commands join and leave it."""
    given = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1"}  # as `connect.session` gives a Ray of its own
    with nodes.Nodes(("--num-cpus=2", "--num-gpus=0"), given) as cluster:
        yield cluster.address
