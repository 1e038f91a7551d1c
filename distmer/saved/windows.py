"""A long video as overlapping windows: the intervals in which a face moved most, as candidates.

Nothing here spots an expression. A blink, speech and a turn of the head move a face, too.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from distmer.datasets.folder import span_of
from distmer.datasets.frame_files import Unusable
from distmer.features.featureset import Unit
from distmer.features.video import Index
from distmer.saved.answers import Answer
from distmer.saved.clips import Asked, video_index
from distmer.storage import Place, place
from distmer.types import ApexSearch, BadInput

_SHORTEST = 1e-3  # s: no camera is faster, and with a step of 0 s there would be no end
_SAME = 1e-9  # s: time stamps that differ by less are equal


def windows_of(
    inputs: Sequence[Place | str], unit: Unit, window: float | str, step: float | str | None = None
) -> list[Asked]:
    """Videos as clips of the length ``window``, in their order: one begins every ``step``, else every half of
    a window. Both are in s, or texts with a unit (``500ms``).

    The onset of a window is its first frame, and its apex is searched among the others. A video that cannot
    be read is one clip with its problem. BadInput if the lengths make no sense, or the model reads flow maps.
    """
    if unit != "px":
        raise BadInput("--windows: the model reads published flow maps, and a video has none; fit another.")
    seconds = span_of(window, "--windows")
    step = seconds / 2 if step is None else span_of(step, "--step")
    if not _SHORTEST <= step <= seconds < math.inf:
        raise BadInput(
            f"--windows {seconds:g} --step {step:g}: both are seconds above 0, a step from {_SHORTEST:g}"
            " on, and a step longer than a window would leave out frames; give --windows 0.5 --step 0.25, for"
            " example."
        )
    return [clip for one in inputs for clip in _of_video(place(str(one)), seconds, step)]


def _of_video(one: Place, seconds: float, step: float) -> list[Asked]:
    try:
        video = video_index(one)
        spans = spans_of(video, seconds, step)
        if all(last <= first for first, last in spans):
            raise Unusable(
                f"{one}: a window of {seconds:g} s holds one frame, at {video.rate:.0f} frames a second; give"
                " a longer one."
            )
    except Unusable as problem:
        return [Asked(str(one), problem=str(problem))]
    length = video.seconds[-1] - video.seconds[0]
    short = f"the video is {length:.1f} s long, shorter than a window"
    note = short if length + 2 / video.rate < seconds else ""
    return [_window(one, video, first, last, note) for first, last in spans if last > first]


def spans_of(video: Index, seconds: float, step: float) -> list[tuple[int, int]]:
    """The first and the last frame of each window, from 1. The last window ends with the video. A video that
    is shorter than a window is one window."""
    latest = max(video.seconds[-1] - seconds, 0.0)
    begins = [min(n * step, latest) for n in range(math.ceil(latest / step - _SAME) + 1)]
    firsts = [bisect_left(video.seconds, begin - _SAME) + 1 for begin in begins]
    lasts = [bisect_right(video.seconds, begin + seconds + _SAME) for begin in begins]
    return list(dict.fromkeys(zip(firsts, lasts, strict=True)))


def _window(one: Place, video: Index, first: int, last: int, note: str) -> Asked:
    path = one.absolute()
    files = tuple((number, f"{path}#{number}") for number in range(first, last + 1))
    source = ApexSearch(files[0][1], tuple(file for _, file in files[1:]), files)
    interval = (video.seconds[first - 1], video.seconds[last - 1])
    return Asked(str(one), source, note=note, interval=interval)


def candidates(found: Sequence[Answer]) -> list[Answer]:
    """The answers for windows, the most motion first. A window that shares a frame with one of more motion is
    left out. The windows without an answer come last."""
    kept: list[Answer] = []
    for one in sorted(found, key=lambda one: -(one.motion.mean if one.motion else 0)):
        if one.motion and not any(_overlap(one, other) for other in kept):
            kept.append(one)
    return [*kept, *(one for one in found if not one.motion)]


def _overlap(one: Answer, other: Answer) -> bool:
    """Whether two windows share a frame: one that begins at the apex of another shows the same movement."""
    (a, b), (c, d) = one.interval or (0.0, 0.0), other.interval or (0.0, 0.0)
    return one.clip == other.clip and a <= d + _SAME and c <= b + _SAME
