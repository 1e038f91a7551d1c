"""`distmer data look`: every clip on one page, its troubles named, nothing loaded and nothing sent."""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from distmer.experiment.comparison import Comparison
from distmer.features.pictures import flow_colours, heat
from distmer.report.comparison import LOOK, hard_frame
from harness import toy
from tests.fixtures.videos import clip, write_images, write_video
from tests.saying import Say, overrides

FACE = clip(24, 320, 240)


class Rows(HTMLParser):
    """What the rows of a page say of themselves, and the text in them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: dict[str, dict[str, str]] = {}
        self.pictures: dict[str, int] = {}
        self.texts: dict[str, str] = {}
        self._at = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        facts = {name.removeprefix("data-"): value or "" for name, value in attrs}
        if tag == "article":
            self._at = facts["text"]
            self.rows[self._at] = facts
            self.texts[self._at], self.pictures[self._at] = "", 0
        elif tag == "figure" and self._at:
            self.pictures[self._at] += 1

    def handle_data(self, data: str) -> None:
        if self._at:
            self.texts[self._at] += data


@pytest.fixture
def own(tmp_path: Path) -> list[str]:
    """One person with clips of every trouble, and two more with a sound one."""
    root = tmp_path / "own"
    write_images(root / "good", FACE)
    write_video(root / "film.mkv", FACE, "ffv1", "bgr0")
    write_images(root / "wall", [np.full_like(FACE[0], 90)] * 2)
    write_images(root / "late", [FACE[0], FACE[16], FACE[17], FACE[0] + 1])
    near = [cv2.resize(frame, None, fx=1.6, fy=1.6) for frame in FACE[:17:8]]
    write_images(root / "near", near)
    write_images(root / "two", [np.hstack([frame, frame]) for frame in FACE[:17:8]])
    rows = ["subject,clip,label,onset,apex,path"]
    rows += ["p1,good,happy,1,17,good", "p1,film,happy,1,17,film.mkv", "p1,same,happy,1,1,good"]
    rows += ["p1,wall,sad,1,2,wall", "p1,late,sad,1,4,late", "p1,near,sad,1,3,near", "p1,two,sad,1,3,two"]
    rows += ["p1,none,sad,1,99,good", "p2,good,sad,1,17,good", "p3,<b>,<script>alert(1)</script>,1,9,good"]
    (root / "manifest.csv").write_text("\n".join(rows) + "\n")
    return ["data.protocol=folder", f"data.root={root}", "features.flow=dis", "features.detector_side=640"]


def test_the_page_shows_every_clip_and_names_its_trouble(say: Say, own: list[str], tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    said = say("data", "look", "--local", "--to", str(target), *overrides(*own))
    assert said.code == 0, said.err
    assert said.out.startswith(f"{target}: 10 clips, 6 of them with trouble, ")
    page = Rows(target.read_text(encoding="utf-8"))
    troubles = {name.removeprefix("folder/"): row["trouble"] for name, row in page.rows.items()}
    assert troubles == {
        "p1/none": "unusable",
        "p1/film": "",
        "p1/good": "",
        "p1/late": "apex",
        "p1/near": "eyes",
        "p1/same": "pair",
        "p1/two": "faces",
        "p1/wall": "unusable",
        "p2/good": "",
        "p3/<b>": "",
    }
    assert {name: page.pictures[name] for name in ("folder/p1/good", "folder/p1/wall", "folder/p1/none")} == {
        "folder/p1/good": 5,
        "folder/p1/wall": 1,
        "folder/p1/none": 0,
    }
    assert re.search(r"the apex has moved by 0\.\d\d px on average, the frame", page.texts["folder/p1/late"])
    assert re.search(r"eyes lie \d+ px apart, in the subject's other clips \d+", page.texts["folder/p1/near"])
    assert "onset and apex are the same picture." in page.texts["folder/p1/same"]
    assert "onset film.mkv#1" in page.texts["folder/p1/film"]
    assert "img1.png: no face found" in page.texts["folder/p1/wall"]


def test_an_apex_is_compared_with_the_frame_that_has_moved_most(
    say: Say, own: list[str], tmp_path: Path
) -> None:
    target = tmp_path / "page.html"
    manifest = tmp_path / "own" / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("p2,good,sad,1,17,good", "p2,good,sad,1,12,good"))
    said = say("data", "look", "--local", "--spot", "--to", str(target), *overrides(*own))
    assert said.code == 0, said.err
    page = Rows(target.read_text(encoding="utf-8"))
    for name in ("p1/good", "p1/film"):  # the mouth is highest in frame 17, of images and of a video
        assert "no frame has moved more than the apex" in page.texts[f"folder/{name}"]
    assert "frame 17 has moved most, 5 frames after the annotated apex" in page.texts["folder/p2/good"]
    assert "frame 2 has moved most, 2 frames before the annotated apex" in page.texts["folder/p1/late"]
    assert "7 clips; 5 within 2 frames." in target.read_text(encoding="utf-8")


def test_the_list_of_always_wrong_clips_is_looked_at_as_a_comparison_says(
    say: Say, own: list[str], tmp_path: Path
) -> None:
    columns = hard_frame(Comparison("c", (), ())).columns
    wrong = tmp_path / "always_wrong.csv"
    row = {"clip": "folder/p2/good", "class": "sad", "answers": "happy 2, sad 1", "motion_px": 0.3}
    pd.DataFrame([row], columns=columns).to_csv(wrong, index=False)
    program, *words = shlex.split(LOOK.replace("TABLES", str(tmp_path)))
    assert program == "distmer" and words[2] == "RUN/config.yaml"
    target = tmp_path / "page.html"
    said = say(*words[:2], *words[3:], "--local", "--to", str(target), *overrides(*own))
    assert said.code == 0, said.err
    page = Rows(target.read_text(encoding="utf-8"))
    assert list(page.rows) == ["folder/p2/good"]
    assert "no frame has moved more than the apex" in page.texts["folder/p2/good"]


def test_the_page_loads_and_runs_nothing_of_others(say: Say, own: list[str], tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    say("data", "look", "--local", "--to", str(target), *overrides(*own))
    page = target.read_text(encoding="utf-8")
    assert "alert(1)" in page and page.count("<script>") == 1  # the label is text, and the script ours
    assert not re.search(r"""(?:src|href|action)="(?!data:image/jpeg;base64,)""", page)
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "")
    script = page.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None and f"script-src 'sha256-{digest}'" in unescape(policy[1])
    assert unescape(policy[1]).startswith("default-src 'none'")
    assert len(page) < 10 * 60 * 2**20 / 442  # 442 clips: below 60 MB


def test_where_the_page_lies_and_what_of_maps_it_shows(say: Say, tmp_path: Path) -> None:
    maps = toy.write_flowmaps(tmp_path / "maps", subjects=2, each=3)
    said = say("data", "look", "--local", *overrides("data.protocol=flowmaps", f"data.root={maps}"))
    target = tmp_path / "home" / "look" / "flowmaps.html"
    assert said.code == 0 and said.out.startswith(f"{target}: 6 clips, 0 of them with trouble"), said.err
    page = Rows(target.read_text(encoding="utf-8"))
    assert set(page.pictures.values()) == {3}


def test_a_page_of_faces_is_not_uploaded(say: Say, own: list[str], remote: str) -> None:
    said = say("data", "look", "--local", "--workspace", remote, *overrides(*own))
    assert said.code == 2
    assert "the page shows faces and is not uploaded; name a file on this machine by --to" in said.sentence


def test_flow_has_a_colour_for_each_direction() -> None:
    """Right red, left cyan, no motion white; beyond the reach no stronger."""
    flow_HW2 = np.array([[[2, 0], [-2, 0], [0, 0], [9, 0], [1, 0]]], np.float32)
    assert flow_colours(flow_HW2, 2.0).tolist() == [
        [[255, 0, 0], [0, 255, 255], [255, 255, 255], [255, 0, 0], [255, 128, 128]]
    ]
    bright = heat(np.array([[0, 0.15, 0.3, 9]], np.float32), 0.3).sum(-1)[0]
    assert bright[0] < bright[1] < bright[2] == bright[3]
