"""`distmer data new`: a manifest.csv to fill in, which the loader reads once it is filled in."""

from __future__ import annotations

import csv
from pathlib import Path

from distmer.datasets.first_manifest import COLUMNS
from tests.fixtures.dataset_loading import load
from tests.fixtures.videos import clip, write_images, write_video
from tests.saying import Say

SMALL = [frame[:32, :32] for frame in clip()]


def test_a_folder_of_clips_gets_a_manifest_that_can_be_filled_in(say: Say, tmp_path: Path) -> None:
    write_images(tmp_path / "sub10" / "day 1" / "smile", SMALL, first=46)
    write_images(tmp_path / "sub2" / "frown", SMALL[:3])
    write_video(tmp_path / "sub2" / "smile,wide.avi", SMALL, "ffv1", "bgr0")
    write_video(tmp_path / "sub2" / "frown.mov", SMALL[:5], "png", "rgb24")
    (tmp_path / "sub2" / "cut.MP4").write_bytes(b"half of it")
    write_video(tmp_path / "alone.mkv", SMALL, "ffv1", "bgr0")
    (tmp_path / "sub2" / "notes.txt").write_text("no clip")
    (tmp_path / "circle").symlink_to(tmp_path)
    said = say("data", "new", str(tmp_path))
    assert said.code == 0, said.err
    head, *rows = csv.reader((tmp_path / "manifest.csv").read_text(encoding="utf-8-sig").splitlines())
    assert tuple(head) == COLUMNS
    assert rows == [
        ["", "alone", "", "1", "", "24", "alone.mkv"],
        ["sub2", "cut", "", "", "", "", "sub2/cut.MP4"],
        ["sub2", "frown", "", "1", "", "3", "sub2/frown"],
        ["sub2", "frown_mov", "", "1", "", "5", "sub2/frown.mov"],
        ["sub2", "smile,wide", "", "1", "", "24", "sub2/smile,wide.avi"],
        ["sub10", "day 1_smile", "", "46", "", "69", "sub10/day 1/smile"],
    ]
    assert "6 clips of 2 subjects (4 videos, 2 folders of frames)" in said.out
    assert f"Clips that lie in {tmp_path} itself (1): fill in their subject too." in said.out
    assert "sub2/cut.MP4: cut.MP4: not a video that FFmpeg can read" in said.out

    again = say("data", "new", str(tmp_path))
    assert again.code == 2 and "is there already, and is not overwritten" in again.sentence
    for row in rows:
        row[0], row[2] = row[0] or "sub1", "happy" if "smile" in row[1] else "sad"
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    manifest = load("folder", tmp_path, missing_apex="midpoint")
    assert len(manifest.clips) == 5 and [f.clip for f in manifest.failures] == ["folder/sub2/cut"]


def test_where_no_manifest_can_be_begun(say: Say, tmp_path: Path) -> None:
    empty = say("data", "new", str(tmp_path))
    assert empty.code == 2 and "there is no clip below it; looked for videos (.avi" in empty.sentence
    absent = say("data", "new", str(tmp_path / "nowhere"))
    assert absent.code == 2 and "this is not a folder on this machine" in absent.sentence
