"""kill -9 of the driver at any moment, then the same command: finished folds are not trained again, and the
predictions are those of an undisturbed run to the bit."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from harness import command, toy
from tests.within import loso

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.write_flowmaps(tmp_path_factory.mktemp("maps"), subjects=6)


@pytest.fixture(scope="module")
def undisturbed(maps: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("undisturbed")
    ended = loso(*settings(maps), "--local", home=home)
    assert ended.code == 0, ended.err
    return home


def settings(maps: Path) -> list[str]:
    return toy.settings(maps, "tracking.enabled=false", epochs=12)


# Moments of the run: before a fold is filed, after some folds; "within": in the middle of writing an entry of
# the ledger. What is killed trains on a Ray of its own, on a cluster that lives on, or without Ray. It files
# the folds itself, wherever they are trained.
@pytest.mark.parametrize(
    ("moment", "first", "then"),
    [
        (0, "own Ray", "local"),
        (4, "cluster", "local"),
        ("within", "local", "cluster"),
    ],
)
def test_the_same_command_goes_on(
    one_ray: str, moment: int | str, first: str, then: str, maps: Path, undisturbed: Path, tmp_path: Path
) -> None:
    alone, env = trained(first, one_ray)
    killed = command.stopped("run", *settings(maps), *alone, at=f"SIGKILL {moment}", home=tmp_path, **env)
    assert killed.code == -signal.SIGKILL, killed.err
    if moment == "within":
        assert list((tmp_path / "ledger").glob("*/.*.tmp")), "it was not killed within a write"
    before = command.ledger(tmp_path)
    parts = {p.name: p.stat().st_mtime_ns for p in tmp_path.glob("features/*/parts/*")}
    assert len(before) == (2 if moment == "within" else moment)
    alone, env = trained(then, one_ray)
    ended = loso(*settings(maps), *alone, "--json", home=tmp_path, **env)
    assert ended.code == 0, ended.err
    assert ended.json["status"] == "complete"
    after = command.ledger(tmp_path)
    assert {digest: after[digest] for digest in before} == before  # not one was written again
    assert {p.name: p.stat().st_mtime_ns for p in tmp_path.glob("features/*/parts/*")} == parts
    assert command.predictions(tmp_path) == command.predictions(undisturbed)
    assert not [path for kind in ("tmp", "partial") for path in tmp_path.rglob(f".*.{kind}")]
    assert ("removed 1 leftover of ended runs" in ended.err) == (moment == "within")
    (events,) = tmp_path.glob("runs/*/events.jsonl")
    told = [json.loads(line) for line in events.read_text().splitlines()]
    finished = [e["digest"] for e in told if e["event"] == "fold_finished" and not e["cached"]]
    assert len(finished) == len(set(finished))


def test_a_second_run_does_nothing(one_ray: str, maps: Path, undisturbed: Path) -> None:
    before = command.ledger(undisturbed)
    ended = loso(*settings(maps), "--json", home=undisturbed, RAY_ADDRESS=one_ray)
    assert ended.code == 0
    assert "(6 in the ledger already)" in ended.err
    assert command.ledger(undisturbed) == before
    assert "extracting features 36/36 · 0:00 elapsed · 36 cached" in ended.err


def test_a_fold_run_alone_is_the_fold_of_the_whole_run(maps: Path, undisturbed: Path, tmp_path: Path) -> None:
    ended = loso(*settings(maps), "--fold", "flowmaps/sub03", "--local", "--json", home=tmp_path)
    assert (ended.code, ended.json["status"], len(command.ledger(tmp_path))) == (0, "some-folds", 1)
    rows = [row for row in command.predictions(undisturbed) if row["fold"] == "flowmaps/sub03"]
    assert command.predictions(tmp_path) == rows
    wrong = loso(*settings(maps), "--fold", "flowmaps/sub99", "--local", home=tmp_path)
    assert wrong.code == 2
    assert "unknown fold 'flowmaps/sub99'; did you mean" in wrong.err


# The second time from a ledger and features that are there: Ray is started at another moment then. Ray has a
# handler of its own for SIGTERM.
@pytest.mark.parametrize(("how", "times"), [(signal.SIGINT, (1,)), (signal.SIGTERM, (1, 2))])
def test_stopping_keeps_what_is_finished_and_calls_it_partial(
    one_ray: str,
    how: signal.Signals,
    times: tuple[int, ...],
    maps: Path,
    undisturbed: Path,
    tmp_path: Path,
) -> None:
    kept = 0
    for more in times:
        ended = command.stopped("run", *settings(maps), "--json", at=f"{how.name} {more}", home=tmp_path)
        assert ended.code == 3, ended.err
        assert ended.json["status"] == "partial"
        kept += more
        assert len(command.ledger(tmp_path)) == kept
        assert len([f for f in ended.json["failed"] if f["reason"].startswith("not reached")]) == 6 - kept
        assert "Traceback" not in ended.err
    ended = loso(*settings(maps), home=tmp_path, RAY_ADDRESS=one_ray)
    assert ended.code == 0
    assert command.predictions(tmp_path) == command.predictions(undisturbed)


def trained(place: str, one_ray: str) -> tuple[list[str], dict[str, str]]:
    """The arguments and the environment of a run that trains there."""
    return ["--local"] * (place == "local"), {"RAY_ADDRESS": one_ray} if place == "cluster" else {}
