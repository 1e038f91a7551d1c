"""What a data set is: where it lies, how its annotation is read, and what all sheets share.

A loader turns an official layout into annotations: one for every clip, usable or not, of any emotion.
``assemble.py`` decides afterwards which of them belong to a protocol, and under which class.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

from distmer.datasets.frame_files import Unusable, key_frames
from distmer.datasets.protocols import Erratum
from distmer.datasets.sheets import FIELDS, Annotation, matching
from distmer.datasets.text import MISSING, listing, natural, plain_number, tidy
from distmer.storage import Place, below
from distmer.types import BadInput


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How a loader reads."""

    missing_apex: str = "error"  # or "midpoint", "max-flow"
    errata: Mapping[tuple[str, str], tuple[Erratum, ...]] = field(
        default_factory=dict[tuple[str, str], tuple[Erratum, ...]]
    )  # (subject, clip) → corrections
    columns: Mapping[str, str] = field(default_factory=dict[str, str])  # field → heading (``data.columns``)
    bounds: Place | None = None  # below it (``data.root``) a link may lead anywhere; None: only to the images
    allow_links: bool = False  # a link may lead anywhere
    say: Callable[[str], None] = lambda line: None  # is told what was read, and which columns as what
    settable: bool = True  # False: there is no configuration, so no message proposes a setting
    unlabelled: bool = False  # True: clips without a label are read too


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """A data set that can be loaded. Each loader module exports one as ``DATASET``."""

    name: str
    title: str
    citation: str
    folders: tuple[str, ...]  # the names of its folder under a common root
    markers: tuple[str, ...]  # glob patterns: a folder that directly holds a match is the data set's own
    read: Callable[[Place, ReadOptions], list[Annotation]]  # reads every annotation below its folder
    fields: tuple[str, ...] = FIELDS  # whose columns ``data.columns`` may name; () where there is no sheet

    def recognises(self, folder: Place) -> bool:
        """Whether this folder itself is the data set's."""
        return bool(matching(folder, self.markers))


def emotion_name(text: str) -> str:
    """An emotion in lower case; Other, Others and others are the same."""
    name = tidy(text).lower()
    return "others" if name == "other" else name


def image_folder(
    root: Place, names: Sequence[str], subject_folder: str, folders: Sequence[str] = ()
) -> Place:
    """The first of the named folders that holds a subject's folder. BadInput says what was looked for.

    Upper and lower case are alike. A folder may lie in a folder of the same name, as some archives unpack.
    ``folders`` are the names of the set's own folder: if the sheet lies in the common root, the frames lie
    there.
    """
    starts = [root, *(folder for own in folders for folder in _children(root, own))]
    for start, name in product(starts, names):
        outer = _children(start, name) if name else [start]
        doubled = [inner for folder in outer for inner in _children(folder, name)] if name else []
        for folder in (*outer, *doubled):
            if any(p.is_dir() and re.fullmatch(subject_folder, p.name, re.I) for p in folder.iterdir()):
                return folder
    wanted = ", ".join(n or "the folder itself" for n in names)
    there = listing(p.name for p in root.iterdir())
    raise BadInput(
        f"{root}: no frames are there; looked for subject folders ({subject_folder}) in"
        f" {wanted}; found {there}."
    )


def with_frames(
    row: Annotation, folder: Callable[[Annotation], Place], images: Place, options: ReadOptions
) -> Annotation:
    """A sheet's row with its errata applied and its key frames found, or with the problem.

    The row's subject, clip and emotion are spelled as in the folders' names; the rest is as typed. ``folder``
    says where the frames of a row lie; it is called only if the names are safe. ``images`` is the folder of
    all frames; no row may lead out of it.
    """
    if row.problem or row.aside:
        return row
    row, applied = _corrected(row, options)
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
        frames = inside(folder(row), images, options)
        source, found = key_frames(frames, onset, apex, offset, options.missing_apex)
        return replace(row, source=source, note="; ".join(part for part in (*applied, found) if part))
    except Unusable as problem:
        reason = str(problem)
    except (OSError, ValueError) as error:  # a name that the disk refuses, a folder that may not be read
        reason = f"its frames cannot be read ({error}); correct the row, or the folder's permissions."
    return replace(row, problem=f"{row.where}: {reason}", note="; ".join(applied))


def safe_name(value: str, what: str) -> str:
    """``value`` if it can be the name of one folder, else Unusable: text from a sheet must not lead out of
    the data root."""
    if not value:
        raise Unusable(f"the {what} is empty; fill it in.")
    if value in {".", ".."} or re.search(r"[/\\\x00]", value):
        raise Unusable(f"the {what} {value!r} would leave the data root; correct the row.")
    return value


def inside(path: Place, root: Place, options: ReadOptions | None = None) -> Place:
    """``path`` if it lies under ``root`` once every link is followed, else Unusable.

    A link may also lead anywhere below ``options.bounds``, or anywhere with ``options.allow_links``. Text of
    a sheet may not: a path with ``..`` in it must stay under ``root``.
    """
    try:
        resolved = path.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise Unusable(f"{path} cannot be followed ({error}); correct the row.") from error
    if below(resolved, root.resolve()) is not None:
        return path.absolute()
    plain = ".." not in str(path).replace("\\", "/").split("/") and below(path.absolute(), root.absolute())
    if plain and options is not None:
        bounds = options.bounds
        if options.allow_links or (bounds is not None and below(resolved, bounds.resolve()) is not None):
            return path.absolute()
    if not plain:
        remedy = "correct the row"
    elif options is None or options.settable:
        remedy = "set data.allow_links to true if the link is meant"
    else:
        remedy = "put the files themselves there, in place of the link"
    raise Unusable(f"{path} leads out of {root}; {remedy}.")


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
        old = tidy(getattr(row, erratum.field))
        if erratum.replaces and plain_number(old) != _replaced(erratum.replaces, row):
            continue
        row = replace(row, **{erratum.field: erratum.value})
        applied.append(f"erratum: {erratum.field} {erratum.value} for {old!r} ({erratum.source})")
    return row, applied


def _replaced(text: str, row: Annotation) -> str:
    onset = plain_number(row.onset)
    if text == "onset+1":
        return str(int(onset) + 1) if re.fullmatch(r"[0-9]{1,9}", onset) else ""
    return plain_number(text)


def _number(text: str, what: str) -> int | None:
    """A frame number as typed; None for the tokens that mean "not annotated"."""
    value = tidy(text)
    if value.lower() in MISSING:
        return None
    if not re.fullmatch(r"\d{1,9}(\.0+)?", value):
        raise Unusable(f"the {what} {value!r} is not a frame number; correct the row.")
    return int(value.split(".")[0])
