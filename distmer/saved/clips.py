"""The inputs of `distmer predict` as clips: two frames, a folder of frames, a video, a manifest.csv, maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from distmer.datasets.base import ReadOptions
from distmer.datasets.folder import (
    DATASET,
    MANIFEST,
    VIDEOS,
    frame_at,
    frames_of_video,
    require_steady,
    seconds_in,
)
from distmer.datasets.frame_files import IMAGES, Unusable, frames_of
from distmer.features.featureset import Unit
from distmer.features.video import Index
from distmer.registry import nearest
from distmer.storage import Place, place
from distmer.types import ApexSearch, BadInput, FlowMap, KeyFrames, Source, SubjectKey


@dataclass(frozen=True, slots=True)
class Asked:
    """A clip to answer for: its frames, or the ``problem`` that it has. ``subject`` and ``label`` are from a
    manifest. ``note`` says how the key frames were chosen. ``interval``: of a part of a long video, its
    beginning and its end, s."""

    name: str
    source: Source | None = None
    problem: str = ""
    subject: SubjectKey | None = None
    label: str = ""
    note: str = ""
    interval: tuple[float, float] | None = None


def clips_of(inputs: Sequence[Place | str], unit: Unit, *, onset: str = "", apex: str = "") -> list[Asked]:
    """The clips in some inputs. One that cannot be read is a clip with its problem.

    BadInput where the inputs as a whole cannot be used: there are none, there is a single frame, or ``onset``
    or ``apex`` is given for more than one clip.
    """
    places = [place(str(one)) for one in inputs]
    if not places:
        raise BadInput(
            "there is nothing to answer for; give two frames, a folder of frames or a manifest.csv."
        )
    images = [one for one in places if one.suffix.lower() in IMAGES]
    if unit == "px" and images:
        return [_two_frames(places, images, onset or apex)]
    if not (onset or apex):
        return [clip for one in places for clip in _clips(one, unit)]
    if len(places) > 1 or unit == "minmax" or _manifest(places[0]):
        raise BadInput("--onset and --apex name frames of one folder; give one folder of frames alone.")
    return [_guarded(places[0], onset, apex)]


def video_index(path: Place) -> Index:
    """The frames of a video. Unusable where it is no video, or cannot be read."""
    if path.suffix.lower() not in VIDEOS:
        raise Unusable(f"{path}: it is no video ({', '.join(VIDEOS)}); give one.")
    if not path.exists():
        raise Unusable(f"{path}: there is no such file or folder; correct the path.")
    return frames_of_video(path.absolute())


def _two_frames(places: Sequence[Place], images: Sequence[Place], named: str) -> Asked:
    if len(places) != 2 or len(images) != 2 or named:
        raise BadInput(
            "frames are given as two image files, the onset and then the apex, and nothing else; give further"
            " clips as folders, or as a manifest.csv."
        )
    onset, apex = (str(one.absolute()) for one in images)
    return Asked(f"{images[0].name} → {images[1].name}", KeyFrames(onset, apex))


def _clips(one: Place, unit: Unit) -> Iterator[Asked]:
    if manifest := _manifest(one):
        yield from _of_manifest(manifest)
    elif unit == "minmax":
        yield from _maps(one)
    else:
        yield _guarded(one, "", "")


def _manifest(one: Place) -> Place | None:
    if one.name == MANIFEST:
        return one
    return one / MANIFEST if (one / MANIFEST).is_file() else None


def _of_manifest(path: Place) -> Iterator[Asked]:
    try:
        options = ReadOptions(missing_apex="max-flow", settable=False, unlabelled=True)
        rows = DATASET.read(path.absolute().parent, options)
    except BadInput as error:
        yield Asked(str(path), problem=str(error))
        return
    for row in rows:
        subject = SubjectKey(row.dataset, row.subject) if row.subject else None
        name = f"{row.dataset}/{row.subject}/{row.clip}"
        yield Asked(name, row.source, row.problem, subject, row.emotion, row.note)


def _maps(one: Place) -> Iterator[Asked]:
    try:
        found = sorted(p for p in one.iterdir() if p.suffix.lower() in IMAGES) if one.is_dir() else [one]
    except OSError as error:
        yield Asked(str(one), problem=f"{one}: it cannot be read ({error.strerror}); correct the path.")
        return
    if not found:
        yield Asked(str(one), problem=f"{one}: no image lies in it; give a folder of flow maps, or a map.")
    for path in found:
        yield Asked(path.name, FlowMap(str(path.absolute())))


def _guarded(one: Place, onset: str, apex: str) -> Asked:
    try:
        source, note = _key_frames(one, onset, apex)
        return Asked(str(one), source, note=note)
    except Unusable as problem:
        return Asked(str(one), problem=str(problem))


def _key_frames(one: Place, onset: str, apex: str) -> tuple[Source, str]:
    """The onset and the apex (or the frames among which the apex is searched), and a note on the choice."""
    frames, video = _frames(one)
    numbers = list(frames)
    first = _number(frames, video, onset, "onset", one) if onset else numbers[0]
    last = _number(frames, video, apex, "apex", one) if apex else None
    said = "" if onset else "the onset is the first frame"
    course = tuple((number, frames[number]) for number in numbers if first <= number)  # of a sequence
    if last is not None:
        if last < first:
            raise Unusable(
                f"{one}: the apex {apex} comes before the onset {onset or first}; exchange the two."
            )
        return KeyFrames(frames[first], frames[last], course), said
    after = tuple(frames[number] for number in numbers if number > first)
    if not after:
        raise Unusable(f"{one}: no frame comes after the onset; give a folder of two frames or more.")
    found = "the apex is the frame of largest face motion"
    return ApexSearch(frames[first], after, course), " and ".join(part for part in (said, found) if part)


def _frames(one: Place) -> tuple[dict[int, str], Index | None]:
    """Frame number → file of a folder or a video; and of a video, the times of its frames."""
    if one.suffix.lower() in VIDEOS:
        video = video_index(one)
        return {number: f"{one.absolute()}#{number}" for number in range(1, len(video) + 1)}, video
    if not one.exists():
        raise Unusable(f"{one}: there is no such file or folder; correct the path.")
    if not one.is_dir():
        raise Unusable(f"{one}: it is no folder of frames, no video and no {MANIFEST}; give one of them.")
    return frames_of(one.absolute()), None


def _number(frames: Mapping[int, str], video: Index | None, text: str, what: str, one: Place) -> int:
    """The frame that a text names: by its number, by its file's name, or by its time in a video."""
    names = {PurePath(path).name: number for number, path in frames.items()}
    if text in names:
        return names[text]
    seconds = seconds_in(text)
    if seconds is not None and video is not None:
        return frame_at(video, seconds, f"{what} {text}", str(one))
    if seconds is not None:
        raise Unusable(
            f"{one}: the {what} {text} is a time, and a folder of frames has none; give the frame's number or"
            " file name."
        )
    if text.isdecimal() and int(text) in frames:
        if video is not None:
            require_steady(video, str(one))
        return int(text)
    known = f"its frames are {min(frames)} to {max(frames)}" if text.isdecimal() else nearest(text, names)
    if video is not None and not text.isdecimal():
        known = "write a frame's number (46) or its time (0.23s)"
    raise Unusable(f"{one}: it has no {what} {text!r}; {known.rstrip('.')}.")
