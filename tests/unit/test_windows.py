"""A long video is looked at window by window; frames are named by their times; a video that is not as it
should be is one sentence."""

from __future__ import annotations

import csv
import io
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distmer.features.video import Index
from distmer.saved.answers import Answer
from distmer.saved.measured import Motion
from distmer.saved.model import SavedModel, load_model
from distmer.saved.windows import candidates, spans_of
from distmer.types import BadInput
from tests.fixtures.moving_face import fit_to, moved, write_clips
from tests.fixtures.videos import clip, write_video
from tests.saying import Say

RATE = 25  # frames a second
PEAKS = {"mouth": (1.0, 3.0), "brow": (2.6, 2.0)}  # where the skin moves: when, s, and how far, px


def frame(seconds: float) -> np.ndarray:
    """Of a face that moves twice, for .2 s before and after each peak."""
    for where, (peak, amplitude) in PEAKS.items():
        if abs(seconds - peak) < 0.2:
            return moved(where, amplitude * (1 - abs(seconds - peak) / 0.2))
    return moved("mouth", 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit_to(write_clips(tmp_path_factory.mktemp("own")), tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def model(folder: Path) -> SavedModel:
    return load_model(folder)


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = [frame(n / RATE) for n in range(4 * RATE)]
    path = tmp_path_factory.mktemp("long") / "long.mkv"
    return write_video(path, images, "ffv1", "gray", rate=RATE)


def test_the_intervals_of_most_motion_come_first_and_none_overlaps(
    model: SavedModel, long_video: Path
) -> None:
    found = model.candidates(long_video, seconds=0.8, step=0.4)
    regions = [one.motion.most for one in found if one.motion]
    assert regions[:2] == ["mouth and cheeks", "brows"] and len(regions) == len(found)
    for one, (peak, _) in zip(found, PEAKS.values(), strict=False):
        assert one.interval is not None and one.interval[0] < peak < one.interval[1]
        assert one.apex == f"long.mkv#{round(peak * RATE) + 1}"
    assert found[0].label == "mouth" and found[1].label == "brow"
    means = [one.motion.mean for one in found if one.motion]
    assert means == sorted(means, reverse=True) and means[1] > 3 * means[2]
    spans = sorted(one.interval or (0, 0) for one in found)
    assert all(a[1] < b[0] for a, b in pairwise(spans))


def test_the_table_calls_them_candidates_and_the_csv_has_their_seconds(
    say: Say, folder: Path, long_video: Path
) -> None:
    asked = ["predict", str(folder), str(long_video), "--windows", "0.8", "--step", "0.4"]
    told = say(*asked)
    assert told.code == 0 and "candidate, s" in told.out and "no spotted expressions" in told.out
    # the same times, written in other ways
    same = ["predict", str(folder), str(long_video), "--windows", "800ms", "--step", "0.4s"]
    assert say(*same).out == told.out
    other = ["predict", str(folder), str(long_video), "--windows", "0.8 s", "--step", "400 ms"]
    rows = list(csv.DictReader(io.StringIO(say(*other, "--csv").out)))
    assert rows[0]["label"] == "mouth" and float(rows[0]["start_s"]) < 1.0 < float(rows[0]["end_s"]) + 0.05
    many = say("predict", str(folder), str(long_video), "--windows", "0.12", "--local")
    assert "intervals of less motion: --csv lists them" in many.out and many.out.count("long.mkv#") == 20
    for more, sentence in (
        (["--onset", "3"], "leave --onset and --apex out"),
        (["--step", "2"], "a step longer than a window would leave out frames"),
        (["--step", "1e-9"], "a step from 0.001 on"),
        (["--windows", "-1"], "both are seconds above 0"),
        (["--windows", "nan"], "both are seconds above 0"),
        (["--windows", "half a second"], "'half a second' is not a time; write seconds, or 0.5s or 500ms"),
        (["--step", "1 min"], "--step '1 min' is not a time"),
        (["--csv", "--json"], "three forms of one output; choose one"),
    ):
        refused = say(*asked, *more)
        assert refused.code == 2 and sentence in refused.sentence
    whole = say("predict", str(folder), str(long_video), "--windows", "3600")
    assert "s long, shorter than a window" in whole.out
    alone = say("predict", str(folder), str(long_video), "--step", "1")
    assert alone.code == 2 and "give --windows TIME with it" in alone.sentence
    short = say("predict", str(folder), str(long_video), "--windows", "0.01")
    assert short.code == 2 and "a window of 0.01 s holds one frame, at 25 frames a second" in short.out
    other = say("predict", str(folder), str(folder), str(long_video), "--windows", "0.8")
    assert other.code == 3 and "it is no video" in other.out


@given(st.lists(st.floats(0.001, 2), min_size=1, max_size=60), st.floats(0.01, 5), st.floats(0.05, 1))
def test_every_frame_lies_in_a_window(steps: list[float], seconds: float, share: float) -> None:
    times = tuple(float(t) for t in np.cumsum([0.0, *steps]))
    spans = spans_of(Index(times, tuple(range(len(times))), (1,)), seconds, share * seconds)
    covered = {n for first, last in spans for n in range(first, last + 1)}
    assert covered == set(range(1, len(times) + 1))
    assert all(times[last - 1] - times[first - 1] <= seconds + 1e-6 for first, last in spans if first <= last)
    assert spans[-1][1] == len(times) and spans == sorted(spans)
    first, whole = spans[-1][0], max(times[-1] - seconds, 0)  # the last window is as long as the others
    assert times[first - 1] >= whole - 1e-6 and (first == 1 or times[first - 2] < whole)


def of_window(start: float, mean: float, video: str = "a.mp4") -> Answer:
    motion = Motion(mean, mean, {"brows": mean})
    return Answer(clip=video, interval=(start, start + 1), probabilities={}, motion=motion)


@given(st.lists(st.tuples(st.integers(0, 40), st.floats(0, 3)), max_size=30))
def test_a_window_is_left_out_only_for_one_of_more_motion_that_overlaps_it(pairs: list[Any]) -> None:
    windows = [of_window(start / 4, mean) for start, mean in pairs]
    bad = Answer(clip="b.mp4", reason="no face", interval=(0, 1), probabilities={})
    kept = candidates([*windows, bad, of_window(0, 0.1, "other.mp4")])
    assert kept[-1] is bad and sum(one.clip == "other.mp4" for one in kept) == 1
    chosen = [one for one in kept if one.clip == "a.mp4"]

    def near(a: Answer, b: Answer) -> bool:
        return abs(a.interval[0] - b.interval[0]) <= 1  # type: ignore[index]

    assert not any(near(a, b) for i, a in enumerate(chosen) for b in chosen[:i])
    for one in windows:
        assert one in chosen or any(near(one, b) and b.motion.mean >= one.motion.mean for b in chosen)  # type: ignore[union-attr]


def one(model: SavedModel, *inputs: Any, **how: str) -> Answer:
    (found,) = model.predict(*inputs, **how)
    return found


def test_frames_of_a_video_are_named_by_their_times(model: SavedModel, long_video: Path) -> None:
    found = one(model, long_video, onset="0.4s", apex="1000 ms")
    assert (found.onset, found.apex, found.label) == ("long.mkv#11", "long.mkv#26", "mouth")
    assert (found.probabilities, found.notes) == (
        one(model, long_video, onset="11", apex="26").probabilities,
        (),
    )
    for how, reason in (
        ({"onset": "1s", "apex": "0.4s"}, "the apex 0.4s comes before the onset 1s; exchange the two"),
        ({"onset": "9s"}, r"the onset 9s lies behind the end of .*long.mkv (4.000 s)"),
        ({"apex": "0.4"}, "it has no apex '0.4'; write a frame's number (46) or its time (0.23s)"),
        ({"apex": "400"}, "it has no apex '400'; its frames are 1 to 100"),
    ):
        assert reason.replace(r".*long.mkv", str(long_video)) in one(model, long_video, **how).reason


def test_a_time_in_a_folder_of_frames_is_refused(model: SavedModel, tmp_path: Path) -> None:
    from tests.fixtures.moving_face import save

    for n in (1, 2):
        save(tmp_path / "frames" / f"img{n}.png", moved("brow", n))
    assert "is a time, and a folder of frames has none" in one(model, tmp_path / "frames", apex="1s").reason


def test_a_variable_rate_is_told_by_time_and_not_by_number(model: SavedModel, tmp_path: Path) -> None:
    images = [moved("brow", amplitude) for amplitude in (0, 0.5, 1, 2, 1)]
    video = write_video(
        tmp_path / "v.mkv", images, "ffv1", "gray", rate=1000, stamps_ms=[0, 10, 90, 100, 400]
    )
    by_time = one(model, video, onset="0s", apex="0.1s")
    assert (by_time.onset, by_time.apex, by_time.reason) == ("v.mkv#1", "v.mkv#4", "")
    assert one(model, video).apex == "v.mkv#4"
    assert "has a variable frame rate" in one(model, video, apex="4").reason


def test_a_video_of_4k_is_answered_for(model: SavedModel, tmp_path: Path) -> None:
    video = write_video(tmp_path / "wide.mp4", clip(frames=3, width=3840, height=2160), rate=30)
    found = one(model, video)
    assert not found.reason and found.apex == "wide.mp4#3" and found.motion is not None


@pytest.mark.parametrize("command", ["predict", "windows"])
def test_a_broken_video_ends_nothing(
    say: Say, folder: Path, long_video: Path, tmp_path: Path, command: str
) -> None:
    whole = write_video(tmp_path / "whole.mp4", [moved("brow", n / 9) for n in range(20)], rate=RATE)
    (tmp_path / "half.mp4").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (tmp_path / "half.mkv").write_bytes(long_video.read_bytes()[: long_video.stat().st_size // 2])
    (tmp_path / "empty.mp4").write_bytes(b"")
    with av.open(str(tmp_path / "none.avi"), "w") as file:
        stream = file.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuvj420p"
        file.start_encoding()
    bad = {
        "half.mp4": "cut short",
        "half.mkv": "it is cut short",
        "empty.mp4": "the file is empty",
        "none.avi": "it holds no video frame",
        "absent.mp4": "there is no such file",
    }
    more = ["--windows", "0.4"] if command == "windows" else []
    inputs = [str(tmp_path / name) for name in ("whole.mp4", *bad)]
    ended = say("predict", str(folder), *inputs, "--csv", *more)
    rows = list(csv.DictReader(io.StringIO(ended.out)))
    assert ended.code == 3 and any(not row["reason"] for row in rows)
    reasons = {Path(row["clip"]).name: row["reason"] for row in rows if row["reason"]}
    assert reasons.keys() == bad.keys()
    for name, words in bad.items():
        assert words in reasons[name] and reasons[name].count(". ") == 0, reasons[name]


def test_windows_of_a_model_of_maps_are_refused(maps: Path, say: Say, tmp_path: Path) -> None:
    from harness import toy

    settings = toy.settings(maps, "model.name=linear", "tracking.enabled=false", "evaluation.bootstrap=100")
    say("fit", "--local", *settings, "--out", str(tmp_path / "model"))
    with pytest.raises(BadInput, match="the model reads published flow maps, and a video has none"):
        load_model(tmp_path / "model").candidates("a.mp4", seconds=1)
