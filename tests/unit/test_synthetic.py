"""The embedded data set: the same bytes every time, sheets that agree with the frames, faces that dlib finds,
no half-written root."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from distmer.commands.run import run_experiment
from distmer.commands.session import Given, Session
from distmer.config import ClusterConfig, SyntheticConfig
from distmer.datasets.synthetic import MARKER, ensure, expected_counts, expected_subjects, root_of
from distmer.datasets.synthetic.annotations import CLASSES, annotated_clips, stream
from distmer.datasets.synthetic.expressions import IOD, MIRROR_P, UNITS, displacement, manner
from distmer.datasets.synthetic.faces import EYES
from distmer.experiment.events import Step
from distmer.experiment.local import LocalBackend
from distmer.features.landmarks import find_face, model_path
from distmer.storage import Place, files, place, write
from distmer.types import RunError
from harness import command

TINY = SyntheticConfig(subjects=3, clips_per_subject=2)

# Official layout: sheet, header line in Excel, columns (subject, clip, onset, apex, offset, emotion), and
# where a frame lies.
LAYOUTS = {
    "casme": (
        "CASME/CASME-coded-20190721.xls",
        1,
        ["Subject", "Filename", "OnsetF", "ApexF1", "OffsetF", "Emotion"],
    ),
    "casme2": (
        "CASME2/CASME2-coding-20140508.xlsx",
        1,
        ["Subject", "Filename", "OnsetFrame", "ApexFrame", "OffsetFrame", "Estimated Emotion"],
    ),
    "samm": (
        "SAMM/SAMM_Micro_FACS_Codes_v2.xlsx",
        14,
        ["Subject", "Filename", "Onset Frame", "Apex Frame", "Offset Frame", "Estimated Emotion"],
    ),
}
READERS: dict[str, Any] = {".xls": "xlrd", ".xlsx": "openpyxl"}  # not those that distmer reads them with
CLASS_OF = {
    **dict.fromkeys(["disgust", "repression", "Anger", "Contempt"], "negative"),
    **dict.fromkeys(["happiness", "Happiness"], "positive"),
    **dict.fromkeys(["surprise", "Surprise"], "surprise"),
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure(TINY, tmp_path_factory.mktemp("first"))


def rows(root: Path) -> Iterator[tuple[str, str, str, int, int, int, str]]:
    """(data set, subject, clip, onset, apex, offset, emotion) of every sheet, as pandas reads the official
    columns."""
    for dataset, (sheet, line, columns) in LAYOUTS.items():
        frame = pd.read_excel(
            root / sheet,
            engine=READERS[Path(sheet).suffix],
            header=line - 1,
            dtype={"Subject": str, "Filename": str},
        )
        for subject, clip, onset, apex, offset, emotion in frame[columns].itertuples(index=False):
            yield dataset, subject, clip, int(onset), int(apex), int(offset), emotion


def frame_path(root: Path, dataset: str, subject: str, clip: str, number: int) -> Path:
    if dataset == "casme":
        return root / f"CASME/CASME_raw_selected/sub{int(subject):02d}/{clip}/{clip}-{number}.jpg"
    if dataset == "casme2":
        return root / f"CASME2/CASME2_RAW_selected/sub{int(subject):02d}/{clip}/img{number}.jpg"
    return root / f"SAMM/{subject}/{clip}/{subject}_{number:05d}.jpg"


def hashes(root: Path) -> dict[str, str]:
    return {
        str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(root.rglob("*"))
        if p.is_file()
    }


def test_the_same_options_give_the_same_bytes_and_others_do_not(tiny: Path, tmp_path: Path) -> None:
    again = ensure(TINY, tmp_path)
    assert again.name == tiny.name
    assert hashes(again) == hashes(tiny)
    assert root_of(TINY.model_copy(update={"seed": 1}), tmp_path) != again


def test_a_finished_set_is_not_generated_again(tiny: Path) -> None:
    assert ensure(TINY, tiny.parent, lambda done, total: pytest.fail("generated again")) == tiny


def test_sheets_agree_with_the_frames_on_disk(tiny: Path) -> None:
    named: set[Path] = set()
    for dataset, subject, clip, onset, apex, offset, _ in rows(tiny):
        assert 1 < onset < apex < offset
        named |= {frame_path(tiny, dataset, subject, clip, number) for number in range(onset, offset + 1)}
    assert named == set(tiny.rglob("*.jpg"))


def test_sheets_have_the_official_columns(tiny: Path) -> None:
    casme = pd.read_excel(tiny / LAYOUTS["casme"][0], engine=READERS[".xls"])
    assert list(casme.columns[[2, 7]]) == ["Unnamed: 2", "Unnamed: 7"]
    assert set(casme["ApexF2"]) == {"\\"}
    casme2 = pd.read_excel(tiny / LAYOUTS["casme2"][0], engine=READERS[".xlsx"])
    assert list(casme2.columns[[2, 6]]) == ["Unnamed: 2", "Unnamed: 6"]
    samm = pd.read_excel(
        tiny / LAYOUTS["samm"][0], engine=READERS[".xlsx"], header=13, dtype={"Subject": str}
    )
    assert set(samm["Subject"]) == {"006"}
    assert (samm["Duration"] == samm["Offset Frame"] - samm["Onset Frame"] + 1).all()


@pytest.mark.parametrize(
    "options", [TINY, SyntheticConfig(), SyntheticConfig(subjects=7, clips_per_subject=5, seed=3)]
)
def test_the_plan_has_the_promised_shape(options: SyntheticConfig) -> None:
    clips = [clip for clip in annotated_clips(options) if clip.label is not None]
    counts = Counter(clip.label for clip in clips)
    n = options.subjects * options.clips_per_subject
    assert len(clips) == n
    assert [counts[k] for k in range(3)] == pytest.approx([n * 5 / 12, n * 4 / 12, n * 3 / 12], abs=1)
    assert len({(c.dataset, c.subject, c.name) for c in clips}) == n
    assert sum(expected_subjects(options).values()) == options.subjects


def test_the_default_set_has_unequal_subjects_some_without_a_class() -> None:
    by_subject: dict[int, list[int | None]] = {}
    for clip in annotated_clips(SyntheticConfig()):
        if clip.label is not None:
            by_subject.setdefault(clip.subject_index, []).append(clip.label)
    assert len({len(own) for own in by_subject.values()}) > 3
    assert any(len(set(own)) < 3 for own in by_subject.values())
    assert expected_subjects(SyntheticConfig()) == {"casme": 4, "casme2": 4, "samm": 4}


def test_expected_counts_agree_with_the_sheets(tiny: Path) -> None:
    counts = Counter(
        (dataset, CLASS_OF[emotion]) for dataset, *_, emotion in rows(tiny) if emotion in CLASS_OF
    )
    assert expected_counts(TINY) == {d: {name: counts[d, name] for name in CLASSES} for d in LAYOUTS}
    assert {emotion for *_, emotion in rows(tiny)} - set(CLASS_OF) <= {"tense", "others", "Other"}
    assert any(emotion not in CLASS_OF for *_, emotion in rows(tiny))


def test_dlib_finds_exactly_the_face_in_every_onset(tiny: Path) -> None:
    for dataset, subject, clip, onset, *_ in rows(tiny):
        gray_HW = cv2.imread(str(frame_path(tiny, dataset, subject, clip, onset)), cv2.IMREAD_GRAYSCALE)
        assert gray_HW is not None and gray_HW.shape == (480, 640)
        face = find_face(gray_HW.astype(np.uint8), model_path(None), 320, clip)
        eyes_22 = np.stack([face.points_L2[36:42].mean(0), face.points_L2[42:48].mean(0)])
        assert face.note == ""  # one face, no other
        assert np.abs(eyes_22.mean(0) - EYES).max() < 12
        assert np.hypot(*(eyes_22[1] - eyes_22[0])) == pytest.approx(IOD, rel=0.15)


def test_samm_is_grey_and_the_apex_differs_from_the_onset_by_little(tiny: Path) -> None:
    for dataset, subject, clip, onset, apex, *_ in rows(tiny):
        pair = [
            cv2.imread(str(frame_path(tiny, dataset, subject, clip, n)), cv2.IMREAD_UNCHANGED)
            for n in (onset, apex)
        ]
        first, peak = (np.asarray(image, dtype=np.float64) for image in pair)
        assert first.ndim == (2 if dataset == "samm" else 3)
        assert 1.0 < np.abs(peak - first).mean() < 8.0  # grey levels


def test_a_displacement_peaks_at_its_amplitude_and_a_letter_makes_it_one_sided() -> None:
    x_P = np.linspace(-1, 1, 17)
    points_P2 = np.zeros((68, 2)) + EYES
    points_P2[:17, 0] += IOD * x_P
    points_P2[48], points_P2[54] = (280, 310), (360, 310)
    assert (MIRROR_P[MIRROR_P] == np.arange(68)).all()
    own = manner(stream("test"))
    for units in [(str(number),) for number in UNITS]:
        flow_HW2 = displacement(units, 2.0, points_P2, own, stream("test", *units))
        assert np.hypot(*np.moveaxis(flow_HW2, -1, 0)).max() == pytest.approx(2.0, rel=1e-5)
    left_HW2 = displacement(("L14",), 2.0, points_P2, own, stream("test"))
    assert np.abs(left_HW2[310, 360]).max() > 1.5 and np.abs(left_HW2[310, 280]).max() < 0.1


def test_streams_with_other_tags_differ() -> None:
    draws = {float(stream(*tags).random()) for tags in [(1,), (1, 0), ("1", 0, 0), (10,), ("a", 1), ("a1",)]}
    assert len(draws) == 6


class Killed(BaseException):
    """Nobody is meant to catch it."""


def killed_after(clips: int, folder: Place) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == clips:
            raise Killed

    with pytest.raises(Killed):
        ensure(TINY, folder, interrupt)


def test_a_killed_generation_goes_on_where_it_was(tiny: Path, tmp_path: Path) -> None:
    killed_after(3, tmp_path)
    root = root_of(TINY, tmp_path)
    assert not (root / MARKER).exists()
    finished = {path: path.stat().st_mtime_ns for path in root.rglob("*.jpg")}
    assert len({path.parent for path in finished}) == 3
    assert list(tmp_path.iterdir()) == [root]
    calls: list[tuple[int, int]] = []
    assert ensure(TINY, tmp_path, lambda done, total: calls.append((done, total))) == root
    assert {path: path.stat().st_mtime_ns for path in finished} == finished  # not one was written again
    assert hashes(root) == hashes(tiny)
    assert list(tmp_path.iterdir()) == [root]
    assert calls == [(k + 1, len(annotated_clips(TINY))) for k in range(len(annotated_clips(TINY)))]


def test_a_clip_without_its_end_is_generated_again(tiny: Path, tmp_path: Path) -> None:
    killed_after(2, tmp_path)
    root = root_of(TINY, tmp_path)
    cut, gone, *_ = {path.parent: path for path in sorted(root.rglob("*.jpg"))}.values()
    cut.write_bytes(cut.read_bytes()[:-100])  # a copy that was broken off, or a power cut
    gone.unlink()
    assert hashes(ensure(TINY, tmp_path)) == hashes(tiny)
    assert list(tmp_path.iterdir()) == [root]


def test_two_may_generate_at_once(tiny: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: ensure(TINY, tmp_path), range(2))
    assert first == second and hashes(first) == hashes(tiny)
    assert list(tmp_path.iterdir()) == [first]


def test_ray_is_joined_while_the_set_is_being_generated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first clip waits for Ray's join: so it comes before the last clip, or after all of them and too
    late."""
    record: list[str] = []
    joining = threading.Event()

    @contextmanager
    def session(config: ClusterConfig, *, groups: bool) -> Iterator[None]:
        record.append("joining Ray")
        joining.set()
        raise RunError("Ray cannot be reached")
        yield

    class Display:
        def __call__(self, step: Step) -> None:
            record.append(f"{step.done} of {step.total}")
            if step.done == 1:
                joining.wait(60)

    monkeypatch.setattr("distmer.cluster.backend.session", session)
    monkeypatch.setattr("distmer.commands.session.LiveProgress", Display)
    with pytest.raises(RunError, match="Ray cannot be reached"):
        run_experiment(of_tiny(tmp_path))
    assert record.index("joining Ray") < len(annotated_clips(TINY))


def test_ray_is_not_started_where_it_may_not_be_needed(tiny: Path, tmp_path: Path) -> None:
    class Backend(LocalBackend):
        def start(self, clips: int, *, folds: bool) -> None:
            pytest.fail("it was started")

    known = of_tiny(tmp_path / "features")
    write(known.workspace.features / "01/parts/23.parquet", b"features of some clips")
    complete = of_tiny(tmp_path / "set", "storage.data=" + str(tiny.parent))
    for session in (known, complete):
        assert len(session.manifest([], Backend()).clips) == TINY.subjects * TINY.clips_per_subject


def of_tiny(home: Path, *settings: str) -> Session:
    tiny = [f"data.synthetic.{name}={value}" for name, value in TINY if name not in ("seed", "difficulty")]
    return Session.open(Given(None, [*tiny, "tracking.enabled=false", *settings], str(home)))


def test_what_interrupts_the_meanwhile_stops_the_generation_at_the_next_clip(
    tiny: Path, tmp_path: Path
) -> None:
    second = threading.Event()

    def progress(done: int, total: int) -> None:
        if done == 2:
            second.set()
        if done >= 2:
            time.sleep(1)  # for the other thread to be heard

    def interrupted() -> None:
        second.wait(command.PATIENCE)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure(TINY, tmp_path, progress, interrupted)
    root = root_of(TINY, tmp_path)
    finished = {path: path.stat().st_mtime_ns for path in root.rglob("*.jpg")}
    assert (
        2 <= len({path.parent for path in finished}) < len(annotated_clips(TINY))
        and not (root / MARKER).exists()
    )
    assert hashes(ensure(TINY, tmp_path)) == hashes(tiny)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished


def test_on_an_object_store_too_a_killed_generation_goes_on_where_it_was(tiny: Path, remote: str) -> None:
    folder = place(remote)
    killed_after(3, folder)
    root = root_of(TINY, folder)
    finished = list(files(root, ".jpg"))
    assert not (root / MARKER).exists() and len({name.rpartition("/")[0] for name in finished}) == 3
    write(root / finished[0], b"told apart")
    assert ensure(TINY, folder) == root
    assert (root / finished[0]).read_bytes() == b"told apart"  # it was not written again
    write(root / finished[0], (tiny / finished[0]).read_bytes())
    there = {name: (root / name).read_bytes() for name in files(root)}
    assert {name: hashlib.sha256(data).hexdigest() for name, data in there.items()} == hashes(tiny)
