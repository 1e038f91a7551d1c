"""What takes time to start is started early if it is certain that there will be work, and only then."""

from __future__ import annotations

from pathlib import Path

import pytest

from distmer.app import Session, run_with
from distmer.cluster.backend import RayBackend
from distmer.config import ClusterConfig
from distmer.experiment.backend import LocalBackend
from distmer.report.live import LiveProgress
from distmer.types import RunError
from tests import command, toy
from tests.saying import on_maps, settings


class Asked(LocalBackend):
    """A backend that knows whether it was told early that there would be work."""

    early = False

    def will_be_needed(self) -> None:
        self.early = True


@pytest.fixture
def session(maps: Path, tmp_path: Path) -> Session:
    return Session.open(None, settings(*on_maps(maps))[1::2], str(tmp_path), {})


def early(session: Session, only: tuple[str, ...] = ()) -> bool:
    with LiveProgress() as live:
        backend = Asked(session.config.cluster)
        run_with(session, backend, live, only)
    return backend.early


def test_an_empty_ledger_and_a_run_that_was_broken_off_are_certain(session: Session, tmp_path: Path) -> None:
    assert early(session)
    assert not early(session)
    (results,) = tmp_path.glob("runs/*/results.json")
    entry = next(tmp_path.glob("ledger/*/*.parquet"))
    results.unlink()  # as a kill leaves it
    entry.unlink()
    assert early(session)
    assert not early(session)


def test_a_fold_alone_is_no_sign_that_the_rest_is_wanted(session: Session) -> None:
    assert early(session, ("flowmaps/sub01",))
    assert not early(session, ("flowmaps/sub01",))


def test_what_fails_at_an_early_start_is_told_when_ray_is_used(tmp_path: Path) -> None:
    nobody = ClusterConfig(address=f"127.0.0.1:{command.free_port()}")
    with RayBackend(nobody, str(tmp_path)) as backend:
        backend.will_be_needed()  # and nothing comes of it
    with RayBackend(nobody, str(tmp_path)) as backend:
        backend.will_be_needed()
        for _ in range(2):
            with pytest.raises(RunError, match="cannot be reached"):
                list(backend.run([], toy.inputs([])))
