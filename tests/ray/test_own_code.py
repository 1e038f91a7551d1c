"""Code of the user's own on a cluster on which it is not installed: the bits of the run beside it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness import command, toy
from tests.within import loso, within

pytestmark = pytest.mark.slow

EXAMPLE = command.ROOT / "examples" / "own-model"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, in a folder that no worker has on its path."""
    return Path(shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("lab") / "own-model"))


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    maps = toy.write_flowmaps(tmp_path_factory.mktemp("maps"), subjects=4)
    chosen = (
        f"data.root={maps}",
        "data.protocol=flowmaps",
        "inputs.normalise=minmax",
        "tracking.enabled=false",
    )
    small = ("model.size=16", "train.epochs=3", "train.batch_size=8", "evaluation.bootstrap=100")
    return [part for setting in (*chosen, *small) for part in ("--set", setting)]


def test_a_network_of_ones_own_travels_to_the_workers(
    one_ray: str, lab: Path, settings: list[str], tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    config = str(lab / "own-model.yaml")
    # In processes of their own: what another test has imported must not stand in for what was not sent.
    alone = command.distmer("run", config, *settings, "--local", "--json", home=here)
    sent = command.distmer("run", config, *settings, "--json", home=there, RAY_ADDRESS=one_ray)
    assert (alone.code, sent.code) == (0, 0), alone.err + sent.err
    assert sent.json["model"] == "lab_nets:SmallNet" and sent.json["failed"] == []
    assert command.predictions(here) == command.predictions(there)
    assert command.ledger(here).keys() == command.ledger(there).keys()


def test_a_sweep_searches_its_own_option(
    one_ray: str, lab: Path, settings: list[str], tmp_path: Path
) -> None:
    fewer = ["--set", "sweep.trials=2", "--set", "evaluation.k=2"]
    path = str(lab / "own-sweep.yaml")
    swept = within("sweep", path, *settings, *fewer, "--json", home=tmp_path, RAY_ADDRESS=one_ray)
    assert swept.code == 0, swept.err
    assert all("model.width" in chosen["setting"] for chosen in swept.json["chosen"]), swept.json["chosen"]


def test_it_is_compared_with_ours(lab: Path, settings: list[str], tmp_path: Path) -> None:
    rows = ["--set", "compare.models=[linear]", "--set", "compare.rows.mine.model.width=8"]
    ended = within("compare", str(lab / "own-model.yaml"), *settings, *rows, "--local", home=tmp_path)
    assert ended.code == 0, ended.err
    assert "mine" in ended.out and "linear" in ended.out
    unknown = loso(str(lab / "own-model.yaml"), *settings, "--set", "model.widht=8", "--local", home=tmp_path)
    assert (unknown.code, "did you mean 'width'" in unknown.err) == (2, True)
