"""What a kept model says of a new clip: where the face moved, which frame is the apex, who was in the
training, and why there is no answer."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from distmer.saved.answers import Answer
from distmer.saved.model import load_model
from distmer.types import BadInput
from harness import toy
from tests.fixtures.moving_face import FACE, POINTS, fit_to, moved, save, write_clips
from tests.saying import Say


@pytest.fixture(scope="module")
def own_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module")
def kept(own_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit_to(own_clips, tmp_path_factory.mktemp("answers"))


@pytest.fixture
def rising(tmp_path: Path) -> Path:
    """A clip of 6 frames whose mouth is highest in the 4th."""
    for number, amplitude in enumerate((0, 0.7, 1.4, 2.1, 1.2, 0.4), start=1):
        save(tmp_path / "rising" / f"img{number}.png", moved("mouth", amplitude))
    return tmp_path / "rising"


def one(kept: Path, *inputs: Any, **how: str) -> Answer:
    (found,) = load_model(kept).predict(*inputs, **how)
    return found


def test_the_region_that_moved_is_named_and_the_motion_is_measured_in_px(
    kept: Path, own_clips: Path, tmp_path: Path
) -> None:
    still = save(tmp_path / "still.png", FACE)
    a_crop_px = 0.4 * 63 / np.hypot(*(POINTS[[36, 39]].mean(axis=0) - POINTS[[42, 45]].mean(axis=0)))
    for where, region in (("brow", "brows"), ("mouth", "mouth and cheeks")):
        largest: list[float] = []
        for px in (1.5, 3.0):
            motion = one(kept, still, save(tmp_path / f"{where}{px}.png", moved(where, px))).motion
            assert motion is not None and motion.most == region
            # the crop's low-pass and the flow's own smoothness take the top off a narrow bump
            np.testing.assert_allclose(motion.largest, px * a_crop_px, rtol=0.35)
            assert 0 < motion.mean < motion.largest
            largest.append(motion.largest)
        np.testing.assert_allclose(largest[1] / largest[0], 2, rtol=0.15)
    motion = one(kept, still, still).motion
    assert motion is not None and motion.largest < 0.05


def test_a_clip_of_the_training_is_told(kept: Path, own_clips: Path) -> None:
    found = load_model(kept).predict(own_clips)
    assert len(found) == 12 and {answer.seen for answer in found} == {"folder/p0", "folder/p1", "folder/p2"}
    assert all(answer.distance == 0 and answer.percentile == 0 and not answer.unlike for answer in found)
    assert all("this very clip was in the training" in answer.notes for answer in found)
    assert [answer.label for answer in found] == [answer.given for answer in found]
    assert all(abs(sum(answer.probabilities.values()) - 1) < 1e-9 for answer in found)


def test_a_subject_of_the_same_name_elsewhere_is_another_one(
    kept: Path, own_clips: Path, tmp_path: Path
) -> None:
    save(tmp_path / "a.png", FACE)
    save(tmp_path / "b.png", moved("brow", 2))
    (tmp_path / "manifest.csv").write_text(
        "dataset,subject,clip,label,onset,apex\nelsewhere,p0,c,?,a.png,b.png\nfolder,p0,c,,a.png,b.png\n"
    )
    assert [answer.seen for answer in load_model(kept).predict(tmp_path / "manifest.csv")] == [
        "",
        "folder/p0",
    ]


def test_the_apex_is_the_frame_of_largest_motion_unless_it_is_given(kept: Path, rising: Path) -> None:
    found = one(kept, rising)
    assert (found.onset, found.apex) == ("img1.png", "img4.png")
    assert any("largest face motion" in note for note in found.notes)
    given = one(kept, rising, onset="2", apex="img5.png")
    assert (given.onset, given.apex) == ("img2.png", "img5.png") and not given.notes
    late = one(kept, rising, onset="5")
    assert (late.onset, late.apex) == ("img5.png", "img6.png")
    assert one(kept, rising, onset="4", apex="2").reason.startswith(f"{rising}: the apex 2 comes before")
    assert "its frames are 1 to 6" in one(kept, rising, onset="9").reason
    assert "img4.png" in one(kept, rising, apex="img4.jpg").reason
    assert "no frame comes after the onset" in one(kept, rising, onset="6").reason


def test_a_model_of_sequences_is_asked_about_folders_as_about_rows(tmp_path: Path) -> None:
    lines = ["subject,clip,label,path,onset,apex,offset"]
    for number, (person, where) in enumerate((p, w) for p in "abc" for w in ("brow", "mouth")):
        for frame, px in enumerate((0, 1, 2 + number / 5, 1), start=1):
            save(tmp_path / f"{number}" / f"img{frame}.png", moved(where, px))
        lines.append(f"{person},{number},{where},{number},1,3,4")
    (tmp_path / "manifest.csv").write_text("\n".join(lines) + "\n")
    sequence = [
        "model.name=flow_gru",
        "model.frames=3",
        "model.size=8",
        "features.frames=3",
        "train.epochs=1",
    ]
    model = fit_to(tmp_path, tmp_path / "home", *sequence)
    (row, *_), folder = load_model(model).predict(tmp_path), tmp_path / "0"
    assert row.label and one(model, folder, onset="1", apex="3").probabilities == row.probabilities
    assert one(model, folder).probabilities == row.probabilities  # the same frames, and the same apex
    pair = one(model, str(folder / "img1.png"), str(folder / "img3.png"))
    assert "needs the frames between onset and offset" in pair.reason


def test_a_video_is_answered_for_as_its_frames_are(kept: Path, rising: Path, tmp_path: Path) -> None:
    frames = [cv2.imread(str(rising / f"img{number}.png")) for number in range(1, 7)]
    height, width = frames[0].shape[:2]
    lossless = cv2.VideoWriter.fourcc(*"FFV1")
    video = cv2.VideoWriter(str(tmp_path / "clip.avi"), lossless, 50, (width, height))
    for frame_HW3 in frames:
        video.write(frame_HW3)
    video.release()
    found, expected = one(kept, tmp_path / "clip.avi"), one(kept, rising)
    assert (found.onset, found.apex) == ("clip.avi#1", "clip.avi#4")
    assert found.label == expected.label
    assert found.probabilities == pytest.approx(expected.probabilities, abs=0.05)
    assert one(kept, tmp_path / "clip.avi", apex="3").apex == "clip.avi#3"


def test_a_clip_unlike_the_training_is_called_so(kept: Path, tmp_path: Path) -> None:
    still = save(tmp_path / "still.png", FACE)
    far = one(kept, still, save(tmp_path / "far.png", moved("mouth", 14)))
    assert far.unlike and far.percentile == 100
    near = one(kept, still, save(tmp_path / "near.png", moved("mouth", 1.8)))
    assert near.percentile is not None and near.percentile < 60 and not near.unlike


def test_several_faces_are_noticed(kept: Path, tmp_path: Path) -> None:
    both = [np.hstack([moved("mouth", amplitude)] * 2) for amplitude in (0, 2)]
    found = one(kept, *(save(tmp_path / f"both{i}.png", both[i]) for i in (0, 1)))
    assert found.label and any(note.startswith("2 faces found in both0.png") for note in found.notes)


def test_one_bad_input_never_ends_the_others(say: Say, kept: Path, rising: Path, tmp_path: Path) -> None:
    grey = np.full((120, 120), 127, np.uint8)
    small = cv2.resize(FACE, (40, 40), interpolation=cv2.INTER_AREA)
    for number in (1, 2):
        save(tmp_path / "no-face" / f"img{number}.png", grey)
        save(tmp_path / "small" / f"img{number}.png", small)
        save(tmp_path / "broken" / f"img{number}.png", FACE)
    save(tmp_path / "lone" / "img1.png", FACE)
    (tmp_path / "broken" / "img2.png").write_bytes(b"\x89PNG cut short")
    (tmp_path / "empty").mkdir()
    (tmp_path / "clip.txt").write_text("no clip")
    (tmp_path / "clip.avi").write_bytes(b"RIFF cut short")
    reasons = {
        "no-face": "no face found",
        "absent": "there is no such file or folder",
        "small": "no face found",
        "broken": "img2.png: not an image",
        "lone": "no frame comes after the onset",
        "empty": "holds no numbered image",
        "clip.txt": "it is no folder of frames, no video and no manifest.csv",
        "clip.avi": "not a video that FFmpeg can read",
    }
    inputs = [str(tmp_path / name) for name in reasons]
    ended = say("predict", str(kept), *inputs[:3], str(rising), *inputs[3:], "--json")
    rows = [json.loads(line) for line in ended.out.splitlines()]
    assert (ended.code, len(rows)) == (3, 9)
    assert [row["reason"] is None for row in rows] == [
        path == str(rising) for path in [r["clip"] for r in rows]
    ]
    for row in rows:
        if row["reason"]:
            assert reasons[Path(row["clip"]).name] in row["reason"]
            assert row["label"] is None and row["probabilities"] is None
            assert row["reason"].count(". ") == 0, "one sentence"
    assert say("predict", str(kept), *inputs).code == 2
    assert "no answer: 8" in say("predict", str(kept), *inputs).out
    assert say("predict", str(kept), str(rising)).code == 0


def test_no_remedy_is_a_setting_which_predict_does_not_have(
    say: Say, kept: Path, rising: Path, tmp_path: Path
) -> None:
    own, sheet = tmp_path / "own", tmp_path / "own" / "manifest.csv"
    own.mkdir()
    (own / "linked").symlink_to(rising)
    for heading, remedy in (
        ("subject,clip,label,onset,apex,path", "put the files themselves there, in place of the link"),
        ("subject,clip,emotion_of_it,onset,apex,path", "rename the column"),
        ("subject,clip,label,onset,onset,apex,path", "delete all but one"),
        ("who,what,which,when,until,where", "Rename its columns if they are called otherwise"),
    ):
        sheet.write_text(f"{heading}\n{'x,' * (heading.count(',') - 2)}1,2,linked\n")
        for command in (["predict"], ["explain"]):
            refused = say(*command, str(kept), str(sheet))
            told = refused.out + refused.err
            assert refused.code == 2 and remedy in told and "data." not in told, told
    grey = save(tmp_path / "grey.png", np.full((120, 120), 127, np.uint8))
    for command in (["predict"], ["explain"]):
        refused = say(*command, str(kept), str(grey), str(grey))
        assert "features.detector_side is the model's own: fit again" in refused.out + refused.err
        nowhere = say(*command, str(kept), str(grey), str(grey), "--landmarks", "nowhere.dat")
        assert nowhere.code == 2 and "(here by --landmarks FILE)" in nowhere.sentence


def test_the_csv_has_a_row_a_clip(say: Say, kept: Path, own_clips: Path, rising: Path) -> None:
    ended = say("predict", str(kept), str(own_clips), str(rising), "--csv")
    rows = list(csv.DictReader(io.StringIO(ended.out)))
    assert len(rows) == 13 and rows[0]["seen_in_training"] == "folder/p0" and rows[12]["apex"] == "img4.png"
    assert abs(sum(float(rows[12][f"prob_{name}"]) for name in ("brow", "mouth")) - 1) < 1e-9


def test_labels_of_other_classes_are_told_and_no_name_does_anything_in_the_page(
    say: Say, kept: Path, tmp_path: Path
) -> None:
    save(tmp_path / "a.png", FACE)
    save(tmp_path / "b.png", moved("brow", 2))
    rows = ["subject,clip,label,onset,apex", "x,one,<script>alert(1)</script>,a.png,b.png"]
    rows += ["x,two,brow,a.png,b.png", "x,three,?,a.png,b.png", "x,four,fear,a.png,gone.png"]
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    told = "labels of the manifest that are none of the model's classes: <script>alert(1)</script>, fear;"
    assert told in say("predict", str(kept), str(tmp_path / "manifest.csv")).out
    page = say("predict", str(kept), str(tmp_path / "manifest.csv"), "--html").out
    assert page.startswith("<!doctype html>") and "<script>alert" not in page
    assert "none of the model&#39;s classes: &lt;script&gt;alert(1)" in page and "no answer: 1" in page


def test_inputs_that_say_nothing_are_refused(kept: Path, rising: Path, tmp_path: Path) -> None:
    frame = str(rising / "img1.png")
    for inputs, how, words in (
        ([frame], {}, "two image files, the onset and then the apex"),
        ([frame, frame, frame], {}, "two image files"),
        ([frame, rising], {}, "two image files"),
        ([rising, rising], {"apex": "2"}, "give one folder of frames alone"),
        ([], {}, "nothing to answer for"),
    ):
        with pytest.raises(BadInput, match=words):
            load_model(kept).predict(*inputs, **how)


def test_a_model_of_flow_maps_answers_for_maps(say: Say, maps: Path, kept: Path, tmp_path: Path) -> None:
    settings = toy.settings(maps, "model.name=linear", "tracking.enabled=false", "evaluation.bootstrap=100")
    say("fit", "--local", *settings, "--out", str(tmp_path / "model"))
    images = sorted(maps.rglob("*.png"))
    found = load_model(tmp_path / "model").predict(*images, images[0].parent)
    assert len(found) > len(images) and all(answer.distance == 0 for answer in found)
    assert all(answer.motion is None for answer in found)
    wrong = one(tmp_path / "model", save(tmp_path / "grey.png", np.zeros((9, 9), np.uint8)))
    assert "a flow map has three channels" in wrong.reason
