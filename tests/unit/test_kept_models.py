"""A model that is kept: the same answers after it is loaded, and no answer from a folder that is not as it
was written."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from distmer.commands.fit import fit_model, fit_report
from distmer.commands.session import Given, Session
from distmer.config import Config, ModelConfig
from distmer.models import models, resolve
from distmer.saved import folder as saved_folder
from distmer.saved import model as saved_model
from distmer.saved.folder import ARRAYS, MANIFEST, read_folder, write_folder
from distmer.saved.model import SavedModel, Training, load_model
from distmer.storage import place
from distmer.training.fit import fit_and_keep
from distmer.training.fold_inputs import Inputs
from distmer.training.weights import packed, unpacked
from distmer.types import BadInput
from harness import toy
from tests.imports import forget
from tests.saying import Say

SKLEARN = (
    "sklearn.ensemble.ExtraTreesClassifier",
    "sklearn.ensemble.HistGradientBoostingClassifier",
    "sklearn.gaussian_process.GaussianProcessClassifier",
    "sklearn.neural_network.MLPClassifier",
    "sklearn.neighbors.KNeighborsClassifier",
)
EVERY = [(name, "") for name in sorted(models()) if name != "sklearn"] + [("sklearn", one) for one in SKLEARN]

OWN = '''
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from torch import nn


class Net(nn.Module):
    """A network of one's own."""

    size = 16

    def __init__(self, classes, width=4):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        return self.head(self.norm(self.conv(x)).relu().mean((2, 3)))


class Forgets(Net):
    """Keeps what it learns where no file finds it."""

    scale = torch.ones(1)

    def forward(self, x):
        if self.training:
            self.scale = 1 + x.std()
        return super().forward(x * self.scale)


class Centre:
    def __init__(self, value):
        self.value = value


class Holds(ClassifierMixin, BaseEstimator):
    """Holds an object of its own type."""

    size = 8

    def fit(self, x, y):
        self.centre = Centre(x.mean(0))
        self.model = LogisticRegression(max_iter=200).fit(x - self.centre.value, y)
        self.classes_ = self.model.classes_
        return self

    def predict(self, x):
        return self.model.predict(x - self.centre.value)
'''


AVERAGED = [(name, "", True) for name in ("atscnn", "flow_kernel", "linear")]


@pytest.mark.parametrize(("name", "estimator", "averaged"), [*((*one, False) for one in EVERY), *AVERAGED])
def test_every_model_answers_the_same_to_the_bit_once_it_is_loaded(
    name: str, estimator: str, averaged: bool
) -> None:
    info = models()[name]
    options: dict[str, Any] = {"estimator": estimator} if estimator else {}
    if "Hist" in estimator:
        options["params"] = {"min_samples_leaf": 1, "max_iter": 5}  # else it cannot split so few clips
    size = max(info.min_size, min(info.native_size, 28))
    config = Config.model_validate(
        {
            "model": {"name": name, "size": size, **options},
            "train": {"epochs": 1, "batch_size": 8, "ensemble": 2 if averaged else 1},
            "inputs": {"standardise": True, "symmetric": averaged},
        }
    )
    clips, model = toy.clips(), resolve(config.model)
    shape = (len(clips), len(model.inputs), size, size)
    x_NCHW = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    inputs = Inputs(tuple(clip.id for clip in clips), model.inputs, "fixed", x_NCHW)
    fitted = fit_and_keep(toy.jobs(config, clips)[0], inputs)[1]
    assert fitted is not None
    contents = packed(fitted, model, 3, (), {"kept": x_NCHW[:1]})
    again, arrays = unpacked(
        contents, model, 3, fitted.epochs, (), members=2 if averaged else 1, symmetric=averaged
    )
    unseen_NCHW = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    assert np.array_equal(fitted.predict(unseen_NCHW.copy()), again.predict(unseen_NCHW.copy()))
    assert np.array_equal(arrays["kept"], x_NCHW[:1])
    assert not np.array_equal(again.predict(unseen_NCHW.copy()), again.predict(x_NCHW.copy()))


def session(maps: Path, home: Path, **sections: Any) -> Session:
    tree: dict[str, Any] = {
        "data": {"protocol": "flowmaps", "root": str(maps)},
        "inputs": {"normalise": "minmax"},
        "model": {"name": "linear"},
        "tracking": {"enabled": False},
        "evaluation": {"bootstrap": 100},
    }
    for name, values in sections.items():
        tree[name] = {**tree.get(name, {}), **values}
    if not tree["model"]["name"].endswith(("linear", "Holds")):
        tree["train"] = {"epochs": 2, "batch_size": 8, **tree.get("train", {})}
    path = home.parent / f"{home.name}.yaml"
    path.write_text(yaml.safe_dump(tree))
    return Session.open(Given(path, (), str(home)))


@pytest.fixture(scope="module")
def network(maps: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kept ATSCNN of a second."""
    home = tmp_path_factory.mktemp("kept") / "home"
    chosen = session(maps, home, model={"name": "atscnn", "size": 16, "hidden": 16})
    return Path(str(fit_model(chosen, local=True).folder))


@pytest.fixture
def copy(network: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(network, tmp_path / "copy"))


@pytest.mark.parametrize("name", ["README.md", "config.yaml", ARRAYS, MANIFEST])
def test_a_byte_changed_anywhere_is_refused(copy: Path, name: str) -> None:
    before = (copy / name).read_bytes()
    rng = np.random.default_rng(len(before))
    for at in [0, len(before) - 1, *rng.integers(len(before), size=12).tolist()]:
        data = bytearray(before)
        data[at] ^= 1
        (copy / name).write_bytes(bytes(data))
        with pytest.raises(BadInput, match=f"{name}: it is not as it was written.*fit the model again"):
            load_model(copy)
    (copy / name).unlink()
    with pytest.raises(BadInput, match=f"there is no {name}|{name}: the file is not there"):
        load_model(copy)


def test_a_file_that_is_no_part_of_a_model_is_never_read(copy: Path) -> None:
    manifest, contents = read_folder(copy)
    (copy.parent / "outside").write_bytes(b"secret")
    tree = {**manifest.model_dump(mode="json"), "files": {"../outside": "0" * 64, **manifest.files}}
    (copy / MANIFEST).write_bytes(saved_folder._text(tree))
    with pytest.raises(BadInput, match=r"'\.\./outside', which is no file of a model"):
        load_model(copy)
    assert set(contents) == set(manifest.files)


def test_loading_runs_no_file_that_the_folder_names(copy: Path) -> None:
    """Its digests are right: it was written by another hand."""
    manifest, contents = read_folder(copy)
    (copy.parent / "evil.py").write_text(f"open({str(copy.parent / 'ran')!r}, 'w').close()\nNet = None\n")
    for name in (f"{copy.parent}/evil.py:Net", f"{copy}/../evil.py:Net"):
        (copy / MANIFEST).unlink()
        forged = manifest.model_copy(update={"model": {**manifest.model, "name": name}})
        write_folder(copy, forged, contents)
        with pytest.raises(BadInput, match=r"it names code by a path, .*; a kept model names modules alone"):
            load_model(copy)
    assert not (copy.parent / "ran").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"train": {"epochs": -1}},
        {"inputs": {"bogus": 1}},
        {"classes": ("a", "b")},
        {"classes": ("positive", "negative", "surprise")},
    ],
    ids=str,
)
def test_a_folder_whose_parts_do_not_fit_is_one_sentence(copy: Path, changes: dict[str, Any]) -> None:
    manifest, contents = read_folder(copy)
    (copy / MANIFEST).unlink()
    write_folder(copy, manifest.model_copy(update=changes), contents)
    with pytest.raises(BadInput, match="what its files say does not fit together") as error:
        load_model(copy)
    assert "\n" not in str(error.value)


def test_a_newer_format_and_other_code_are_refused(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest, contents = read_folder(copy)
    write_folder(copy, manifest.model_copy(update={"format": 2}), contents)
    with pytest.raises(BadInput, match="of format 2, and this distmer reads up to 1; install"):
        load_model(copy)
    for module in ("distmer.models.atscnn", "distmer.features.inputs"):
        (copy / MANIFEST).unlink()
        code = {**manifest.code, module: "0" * 64}
        write_folder(copy, manifest.model_copy(update={"code": code}), contents)
        with pytest.raises(BadInput, match=rf"another version of {module}; install distmer 0"):
            load_model(copy)
    (copy / MANIFEST).unlink()
    code = {**manifest.code, "distmer.training.losses": "0" * 64}  # it has no say in an answer
    write_folder(copy, manifest.model_copy(update={"code": code}), contents)
    load_model(copy)
    older = {**saved_model.versions(), "torch": "1.0"}
    monkeypatch.setattr(saved_model, "versions", lambda: older)
    load_model(copy)  # another library is told, and no reason to refuse


def test_a_fold_that_is_refitted_keeps_its_place_and_another_model_does_not_take_it(
    maps: Path, network: Path, tmp_path: Path
) -> None:
    chosen = session(maps, tmp_path / "home", model={"name": "atscnn", "size": 16, "hidden": 16})
    again = fit_model(chosen, tmp_path / "out", local=True)
    assert (tmp_path / "out" / ARRAYS).read_bytes() == (network / ARRAYS).read_bytes()
    assert again.manifest == read_folder(network)[0]
    fit_model(chosen, tmp_path / "out", local=True)
    other = session(maps, tmp_path / "home", model={"name": "linear"})
    with pytest.raises(BadInput, match="another model lies there; give --out another folder"):
        fit_model(other, tmp_path / "out", local=True)
    damaged = (tmp_path / "out" / MANIFEST).read_bytes()[:-9]
    (tmp_path / "out" / MANIFEST).write_bytes(damaged)
    with pytest.raises(BadInput, match="cannot be read, so it may be another one; give --out"):
        fit_model(chosen, tmp_path / "out", local=True)
    for name in ("thesis.tex", "README.md", "config.yaml"):  # two of them have the names of a model's own
        full = tmp_path / name.replace(".", "-")
        full.mkdir()
        (full / name).write_text("mine")
        with pytest.raises(BadInput, match=rf"holds other files \({name}\)"):
            fit_model(other, full, local=True)
        assert [(path.name, path.read_text()) for path in full.iterdir()] == [(name, "mine")]
        with pytest.raises(BadInput, match=f"{name}: this is a file; give --out"):
            fit_model(other, full / name, local=True)


def test_a_model_with_other_names_of_its_classes_is_another_one(say: Say, maps: Path, tmp_path: Path) -> None:
    """The training is the same to the bit: only what the model calls its answers differs."""
    emotions = ("negative", "positive", "surprise")
    kept: list[SavedModel] = []
    for classes in (emotions, ("down", "up", "startled")):
        labels = dict(zip(classes, emotions, strict=True))
        tree = {"title": "maps", "source": "none", "classes": list(classes)}
        tree["sets"] = {"flowmaps": {"labels": labels}}
        protocol = tmp_path / f"{classes[0]}.yaml"
        protocol.write_text(yaml.safe_dump(tree))
        chosen = ["model.name=linear", "tracking.enabled=false", f"data.protocol={protocol}"]
        fitted = say("fit", "--local", *toy.settings(maps, *chosen))
        assert fitted.code == 0, fitted.err
        folder = next(line.split()[1] for line in fitted.out.splitlines() if line.startswith("folder"))
        kept.append(load_model(folder))
        assert f"one of 3 classes: {', '.join(classes)}." in (Path(folder) / "README.md").read_text()
    first, second = kept
    assert first.folder != second.folder and first.manifest.identity != second.manifest.identity
    assert load_model(first.folder).classes == emotions and second.classes == ("down", "up", "startled")
    image = next(maps.rglob("*.png"))
    assert list(first.predict(image)[0].probabilities.values()) == list(
        second.predict(image)[0].probabilities.values()
    )


def test_a_model_may_lie_on_an_object_store(maps: Path, tmp_path: Path, remote: str) -> None:
    kept = fit_model(session(maps, tmp_path / "home"), place(f"{remote}/model"), local=True)
    image = next(maps.rglob("*.png"))
    assert load_model(f"{remote}/model").predict(image)[0].distance == 0
    fit_model(session(maps, tmp_path / "home"), place(f"{remote}/model"), local=True)
    with pytest.raises(
        BadInput, match="there is no such folder; give a folder that `distmer fit` has written"
    ):
        load_model(f"{remote}/other")
    assert str(kept.folder) == f"{remote}/model"


def test_a_model_that_could_not_be_meant_is_refused(maps: Path, tmp_path: Path) -> None:
    network = {"name": "atscnn", "size": 16, "hidden": 16}
    oracle = session(maps, tmp_path / "home", model=network, train={"selection": "oracle"})
    with pytest.raises(BadInput, match="holds nobody out; set it to fixed or inner"):
        fit_model(oracle, local=True)
    steep = session(maps, tmp_path / "home", model=network, train={"lr": 1e30, "optimiser": "sgd"})
    with pytest.raises(BadInput, match="the training diverged"):
        fit_model(steep, local=True)
    shuffled = session(maps, tmp_path / "home", evaluation={"permute_labels": 1})
    with pytest.raises(BadInput, match="leave it out"):
        fit_model(shuffled, local=True)


def test_the_card_carries_the_score_of_the_run_and_the_command_that_gives_one(say: Say, maps: Path) -> None:
    settings = toy.settings(maps, "model.name=linear", "tracking.enabled=false", "evaluation.bootstrap=100")
    first = say("fit", "--local", *settings)
    folder = next(Path(line.split()[1]) for line in first.out.splitlines() if line.startswith("folder"))
    card = (folder / "README.md").read_text()
    assert "There is none." in card and "distmer run config.yaml --set data.root=FOLDER" in card
    assert "none yet: `distmer run --set" in first.out and "--workspace" not in first.out
    assert str(maps) not in (folder / "config.yaml").read_text() + card
    # a score of some folds says so
    say("run", "--local", "--fold", "flowmaps/sub02", *settings)
    part = say("fit", "--local", *settings).out
    assert ", of models that had not seen the subject, of some folds alone" in part and " ," not in part
    assert "from 1 of 4 folds" in (folder / "README.md").read_text()
    # the settings beside the card are those of the run: the same digest, and a score for the card
    ran = say("run", str(folder / "config.yaml"), "--local", "--json", *settings[:0], *_where(maps))
    assert ran.json["digest"] == json.loads((folder / MANIFEST).read_text())["run"]
    say("fit", "--local", *settings)
    card = (folder / "README.md").read_text()
    low, high = ran.json["uar_ci"]
    assert f"| pooled | {ran.json['uar']:.4f} | [{low:.4f}, {high:.4f}] |" in card
    assert "must not be used for" in card and "sub01, sub02, sub03, sub04" in card
    assert load_model(folder).manifest.score == {
        name: value for name, value in ran.json.items() if name in load_model(folder).manifest.score
    }


def _where(maps: Path) -> list[str]:
    return ["--set", f"data.root={maps}", "--set", "tracking.enabled=false"]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A file of the user's own models."""
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "kept_nets.py").write_text(OWN)
    return tmp_path / "lab" / "kept_nets.py"


def elsewhere(file: Path) -> None:
    """As in a process that has not imported the user's code, and whose import path has not its folder."""
    sys.path[:] = [path for path in sys.path if path != str(file.parent)]
    forget(file.parent)


@pytest.mark.parametrize("name", ["Net", "Holds"])
def test_a_model_of_ones_own_is_loaded_where_its_code_is_to_be_had(
    own: Path, name: str, maps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = fit_model(session(maps, tmp_path / "home", model={"name": f"{own}:{name}"}), local=True)
    assert f"PYTHONPATH={own.parent} distmer predict {kept.folder} CLIP" in fit_report(kept, "").text(
        width=400
    )
    manifest = load_model(kept.folder).manifest
    assert manifest.model["name"] == f"kept_nets:{name}" and "kept_nets" in manifest.code
    elsewhere(own)
    with pytest.raises(BadInput, match=f"kept_nets:{name}, which cannot be found here; put the folder"):
        load_model(kept.folder)
    own.write_text(OWN.replace("max_iter=200", "max_iter=20").replace("width=4", "width=5"))
    monkeypatch.syspath_prepend(str(own.parent))
    with pytest.raises(BadInput, match="another version of kept_nets; go back to the code of then"):
        load_model(kept.folder)


def test_a_model_that_keeps_its_learning_elsewhere_is_not_written(
    own: Path, maps: Path, tmp_path: Path
) -> None:
    forgets = session(maps, tmp_path / "home", model={"name": f"{own}:Forgets"})
    with pytest.raises(BadInput, match=r"loaded again, it answers otherwise .* buffers or parameters"):
        fit_model(forgets, tmp_path / "out", local=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif("torchvision" not in models(), reason="torchvision is not installed")
def test_pretrained_weights_are_needed_for_fitting_alone(maps: Path, tmp_path: Path) -> None:
    import torch

    chosen = {"name": "torchvision", "arch": "squeezenet1_1", "size": 32}
    weights = tmp_path / "pretrained.pth"
    torch.save(resolve(ModelConfig.model_validate(chosen)).build(3).state_dict(), weights)
    pretrained = session(maps, tmp_path / "home", model={**chosen, "weights": str(weights)})
    kept = fit_model(pretrained, local=True)
    weights.unlink()
    model = load_model(kept.folder)
    assert str(tmp_path) not in json.dumps(model.manifest.model)
    assert len(str(model.manifest.model["options"]["weights_sha256"])) == 64
    assert model.predict(*sorted(maps.rglob("*.png"))[:2])[0].label in model.classes


def test_a_type_that_is_not_known_is_not_made_from_a_file(own: Path) -> None:
    model = resolve(ModelConfig(name=f"{own}:Holds"))
    built = model.build(3).fit(np.random.default_rng(0).random((9, 3, 8, 8)), np.arange(9) % 3, 0)
    fitted = saved_model.Fitted(built, None, 0, {})
    assert packed(fitted, model, 3, ["kept_nets"], {})
    with pytest.raises(BadInput, match=r"it holds|holds kept_nets\.\w+, which distmer does not load"):
        packed(fitted, model, 3, (), {})


def test_the_distance_is_that_to_other_peoples_clips() -> None:
    motion_ND = np.array([[0.0, 0], [0, 0.1], [3, 4], [3, 4.5]])
    training = Training.of(motion_ND, ("a/1", "a/1", "a/2", "a/2"))
    # root mean squares: √(25 / 2) and so on; the neighbour of one's own is passed over
    squares = [9 + 16, 9 + 3.9**2, 9 + 3.9**2, 9 + 4.4**2]
    expected = np.sqrt(np.array(squares) / 2)
    np.testing.assert_allclose(training.nearest_N, expected, rtol=1e-6)
    assert training.distance(np.array([0.0, 0])) == (0, 0)
    distance, percentile = training.distance(np.array([0.0, -3.5 * np.sqrt(2)]))
    np.testing.assert_allclose([distance, percentile], [3.5, 50])
    assert training.distance(np.array([30.0, 40]))[1] == 100
