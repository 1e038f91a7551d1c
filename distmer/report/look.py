"""`distmer data look`: one page of all clips, for its owner's eyes. It shows faces, so it is written to this
machine's disk alone, and the page itself forbids the browser to load or send anything.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

TROUBLES = {
    "unusable": "cannot be used",
    "pair": "implausible pair",
    "eyes": "eyes unlike the subject's other clips",
    "apex": "apex moves less than the frame after the onset",
    "faces": "several faces",
}
_FAR = 20  # frames: the last bars of the histogram hold all beyond
_BAR = 14  # px
_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Picture:
    """A JPEG with its caption; ``overlay`` is SVG drawn over it, in its own px; ``under`` a JPEG that shows
    while the picture is pressed."""

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
    css = (_HERE / "look.css").read_text(encoding="utf-8")
    script = (_HERE / "look.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{css}</style></head><body>",
            f"<header><h1>{escape(title)}</h1><p>{escape(subtitle)}</p>",
            '<p class="private">This page shows faces. It is on your disk only; look into your release'
            " agreement before you pass it on.</p>",
            f'<div class="legend">{"".join(_figure(picture) for picture in legend)}</div>',
            f"{_histogram([clip.distance for clip in clips if clip.distance is not None])}</header>",
            _tools(clips),
            f"<main>{''.join(_row(clip) for clip in clips)}</main>",
            '<p class="nothing" hidden>No clip fits the filter.</p>',
            f"<script>{script}</script></body></html>",
        ]
    )


def _histogram(distances: Sequence[int]) -> str:
    """How far the frame that has moved most lies from the annotated apex; "" where nothing was looked for."""
    if not distances:
        return ""
    counts = Counter(max(-_FAR, min(_FAR, distance)) for distance in distances)
    top, bars = max(counts.values()), ""
    for distance, count in sorted(counts.items()):
        x, height = _BAR * (distance + _FAR), 60 * count / top
        bars += f'<rect x="{x}" y="{66 - height:.1f}" width="{_BAR - 2}" height="{height:.1f}"'
        bars += f' class="{"hit" if distance == 0 else "bar"}"><title>{distance:+d}: {count}</title></rect>'
    for distance in range(-_FAR, _FAR + 1, 5):
        more = "≤ " if distance == -_FAR else "≥ " if distance == _FAR else ""
        x, number = _BAR * (distance + _FAR) + _BAR / 2 - 1, f"{distance:+d}" if distance else "0"
        bars += f'<text x="{x}" y="80">{more}{number}</text>'
    near = sum(abs(distance) <= 2 for distance in distances)
    width = _BAR * (2 * _FAR + 1)
    return (
        f'<figure class="histogram"><svg viewBox="-14 0 {width + 28} 84" role="img">{bars}</svg><figcaption>'
        f"Frames from the annotated apex to the frame that has moved most since the onset, {len(distances)}"
        f" clips; {near} within 2 frames.</figcaption></figure>"
    )


def _tools(clips: Sequence[ClipView]) -> str:
    troubles = Counter(key for clip in clips for key in {key for key, _ in clip.troubles})
    any_trouble = sum(bool(clip.troubles) for clip in clips)
    options = [("", "all clips"), ("any", f"any trouble ({any_trouble})")]
    options += [(key, f"{words} ({troubles[key]})") for key, words in TROUBLES.items() if troubles[key]]
    return (
        '<form class="tools">'
        + _select("set", "data set", (clip.dataset for clip in clips))
        + _select("subject", "subject", (f"{clip.dataset}/{clip.subject}" for clip in clips))
        + _select("label", "class", (clip.label for clip in clips))
        + f"<label>trouble <select name=trouble>{_options(options)}</select></label>"
        + "<label>search <input name=text type=search></label>"
        + "<label class=check><input name=dots type=checkbox checked> landmarks</label>"
        + f"<output>{len(clips)} of {len(clips)} clips</output></form>"
    )


def _select(name: str, title: str, values: Iterable[str]) -> str:
    counts = Counter(value for value in values if value)
    options = [("", "all"), *((value, f"{value} ({counts[value]})") for value in dict.fromkeys(counts))]
    return f"<label>{title} <select name={name}>{_options(options)}</select></label>"


def _options(options: Sequence[tuple[str, str]]) -> str:
    return "".join(f'<option value="{escape(value)}">{escape(words)}</option>' for value, words in options)


def _row(clip: ClipView) -> str:
    facts = {
        "set": clip.dataset,
        "subject": f"{clip.dataset}/{clip.subject}",
        "label": clip.label,
        "trouble": " ".join(dict.fromkeys(key for key, _ in clip.troubles)),
        "text": f"{clip.dataset}/{clip.subject}/{clip.name}".lower(),
    }
    data = "".join(f' data-{name}="{escape(value)}"' for name, value in facts.items())
    troubles = "".join(f'<li class="trouble">{escape(text)}</li>' for _, text in clip.troubles)
    notes = "".join(f"<li>{escape(text)}</li>" for text in clip.notes)
    label = f" · <b>{escape(clip.label)}</b>" if clip.label else ""
    emotion = f" ({escape(clip.emotion)})" if clip.emotion else ""
    return (
        f"<article{data}><div class=name><h2>{escape(clip.subject)} / {escape(clip.name)}</h2>"
        f"<p>{escape(clip.dataset)}{label}{emotion}</p>"
        f"<p>{escape(clip.where)}</p></div>"
        f"<div class=pictures>{''.join(_figure(picture) for picture in clip.pictures)}</div>"
        f"<ul>{troubles}{notes}</ul></article>\n"
    )


def _figure(picture: Picture) -> str:
    under = f'<img class="under" alt="" src="{_source(picture.under)}">' if picture.under else ""
    overlay = (
        f'<svg viewBox="0 0 {picture.width} {picture.height}" aria-hidden="true">{picture.overlay}</svg>'
        if picture.overlay
        else ""
    )
    focus = " tabindex=0" if picture.under else ""
    return (
        f'<figure style="--w:{picture.width}"><div class=frame{focus}><img loading=lazy decoding=async'
        f' width={picture.width} height={picture.height} alt="{escape(picture.caption)}"'
        f' src="{_source(picture.jpeg)}">{under}{overlay}</div>'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def _source(data: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
