"""Settings: what is refused, in which words; where paths point; what a digest depends on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from distmer.config import Config, parse
from distmer.config_base import read_yaml
from distmer.config_layers import load_config, load_settings
from distmer.digests import digest
from distmer.types import BadInput

ROOT = Path(__file__).parents[2]
NAMED = sorted((ROOT / "configs").glob("**/*.yaml"))


def load(
    path: Path | None = None,
    *overrides: str,
    environ: dict[str, str] | None = None,
    workspace: Path = Path("/ws"),
) -> Config:
    return load_config(path, overrides, workspace=workspace, environ=environ or {})


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.epocs=3", ["train.epocs is not a setting", "'epochs'"]),
        ("trian.epochs=3", ["trian is not a setting", "'train'"]),
        ("data.synthetic.subject=3", ["data.synthetic.subject", "'subjects'"]),
        ("train.lr=-1", ["train.lr", "greater than 0", "-1"]),
        ("train.lr=fast", ["train.lr", "'fast'"]),
        ("train=3", ["train", "3"]),
        ("train.epochs=yes", ["train.epochs", "a number", "True"]),
        ("seeds=[true]", ["seeds", "a number", "True"]),
        ("cluster.workers_per_fold=no", ["cluster.workers_per_fold", "a number", "False"]),
        # it shuffled the labels, with the seed 0
        ("evaluation.permute_labels=false", ["evaluation.permute_labels", "or be left out", "False"]),
        ("train.epochs=1:40", ["train.epochs", "'1:40'"]),
        ("seeds=[1,1]", ["seeds must be distinct"]),
        ("tracking.uri=postgresql://bob:hunter2@db/mlflow", ["uri holds a password", "MLFLOW_TRACKING_URI"]),
        (
            "train.momentum=.9",
            ["train.momentum acts only where train.optimiser is sgd", "leave train.momentum out"],
        ),
        ("train.epochs", ["--set train.epochs", "path.to.field=value"]),
        ("train.epochs=[1", ["--set train.epochs=[1", "not YAML"]),
    ],
)
def test_what_cannot_be_is_told_in_one_sentence(override: str, words: list[str]) -> None:
    with pytest.raises(BadInput) as caught:
        load(None, override)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_number_is_read_as_it_is_written(tmp_path: Path) -> None:
    """YAML 1.1 takes 010 for eight, 1:40 for a hundred, and the clip 006_1_2 of SAMM for 394."""
    assert load(None, "train.epochs=010", "seeds=[007, 1_000, 0x1F]").model_dump(include={"seeds"}) == {
        "seeds": (7, 1000, 31)
    }
    assert load(None, "train.epochs=010").train.epochs == 10
    path = tmp_path / "p.yaml"
    path.write_text("exclude: {subject: 006, clip: 006_1_2, time: 1:30.5, n: 0, x: 1.5e-3}")
    assert read_yaml(path, "protocol", str)["exclude"] == {
        "subject": "006",
        "clip": "006_1_2",
        "time": "1:30.5",
        "n": 0,
        "x": 0.0015,
    }


def test_a_file_names_itself_in_its_errors(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("train:\n  epoch: 3\n")
    with pytest.raises(BadInput, match=r"mine\.yaml: train\.epoch is not a setting; did you mean 'epochs'"):
        load(path)
    path.write_text("train: [")
    with pytest.raises(BadInput, match=r"mine\.yaml: not valid YAML"):
        load(path)
    with pytest.raises(BadInput, match=r"gone\.yaml: the configuration cannot be read"):
        load(tmp_path / "gone.yaml")


def test_a_comparison_is_not_one_experiment() -> None:
    with pytest.raises(
        BadInput,
        match=r"ablations\.yaml: it compares several experiments; give it to"
        r" `distmer compare`",
    ):
        load(ROOT / "configs" / "ablations.yaml")


def test_a_file_extends_one_other_and_the_command_line_overrides_both(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        "model: {name: atscnn, activation: relu}\ntrain: {epochs: 7, lr: 0.5}\n"
    )
    child = tmp_path / "child.yaml"
    child.write_text("extends: base.yaml\ntrain: {epochs: 8}\n")
    config = load(child, "train.lr=0.25")
    assert (config.train.epochs, config.train.lr, config.model.options) == (8, 0.25, {"activation": "relu"})
    # Another model is not given the options of the one it replaces.
    assert load(child, "model.name=linear").model.options == {}
    (tmp_path / "base.yaml").write_text("extends: child.yaml\n")
    with pytest.raises(BadInput, match="break the circle"):
        load(child)


def test_paths_in_a_file_are_below_the_workspace_on_the_command_line_below_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("data: {protocol: casme2, root: sets, roots: {samm: other/SAMM}}\n")
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    assert load(path).data.root == "/ws/sets"
    assert load(path).data.roots == {"samm": "/ws/other/SAMM"}
    assert load(path, "data.root=mine").data.root == str(here / "mine")
    assert load(path, "data.root=s3://bucket/x").data.root == "s3://bucket/x"
    assert load(None, environ={"DISTMER_DATA": "/d"}).data.root == "/d"
    assert load(path, environ={"DISTMER_DATA": "/d"}).data.root == "/ws/sets"


def test_a_digest_is_of_the_content_alone() -> None:
    assert digest({"a": 1, "b": [0.1, None]}) == digest({"b": [0.1, None], "a": 1})
    assert digest({"a": 1}) != digest({"a": 1.5}) != digest({"a": "1"})
    with pytest.raises(ValueError, match="JSON compliant"):
        digest(float("nan"))
    # Pinned: another value would orphan every ledger there is.
    assert digest({"a": 1, "b": [0.1, None]}).startswith("e4a9ad4b")


@pytest.mark.parametrize("path", NAMED, ids=lambda p: p.stem)
def test_every_named_configuration_loads_and_says_how_to_run_it(path: Path) -> None:
    from distmer.models import resolve

    _, tree = load_settings(path, (), workspace=Path("/ws"), environ={})
    for rows in ("compare", "habits", "curve"):  # what is in them: tests of their own
        tree.pop(rows, None)
    if "sweep" in tree:
        from distmer.sweep.space import Space

        Space.read(tree, str(path))  # looks at every value
        del tree["sweep"]
    resolve(parse(Config, tree, str(path)).model)
    header = "".join(line for line in path.read_text().splitlines(keepends=True) if line.startswith("#"))
    for word in ("Command:", "Run time:", "Expected:"):
        assert word in header, f"{path.name} lacks the line {word}"


def test_importing_distmer_loads_nothing_heavy_and_help_is_quick_to_import() -> None:
    code = (
        "import sys, distmer, distmer.cli; print([m for m in ('torch', 'ray', 'mlflow', 'sklearn', 'cv2',"
        " 'pandas') if m in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )
