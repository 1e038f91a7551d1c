"""Bring your own clips: a ``manifest.csv`` of one row a clip, beside image files, frame folders or videos.

Columns: subject, clip, label, onset, apex[, offset][, path][, dataset]; ``data.columns`` maps other headings.

``path`` is the clip's video or folder of frames, relative to the folder of the csv. Onset, apex and offset
are then frame numbers (of a video counted from 1), file names in the folder, or times in a video: a time has
its unit in the cell (``0.23 s``, ``230 ms``) or in the heading (``onset_s``, ``Onset (ms)``). The apex may be
missing, as in any data set (``data.missing_apex``). Without ``path``, onset and apex are image files.

Labels are taken as they stand (in lower case).
"""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath, PurePosixPath, PureWindowsPath

from distmer.datasets.base import DatasetInfo, ReadOptions, emotion_name, inside, safe_name
from distmer.datasets.frame_files import CONVERT, IMAGES, PHOTOS, Unusable, frames_of, of_numbers
from distmer.datasets.sheets import MISSING, Annotation, listing, tidy
from distmer.registry import nearest
from distmer.storage import Place
from distmer.types import BadInput, KeyFrames, Source

MANIFEST = "manifest.csv"
VIDEOS = (".avi", ".m4v", ".mkv", ".mov", ".mp4")
_NEEDED = ("subject", "clip", "label", "onset", "apex")
_KNOWN = (*_NEEDED, "offset", "path", "dataset")
_TIMED = ("onset", "apex", "offset")
_OF_OTHERS = ("emotion", "type", "sha256")  # fields of data.columns that a sheet or a list of clips has
_WANTED = f"{', '.join(_NEEDED)}[, offset][, path][, dataset]"
_UNIT = r"(s|sec|seconds|ms)"
_HEADED = re.compile(rf"(.+?)(?:[\s_]+|\s*[(\[]\s*){_UNIT}\s*[)\]]?")
_TIME = re.compile(rf"(\d+(?:\.\d+)?)\s*{_UNIT}?")


@dataclass(frozen=True, slots=True)
class _Column:
    """Where a field stands in a row, and the unit of its times where the heading says it."""

    index: int
    unit: str = ""


def read(root: Place, options: ReadOptions) -> list[Annotation]:
    """Every row of manifest.csv. Errata do not apply: the file is your own to correct."""
    path = root / MANIFEST
    if not path.is_file():
        there = listing(p.name for p in root.iterdir())
        raise BadInput(
            f"{root}: there is no {MANIFEST} (columns {_WANTED}), which distmer data new {root} begins; found"
            f" {there}."
        )
    records = _records(path)
    columns = _header(path, records[0] if records else [], options.columns)
    taken = (
        f"{name} = {records[0][at.index].strip()}{f' in {at.unit}' if at.unit else ''}"
        for name, at in columns.items()
    )
    options.say(f"{MANIFEST}: {', '.join(taken)}")
    filled = [
        (number, cells)
        for number, cells in enumerate(records[1:], start=2)
        if any(cell.strip() for cell in cells)
    ]
    return [_row(root, number, cells, columns, len(records[0]), options) for number, cells in filled]


def _records(path: Place) -> list[list[str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")  # Excel writes a byte order mark
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: it is not UTF-8 text (byte {error.start}); save it as CSV UTF-8.") from error
    try:
        return list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise BadInput(f"{path}: it is not a CSV file ({error}); save it again as CSV UTF-8.") from error


def _header(path: Place, cells: Sequence[str], mapping: Mapping[str, str]) -> dict[str, _Column]:
    """Field → column.

    Columns of one's own are welcome, unless one looks like a misspelt known column that is absent.
    """
    names = [tidy(cell).lower() for cell in cells]
    if len(names) == 1 and (";" in cells[0] or "\t" in cells[0]):
        raise BadInput(f"{path}: row 1 is separated by semicolons or tabs; save it with commas.")
    columns = _mapped(path, names, mapping)
    for name in _KNOWN:
        found = [
            (i, unit) for i, title in enumerate(names) for unit in [_fits(title, name)] if unit is not None
        ]
        if name in columns or not found:
            continue
        if len(found) > 1:
            both = " and ".join(repr(cells[i]) for i, _ in found)
            raise BadInput(
                f"{path}: row 1 has several columns for the {name}, {both}; delete all but one, or name it"
                f" in data.columns.{name}."
            )
        columns[name] = _Column(*found[0])
    free = [name for i, name in enumerate(names) if i not in {column.index for column in columns.values()}]
    lacking = [name for name in _NEEDED if name not in columns]
    if lacking == ["apex"] and "path" in columns and "offset" in columns:
        lacking = []
    if lacking:
        hints = ", ".join(f"{name!r} ({nearest(name, free).rstrip('.')})" for name in lacking)
        raise BadInput(
            f"{path}: row 1 lacks the column {hints}; name the columns {_WANTED}, or map yours in"
            " data.columns."
        )
    for name in _KNOWN:
        if name not in columns and (close := difflib.get_close_matches(name, free, n=1, cutoff=0.75)):
            raise BadInput(f"{path}: row 1 has the unknown column {close[0]!r}; did you mean {name!r}?")
    return columns


def _mapped(path: Place, names: Sequence[str], mapping: Mapping[str, str]) -> dict[str, _Column]:
    """The columns that ``data.columns`` names."""
    columns: dict[str, _Column] = {}
    for name, heading in mapping.items():
        if name in _OF_OTHERS:
            continue
        if name not in _KNOWN:
            raise BadInput(f"data.columns.{name}: {MANIFEST} has no such field; {nearest(name, _KNOWN)}")
        title = tidy(heading).lower()
        if title not in names:
            raise BadInput(
                f"data.columns.{name}: row 1 of {path} has no column {heading!r}; {nearest(title, names)}"
            )
        headed = _HEADED.fullmatch(title) if name in _TIMED else None
        columns[name] = _Column(names.index(title), headed[2] if headed else "")
    return columns


def _fits(title: str, name: str) -> str | None:
    """The unit in a heading of this field ("" where it has none); None for a heading of another."""
    if title == name:
        return ""
    headed = _HEADED.fullmatch(title) if name in _TIMED else None
    return headed[2] if headed and headed[1] == name else None


def _row(
    root: Place,
    number: int,
    cells: Sequence[str],
    columns: Mapping[str, _Column],
    width: int,
    options: ReadOptions,
) -> Annotation:
    where = f"{MANIFEST} row {number}"
    given = {name: cells[at.index].strip() if at.index < len(cells) else "" for name, at in columns.items()}
    for name in _TIMED:
        if (unit := columns[name].unit if name in columns else "") and _TIME.fullmatch(given[name]):
            given[name] += "" if _TIME.fullmatch(given[name])[2] else f" {unit}"  # type: ignore[index]
    subject, clip, label = tidy(given["subject"]), tidy(given["clip"]), emotion_name(given["label"])
    dataset = tidy(given.get("dataset", "")) or DATASET.name
    row = Annotation(subject, clip, label, where, dataset=dataset)
    try:
        if len(cells) != width:
            raise Unusable(
                f"it has {len(cells)} cells, the header {width}; put quotes around cells that"
                " contain a comma."
            )
        for value, what in ((dataset, "data set"), (subject, "subject"), (clip, "clip name")):
            safe_name(value, what)
        if not label:
            raise Unusable("the label is empty; fill it in.")
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
        raise Unusable(f"the {what} {cell!r} is no frame of {folder}; {nearest(text.lower(), names)}")
    return number


def _in_video(path: Place, given: Mapping[str, str]) -> tuple[dict[int, str], dict[str, int | None], str]:
    """The frames of a video by number, those that the cells name, and a note on those named by a time."""
    from distmer.features.frames import ClipError  # OpenCV and FFmpeg, which few data sets need here
    from distmer.features.video import index

    try:
        video = index(str(path))
    except ClipError as error:
        raise Unusable(str(error)) from error
    numbers: dict[str, int | None] = {}
    timed: list[str] = []
    for what in _TIMED:
        text = tidy(given.get(what, ""))
        found = _TIME.fullmatch(text)
        if text.lower() in MISSING:
            numbers[what] = None
        elif found and found[2]:
            seconds = float(found[1]) / (1000 if found[2] == "ms" else 1)
            end = video.seconds[-1] + (1 / video.rate if video.rate else 0)
            if seconds > end:
                raise Unusable(
                    f"the {what} {text!r} lies behind the end of {path.name} ({end:.3f} s); correct the row."
                )
            numbers[what] = video.nearest(seconds)
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
    if not video.steady and len(timed) < sum(number is not None for number in numbers.values()):
        steps = [1000 * (b - a) for a, b in zip(video.seconds, video.seconds[1:], strict=False)]
        raise Unusable(
            f"{path.name} has a variable frame rate ({min(steps):.0f} to {max(steps):.0f} ms a frame), so a"
            " frame number may mean another frame in another program; give times (0.23 s), or convert it to"
            " a constant rate."
        )
    frames = {number: f"{path}#{number}" for number in range(1, len(video) + 1)}
    return frames, numbers, f"frames by their time, {', '.join(timed)}" if timed else ""


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
)
