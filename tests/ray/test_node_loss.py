"""A node lost with work on it, in the midst of an extraction, a LOSO run, a sweep: the work is done again elsewhere, to the bit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests import command, nodes, toy
from tests.ray.test_sweep import sweep_file

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


@pytest.mark.parametrize("gpus", [0, 1], ids=["CPU", "declared GPU"])
def test_in_mid_loso(gpus: int, cluster: nodes.Nodes, maps: Path, tmp_path: Path) -> None:
    settings = toy.settings(maps, "tracking.enabled=false", f"cluster.gpus_per_fold={gpus}", epochs=200)
    here, there = tmp_path / "here", tmp_path / "there"
    assert command.loso(*settings, "--local", home=here).code == 0
    before = sum(cluster.repeated().values())
    process = command.start(*settings, "--json", home=there, **cluster.driver)
    cluster.lose_one(process, lambda: len(command.ledger(there)) >= 1, nodes.FOLD)
    cluster.add(gpus=1)
    ended = command.finish(process)
    assert (ended.code, ended.json["status"], ended.json["failed"]) == (0, "complete", []), ended.err
    (events,) = there.glob("runs/*/events.jsonl")
    begun = [event["fold"] for event in map(json.loads, events.read_text().splitlines()) if event["event"] == "fold_started"]
    # A pooled fold is begun again by Ray, which tells it in its own record alone; one on a GPU by the driver.
    assert len(begun) > len(set(begun)) if gpus else cluster.again(before)
    assert command.predictions(there) == command.predictions(here)


def test_in_mid_sweep(cluster: nodes.Nodes, maps: Path, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    path, tune = sweep_file(tmp_path, maps), command.ROOT / "jobs" / "tune.py"
    before = sum(cluster.repeated().values())
    process = command.start(str(path), "--json", home=there, script=tune, **cluster.driver)
    cluster.lose_one(process, lambda: len(command.ledger(there)) >= 2, nodes.FOLD)
    cluster.add(gpus=1)
    ended = command.finish(process)
    assert ended.code == 0, ended.err
    assert cluster.again(before)
    calm = command.finish(command.start(str(path), "--json", home=here, script=tune))
    assert calm.code == 0, calm.err
    assert searched(there) == searched(here)


def test_in_mid_extraction(cluster: nodes.Nodes, tmp_path: Path) -> None:
    tree = ["features.flow=dis", "data.synthetic.subjects=4", "data.synthetic.clips_per_subject=6", "cluster.extract_batch=1"]
    settings = [part for setting in tree for part in ("--set", setting)]
    here, there = tmp_path / "here", tmp_path / "there"
    extract = command.ROOT / "jobs" / "extract.py"
    assert command.finish(command.start(*settings, "--local", home=here, script=extract)).code == 0
    shutil.copytree(here / "data", there / "data")
    before = sum(cluster.repeated().values())
    process = command.start(*settings, home=there, script=extract, **cluster.driver)
    cluster.lose_one(process, lambda: bool(list(there.glob("features/*/parts/*"))), nodes.CLIPS)
    cluster.add(gpus=1)
    ended = command.finish(process)
    assert ended.code == 0, ended.err
    assert cluster.again(before)
    assert features(there) == features(here)


def searched(home: Path) -> Any:
    """The outer predictions, and all that the searches recorded: settings, rungs, decisions, choices."""
    (path,) = home.glob("sweeps/*/predictions.parquet")
    return pq.read_table(path).to_pylist(), {p.name: json.loads(p.read_text()) for p in home.glob("sweeps/*/searches/*.json")}


def features(home: Path) -> dict[str, pq.ParquetFile]:
    """Every stored row by its key; there must be some."""
    parts = [pq.read_table(path) for path in home.glob("features/*/parts/*.parquet")]
    rows = {key: part.slice(i, 1) for part in parts for i, key in enumerate(part["key"].to_pylist())}
    assert rows
    return rows
