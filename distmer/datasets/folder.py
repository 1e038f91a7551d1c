"""Your own clips: a ``manifest.csv`` of one row for each clip, beside image files, frame folders or videos.
``docs/data.md`` describes its columns, which ``data.columns`` maps to other headings.

With a ``path`` (a video or a folder of frames), onset, apex and offset are frame numbers, file names, or
times. Without ``path``, onset and apex are image files. Labels are taken as they are, in lower case.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from distmer.datasets.base import DatasetInfo, ReadOptions, emotion_name, inside, safe_name
from distmer.datasets.columns import Columns, described, find_header, rows_below
from distmer.datasets.frame_files import CONVERT, IMAGES, PHOTOS, Unusable, frames_of, of_numbers
from distmer.datasets.sheets import Annotation
from distmer.datasets.tables import tables
from distmer.datasets.text import MISSING, listing, tidy
from distmer.registry import nearest
from distmer.storage import Place
from distmer.types import VIDEOS, BadInput, KeyFrames, Source

if TYPE_CHECKING:
    from distmer.features.video import Index

MANIFEST = "manifest.csv"
_TIMED = ("onset", "apex", "offset")
_UNITS = ("s", "sec", "seconds", "ms")
_UNIT = f"({'|'.join(_UNITS)})"
_TIME = re.compile(rf"(\d+(?:\.\d+)?)\s*{_UNIT}?")


def _headings(field: str) -> tuple[str, ...]:
    return (field, *(f"{field} {unit}" for unit in _UNITS if field in _TIMED))


_COLUMNS = Columns(
    {field: _headings(field) for field in ("subject", "clip", "label", "onset")},
    {field: _headings(field) for field in ("apex", "offset", "path", "dataset")},
)


def read(root: Place, options: ReadOptions) -> list[Annotation]:
    """Every row of manifest.csv. Errata do not apply: the file is your own to correct."""
    path = root / MANIFEST
    if not path.is_file():
        there = listing(p.name for p in root.iterdir())
        wanted = "subject, clip, label, onset, apex[, offset][, path][, dataset]"
        raise BadInput(
            f"{root}: there is no {MANIFEST} (columns {wanted}), which distmer data new {root} begins; found"
            f" {there}."
        )
    found = tables(path)
    if any(name.startswith("GBK") for name in found):
        raise BadInput(f"{path}: it is not UTF-8 text; save it as CSV UTF-8.")
    columns = replace(_COLUMNS, settable=options.settable).mapped(options.columns)
    header = find_header(path, found, columns)
    if "apex" not in header.index and not {"path", "offset"} <= header.index.keys():
        header = find_header(path, found, columns.mapped({"apex": "apex"}))  # says what is lacking
    table = found[header.table]
    heads = dict(enumerate(tidy(cell).lower() for cell in table[header.row]))
    own = [head for at, head in heads.items() if at not in header.index.values()]
    for field in columns.fields:  # columns of one's own are welcome, but for one that is misspelt
        close = [] if field in header.index else difflib.get_close_matches(field, own, n=1, cutoff=0.75)
        if close:
            where = f"{path}: row {header.row + 1}"
            raise BadInput(f"{where} has the unknown column {close[0]!r}; did you mean {field!r}?")
    options.say(described(path, header, table))
    units = {field: _unit_in(heads[header.index[field]], field) for field in _TIMED if field in header.index}
    rows = rows_below(header, table)
    return [_row(root, n, cells, header.width, given, units, options) for n, cells, given in rows]


def _unit_in(heading: str, field: str) -> str:
    """The unit of the times below a heading, "onset_s" or "Begin (ms)"; "" where it names none."""
    found = re.fullmatch(rf"(?:{field}|.+ ){_UNIT}", re.sub(r"[\W_]+", " ", heading).strip())
    return found[1] if found else ""


def _row(
    root: Place,
    number: int,
    cells: Sequence[str],
    width: int,
    fields: Mapping[str, str],
    units: Mapping[str, str],
    options: ReadOptions,
) -> Annotation:
    where = f"{MANIFEST} row {number}"
    given = {name: cell.strip() for name, cell in fields.items()}
    for name, unit in units.items():
        time = _TIME.fullmatch(given[name])
        if unit and time and not time[2]:
            given[name] += f" {unit}"
    subject, clip, label = tidy(given["subject"]), tidy(given["clip"]), emotion_name(given["label"])
    dataset = tidy(given.get("dataset", "")) or DATASET.name
    row = Annotation(subject, clip, label, where, dataset=dataset)
    try:
        if len(cells) != width:
            raise Unusable(
                f"it has {len(cells)} cells, the header {width}; put quotes around cells that contain"
                " the separator."
            )
        for value, what in ((dataset, "data set"), (subject, "subject"), (clip, "clip name")):
            safe_name(value, what)
        if label in {*MISSING, "?"} and not options.unlabelled:  # what a table has where nobody has labelled
            said = f"{label!r}, which is no class" if label else "empty"
            raise Unusable(f"the label is {said}; fill it in.")
        source, note = _source(root, given, options)
    except Unusable as problem:
        return replace(row, problem=f"{where}: {problem}")
    return replace(row, source=source, note=note)


def _source(root: Place, given: Mapping[str, str], options: ReadOptions) -> tuple[Source, str]:
    if not given.get("path"):
        onset, apex = (_image(root, given.get(what, ""), what, options) for what in ("onset", "apex"))
        source = KeyFrames(onset, apex)
        return source, "apex = onset" if source.onset == source.apex else ""
    path = _below(root, given["path"], "path", options)
    if path.is_dir():
        frames = frames_of(path)
        numbers = {what: _in_folder(frames, path, given.get(what, ""), what) for what in _TIMED}
        times = ""
    elif path.is_file() and path.suffix.lower() in VIDEOS:
        frames, numbers, times = _in_video(path, given)
    else:
        raise Unusable(
            f"the path {given['path']!r} is neither a folder of frames nor a video in {root}"
            f" ({', '.join(VIDEOS)}); correct the path."
        )
    if numbers["onset"] is None:
        raise Unusable("the onset is empty; fill it in.")
    source, note = of_numbers(
        frames, str(path), numbers["onset"], numbers["apex"], numbers["offset"], options.missing_apex
    )
    return source, "; ".join(part for part in (times, note) if part)


def _in_folder(frames: Mapping[int, str], folder: Place, cell: str, what: str) -> int | None:
    """The frame that a cell names by its number or file name."""
    text = tidy(cell)
    if text.lower() in MISSING:
        return None
    if re.fullmatch(r"\d+(\.0+)?", text):
        return int(text.split(".")[0])
    names = {PurePath(path).name.lower(): number for number, path in frames.items()}
    stems = {PurePath(path).stem.lower(): number for number, path in frames.items()}
    number = names.get(text.lower(), stems.get(text.lower()))
    if number is None and _TIME.fullmatch(text):
        raise Unusable(
            f"the {what} {cell!r} is a time, but the clip is a folder of frames; give the frame's number or"
            " file name."
        )
    if number is None:
        raise Unusable(f"the {what} {cell!r} is not a frame of {folder}; {nearest(text.lower(), names)}")
    return number


def _in_video(path: Place, given: Mapping[str, str]) -> tuple[dict[int, str], dict[str, int | None], str]:
    """The frames of a video by number, those that the cells name, and a note on those named by a time."""
    video = frames_of_video(path)
    numbers: dict[str, int | None] = {}
    timed: list[str] = []
    for what in _TIMED:
        text = tidy(given.get(what, ""))
        found = _TIME.fullmatch(text)
        if text.lower() in MISSING:
            numbers[what] = None
        elif (seconds := seconds_in(text)) is not None:
            numbers[what] = frame_at(video, seconds, f"{what} {text!r}", path.name)
            timed.append(f"{what} {numbers[what]}")
        elif found and float(found[1]).is_integer():
            number = numbers[what] = int(float(found[1]))
            if not number:
                raise Unusable(
                    f"the {what} is frame 0, but the frames of a video are counted from 1; if your numbers"
                    " begin with 0, add 1 to all of them."
                )
            if number > len(video):
                raise Unusable(
                    f"the {what} is frame {number}, but {path.name} has {len(video)} frames; correct the row."
                )
        else:
            raise Unusable(
                f"the {what} {text!r} is neither a frame number nor a time; write 46, 0.23 s or 230 ms."
            )
    if len(timed) < sum(number is not None for number in numbers.values()):
        require_steady(video, path.name)
    frames = {number: f"{path}#{number}" for number in range(1, len(video) + 1)}
    return frames, numbers, f"frames by their time, {', '.join(timed)}" if timed else ""


def frames_of_video(path: Place) -> Index:
    """The frames of a video. Unusable for a file that is not a video or cannot be read."""
    from distmer.features.frames import ClipError  # OpenCV and FFmpeg, which few data sets need here
    from distmer.features.video import index

    try:
        return index(str(path))
    except ClipError as error:
        raise Unusable(str(error)) from error


def seconds_in(text: str) -> float | None:
    """A time with its unit, ``0.23 s`` or ``230 ms``, in s; None for any other text."""
    found = _TIME.fullmatch(text)
    return None if not found or not found[2] else float(found[1]) / (1000 if found[2] == "ms" else 1)


def span_of(text: str | float, what: str) -> float:
    """A length of time in s: as a number, or as a text with or without its unit (``0.5``, ``0.5s``,
    ``500 ms``). BadInput, which names ``what`` it is, for any other text."""
    seconds = seconds_in(tidy(str(text)))
    try:
        return float(text) if seconds is None else seconds
    except ValueError as error:
        raise BadInput(f"{what} {text!r} is not a time; write seconds, or 0.5s or 500ms.") from error


def frame_at(video: Index, seconds: float, what: str, name: str) -> int:
    """The number of the frame that a video shows at a time. Unusable behind its end; ``what`` and ``name``
    are what the sentence says of the time and of the file."""
    end = video.seconds[-1] + (1 / video.rate if video.rate else 0)
    if seconds > end:
        raise Unusable(f"the {what} lies behind the end of {name} ({end:.3f} s); correct the time.")
    return video.nearest(seconds)


def require_steady(video: Index, name: str) -> None:
    """Unusable where a frame's number does not say which frame it is."""
    if video.steady:
        return
    steps = [1000 * (b - a) for a, b in zip(video.seconds, video.seconds[1:], strict=False)]
    raise Unusable(
        f"{name} has a variable frame rate ({min(steps):.0f} to {max(steps):.0f} ms a frame), so a frame"
        " number may mean another frame in another program; give times (0.23 s), or convert it to a constant"
        " rate."
    )


def _below(root: Place, name: str, what: str, options: ReadOptions) -> Place:
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).is_absolute():
        raise Unusable(
            f"the {what} {name!r} is an absolute path; write it relative to the folder of {MANIFEST}."
        )
    return inside(root / name.replace("\\", "/"), root, options)


def _image(root: Place, name: str, what: str, options: ReadOptions) -> str:
    if not name:
        raise Unusable(f"the {what} is empty; name the {what} image.")
    if _TIME.fullmatch(tidy(name)):
        raise Unusable(
            f"the {what} {name!r} is a number, but the row names no frames; add a column path with the clip's"
            " video or folder of frames."
        )
    path = _below(root, name, what, options)
    if path.suffix.lower() in PHOTOS:
        raise Unusable(f"the {what} {name!r} is a HEIC photo, which is not read; {CONVERT}")
    if not path.is_file() or path.suffix.lower() not in IMAGES:
        raise Unusable(
            f"the {what} {name!r} is not an image file in {root}; correct the path"
            f" ({', '.join(sorted(IMAGES))})."
        )
    return str(path)


DATASET = DatasetInfo(
    name="folder",
    title="Your own clips",
    citation="none: a manifest.csv of one's own",
    folders=("folder",),
    markers=(MANIFEST,),
    read=read,
    fields=_COLUMNS.fields,
)
