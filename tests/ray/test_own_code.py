"""Code of the user's own on a cluster on which it is not installed: the bits of the run beside it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow.parquet as pq
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
    alone = loso(config, *settings, "--local", home=here)
    # In a process of its own: what another test has imported must not stand in for what was not sent.
    one = ["--set", "cluster.in_flight=1"]  # one worker: each takes seconds to start
    sent = command.distmer("run", config, *settings, *one, "--json", home=there, RAY_ADDRESS=one_ray)
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


FLOW = """
import numpy as np
from lab_shift import shifted

def difference(onset_HW, apex_HW, gain: float = 0.1):
    return np.stack([shifted(onset_HW) - shifted(apex_HW)] * 2, axis=-1) * np.float32(gain)
"""


def test_a_flow_of_ones_own_travels_to_the_actors_and_a_sequence_back(one_ray: str, tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    lab.mkdir()
    (lab / "lab_flow.py").write_text(FLOW)
    helper = "def shifted(crop_HW):\n    return crop_HW.astype('float32')\n"
    (lab / "lab_shift.py").write_text(helper)
    small = ("data.synthetic.subjects=3", "data.synthetic.clips_per_subject=2", "features.size=32")
    small = (*small, "features.frames=3", "features.sampling=linear")
    flow = f"features.flow={{name: {lab}/lab_flow.py:difference, gain: 0.2}}"
    options = [part for setting in (*small, flow) for part in ("--set", setting)]
    here, there = tmp_path / "here", tmp_path / "there"
    alone = within("features", *options, "--local", home=here)
    sent = command.distmer("features", *options, home=there, RAY_ADDRESS=one_ray)
    assert (alone.code, sent.code) == (0, 0), alone.err + sent.err
    assert "6 extracted" in sent.out and "not usable" not in sent.out
    assert stored(here) == stored(there) and len(stored(here)) == 6
    (lab / "lab_shift.py").write_text(helper.replace("return ", "return -"))
    edited = command.distmer("features", *options, home=there, RAY_ADDRESS=one_ray)
    assert "6 extracted" in edited.out, edited.out + edited.err


def stored(home: Path) -> dict[str, list[bytes]]:
    """Some channels of every stored clip by its key."""
    found: dict[str, list[bytes]] = {}
    for part in home.glob("features/*/parts/*.parquet"):
        table = pq.read_table(part)
        channels = [table.column(name).combine_chunks().to_numpy_ndarray() for name in ("u", "crop2", "v2")]
        for n, key in enumerate(table.column("key").to_pylist()):
            found[key] = [x_NHW[n].tobytes() for x_NHW in channels]
    return found
