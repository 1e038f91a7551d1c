"""The annotated apex compared with the frames around it, for `distmer data look`."""

from __future__ import annotations

from pathlib import PurePath

from distmer.datasets.frame_files import Unusable, frame_number, frames_of
from distmer.features.align import AlignedFace
from distmer.features.frames import ByteArray, ClipError, file_of, read_each
from distmer.features.pipeline import motion
from distmer.storage import place
from distmer.types import Clip, KeyFrames

_LEAST = 5  # frames after the apex that are compared, at least


def weak_apex(clip: Clip, onset_HW: ByteArray, apex_HW: ByteArray, face: AlignedFace) -> str:
    """A sentence if the annotated apex has moved less than the frame after the onset; else "". ``onset_HW``
    and ``apex_HW`` are the crops."""
    if not isinstance(clip.source, KeyFrames):
        return ""
    after = [frame for _, frame in _frames_after(clip.source.onset)[:1]]
    if not after or after[0] == clip.source.apex:
        return ""
    try:
        (early,) = _motions(onset_HW, after, face)
    except ClipError:  # it is no frame of the clip's features
        return ""
    late = motion(onset_HW, apex_HW, face.points_L2)
    if late >= early:
        return ""
    return (
        f"the apex has moved by {late:.2f} px on average, the frame after the onset by {early:.2f} px: the"
        " apex may be of another frame."
    )


def spotted_apex(clip: Clip, onset_HW: ByteArray, face: AlignedFace) -> tuple[int, int] | None:
    """The frame that has moved most since the onset, and how many frames it lies after the annotated apex.

    The frames from the onset to the apex are compared, and as many after the apex (at least 5). Of equal
    ones, the first is taken. None if the apex is not annotated, or if a frame cannot be read.
    """
    if not isinstance(clip.source, KeyFrames):
        return None
    frames = _frames_after(clip.source.onset)
    apex = next((place for place, (_, frame) in enumerate(frames) if frame == clip.source.apex), None)
    if apex is None:
        return None
    frames = frames[: apex + 1 + max(apex + 1, _LEAST)]
    try:
        motions = _motions(onset_HW, [frame for _, frame in frames], face)
    except ClipError:
        return None
    most = motions.index(max(motions))
    return frames[most][0], most - apex


def _motions(onset_HW: ByteArray, frames: list[str], face: AlignedFace) -> list[float]:
    return [
        motion(onset_HW, face.crop(data, PurePath(frame).name), face.points_L2)
        for frame, data in zip(frames, read_each(frames), strict=True)
    ]


def _frames_after(onset: str) -> list[tuple[int, str]]:
    """(number, frame) of the frames after an onset, in its video or folder; empty if names have no number."""
    file, number = file_of(onset)
    if number is not None:
        from distmer.features.video import index

        return [(n, f"{file}#{n}") for n in range(number + 1, len(index(file)) + 1)]
    path = place(onset)
    own = frame_number(path)
    try:
        return [(n, frame) for n, frame in frames_of(path.parent).items() if own is not None and n > own]
    except Unusable:
        return []
