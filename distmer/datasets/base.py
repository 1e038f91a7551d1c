"""What a data set is: where it is looked for, how its annotation is read, and the row handling that all sheets share.

A loader turns an official layout into ``Row`` values: every annotated clip, usable or not, of any emotion. Which rows belong
to a protocol, and under which class, is decided afterwards (``assemble.py``), so a row that cannot be used but does not
belong either is never counted as lost.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from distmer.datasets.frames import Unusable, key_frames
from distmer.datasets.sheets import MISSING, find_sheet, listing, matching, natural, read_sheet, tidy
from distmer.storage import Place, below
from distmer.types import BadInput, Source


@dataclass(frozen=True, slots=True)
class Erratum:
    """A published correction of one cell: the new value of ``field`` (onset, apex, offset or emotion), and who says so."""

    field: str
    value: str
    source: str


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How a loader reads: the missing-apex policy and the corrections, keyed by (subject, clip)."""

    missing_apex: str = "error"
    errata: Mapping[tuple[str, str], tuple[Erratum, ...]] = field(default_factory=dict[tuple[str, str], tuple[Erratum, ...]])


@dataclass(frozen=True, slots=True)
class Row:
    """An annotated clip before any protocol: with a source if it can be used, else with the problem."""

    subject: str
    clip: str
    emotion: str
    where: str
    source: Source | None = None
    problem: str = ""
    note: str = ""
    dataset: str = ""  # only where a loader reads several sets at once (manifest.csv)


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """A data set that can be loaded. Each loader module exports one as ``DATASET``.

    ``folders`` are the names it goes by under a common root; ``signs`` glob patterns of which one lies directly in its own folder.
    """

    name: str
    title: str
    citation: str
    folders: tuple[str, ...]
    signs: tuple[str, ...]
    read: Callable[[Place, ReadOptions], list[Row]]

    def recognises(self, folder: Place) -> bool:
        """Whether this folder itself is the data set's."""
        return bool(matching(folder, self.signs))


@dataclass(frozen=True, slots=True)
class Annotation:
    """The cells of one clip as typed, under canonical names."""

    where: str
    subject: str
    clip: str
    emotion: str
    onset: str
    apex: str
    offset: str


@dataclass(frozen=True, slots=True)
class SheetLayout:
    """A data set of one coding sheet and frames under ``<image folder>/<subject>/<clip>/``.

    ``columns``: field of Annotation (without ``where``) → accepted headings. ``images``: the image folder's names, raw before
    cropped, "" the root itself; the first that holds a folder like ``subject_folder`` is taken, and no clip from any other.
    """

    sheets: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]]
    images: tuple[str, ...]
    subject_folder: str
    subject: Callable[[str], str]

    def read(self, root: Place, options: ReadOptions) -> list[Row]:
        """Every row of the sheet, in its order."""
        sheet = find_sheet(root, self.sheets)
        images = image_folder(root, self.images, self.subject_folder)
        notes = [Annotation(row.where, **row.cells) for row in read_sheet(sheet, self.columns)]
        return [annotated(replace(note, subject=self.subject(note.subject)), images, None, options) for note in notes]


def padded(prefix: str, width: int) -> Callable[[str], str]:
    """How a subject is spelled: "1", "01" or "sub1" becomes ``prefix`` and a zero-padded number. Other text stays, and fails later."""

    def spell(text: str) -> str:
        number = re.fullmatch(r"(?:s(?:ub(?:ject)?)?[ _-]?)?(\d+)(?:\.0+)?", tidy(text).lower())
        return f"{prefix}{int(number[1]):0{width}d}" if number else tidy(text)

    return spell


def emotion_name(text: str) -> str:
    """An emotion in lower case; Other, Others and others are one."""
    name = tidy(text).lower()
    return "others" if name == "other" else name


def image_folder(root: Place, names: Sequence[str], subject_folder: str) -> Place:
    """The first of the named folders (in any case, or doubled as archives unpack) that holds a subject's folder."""
    for name in names:
        for outer in [root] if not name else _children(root, name):
            for folder in [outer, *(_children(outer, name) if name else [])]:
                if any(p.is_dir() and re.fullmatch(subject_folder, p.name, re.IGNORECASE) for p in folder.iterdir()):
                    return folder
    wanted = ", ".join(n or "the folder itself" for n in names)
    there = listing(p.name for p in root.iterdir())
    raise BadInput(f"{root}: no frames are there; looked for subject folders ({subject_folder}) in {wanted}; found {there}.")


def annotated(note: Annotation, images: Place, folder: Place | None, options: ReadOptions) -> Row:
    """A sheet's row as a Row, errata applied, frames found under ``images`` (in ``folder``, else ``<subject>/<clip>``)."""
    subject, clip = note.subject, tidy(note.clip)
    note, applied = _corrected(note, options.errata.get((subject, clip), ()))
    row = Row(subject, clip, emotion_name(note.emotion), note.where)
    try:
        safe_name(subject, "subject")
        safe_name(clip, "clip name")
        if not row.emotion:
            raise Unusable("the emotion is empty; fill it in.")
        onset = _number(note.onset, "onset")
        apex, offset = _number(note.apex, "apex"), _number(note.offset, "offset")
        if onset is None:
            raise Unusable("the onset is missing; fill it in.")
        place = inside(folder or images / subject / clip, images)
        source, found = key_frames(place, onset, apex, offset, options.missing_apex)
    except Unusable as problem:
        return replace(row, problem=f"{note.where}: {problem}", note="; ".join(applied))
    return replace(row, source=source, note="; ".join([*applied, *([found] if found else [])]))


def safe_name(value: str, what: str) -> str:
    """``value`` if it can be one folder's name: text from a sheet must never lead out of the data root."""
    if not value:
        raise Unusable(f"the {what} is empty; fill it in.")
    if value in {".", ".."} or re.search(r"[/\\\x00]", value):
        raise Unusable(f"the {what} {value!r} would leave the data root; correct the row.")
    return value


def inside(path: Place, root: Place) -> Place:
    """``path`` if it lies under ``root`` once every link is followed."""
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError) as error:
        raise Unusable(f"{path} cannot be followed ({error}); correct the row.") from error
    if below(resolved, root.resolve()) is None:
        raise Unusable(f"{path} leads out of {root}; correct the row, or copy the frames instead of linking them.")
    return path.absolute()


def by_number(folder: Place) -> list[Place]:
    """The folders in a folder, in natural order, without hidden ones."""
    return sorted((p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")), key=lambda p: natural(p.name))


def _children(root: Place, name: str) -> list[Place]:
    """The folder at a relative name, its first part matched in any case."""
    head, _, rest = name.partition("/")
    found = [p / rest for p in by_number(root) if p.name.lower() == head.lower()]
    return [p for p in found if p.is_dir()]


def _corrected(note: Annotation, errata: Sequence[Erratum]) -> tuple[Annotation, list[str]]:
    applied: list[str] = []
    for erratum in errata:
        old = getattr(note, erratum.field)
        note = replace(note, **{erratum.field: erratum.value})
        applied.append(f"erratum: {erratum.field} {erratum.value} for {tidy(old)!r} ({erratum.source})")
    return note, applied


def _number(text: str, what: str) -> int | None:
    """A frame number as typed; None for the tokens that mean "not annotated"."""
    value = tidy(text)
    if value.lower() in MISSING:
        return None
    if not re.fullmatch(r"\d+(\.0+)?", value):
        raise Unusable(f"the {what} {value!r} is not a frame number; correct the row.")
    return int(value.split(".")[0])
