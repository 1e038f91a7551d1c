"""Models of the user's own: found by reference, configured like ours, identified by their sources, and
refused in one sentence."""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from distmer import functions, models, plugins
from distmer.config import ModelConfig, Named, TrainConfig
from distmer.functions import AUGMENTATION, FLOW, LOSS, METRIC, STRAIN, Kind
from distmer.models import resolve
from distmer.training.tryout import try_out
from distmer.types import BadInput
from harness import toy
from tests.imports import forget
from tests.saying import Say

NET = '''"""A lab's networks."""
from torch import nn
from {package}layers import squash


class Tiny(nn.Module):
    """A very small network."""

    size = 8
    inputs = ("u", "strain")

    def __init__(self, classes: int, width: int = 4):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(2 * 64, width), nn.ReLU(), nn.Linear(width, classes))

    def forward(self, x):
        return self.net(squash(x))


def wide(classes, width: int = 32):
    return Tiny(classes, width)
'''
LAYERS = "import torch\n\n\ndef squash(x):\n    return torch.tanh(x)\n"


def write(folder: Path, net: str = NET, layers: str = LAYERS) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "own_layers.py").write_text(layers)
    path = folder / "own_nets.py"
    path.write_text(net.format(package="own_"))
    return path


def model(reference: str, **options: object) -> models.ResolvedModel:
    return resolve(ModelConfig.model_validate({"name": reference, **options}))


def test_a_class_in_a_file_is_a_model(tmp_path: Path) -> None:
    found = model(f"{write(tmp_path)}:Tiny", width=6)
    assert (found.info.name, found.info.kind, found.inputs, found.size) == (
        "own_nets:Tiny",
        "torch",
        ("u", "strain"),
        8,
    )
    assert found.spec == {"name": "own_nets:Tiny", "options": {"size": 8, "width": 6}}  # and no path in it
    assert found.info.title == "A very small network."
    assert sum(p.numel() for p in found.build(3).parameters()) == 128 * 6 + 6 + 6 * 3 + 3
    assert models.is_network("own_nets:Tiny")  # by its module now, as a worker has it
    wide = model("own_nets:wide")
    assert wide.spec["options"]["width"] == 32 and wide.inputs == ("u", "v", "strain")
    with pytest.raises(BadInput, match="did you mean 'width'"):
        model("own_nets:Tiny", with_=3)


def test_a_package_and_what_it_announces(tmp_path: Path) -> None:
    """As `pip install` leaves it: a package, and a distribution that names its entry points."""
    package = tmp_path / "lab"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "layers.py").write_text(LAYERS)
    (package / "unused.py").write_text("raise RuntimeError('nobody imports this')\n")
    (package / "nets.py").write_text(NET.format(package="."))
    info = tmp_path / "lab-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab\nVersion: 1.2\n")
    (info / "top_level.txt").write_text("lab\n")
    (info / "entry_points.txt").write_text("[distmer.models]\ntinynet = lab.nets:Tiny\n")
    (info / "RECORD").write_text("lab/__init__.py,,\n")
    sys.path.append(str(tmp_path))
    importlib.invalidate_caches()
    by_name, by_reference = model("tinynet"), model("lab.nets:Tiny")
    assert by_name.spec == {"name": "tinynet", "options": {"size": 8, "width": 4}, "distribution": "lab 1.2"}
    assert (
        by_reference.spec["name"] == "lab.nets:Tiny" and by_name.module == by_reference.module == "lab.nets"
    )
    assert plugins.own_modules("lab.nets") == ["lab", "lab.layers", "lab.nets"]
    assert plugins.places_to_ship() == [str(package)]
    (package / "fast.so").write_bytes(b"")  # of another machine it would be of no use
    assert plugins.places_to_ship() == []
    with pytest.raises(BadInput, match=r"unknown model 'tinyne'; did you mean 'tinynet'\?"):
        model("tinyne")


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        ("from sklearn.naive_bayes import GaussianNB as M", "classical"),
        (
            "from sklearn.pipeline import make_pipeline\nfrom sklearn.svm import LinearSVC\nM ="
            " make_pipeline(LinearSVC())",
            "classical",
        ),
        (
            "from dataclasses import replace\nfrom distmer.models.linear import MODEL\nM = replace(MODEL)",
            "classical",
        ),
    ],
)
def test_estimators_and_descriptions_are_models(entry: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(entry)
    found = model(f"{tmp_path}/mine.py:M")
    assert (found.info.name, found.info.kind) == ("mine:M", kind)
    x_NCHW, y_N = toy.maps_and_labels(found.size, len(found.inputs))
    prob_NK = found.build(3).fit(x_NCHW, y_N, 0).predict_proba(x_NCHW)
    assert prob_NK.shape == (len(y_N), 3) and prob_NK.sum(1) == pytest.approx(1)


def test_the_estimator_named_in_a_configuration() -> None:
    trees = {"estimator": "sklearn.ensemble.ExtraTreesClassifier", "params": {"n_estimators": 5}}
    found = model("sklearn", **trees)
    x_NCHW, y_N = toy.maps_and_labels(found.size, 3)
    first, same, other = (
        found.build(3).fit(x_NCHW, y_N, seed).predict_proba(1 - x_NCHW) for seed in (0, 0, 1)
    )
    assert (first == same).all() and (first != other).any()  # the fold's seed is the forest's
    for wrong, said in (
        ({"estimator": "sklearn.ensemble.ExtraTree"}, "there is no sklearn.ensemble.ExtraTree"),
        ({"estimator": "pathlib.Path"}, "is no classifier"),
        ({**trees, "params": {"trees": 5}}, "does not take these params"),
    ):
        with pytest.raises(BadInput, match=said):
            model("sklearn", **wrong)


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        (None, "Tiny", "there is no such file"),
        (NET, "Tny", "has no 'Tny'; did you mean 'Tiny'?"),
        ("def f(:\n", "f", "importing it raised SyntaxError"),
        ("import nowhere_to_be_found\n", "f", "importing it raised ModuleNotFoundError"),
        ("x = 1\ny = 1 / 0\n", "f", "importing it raised ZeroDivisionError (division by zero) in"),
        ("M = 3\n", "M", "not a int"),
        ("import numpy\nM = numpy.zeros(\n    'wide'\n)\n", "M", "importing it raised TypeError"),
        ("def f(classes, width): ...\n", "f", "its parameter 'width' has no default"),
        ("def f(): ...\n", "f", "its first argument must be the number of classes"),
        ("def f(**options): ...\n", "f", "its first argument must be the number of classes"),
        ("def f(*, classes=3): ...\n", "f", "its first argument must be the number of classes"),
        ("from torch import nn\nM = nn.Linear(2, 3)\n", "M", "it is a network that is built already"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(text: str | None, name: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong_nets.py"
    if text is not None:
        path.write_text(text.format(package="own_"))
        (tmp_path / "own_layers.py").write_text(LAYERS)
    with pytest.raises(BadInput) as raised:
        model(f"{path}:{name}")
    assert said in str(raised.value) and "\n" not in str(raised.value)
    if "ZeroDivision" in said or "TypeError" in said:  # the user's line, also where a library has raised
        assert f"{path}, line 2" in str(raised.value)


def test_a_file_whose_name_is_taken_is_refused(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("M = 3\n")
    with pytest.raises(BadInput, match="a module named 'json' is there already"):
        plugins.find(f"{tmp_path}/json.py:M")
    (tmp_path / "my-nets.py").write_text("M = 3\n")
    with pytest.raises(BadInput, match="cannot be imported; rename the file"):
        plugins.find(f"{tmp_path}/my-nets.py:M")
    with pytest.raises(BadInput, match="there is no module 'mylab'; install it"):
        plugins.find("mylab.nets:M")


def test_a_run_of_ones_own_model_is_as_ours_and_its_identity_is_its_sources(
    say: Say, maps: Path, tmp_path: Path
) -> None:
    """The reference stands in a file, relative to it. An edited neighbour trains anew; a comment does not."""
    lab = tmp_path / "lab"
    tree = {
        "data": {"protocol": "flowmaps", "root": str(maps)},
        "inputs": {"normalise": "minmax"},
        "model": {"name": "./own_nets.py:Tiny", "width": 5},
        "train": {"epochs": 2, "batch_size": 8},
        "tracking": {"enabled": False},
    }

    def run(layers: str, *more: str) -> dict[str, object]:
        forget(lab)
        write(lab, layers=layers)
        (lab / "own.yaml").write_text(yaml.safe_dump(tree))
        ended = say("run", str(lab / "own.yaml"), "--local", "--json", *more)
        assert ended.code == 0, ended.err
        result = json.loads(ended.out.splitlines()[-1])
        return {
            "kept": "(4 in the ledger already)" in ended.err,
            "digest": result["digest"],
            "model": result["model"],
        }

    first = run(LAYERS)
    assert (first["kept"], first["model"]) == (False, "own_nets:Tiny")
    assert run(f"# a comment\n{LAYERS}") == {**first, "kept": True}
    edited = run(LAYERS.replace("tanh", "sin"))
    assert not edited["kept"] and edited["digest"] != first["digest"]
    compared = say("compare", str(lab / "own.yaml"), "--local", "--set", "compare.rows.mine.model.width=5")
    assert compared.code == 0 and "mine" in compared.out


def test_ones_own_models_are_compared_by_their_names(say: Say, maps: Path, tmp_path: Path) -> None:
    """By a file beside the configuration, and by what a declared module calls it; a row may change one."""
    lab = tmp_path / "lab"
    write(lab, net=f"{NET}\n\nwide.inputs = Tiny.inputs\n")
    tree = {
        "plugins": ["./own_nets.py"],
        "data": {"protocol": "flowmaps", "root": str(maps)},
        "inputs": {"normalise": "minmax"},
        "train": {"epochs": 1, "batch_size": 8},
        "tracking": {"enabled": False},
        "compare": {
            "models": ["linear", "./own_nets.py:Tiny", "wide"],
            "size": 8,
            "rows": {"wide": {"model.width": 3}},
            "reference": "Tiny",
            "resamples": 100,
        },
    }
    (lab / "compared.yaml").write_text(yaml.safe_dump(tree))
    ended = say("compare", str(lab / "compared.yaml"), "--local")
    assert ended.code == 0, ended.err
    folder = Path(ended.out.split("tables: ")[1].strip())
    scores = pd.read_csv(folder / "scores.csv").set_index("row")
    assert dict(scores.model) == {"linear": "linear", "Tiny": "own_nets:Tiny", "wide": "own_nets:wide"}
    for row, width in {"Tiny": 4, "wide": 3}.items():
        assert scores.parameters[row] == 128 * width + width + width * 3 + 3
    for models_, said in (
        (f"[{lab}/own_nets.py:Tny]", "has no 'Tny'; did you mean 'Tiny'?"),
        ("[lnear]", "'linear'"),
        (f"[{lab}/own_nets.py:Tiny, Tiny]", "two models called 'Tiny'"),
    ):
        refused = say("compare", str(lab / "compared.yaml"), "--local", "--set", f"compare.models={models_}")
        assert refused.code == 2 and said in refused.sentence


_BROKEN = """from torch import nn
import torch


class Net(nn.Module):
    size = 8

    def __init__(self, classes: int):
        super().__init__()
        self.norm, self.linear = nn.BatchNorm1d(192), nn.Linear(192, {width})

    def forward(self, x):
        x = self.norm(x.flatten(1))
        {line}
        return self.linear(x)
"""


@pytest.mark.parametrize(
    ("width", "line", "said"),
    [
        ("classes", "", ""),
        ("classes + 1", "", "answered with the shape (2, 4), not (2, 3)"),
        ("classes", "x = x / 0 * 0", "something that is no number"),
        (
            "classes",
            "assert len(x) > 1, 'I need two'",
            "predicting one clip raised AssertionError (I need two) in",
        ),
        ("classes", "return self.linear(x).softmax(1)", "it answers with probabilities"),
        ("classes", "return self.linear(x).log_softmax(1)", ""),
        ("classes", "x = x[:, :3]", "a training step on two clips raised RuntimeError"),
    ],
)
def test_a_model_is_tried_before_anything_begins(width: str, line: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "tried_nets.py").write_text(_BROKEN.format(width=width, line=line))
    found = model(f"{tmp_path}/tried_nets.py:Net")
    if not said:
        try_out(found, TrainConfig())
        return
    with pytest.raises(BadInput) as raised:
        try_out(found, TrainConfig())
    assert said in str(raised.value) and "\n" not in str(raised.value)
    if "raised" in said:
        assert f"{tmp_path}/tried_nets.py, line 1" in str(raised.value)


def test_a_copy_of_a_file_is_the_same_code_and_another_file_of_its_name_is_not(tmp_path: Path) -> None:
    """A submitted job's current folder is a copy of the folder that its settings name."""
    for folder in ("one", "copy", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "copied_lab.py").write_text(f"ANSWER = {len(folder) // 5}\n")
    first = plugins.import_file(tmp_path / "one" / "copied_lab.py")
    assert plugins.import_file(tmp_path / "copy" / "copied_lab.py") is first
    with pytest.raises(BadInput, match="a module named 'copied_lab' is there already"):
        plugins.import_file(tmp_path / "other" / "copied_lab.py")


def test_a_helper_of_a_package_counts_wherever_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody has installed may be edited between two runs."""
    (tmp_path / "helped_package").mkdir()
    (tmp_path / "helped_package" / "__init__.py").write_text("")
    (tmp_path / "helped_package" / "loss.py").write_text("import lone_helper\n")
    (tmp_path / "lone_helper.py").write_text("FACTOR = 1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = plugins.own_modules("helped_package.loss")
    assert {"helped_package", "helped_package.loss", "lone_helper"} <= set(found)
    assert not any(name.startswith(("torch", "numpy", "distmer")) for name in found)


@pytest.mark.parametrize("kind", [LOSS, AUGMENTATION, METRIC, FLOW, STRAIN], ids=lambda kind: kind.what)
def test_what_distmer_brings_is_one_thing_by_name_and_by_reference(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, reference in plugins.shipped(kind.group).items():
        by_name = functions.resolve(kind, Named(name=name))
        module, _, defined = reference.partition(":")
        (tmp_path / f"again_{defined}.py").write_text(
            f"import functools\nfrom {module} import {defined}\n\n\n@functools.wraps({defined})\n"
            f"def own(*arguments, **options):\n    return {defined}(*arguments, **options)\n"
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        for other in (reference, f"again_{defined}:{defined}"):  # also where a user's file imports it
            assert functions.resolve(kind, Named(name=other)) == by_name
        if inspect.isclass(by_name.entry):
            continue
        own = functions.resolve(kind, Named(name=f"again_{defined}:own"))  # it bears the name of ours
        assert own.name == f"again_{defined}:own" and not own.is_own


def test_a_model_of_distmer_by_reference_is_the_same_model() -> None:
    by_name = resolve(ModelConfig(name="linear"))
    by_reference = resolve(ModelConfig(name="distmer.models.linear:MODEL"))
    assert by_reference.spec == by_name.spec and by_reference.module == by_name.module


@pytest.mark.parametrize("name", ["run", "plan"])
def test_plan_tries_the_code_as_run_does(name: str, tmp_path: Path, say: Say) -> None:
    (tmp_path / "tuple_nets.py").write_text(
        "from torch import nn\n\n\nclass Net(nn.Module):\n    def __init__(self, classes):\n"
        "        super().__init__()\n        self.head = nn.Linear(3 * 28 * 28, classes)\n\n"
        "    def forward(self, x):\n        return self.head(x.flatten(1)), None\n"
    )
    maps = toy.write_flowmaps(tmp_path / "maps", subjects=3, each=3)
    chosen = (f"model.name={tmp_path}/tuple_nets.py:Net", f"data.root={maps}", "data.protocol=flowmaps")
    words = [part for one in (*chosen, "inputs.normalise=minmax") for part in ("--set", one)]
    said = say(name, *words, *(["--local"] if name == "run" else []))
    assert said.code == 2
    assert "it answered with a tuple; return one tensor, logits_BK" in said.sentence
