"""A node lost with work on it, in the midst of an extraction, a LOSO run, a sweep: the work is done again
elsewhere, to the bit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from harness import command, nodes, toy
from tests.within import loso, within

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[nodes.Nodes]:
    with nodes.Nodes() as cluster:
        for _ in range(2):
            cluster.add(gpus=1)
        yield cluster


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.write_flowmaps(tmp_path_factory.mktemp("maps"), subjects=6)


def settings(maps: Path, epochs: int, *more: str) -> list[str]:
    return toy.settings(maps, "tracking.enabled=false", *more, epochs=epochs)


@pytest.fixture(scope="module")
def calm(maps: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workspace of a run from which nothing was lost."""
    home = tmp_path_factory.mktemp("calm")
    assert loso(*settings(maps, 12), "--local", home=home).code == 0
    return home


@pytest.mark.parametrize("gpus", [0, 1], ids=["CPU", "declared GPU"])
def test_in_mid_loso(gpus: int, cluster: nodes.Nodes, maps: Path, calm: Path, tmp_path: Path) -> None:
    """Decided on what distmer itself tells: which folds it began, how often, and how the ledger ends.

    The folds on both nodes are held at a gate, and distmer has told of both, when one node is lost."""
    there, gate = tmp_path / "there", tmp_path / "gate"
    how = settings(maps, 12, f"cluster.gpus_per_fold={gpus}", "cluster.patience=600")
    process = command.start(*how, home=there, script=command.DECLARED, GATE=str(gate), **cluster.driver)
    command.wait_for(lambda: len(command.ledger(there)) >= 1, process)
    gate.touch()

    def both_wait() -> bool:
        waiting = {path.stem for path in tmp_path.glob("*.begun")} - command.ledger(there).keys()
        return len(waiting) == 2 and waiting <= {event["digest"] for event in started(there)}

    cluster.lose_one(process, both_wait, nodes.FOLD)
    kept = command.ledger(there)
    gate.unlink()
    cluster.add(gpus=1)
    ended = command.finish(process)
    assert (ended.code, ended.json["status"], ended.json["failed"]) == (0, "complete", []), ended.err
    begun = [event["fold"] for event in started(there)]
    # what was lost with the node was begun again, by its name
    assert len(begun) > len(set(begun)) == len(command.ledger(there))
    assert kept.items() <= command.ledger(there).items()  # and what was finished was not
    assert command.predictions(there) == command.predictions(calm)


def test_in_mid_sweep(cluster: nodes.Nodes, maps: Path, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    path, tune = toy.sweep_file(tmp_path, maps), command.ROOT / "jobs" / "tune.py"
    process = command.start(str(path), "--json", home=there, script=tune, **cluster.driver)
    cluster.lose_one(process, lambda: len(command.ledger(there)) >= 2, nodes.FOLD)
    cluster.add(gpus=1)
    ended = command.finish(process)
    assert ended.code == 0, ended.err
    assert "its process was lost; it is begun again" in ended.err
    calm = within("sweep", str(path), "--json", home=here, **cluster.driver)
    assert calm.code == 0, calm.err
    assert searched(there) == searched(here)


HELD = """
import time
from pathlib import Path

import numpy as np

def difference(onset_HW, apex_HW, gate: str = "gate"):
    with Path(f"{gate}.calls").open("a") as calls:
        calls.write(".")
    while Path(gate).exists() and Path(f"{gate}.calls").stat().st_size > 12:
        time.sleep(0.05)
    return np.stack([apex_HW.astype(np.float32) - onset_HW] * 2, axis=-1)
"""


def test_in_mid_extraction(cluster: nodes.Nodes, tmp_path: Path) -> None:
    """The first calls of the flow pass, and the others are held at a gate until one node is lost."""
    gate = tmp_path / "gate"
    (tmp_path / "lab_held.py").write_text(HELD)
    tree = [
        f"features.flow={{name: {tmp_path}/lab_held.py:difference, gate: {gate}}}",
        "data.synthetic.subjects=4",
        "data.synthetic.clips_per_subject=6",
        "cluster.extract_batch=1",
    ]
    chosen = [part for setting in tree for part in ("--set", setting)]
    here, there = tmp_path / "here", tmp_path / "there"
    extract = command.ROOT / "jobs" / "extract.py"
    assert within("features", *chosen, "--local", home=here).code == 0
    shutil.copytree(here / "data", there / "data")
    before = sum(cluster.repeated().values())
    Path(f"{gate}.calls").unlink()
    gate.touch()
    process = command.start(*chosen, home=there, script=extract, **cluster.driver)
    cluster.lose_one(process, lambda: bool(list(there.glob("features/*/parts/*"))), nodes.CLIPS)
    gate.unlink()
    cluster.add(gpus=1)
    ended = command.finish(process)
    assert ended.code == 0, ended.err
    assert cluster.again(before)
    assert features(there) == features(here)


def test_every_node_lost_and_none_that_comes_ends_the_run(
    cluster: nodes.Nodes, maps: Path, tmp_path: Path
) -> None:
    long = settings(maps, 20000, "cluster.patience=40")
    while len(cluster.workers) > 1:
        cluster.kill(cluster.workers[-1])
    process = command.start(*long, "--json", home=tmp_path, **cluster.driver)
    cluster.lose_one(process, lambda: bool(cluster.workers[0].work(nodes.FOLD)), nodes.FOLD)
    ended = command.finish(process)
    assert ended.code == 1
    assert "no machine has taken up a fold for" in ended.err and "finished folds are kept" in ended.err


def started(home: Path) -> list[dict[str, Any]]:
    """What the run told of folds that began, in order."""
    (log,) = home.glob("runs/*/events.jsonl")
    events = map(json.loads, log.read_text().rpartition("\n")[0].splitlines())  # whole lines
    return [event for event in events if event["event"] == "fold_started"]


def searched(home: Path) -> Any:
    """The outer predictions, and all that the searches recorded: settings, rungs, decisions, choices."""
    (path,) = home.glob("sweeps/*/predictions.parquet")
    return pq.read_table(path).to_pylist(), {
        p.name: json.loads(p.read_text()) for p in home.glob("sweeps/*/searches/*.json")
    }


def features(home: Path) -> dict[str, pq.ParquetFile]:
    """Every stored row by its key; there must be some."""
    parts = [pq.read_table(path) for path in home.glob("features/*/parts/*.parquet")]
    rows = {key: part.slice(i, 1) for part in parts for i, key in enumerate(part["key"].to_pylist())}
    assert rows
    return rows
