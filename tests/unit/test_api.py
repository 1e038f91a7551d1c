"""The Python API: lazy, with the digests and the bits of the command line, and with its checks."""

from __future__ import annotations

import ast
import doctest
import errno
import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import distmer as dm
from distmer.models import ModelConfig, resolve
from harness import command
from tests.fixtures.dataset_layouts import smic
from tests.saying import Say, on_maps, overrides

MINMAX = {"normalise": "minmax"}
SMALL = {"name": "atscnn", "size": 16, "hidden": 16}
BOOTSTRAP = {"bootstrap": 100}


@pytest.fixture
def clips(maps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dm.Clips:
    """12 clips of 4 subjects, and a workspace of the test's own."""
    for name in ("DISTMER_DATA", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DISTMER_HOME", str(tmp_path / "home"))
    return dm.load("flowmaps", root=maps)


def loso(clips: dm.Clips, model: Any, **more: Any) -> dm.Run:
    return dm.loso(clips, model, **{"inputs": MINMAX, "evaluation": BOOTSTRAP, "progress": False, **more})


def test_import_is_light_and_every_name_is_there() -> None:
    """In a process of its own: here everything is loaded already."""
    heavy = "numpy", "pandas", "torch", "ray", "mlflow", "sklearn", "cv2", "pydantic", "yaml", "IPython"
    program = f"""
import sys, distmer as dm
assert not set({heavy!r}) & set(sys.modules), set({heavy!r}) & set(sys.modules)
assert not [name for name in sys.modules if name.startswith("distmer.")]
import distmer.features.store, distmer.sweep.plan as plan  # packages whose names are those of functions, too
assert distmer.features.store.FeatureStore and plan.SweepPlan
for name in dm.__all__:
    assert callable(getattr(dm, name)) and name in dir(dm), name
import inspect
assert list(inspect.signature(dm.features).parameters)[:2] == ["clips", "flow"]
assert "cross-validation of your own" in dm.features.__doc__
try:
    dm.lod
except AttributeError as error:
    assert "'lod'" in str(error)
"""
    environ = {**os.environ, "PYTHONPATH": str(command.ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environ, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", sorted(set(dm._OFFERED.values()) - {"distmer.types"}))
def test_every_example_of_a_docstring_says_what_happens(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTMER_HOME", str(tmp_path))
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for example in doctest.DocTestFinder().find(importlib.import_module(module)):
        runner.run(example, out=said.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(said)
    offered = [getattr(dm, name) for name, place in dm._OFFERED.items() if place == module]
    functions = [one for one in offered if not isinstance(one, type) and one.__name__ != "distmer.sweep"]
    assert all(">>> " in str(one.__doc__) for one in functions)  # a sweep needs Ray: see tests/ray


def test_type_checkers_see_the_names_that_are_there() -> None:
    """What is imported for them alone is what is offered, from the same modules."""
    tree = ast.parse(Path(str(dm.__file__)).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == dm._OFFERED


@pytest.mark.parametrize(
    ("model", "options", "train"),
    [
        (SMALL, [f"model.{key}={value}" for key, value in SMALL.items()], {"epochs": 3, "batch_size": 8}),
        (
            ExtraTreesClassifier(n_estimators=np.int64(5), max_features=0.5),
            ["model.name=sklearn", "model.params={n_estimators: 5, max_features: 0.5}"],
            {},
        ),
    ],
)
def test_a_call_is_the_command_of_the_same_settings(
    model: Any, options: list[str], train: dict[str, Any], clips: dm.Clips, say: Say, tmp_path: Path
) -> None:
    """The same run, the same digests in the ledger, and the same bits: each trained in a workspace of its
    own."""
    run = loso(clips, model, train=train or None, seeds=(0, 7))
    settings = ["tracking.enabled=false", "evaluation.bootstrap=100", "seeds=[0, 7]", *options]
    settings += [f"train.{key}={value}" for key, value in train.items()]
    there = ["--workspace", str(tmp_path / "there")]
    ended = say("run", "--local", "--json", *there, *overrides(*on_maps(clips.data["root"]), *settings))
    assert ended.json["digest"] == run.results.digest
    assert command.ledger(tmp_path / "home").keys() == command.ledger(tmp_path / "there").keys()
    theirs = dm.open_run(ended.json["run_dir"])
    pd.testing.assert_frame_equal(
        run.predictions.to_pandas(), theirs.predictions.to_pandas(), check_exact=True
    )
    assert run.report.text().split("time")[0] in ended.out  # the command prints the same report
    again = loso(clips, model, train=train or None, seeds=[0, 7])  # nothing is trained twice
    assert again.results.seconds < run.results.fold_seconds
    assert again.results.fold_seconds == run.results.fold_seconds


def test_the_table_of_clips_names_their_frames(clips: dm.Clips, tmp_path: Path) -> None:
    maps = clips.to_pandas()
    assert [Path(map_).is_file() for (map_,) in maps["frames"]] == [True] * 12 and not maps["apex"].any()
    found = {}
    for policy in ("midpoint", "max-flow"):
        table = dm.load("smic", root=smic(tmp_path / policy), missing_apex=policy).to_pandas()
        row = table.set_index("clip").loc["smic/s11/s11_po_02"]
        assert row["frames"][0] == row["onset"] and all(Path(frame).is_file() for frame in row["frames"])
        found[policy] = [Path(frame).name for frame in (*row["frames"], row["apex"])]
    frames = [f"image{n}.bmp" for n in range(1, 6)]
    assert found == {"midpoint": [*frames, "image3.bmp"], "max-flow": [*frames, ""]}


def test_a_run_has_what_its_folder_has(clips: dm.Clips) -> None:
    run = loso(clips, "linear")
    assert run.status == "complete" and run.results.mlflow_run_id is None  # MLflow only where it is asked for
    frame = run.predictions.to_pandas()
    assert len(frame) == len(clips) == int(run.confusion.to_numpy().sum())
    right = frame["y_true"] == frame["y_pred"]
    recalls = right.groupby(frame["y_true"]).mean()
    assert run.scores.loc["pooled", "uar"] == pytest.approx(recalls.mean(), abs=1e-12)
    assert run.scores.loc["pooled", "uar_lo"] <= run.scores.loc["pooled", "uar"]
    probabilities = frame[[f"prob_{name}" for name in clips.classes]]
    assert (
        probabilities.to_numpy().argmax(1) == [clips.classes.index(name) for name in frame["y_pred"]]
    ).all()
    pictures = run.figures()
    assert set(pictures) == {"confusion", "subjects"}
    assert pictures["confusion"]._repr_png_().startswith(b"\x89PNG")
    assert "data:image/png;base64," in run._repr_html_() and "linear on flowmaps" in run._repr_html_()
    opened = dm.open_run(run.folder)
    assert opened.to_json() == run.to_json() and opened.scores.equals(run.scores)
    assert repr(opened) == repr(run) and "4 of 4 folds" in repr(run)


def test_compare_and_score_take_a_run_as_it_is(clips: dm.Clips, tmp_path: Path) -> None:
    one, other = loso(clips, "linear"), loso(clips, LogisticRegression(C=0.01))
    compared = dm.compare([one, other])
    assert list(compared.scores["uar"]) == [one.results.uar, other.results.uar]
    (pair,) = compared.pairs.to_dict("records")
    assert pair["uar_difference"] == pytest.approx(one.results.uar - other.results.uar, abs=1e-12)
    assert pair["verdict"] in repr(compared) and pair["verdict"] in compared._repr_html_()
    scored = dm.score(one.predictions.to_pandas())
    found = scored.scores.set_index(["metric", "over"])
    assert found.loc[("UAR", "pooled"), "value"] == pytest.approx(one.results.uar, abs=1e-12)
    assert found.loc[("UF1", "mean over folds"), "value"] == pytest.approx(
        one.results.uf1_foldmean, abs=1e-12
    )
    assert found.loc[("UAR", "pooled"), "floor_constant"] == pytest.approx(1 / 3)
    file = tmp_path / "others.csv"
    one.predictions.to_pandas().to_csv(file)
    assert dm.score(file).scores.equals(scored.scores)
    named = dm.compare({"theirs": file, "ours": one.folder})
    assert list(named.scores["row"]) == ["ours", "theirs"] and named.folder.parent == compared.folder.parent


def test_the_arrays_are_what_a_model_of_ours_is_given(clips: dm.Clips) -> None:
    """A cross-validation of scikit-learn's own, on our arrays and our folds, makes our predictions."""
    x, y, subjects = found = dm.features(clips, size=14, inputs=MINMAX, progress=False)
    assert x.shape == (len(clips), 3, 14, 14) and x.dtype == np.float32
    own = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
    flat = x.reshape(len(x), -1).astype(float)
    theirs = cross_val_predict(own, flat, y, groups=subjects, cv=dm.LeaveOneSubjectOut())
    ours = loso(clips, {"name": LogisticRegression(C=0.1), "size": 14}).predictions.to_pandas()
    ours = ours.set_index("clip_id").loc[list(found.clip_ids)]
    assert [clips.classes[k] for k in theirs] == list(ours["y_pred"])
    assert list(subjects) == [f"{d}/{s}" for d, s in zip(ours["dataset"], ours["subject"], strict=True)]
    only_u = dm.features(clips, size=14, channels=["u"], inputs=MINMAX, progress=False)
    assert (only_u.x_NCHW[:, 0] == x[:, 0]).all()


def test_stored_features_are_read_from_a_workspace_that_cannot_be_written(
    clips: dm.Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = dm.features(clips, inputs=MINMAX, progress=False)

    def refused(dir: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("distmer.workspace.tempfile.TemporaryFile", refused)  # tests may run as root
    assert np.array_equal(dm.features(clips, inputs=MINMAX, progress=False).x_NCHW, before.x_NCHW)


def test_folds_are_those_of_scikit_learn_with_each_subject_on_one_side() -> None:
    rng = np.random.default_rng(0)
    subjects = np.array([f"{d}/sub{s}" for d, s in rng.integers(0, 4, size=(60, 2))])
    ours = dm.make_folds(subjects)
    theirs = list(LeaveOneGroupOut().split(np.zeros(60), groups=subjects))
    assert len(ours) == len(theirs) == dm.LeaveOneSubjectOut().get_n_splits(groups=subjects)
    for (train, test), (train_, test_) in zip(ours, theirs, strict=True):
        assert (train == train_).all() and (test == test_).all()
    grouped = dm.make_folds(subjects, k=3)
    assert sorted(np.concatenate([test for _, test in grouped])) == list(range(60))
    assert all(not set(subjects[train]) & set(subjects[test]) for train, test in grouped)
    with pytest.raises(dm.BadInput, match="at least 2"):
        dm.make_folds(["a", "a"])
    with pytest.raises(dm.BadInput, match=r"dm.make_folds: k: .*greater than or equal to 2, not 1"):
        dm.make_folds(["a", "b"], k=1)
    with pytest.raises(dm.BadInput, match="groups=subjects"):
        next(dm.LeaveOneSubjectOut().split([1, 2]))


def test_an_interrupt_keeps_what_is_finished_and_says_partial(clips: dm.Clips, tmp_path: Path) -> None:
    """As a notebook's stop button: SIGINT while the third fold is trained. The same call goes on."""
    (tmp_path / "stopping_nets.py").write_text(
        "import os, signal\nfrom sklearn.dummy import DummyClassifier\nfits = []\n\n\n"
        "class Stopping(DummyClassifier):\n    def fit(self, x, y):\n        fits.append(len(x))\n"
        "        if len(fits) == 4:  # the first was the trial\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "        return super().fit(x, y)\n"
    )
    handler = signal.getsignal(signal.SIGTERM)
    model = f"{tmp_path}/stopping_nets.py:Stopping"
    run = loso(clips, model)
    assert run.status == "partial" and "PARTIAL, 2 of 4 folds" in repr(run)
    assert "PARTIAL: 2 of 4 folds are in this score" in run._repr_html_()
    assert len(run.predictions) == 6 and signal.getsignal(signal.SIGTERM) is handler
    assert loso(clips, model).status == "complete"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"train": {"epoch": 3}}, "dm.loso: train.epoch is not a setting; did you mean 'epochs'?"),
        ({"train": 3}, "dm.loso: train: input should be a mapping of settings"),
        ({"model": "linear", "train": {"epochs": 3}}, "dm.loso: train.epochs acts only where the model is a"),
        ({"model": "atscn"}, "unknown model 'atscn'; did you mean 'atscnn'?"),
        ({"model": {**SMALL, "hiden": 3}}, "model.hiden is not a setting; did you mean 'hidden'?"),
        ({"model": 3}, "not a int"),
        ({"executor": "loca"}, "dm.loso: there is no executor 'loca'; did you mean 'local'?"),
        ({"tracking": {"fold": "runs"}}, "dm.loso: tracking.fold is not a setting; did you mean 'folds'?"),
        ({"seeds": (1, 1)}, "dm.loso: seeds must be distinct"),
        ({"features": {"flow": "dis"}}, "dm.loso: features.flow.name acts only where the data are frames"),
    ],
)
def test_settings_are_checked_as_those_of_a_file(given: dict[str, Any], said: str, clips: dm.Clips) -> None:
    with pytest.raises(dm.BadInput) as raised:
        loso(clips, **{"model": SMALL, **given})
    assert said in str(raised.value) and "\n" not in str(raised.value)
    assert raised.value._render_traceback_() == [f"BadInput: {raised.value}"]  # all that a notebook shows


def test_what_cannot_be_loaded_compared_or_scored_is_one_sentence(clips: dm.Clips, tmp_path: Path) -> None:
    for act, said in (
        (lambda: dm.load("flowmap"), "there is no protocol 'flowmap'; did you mean 'flowmaps'?"),
        (lambda: dm.load("flowmaps", rot="x"), "dm.load: data.rot is not a setting; did you mean 'root'?"),
        (lambda: dm.load("flowmaps", root=tmp_path / "no"), "is not there"),
        (lambda: dm.features(clips, channels=["w"], inputs=MINMAX, progress=False), "channel 'w'"),
        (lambda: dm.features(clips, progress=False), "set inputs.normalise=minmax"),
        (lambda: dm.loso("flowmaps"), "dm.loso: clips is 'flowmaps'; give what dm.load returns"),  # type: ignore[arg-type]
        (lambda: dm.features([1]), "dm.features: clips is an object of the type list; give"),  # type: ignore[arg-type]
        (lambda: dm.compare([tmp_path, tmp_path]), "no finished run lies here"),
        (lambda: dm.compare([tmp_path]), "at least two runs"),
        (lambda: dm.open_run(tmp_path), "no finished run lies here"),
        (lambda: dm.score(pd.DataFrame({"clip": ["a"]})), "the column subject, y_true, y_pred is missing"),
    ):
        with pytest.raises(dm.BadInput, match=said):
            act()


def test_an_option_of_a_setting_reaches_the_model(clips: dm.Clips) -> None:
    run = loso(clips, {**SMALL, "hidden": 8}, train={"epochs": 1, "loss": "balanced"})
    assert run.results.options == resolve(ModelConfig.model_validate({**SMALL, "hidden": 8})).spec["options"]


def hits_of(confusion_xKK: Any) -> Any:
    """The share of right predictions."""
    return np.trace(confusion_xKK, axis1=-2, axis2=-1) / confusion_xKK.sum((-2, -1))


def test_a_score_takes_metrics_by_name_and_as_functions(clips: dm.Clips) -> None:
    frame = loso(clips, "linear").predictions.to_pandas()
    both = dm.score(frame, metrics=["accuracy", hits_of]).scores
    values = [value for value, over in zip(both["value"], both["over"], strict=True) if over == "pooled"]
    assert values[-1] == values[-2] == (frame["y_true"] == frame["y_pred"]).mean()
    found = dm.score(frame, metrics=["uar", {"name": "uf1"}]).scores
    assert [name for name, over in zip(found["metric"], found["over"], strict=True) if over == "pooled"] == [
        "UAR",
        "UF1",
    ]
    with pytest.raises(dm.BadInput, match="did you mean 'uar'"):
        dm.score(frame, metrics=["uarr"])
