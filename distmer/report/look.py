"""`distmer data look`: one page of all clips, for their owner. It shows faces, so it is written to this
machine's disk alone, and the page itself forbids the browser to load or send anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from distmer.report.html import render

TROUBLES = {
    "unusable": "cannot be used",
    "pair": "implausible pair",
    "eyes": "eyes unlike the subject's other clips",
    "apex": "apex moves less than the frame after the onset",
    "faces": "several faces",
}
_FAR = 20  # frames: the last bars of the histogram hold all beyond
_BAR = 14  # px


@dataclass(frozen=True, slots=True)
class Picture:
    """A JPEG with its caption; ``overlay`` is SVG drawn over it, in its own px; ``under`` a JPEG that is
    shown while the mouse is over the picture, or after a tap."""

    jpeg: bytes
    width: int
    height: int
    caption: str
    overlay: str = ""
    under: bytes = b""


@dataclass(frozen=True, slots=True)
class ClipView:
    """One row of the page."""

    dataset: str
    subject: str
    name: str
    label: str  # the class
    emotion: str  # as the sheet says, where it has another name
    where: str  # file and row
    pictures: tuple[Picture, ...] = ()
    troubles: tuple[tuple[str, str], ...] = ()  # (key of `TROUBLES`, sentence)
    notes: tuple[str, ...] = ()
    distance: int | None = None  # frames from the annotated apex to the one that has moved most


def points_overlay(points: Iterable[tuple[float, float]]) -> str:
    """Landmarks as dots."""
    dots = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in points)
    return f'<path class="dots" d="{dots}"/>'


def square_overlay(corners: Iterable[tuple[float, float]]) -> str:
    """The outline of the crop in a whole frame."""
    return f'<polygon class="crop" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in corners)}"/>'


def page(title: str, clips: Sequence[ClipView], legend: Sequence[Picture], subtitle: str) -> str:
    """The whole page as HTML."""
    found = Counter(key for clip in clips for key in {key for key, _ in clip.troubles})
    troubles = [("", "all clips"), ("any", f"any trouble ({sum(bool(clip.troubles) for clip in clips)})")]
    troubles += [(key, f"{words} ({found[key]})") for key, words in TROUBLES.items() if found[key]]
    return render(
        "look.html",
        title=title,
        subtitle=subtitle,
        clips=clips,
        legend=legend,
        sets=_choices(clip.dataset for clip in clips),
        subjects=_choices(f"{clip.dataset}/{clip.subject}" for clip in clips),
        labels=_choices(clip.label for clip in clips),
        troubles=troubles,
        **_histogram([clip.distance for clip in clips if clip.distance is not None]),
    )


def _choices(values: Iterable[str]) -> list[tuple[str, str]]:
    counts = Counter(value for value in values if value)
    return [("", "all"), *((value, f"{value} ({n})") for value, n in counts.items())]


def _histogram(distances: Sequence[int]) -> dict[str, Any]:
    """How far the frame that has moved most lies from the annotated apex, and where each bar stands, px."""
    counts = Counter(max(-_FAR, min(_FAR, distance)) for distance in distances)
    highest = max(counts.values(), default=1)
    ends = {-_FAR: f"≤ {-_FAR}", 0: "0", _FAR: f"≥ +{_FAR}"}
    return {
        "distances": len(distances),
        "near": sum(abs(distance) <= 2 for distance in distances),
        "axis_width": _BAR * (2 * _FAR + 1),
        "bar_width": _BAR - 2,
        "bars": [(_BAR * (d + _FAR), 60 * n / highest, d, n) for d, n in sorted(counts.items())],
        "ticks": [
            (_BAR * (d + _FAR) + _BAR / 2 - 1, ends.get(d, f"{d:+d}")) for d in range(-_FAR, _FAR + 1, 5)
        ],
    }
