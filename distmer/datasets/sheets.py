"""Annotation sheets: finding the coding sheet in a data set's folder, and reading its rows by column name.

The header row is searched for: SAMM's is on line 14, the CASME sheets have columns without a name, and copies
that went through pandas have "Unnamed: 2". Every cell is text until a loader says what it means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch

from distmer.datasets.columns import Columns, Header, described, find_header, letter, rows_below
from distmer.datasets.tables import tables
from distmer.datasets.text import listing, tidy
from distmer.storage import Place
from distmer.types import BadInput, Source

_OWN_FIELDS = ("subject", "clip", "emotion", "onset", "apex", "offset")
# What data.columns can map: a sheet's own columns, and those of a manifest.csv or of a list of clips.
FIELDS = (*_OWN_FIELDS, "label", "path", "dataset", "type", "sha256")


@dataclass(frozen=True, slots=True)
class Annotation:
    """What a data set says of one clip, usable or not: a row of its sheet, or a folder of frames.

    `read_sheet` fills in the cells as they are typed. A loader then spells subject, clip and emotion in one
    way, and adds ``source`` if the clip can be used, else ``problem``.
    """

    subject: str
    clip: str
    emotion: str  # in lower case once a loader has read it
    where: str  # file and row, for messages
    onset: str = ""  # frame numbers as typed; "" where the data set has no such column
    apex: str = ""
    offset: str = ""
    source: Source | None = None  # the frames to extract features from
    problem: str = ""  # why the clip cannot be used, as a sentence
    note: str = ""  # what was done to the clip: an erratum, an apex that was chosen
    dataset: str = ""  # only where one loader reads several data sets (manifest.csv)
    aside: str = ""  # why the row describes no micro-expression: a note below the rows, a macro-expression
    extra: Mapping[str, str] = field(default_factory=dict[str, str])  # cells of further columns, by field


def matching(root: Place, patterns: Sequence[str]) -> list[Place]:
    """The entries of a folder that fit the first fitting glob pattern, in any case, without lock files and
    links."""
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


def read_sheet(
    path: Place,
    columns: Columns,
    given: Mapping[str, str] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[Annotation]:
    """The rows below the header of an Excel sheet or text table that are not blank, with the text of their
    cells.

    A row of fewer than three filled cells among the needed columns is a note, a total or a leftover: it is
    returned with ``aside``. ``given`` maps fields to headings (``data.columns``). ``say`` is told which
    columns were taken for what.

    BadInput if the file is not a sheet, if no row names all columns, or if two columns have one heading.
    """
    found = tables(path)
    wanted = columns.mapped(given or {})
    header = find_header(path, found, wanted)
    table = found[header.table]
    rows = [_row(path, header, wanted, *row) for row in rows_below(header, table)]
    clips = sum(not row.aside for row in rows)
    say(f"{described(path, header, table)}; {clips} rows of clips, {len(rows) - clips} others")
    unread = [name for name in found if name.startswith("worksheet") and name != header.table and found[name]]
    if unread:
        say(f"{path.name}: {listing(unread)} not read")
    return rows


def _row(
    path: Place, header: Header, wanted: Columns, number: int, cells: list[str], values: Mapping[str, str]
) -> Annotation:
    where = f"{path.name} row {number}"
    own = {name: values.get(name, "") for name in _OWN_FIELDS}
    extra = {name: value for name, value in values.items() if name not in own}
    if sum(bool(tidy(values.get(name, ""))) for name in wanted.needed) < 3:
        text = " ".join(" ".join(cells).split())[:60]
        reason = f"{text!r} is taken for a note; fill in subject, clip, onset and emotion if it is a clip"
        return Annotation("", "", "", where, aside=f"{where}: {reason}.")
    beyond = [at for at in range(header.width, len(cells)) if cells[at].strip()]
    if "text separated" in header.table and beyond:
        # The cells may have been shifted by a comma, so not even the emotion is sure.
        problem = (
            f"{where}: it has a cell in column {letter(beyond[0])}, where the header has none; put quotes"
            " around cells that contain the separator."
        )
        return Annotation(own["subject"], own["clip"], "", where, problem=problem)
    names = own["subject"], own["clip"], own["emotion"]
    return Annotation(*names, where, own["onset"], own["apex"], own["offset"], extra=extra)
