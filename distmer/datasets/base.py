"""What a data set is: where it lies, how its annotation is read, and what all sheets share.

A loader turns an official layout into annotations: one for every clip, usable or not, of any emotion. Which
of them belong to a protocol, and under which class, is decided afterwards (``assemble.py``), so a clip that
cannot be used but does not belong either is never counted as lost.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from distmer.datasets.frame_files import Unusable, key_frames
from distmer.datasets.sheets import (
    MISSING,
    Annotation,
    find_sheet,
    listing,
    matching,
    natural,
    read_sheet,
    tidy,
)
from distmer.storage import Place, below
from distmer.types import BadInput


@dataclass(frozen=True, slots=True)
class Erratum:
    """A published correction of one cell: the new value of a field (onset, apex, offset, emotion)."""

    field: str
    value: str
    source: str


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How a loader reads: the missing-apex policy, the corrections, keyed by (subject, clip), and which
    heading a sheet has for a field (``columns``)."""

    missing_apex: str = "error"
    errata: Mapping[tuple[str, str], tuple[Erratum, ...]] = field(
        default_factory=dict[tuple[str, str], tuple[Erratum, ...]]
    )
    columns: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """A data set that can be loaded. Each loader module exports one as ``DATASET``.

    Attributes
    ----------
    name, title, citation : str
    folders : tuple of str
        The names of its folder under a common root.
    markers : tuple of str
        Glob patterns; a folder is the data set's own if it directly holds a file or folder that fits one of
        them.
    read : callable
        Reads every annotation below the data set's folder.
    """

    name: str
    title: str
    citation: str
    folders: tuple[str, ...]
    markers: tuple[str, ...]
    read: Callable[[Place, ReadOptions], list[Annotation]]

    def recognises(self, folder: Place) -> bool:
        """Whether this folder itself is the data set's."""
        return bool(matching(folder, self.markers))


@dataclass(frozen=True, slots=True)
class SheetLayout:
    """A data set of one coding sheet and frames under ``<image folder>/<subject>/<clip>/``.

    Attributes
    ----------
    sheets : tuple of str
        Glob patterns of the sheet's name.
    columns : mapping
        Field of `Annotation` → accepted headings.
    images : tuple of str
        Names of the image folder, raw before cropped; "" is the root itself. The first that holds a folder
        like ``subject_folder`` is taken, and no clip from any other.
    subject_folder : str
        Regular expression of a subject's folder.
    subject : callable
        Spells a subject of the sheet as its folder does.
    """

    sheets: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]]
    images: tuple[str, ...]
    subject_folder: str
    subject: Callable[[str], str]

    def read(self, root: Place, options: ReadOptions) -> list[Annotation]:
        """Every row of the sheet, in its order."""
        sheet = find_sheet(root, self.sheets)
        images = image_folder(root, self.images, self.subject_folder)
        rows = [replace(row, subject=self.subject(row.subject)) for row in read_sheet(sheet, self.columns)]
        return [with_frames(row, images / row.subject / tidy(row.clip), images, options) for row in rows]


def padded(prefix: str, width: int) -> Callable[[str], str]:
    """A function that spells a subject: "1", "01" or "sub1" becomes ``prefix`` and a zero-padded number.

    Other text stays as it is, and fails later because there is no such folder.
    """

    def spell(text: str) -> str:
        number = re.fullmatch(r"(?:s(?:ub(?:ject)?)?[ _-]?)?(\d+)(?:\.0+)?", tidy(text).lower())
        return f"{prefix}{int(number[1]):0{width}d}" if number else tidy(text)

    return spell


def emotion_name(text: str) -> str:
    """An emotion in lower case; Other, Others and others are one."""
    name = tidy(text).lower()
    return "others" if name == "other" else name


def image_folder(root: Place, names: Sequence[str], subject_folder: str) -> Place:
    """The first of the named folders that holds a subject's folder.

    Case does not count, and a folder may be doubled, as archives unpack.

    BadInput, which says what was looked for, where there is none.
    """
    for name in names:
        for outer in [root] if not name else _children(root, name):
            for folder in [outer, *(_children(outer, name) if name else [])]:
                if any(
                    p.is_dir() and re.fullmatch(subject_folder, p.name, re.IGNORECASE)
                    for p in folder.iterdir()
                ):
                    return folder
    wanted = ", ".join(n or "the folder itself" for n in names)
    there = listing(p.name for p in root.iterdir())
    raise BadInput(
        f"{root}: no frames are there; looked for subject folders ({subject_folder}) in"
        f" {wanted}; found {there}."
    )


def with_frames(row: Annotation, folder: Place, images: Place, options: ReadOptions) -> Annotation:
    """A sheet's row with its errata applied and its key frames found, or with the problem.

    Parameters
    ----------
    row : Annotation
        Its subject is spelled as in the folders' names; everything else is as typed.
    folder : path or remote place
        Where the clip's frames lie.
    images : path or remote place
        The folder of all frames, which no row may lead out of.
    options : ReadOptions
        What to do without an apex, and the errata.
    """
    row, applied = _corrected(replace(row, clip=tidy(row.clip)), options)
    row = replace(row, emotion=emotion_name(row.emotion))
    try:
        safe_name(row.subject, "subject")
        safe_name(row.clip, "clip name")
        if not row.emotion:
            raise Unusable("the emotion is empty; fill it in.")
        onset = _number(row.onset, "onset")
        apex, offset = _number(row.apex, "apex"), _number(row.offset, "offset")
        if onset is None:
            raise Unusable("the onset is missing; fill it in.")
        source, found = key_frames(inside(folder, images), onset, apex, offset, options.missing_apex)
    except Unusable as problem:
        return replace(row, problem=f"{row.where}: {problem}", note="; ".join(applied))
    return replace(row, source=source, note="; ".join([*applied, *([found] if found else [])]))


def safe_name(value: str, what: str) -> str:
    """``value`` if it can be one folder's name, else Unusable.

    Text from a sheet must not lead out of the data root.
    """
    if not value:
        raise Unusable(f"the {what} is empty; fill it in.")
    if value in {".", ".."} or re.search(r"[/\\\x00]", value):
        raise Unusable(f"the {what} {value!r} would leave the data root; correct the row.")
    return value


def inside(path: Place, root: Place) -> Place:
    """``path`` if it lies under ``root`` once every link is followed, else Unusable."""
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError) as error:
        raise Unusable(f"{path} cannot be followed ({error}); correct the row.") from error
    if below(resolved, root.resolve()) is None:
        raise Unusable(
            f"{path} leads out of {root}; correct the row, or copy the frames instead of linking them."
        )
    return path.absolute()


def by_number(folder: Place) -> list[Place]:
    """The folders in a folder, in natural order, without hidden ones."""
    return sorted(
        (p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")),
        key=lambda p: natural(p.name),
    )


def _children(root: Place, name: str) -> list[Place]:
    """The folder at a relative name, its first part matched in any case."""
    head, _, rest = name.partition("/")
    found = [p / rest for p in by_number(root) if p.name.lower() == head.lower()]
    return [p for p in found if p.is_dir()]


def _corrected(row: Annotation, options: ReadOptions) -> tuple[Annotation, list[str]]:
    applied: list[str] = []
    for erratum in options.errata.get((row.subject, row.clip), ()):
        old = getattr(row, erratum.field)
        row = replace(row, **{erratum.field: erratum.value})
        applied.append(f"erratum: {erratum.field} {erratum.value} for {tidy(old)!r} ({erratum.source})")
    return row, applied


def _number(text: str, what: str) -> int | None:
    """A frame number as typed; None for the tokens that mean "not annotated"."""
    value = tidy(text)
    if value.lower() in MISSING:
        return None
    if not re.fullmatch(r"\d+(\.0+)?", value):
        raise Unusable(f"the {what} {value!r} is not a frame number; correct the row.")
    return int(value.split(".")[0])
