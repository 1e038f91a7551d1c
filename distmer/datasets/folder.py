"""Bring your own clips: a ``manifest.csv`` with the columns subject, clip, label, onset, apex[, dataset].

Onset and apex are image files, relative to the folder of the csv. Labels are taken as they stand (in lower
case).
"""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath, PureWindowsPath

from distmer.datasets.base import DatasetInfo, ReadOptions, emotion_name, inside, safe_name
from distmer.datasets.frame_files import IMAGES, Unusable
from distmer.datasets.sheets import Annotation, listing, tidy
from distmer.registry import nearest
from distmer.storage import Place
from distmer.types import BadInput, KeyFrames

MANIFEST = "manifest.csv"
_NEEDED = ("subject", "clip", "label", "onset", "apex")
_KNOWN = (*_NEEDED, "dataset")


def read(root: Place, options: ReadOptions) -> list[Annotation]:
    """Every row of manifest.csv. Both frames are named, so the missing-apex policy and errata do not
    apply."""
    path = root / MANIFEST
    if not path.is_file():
        there = listing(p.name for p in root.iterdir())
        raise BadInput(
            f"{root}: there is no {MANIFEST} (columns {', '.join(_NEEDED)}[, dataset]); found {there}."
        )
    records = _records(path)
    index = _header(path, records[0] if records else [])
    filled = [
        (number, cells)
        for number, cells in enumerate(records[1:], start=2)
        if any(cell.strip() for cell in cells)
    ]
    return [_row(root, number, cells, index, len(records[0])) for number, cells in filled]


def _records(path: Place) -> list[list[str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")  # Excel writes a byte order mark
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: it is not UTF-8 text (byte {error.start}); save it as CSV UTF-8.") from error
    try:
        return list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise BadInput(f"{path}: it is not a CSV file ({error}); save it again as CSV UTF-8.") from error


def _header(path: Place, cells: Sequence[str]) -> dict[str, int]:
    """Column → index.

    Columns of one's own are welcome, unless one looks like a misspelt known column that is absent.
    """
    names = [tidy(cell).lower() for cell in cells]
    if len(names) == 1 and (";" in cells[0] or "\t" in cells[0]):
        raise BadInput(f"{path}: row 1 is separated by semicolons or tabs; save it with commas.")
    lacking = [name for name in _NEEDED if name not in names]
    if lacking:
        hints = ", ".join(f"{name!r} ({nearest(name, names).rstrip('.')})" for name in lacking)
        raise BadInput(
            f"{path}: row 1 lacks the column {hints}; name the columns {', '.join(_NEEDED)}[, dataset]."
        )
    if "dataset" not in names and (close := difflib.get_close_matches("dataset", names, n=1, cutoff=0.75)):
        raise BadInput(f"{path}: row 1 has the unknown column {close[0]!r}; did you mean 'dataset'?")
    return {name: names.index(name) for name in _KNOWN if name in names}


def _row(root: Place, number: int, cells: Sequence[str], index: dict[str, int], width: int) -> Annotation:
    where = f"{MANIFEST} row {number}"
    given = {name: cells[place].strip() if place < len(cells) else "" for name, place in index.items()}
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
        source = KeyFrames(_image(root, given["onset"], "onset"), _image(root, given["apex"], "apex"))
    except Unusable as problem:
        return replace(row, problem=f"{where}: {problem}")
    return replace(row, source=source, note="apex = onset" if source.onset == source.apex else "")


def _image(root: Place, name: str, what: str) -> str:
    if not name:
        raise Unusable(f"the {what} is empty; name the {what} image.")
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).is_absolute():
        raise Unusable(
            f"the {what} {name!r} is an absolute path; write it relative to the folder of {MANIFEST}."
        )
    path = inside(root / name.replace("\\", "/"), root)
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
