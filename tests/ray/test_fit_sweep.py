"""A model fitted with the setting that a sweep has chosen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

import distmer as dm
from distmer.saved.model import SavedModel, load_model
from harness import command, objects, toy
from tests.within import within

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.write_flowmaps(tmp_path_factory.mktemp("maps"), subjects=6, each=4)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def swept(one_ray: str, home: Path, maps: Path) -> dict[str, Any]:
    space = {"inputs.standardise": {"choice": [True, False]}, "model.c": {"choice": [0.01, 1.0]}}
    path = toy.sweep_file(
        home.parent,
        maps,
        searcher="grid",
        space=space,
        model={"name": "linear"},
        train={"selection": "fixed"},
    )
    tree = yaml.safe_load(path.read_text())
    tree["model"], tree["inputs"]["size"] = {"name": "linear", "size": 16}, None
    del tree["train"], tree["inputs"]["size"], tree["sweep"]["trials"]
    path.write_text(yaml.safe_dump(tree))
    ended = within("sweep", str(path), "--json", home=home, RAY_ADDRESS=one_ray)
    assert ended.code == 0, ended.err
    return ended.json


def fit(home: Path, *arguments: str) -> command.Ended:
    return within("fit", "--local", *arguments, home=home)


def test_the_model_has_a_chosen_setting_and_the_score_of_the_sweep(
    swept: dict[str, Any], home: Path, tmp_path: Path
) -> None:
    fitted = fit(home, swept["run_dir"], "--out", str(tmp_path / "model"))
    assert fitted.code == 0, fitted.err
    manifest = load_model(tmp_path / "model").manifest
    assert manifest.score is not None and manifest.score["uar"] == swept["uar"]
    assert manifest.score["digest"] == swept["digest"]
    told = manifest.score["setting"]
    votes = [row["setting"] for row in swept["chosen"]]
    assert told["of"] == 2 and told["searches"] == votes.count(told["values"]) >= 1
    options = manifest.model["options"]
    assert isinstance(options, dict) and options["c"] == told["values"]["model.c"]
    assert manifest.inputs["standardise"] == told["values"]["inputs.standardise"]
    card = (tmp_path / "model" / "README.md").read_text()
    low, high = swept["uar_ci"]
    assert f"| pooled | {swept['uar']:.4f} | [{low:.4f}, {high:.4f}] |" in card
    assert f"{told['searches']} of the 2 searches" in card and "not of this setting" in card.replace(
        "\n", " "
    )
    assert "of the sweep" in fitted.out


def test_python_digits_and_an_object_store_give_the_same_model(
    swept: dict[str, Any], home: Path, tmp_path: Path
) -> None:
    folder = Path(swept["run_dir"])
    assert fit(home, folder.name, "--out", str(tmp_path / "model")).code == 0
    expected = _told(load_model(tmp_path / "model"))
    in_python = dm.fit(folder, out=tmp_path / "python", workspace=home, progress=False)
    assert _told(in_python) == expected
    others: list[dict[str, Any]] = [{"model": "svm"}, {"inputs": {"symmetric": True}}]
    for given in others:
        with pytest.raises(dm.BadInput, match=rf"dm\.fit {next(iter(given))}: the sweep .* has no score for"):
            dm.fit(folder, **given, workspace=home, progress=False)
    with objects.serving() as server:
        far = objects.upload(home, objects.fresh())
        address = f"{far}/sweeps/{folder.name}"
        fitted = within("fit", "--local", address, home=home, **server.environ)
        assert fitted.code == 0, fitted.err
        (kept,) = (line.split()[1] for line in fitted.out.splitlines() if line.startswith("folder"))
        assert kept.startswith(f"{far}/models/") and _told(load_model(kept)) == expected


def _told(model: SavedModel) -> dict[str, Any]:
    """The manifest, without the digest of the file of skops, which holds the time."""
    manifest = model.manifest.model_dump()
    del manifest["files"]["classical.skops"]
    return manifest


def test_a_sweep_that_gives_no_honest_setting_is_one_sentence(
    swept: dict[str, Any], home: Path, maps: Path
) -> None:
    folder = Path(swept["run_dir"])
    whole = (folder / "results.json").read_text()
    other = fit(home, str(folder), "--set", "model.c=3")
    assert other.code == 2 and "has no score for another setting than its own" in other.err
    for changed, sentence in (
        ({"mode": "oracle"}, "chosen on the held-out subjects"),
        ({"status": "partial"}, "the sweep is partial, so not every search has chosen"),
    ):
        (folder / "results.json").write_text(json.dumps({**json.loads(whole), **changed}))
        refused = fit(home, str(folder))
        assert refused.code == 2 and sentence in refused.err
    (folder / "results.json").write_text(whole)
    moved = next(maps.rglob("*.png"))
    image = moved.read_bytes()
    try:
        moved.write_bytes(sorted(maps.rglob("*.png"))[-1].read_bytes())
        changed_clips = fit(home, str(folder))
        assert changed_clips.code == 2 and "have changed since the sweep chose" in changed_clips.err
    finally:
        moved.write_bytes(image)


def test_a_choice_whose_file_was_edited_is_refused(swept: dict[str, Any], home: Path) -> None:
    for path in (Path(swept["run_dir"]) / "chosen").glob("*.yaml"):
        whole = path.read_text()
        tree = yaml.safe_load(whole)
        tree["model"]["c"] = 0.5
        path.write_text(yaml.safe_dump(tree))
        try:
            edited = fit(home, swept["run_dir"])
        finally:
            path.write_text(whole)
        if path.name in edited.err:  # it is the file that is fitted
            assert edited.code == 2 and "section model is no longer what the sweep has chosen" in edited.err
            return
    pytest.fail("no file of the choice was read")


def test_other_clips_are_refused_where_features_were_searched_too(
    one_ray: str, home: Path, tmp_path: Path
) -> None:
    """Each feature setting has a digest of the clips of its own: none of them is passed over."""
    tree = {
        "data": {"protocol": "synthetic", "synthetic": {"subjects": 4, "clips_per_subject": 4}},
        "features": {"size": 32},
        "model": {"name": "linear"},
        "evaluation": {"folds": "group_kfold", "k": 2, "bootstrap": 100},
        "tracking": {"enabled": False},
        "cluster": {"in_flight": 2},
        "sweep": {
            "searcher": "grid",
            "inner_folds": 2,
            "concurrent": 2,
            "space": {"features.flow": {"choice": ["farneback", "dis"]}},
        },
    }
    path, before = tmp_path / "sweep.yaml", tmp_path / "features.yaml"
    path.write_text(yaml.safe_dump(tree))
    before.write_text(yaml.safe_dump({name: tree[name] for name in ("data", "features", "tracking")}))
    for flow in ("farneback", "dis"):  # stored already, the sweep needs no actors for them
        assert within("features", str(before), f"--set=features.flow={flow}", "--local", home=home).code == 0
    ended = within("sweep", str(path), "--json", home=home, RAY_ADDRESS=one_ray)
    assert ended.code == 0, ended.err
    folder = ended.json["run_dir"]
    assert fit(home, folder, "--out", str(tmp_path / "model")).code == 0
    listed = tmp_path / "some.txt"
    clips = pq.read_table(Path(folder) / "predictions.parquet")["clip_id"].to_pylist()
    listed.write_text("\n".join(clip for clip in clips if not clip.startswith(clips[0].rpartition("/")[0])))
    other = fit(home, folder, "--set", f"data.include={listed}", "--out", str(tmp_path / "other"))
    assert other.code == 2 and "have changed since the sweep chose" in other.err
    assert not (tmp_path / "other").exists()
