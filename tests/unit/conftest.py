"""What the tests of the command line share."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from distmer import cli
from harness import objects, toy
from tests.saying import Said, Say


@pytest.fixture
def say(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> Say:
    """The command line in this process (its imports take longer than a case), in a workspace of the test's
    own."""
    for name in ("DISTMER_DATA", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DISTMER_HOME", str(tmp_path / "home"))

    def speak(*arguments: str) -> Said:
        capsys.readouterr()
        caplog.clear()
        with pytest.raises(SystemExit) as ended:
            cli.main(list(arguments))
        out, err = capsys.readouterr()
        logged = tuple(r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING)
        return Said(int(str(ended.value.code)), out, err, logged)

    return speak


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.write_flowmaps(tmp_path_factory.mktemp("maps"), subjects=4, each=3)


@pytest.fixture(scope="module")
def server() -> Iterator[objects.Server]:
    with objects.serving() as server:
        yield server


@pytest.fixture
def remote(server: objects.Server) -> str:
    """The address of a folder on S3 that nobody has used."""
    return objects.fresh()
