"""What is noticed of a clip reaches the user: in what `distmer features` prints, and in the run folder's
clips.csv."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import skimage

from distmer.cluster.backend import RayBackend
from distmer.experiment.local import LocalBackend
from distmer.experiment.plan import build_plan
from distmer.experiment.prepare import extract_missing, locate
from distmer.models import resolve
from distmer.report.run_folder import begin_folder
from distmer.types import ApexSearch, Clip, KeyFrames, Manifest
from harness import toy
from tests.saying import Say, home, settings


def frames(folder: Path, faces: int) -> list[str]:
    """Three frames of a portrait, or of several side by side, that moves a little more each time."""
    portrait_HW = cv2.imread(
        str(Path(skimage.__file__).parent / "data" / "astronaut.png"), cv2.IMREAD_GRAYSCALE
    )
    assert portrait_HW is not None
    scene_HW = np.hstack([portrait_HW[:300, 60:360]] * faces)
    folder.mkdir(parents=True)
    for n in range(3):
        moved_HW = scene_HW.copy()
        moved_HW[140 + n : 240 + n] = scene_HW[140:240]
        cv2.imwrite(str(folder / f"{n}.png"), moved_HW)
    return [str(folder / f"{n}.png") for n in range(3)]


def test_features_tells_of_two_faces_and_the_run_folder_keeps_it(say: Say, tmp_path: Path) -> None:
    rows = ["subject,clip,label,onset,apex"]
    for n, faces in enumerate((1, 2, 1, 2)):
        frames(tmp_path / "own" / f"f{n}", faces)
        rows.append(f"p{n % 2},c{n},{'ab'[n // 2]},f{n}/0.png,f{n}/{n % 3}.png")
    (tmp_path / "own" / "manifest.csv").write_text("\n".join(rows))
    chosen = settings("data.protocol=folder", f"data.root={tmp_path / 'own'}")
    told = say("features", "--local", *chosen)
    assert told.code == 0, told.err
    notes = [line for line in told.out.splitlines() if line.startswith("note: ")]
    assert sum("2 faces found in 0.png, the best-scoring one is used" in note for note in notes) == 2
    assert say("run", "--local", *chosen).code == 0
    (kept,) = home(tmp_path).glob("runs/*/clips.csv")
    clips = {row["clip"].split("/")[-1]: row for row in csv.DictReader(kept.open())}
    assert {name: (row["subject"].split("/")[-1], row["label"]) for name, row in clips.items()} == {
        "c0": ("p0", "a"), "c1": ("p1", "a"), "c2": ("p0", "b"), "c3": ("p1", "b"),
    }  # fmt: skip
    assert (
        "2 faces found" in clips["c1"]["note"]
        and clips["c0"]["note"] == "apex = onset; implausible: onset and apex are the same picture"
        and clips["c2"]["note"] == ""
    )


class Starting(LocalBackend):
    def starting(self, clips: int) -> str:
        return "starting Ray"


def test_the_chosen_apex_is_kept(tmp_path: Path) -> None:
    one, two = frames(tmp_path / "one", 1), frames(tmp_path / "two", 1)
    sources = [ApexSearch(one[0], tuple(one[1:])), KeyFrames(two[0], two[1])]
    clips = tuple(Clip("d", f"s{n}", "c", n, "happiness", source, "row") for n, source in enumerate(sources))
    config = toy.config(
        "linear", features={"size": 32, "flow": "dis"}, evaluation={"folds": "group_kfold", "k": 2}
    )
    manifest = Manifest("own", ("a", "b"), clips)
    found = locate(manifest, tmp_path / "features", config.features)
    steps: list[Any] = []
    features = extract_missing(manifest, found, config.features, Starting(), [steps.append])
    assert [(step.what, step.done, step.total) for step in steps] == [
        ("starting Ray", 0, 1),
        ("extracting features", 2, 2),
    ]
    ray = RayBackend(config.cluster, "")
    assert (ray.starting(100), ray.starting(99)) == ("starting Ray", "")  # few clips do not need it
    extract_missing(manifest, features, config.features, Starting(), [steps.append])
    assert [step.what for step in steps[2:]] == ["extracting features"]  # nothing is missing
    begin_folder(
        tmp_path / "run",
        build_plan(config, manifest, resolve(config.model), features.keys, features.failures),
        features.stored,
    )
    rows = list(csv.DictReader((tmp_path / "run" / "clips.csv").open()))
    assert [(row["clip"], row["apex"]) for row in rows] == [("d/s0/c", "2.png"), ("d/s1/c", "")]
