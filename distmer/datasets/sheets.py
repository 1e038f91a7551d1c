"""Annotation sheets: finding the coding sheet in a data set's folder, and reading its rows by column name.

The header row is found, not assumed: SAMM's stands on line 14, the CASME sheets have nameless columns in
between, and copies that went through pandas carry "Unnamed: 2". Every cell is text until a loader says what
it means.
"""

from __future__ import annotations

import io
import re
import struct
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

from python_calamine import CalamineError

from distmer.datasets import biff2
from distmer.registry import nearest
from distmer.storage import Place
from distmer.types import BadInput, Source

# What an annotator types where a frame could not be told: a slash in CASME II, a backslash in CASME, nothing
# in SAMM.
MISSING = frozenset({"", "/", "\\", "-", "nan", "none", "n/a"})
_SHEETS = (".xls", ".xlsx", ".xlsm")
# What pandas and calamine let through when a file is cut short, locked with a password, or no Excel file at
# all.
_BROKEN = (OSError, ValueError, LookupError, TypeError, struct.error, CalamineError)


@dataclass(frozen=True, slots=True)
class Annotation:
    """What a data set says of one clip: a row of its sheet, or a folder of frames.

    Of any emotion, usable or not.

    `read_sheet` fills in the cells as they are typed. A loader then spells subject, clip and emotion in one
    way, and adds ``source`` if the clip can be used, else ``problem``.

    Attributes
    ----------
    subject, clip, emotion : str
        Who shows what in which clip; the emotion is in lower case once a loader has read it.
    where : str
        File and row, for messages.
    onset, apex, offset : str
        Frame numbers as typed; "" where the data set has no such column.
    source : Source, optional
        The frames to extract features from.
    problem : str
        Why the clip cannot be used, as a sentence; "" if it can.
    note : str
        What was done to the clip: an erratum, an apex that was chosen.
    dataset : str
        Only where one loader reads several data sets (manifest.csv).
    """

    subject: str
    clip: str
    emotion: str
    where: str
    onset: str = ""
    apex: str = ""
    offset: str = ""
    source: Source | None = None
    problem: str = ""
    note: str = ""
    dataset: str = ""


def tidy(text: str) -> str:
    """A cell without the typing errors of the published sheets.

    These are blanks, full-width commas, trailing dots and commas.

    NFKC turns the full-width comma, digits and blanks of a Chinese keyboard into plain ones.
    """
    plain = unicodedata.normalize("NFKC", text).replace("\ufeff", "").replace("\u200b", "")
    return plain.strip().rstrip(" ,.;。")


def natural(text: str) -> list[str | int]:
    """A sort key in which "img2" comes before "img10"."""
    return [int(part) if part.isdecimal() else part.lower() for part in re.split(r"(\d+)", text)]


def listing(names: Iterable[str], limit: int = 8) -> str:
    """Names for a message, cut after a few."""
    names = sorted(names, key=natural)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more if names else "nothing"


def matching(root: Place, patterns: Sequence[str]) -> list[Place]:
    """The entries of a folder that fit the first fitting glob pattern, in any case.

    Lock files and links are passed over.
    """
    entries = [
        p for p in sorted(root.iterdir()) if not p.name.startswith((".", "~$")) and p.suffix.lower() != ".lnk"
    ]
    for pattern in patterns:
        found = [p for p in entries if fnmatch(p.name.lower(), pattern.lower())]
        if found:
            return found
    return []


def find_sheet(root: Place, patterns: Sequence[str]) -> Place:
    """The one coding sheet of a data set; BadInput says what was looked for and what lies there."""
    found = matching(root, patterns)
    if len(found) > 1:
        raise BadInput(
            f"{root}: {listing(p.name for p in found)} could each be the coding sheet; leave"
            " only one edition there."
        )
    if not found:
        there = listing(p.name for p in root.iterdir())
        raise BadInput(
            f"{root}: the coding sheet is not there; looked for {' or '.join(patterns)}, found {there}."
        )
    return found[0]


def read_sheet(path: Place, columns: Mapping[str, Sequence[str]]) -> list[Annotation]:
    """The rows below the header, with the text of their cells.

    Rows with at most one filled cell among the columns are notes or leftovers, not clips, and are passed
    over.

    Parameters
    ----------
    path : path or remote place
        An Excel sheet.
    columns : mapping
        Field of `Annotation` → accepted headings; blanks and case do not count.

    Raises
    ------
    BadInput
        The file is no sheet, or no row of it names all columns.
    """
    grids = worksheets(path)
    for grid in grids.values():
        for number, cells in enumerate(grid):
            index = _columns_of(cells, columns)
            if len(index) == len(columns):
                return _rows_below(path, grid, number, index)
    raise BadInput(_no_header(path, grids, columns))


def worksheets(path: Place) -> dict[str, list[list[str]]]:
    """Every worksheet as text cells, by its name; row i of a grid is Excel's row i + 1.

    BadInput for what is no sheet.
    """
    import pandas as pd  # half a second, and no worker reads a sheet

    try:
        data = path.read_bytes()
        if data.startswith(biff2.MAGIC):
            return {"Sheet1": biff2.read(data)}
        file = io.BytesIO(data)
        frames = pd.read_excel(
            file, sheet_name=None, header=None, dtype=str, keep_default_na=False, engine="calamine"
        )
    except BaseException as error:
        # Of an .xls that is cut short, calamine panics, in a class that cannot be imported.
        if not isinstance(error, _BROKEN) and type(error).__name__ != "PanicException":
            raise
        reason = " ".join(str(error).split())[:120]
        raise BadInput(
            f"{path}: it cannot be read as an Excel sheet ({reason}); save it again as"
            f" {' or '.join(_SHEETS)}."
        ) from error
    return {
        str(name): [[str(cell) for cell in row] for row in frame.fillna("").to_numpy().tolist()]
        for name, frame in frames.items()
    }


def _columns_of(cells: Sequence[str], columns: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Field → column index, for the fields that one of these cells heads."""
    headings = [_heading(cell) for cell in cells]
    index: dict[str, int] = {}
    for field, accepted in columns.items():
        known = {_heading(name) for name in accepted}
        place = next((i for i, heading in enumerate(headings) if heading in known), None)
        if place is not None:
            index[field] = place
    return index


def _heading(text: str) -> str:
    return re.sub(r"[\W_]+", "", tidy(text).lower())


def _rows_below(
    path: Place, grid: list[list[str]], header: int, index: Mapping[str, int]
) -> list[Annotation]:
    rows: list[Annotation] = []
    for number in range(header + 1, len(grid)):
        cells: dict[str, Any] = {field: grid[number][place] for field, place in index.items()}
        if sum(bool(tidy(cell)) for cell in cells.values()) > 1:
            rows.append(Annotation(where=f"{path.name} row {number + 1}", **cells))
    return rows


def _no_header(
    path: Place, grids: Mapping[str, list[list[str]]], columns: Mapping[str, Sequence[str]]
) -> str:
    """Why no row can be the header: the row that comes closest, and what it lacks."""
    candidates = [
        (len(_columns_of(row, columns)), name, i, row)
        for name, grid in grids.items()
        for i, row in enumerate(grid)
    ]
    best = max(candidates, key=lambda c: c[0], default=(0, "", 0, []))
    wanted = ", ".join(names[0] for names in columns.values())
    if best[0] < 2:
        return (
            f"{path}: no worksheet ({listing(grids)}) has a row with the columns {wanted}; is this the"
            " coding sheet?"
        )
    _, sheet, number, row = best
    have = _columns_of(row, columns)
    titles = [tidy(cell) for cell in row if tidy(cell)]
    lacking = [names[0] for field, names in columns.items() if field not in have]
    hints = ", ".join(f"{name!r} ({nearest(name, titles).rstrip('.')})" for name in lacking)
    return (
        f"{path}: row {number + 1} of worksheet {sheet!r} looks like the header but lacks the column"
        f" {hints}; rename the column."
    )
