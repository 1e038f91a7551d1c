"""Pairs that cannot be one: told, counted, and left out where that is asked for."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from distmer.features.plausible import doubt, doubt_in
from tests.fixtures.videos import clip, write_images
from tests.saying import Say, overrides, run

FACE = clip()


@pytest.fixture
def own(tmp_path: Path) -> list[str]:
    """Three people with two sound clips each, and three clips of a pair that cannot be one."""
    root = tmp_path / "own"
    write_images(root / "face", FACE)
    cv2.imwrite(str(root / "black.png"), np.zeros_like(FACE[0]))
    cv2.imwrite(str(root / "copy.png"), FACE[0])
    cv2.imwrite(str(root / "other.png"), np.ascontiguousarray(np.roll(FACE[0], 25, 1)))
    rows = ["subject,clip,label,onset,apex"]
    for n in (1, 2, 3):
        rows += [f"p{n},a,happy,face/img1.png,face/img17.png", f"p{n},b,sad,face/img1.png,face/img9.png"]
    rows += [
        f"p{n},{name},sad,face/img1.png,{name}.png" for n, name in enumerate(("black", "copy", "other"), 1)
    ]
    (root / "manifest.csv").write_text("\n".join(rows) + "\n")
    return ["data.protocol=folder", f"data.root={root}", "features.size=64", "features.flow=dis"]


def test_they_are_noted_and_counted(say: Say, own: list[str]) -> None:
    said = run(say, *own)
    assert (said.code, said.json["clips_used"], said.json["clips_expected"]) == (0, 9, 9)
    warnings = [line for line in said.log if "cannot be a pair" in line]
    assert len(warnings) == 1
    assert warnings[0].startswith(
        "3 of 9 clips have an onset and an apex that cannot be a pair (the first is"
    )
    notes = {
        row["clip"]: row["note"] for row in csv.DictReader((Path(said.json["run_dir"]) / "clips.csv").open())
    }
    assert {name: note for name, note in notes.items() if "implausible" in note}.keys() == {
        "folder/p1/black",
        "folder/p2/copy",
        "folder/p3/other",
    }
    assert notes["folder/p2/copy"] == "implausible: onset and apex are the same picture"
    assert notes["folder/p1/black"] == "implausible: the apex is black"
    assert "px on average, as if the apex were of another person" in notes["folder/p3/other"]
    assert said.json["implausible"] == 3 and said.json["notes"] == {
        "implausible: the apex is black": 1,
        "implausible: onset and apex are the same picture": 1,
        "implausible: the face moves too far": 1,
    }
    report = (Path(said.json["run_dir"]) / "report.md").read_text()
    page = (Path(said.json["run_dir"]) / "report.html").read_text()
    for text in (report, page):
        assert "3 with an implausible pair; 1 × implausible: the apex is black" in text
    again = run(say, *own)  # from the store
    assert [line for line in again.log if "cannot be a pair" in line] == warnings


def test_they_fail_where_that_is_asked_for(say: Say, own: list[str]) -> None:
    noted = run(say, *own)
    said = run(say, *own, "data.implausible=fail")
    assert (said.code, said.json["clips_used"], said.json["clips_expected"]) == (0, 6, 9)
    assert said.json["implausible"] == 0 and said.json["notes"] == {}
    reasons = {row["clip"]: row["reason"] for row in said.json["failed"]}
    assert reasons["folder/p2/copy"] == (
        "manifest.csv row 9: onset and apex are the same picture; correct the sheet, or set data.implausible"
        " to note."
    )
    assert said.json["run_dir"] != noted.json["run_dir"] and not any(
        "cannot be a pair" in x for x in said.log
    )
    first = say("features", "--local", *overrides(*own, "features.size=32", "data.implausible=fail"))
    assert first.out.count("not usable: ") == 3  # also where they are extracted just now


def test_a_still_clip_is_no_doubt() -> None:
    onset_HW = np.random.default_rng(0).integers(0, 255, (128, 128), np.uint8)
    apex_HW = onset_HW.copy()
    apex_HW[0, 0] ^= 1
    still = np.zeros((128, 128, 2), np.float32)
    assert doubt(onset_HW, apex_HW, still) == ""
    assert "same picture" in doubt(onset_HW, onset_HW.copy(), still)
    assert "blank" in doubt(onset_HW, np.full_like(onset_HW, 120), still)
    moved = still + np.float32(2.2)  # 3.1 px
    assert "3.1 px on average" in doubt(onset_HW, apex_HW, moved)
    assert doubt(onset_HW, apex_HW, moved * np.float32(0.9)) == ""
    assert doubt_in("2 faces found; implausible: the apex is black") == "the apex is black"
