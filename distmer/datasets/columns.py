"""Which column of a sheet holds what: by its heading, or as ``data.columns`` says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from distmer.datasets.tables import Table
from distmer.datasets.text import listing, plain_number, tidy
from distmer.registry import nearest
from distmer.storage import Place
from distmer.types import BadInput

_LETTERS = re.compile(r"column ([a-z]{1,2})", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that a reader wants of a sheet: field → accepted headings.

    Blanks, punctuation and case of a heading do not count.
    """

    needed: Mapping[str, tuple[str, ...]]
    optional: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    # the fields by position, of a sheet that is published without a header; "" is a column that is not read
    order: tuple[str, ...] = ()
    settable: bool = True  # False: there is no configuration, so no message proposes ``data.columns``

    @property
    def fields(self) -> tuple[str, ...]:
        return (*self.needed, *self.optional)

    def mapped(self, given: Mapping[str, str]) -> Columns:
        """The same, but each field of ``data.columns`` is needed and has the given heading alone."""
        own = {field: (heading,) for field, heading in given.items() if field in self.fields}
        rest = {field: names for field, names in self.optional.items() if field not in own}
        return Columns({**self.needed, **own}, rest, self.order if not own else (), self.settable)

    def or_set(self, field: str, heading: str) -> str:
        """The second half of a remedy: the setting that names a field's column, if there are settings."""
        return f', or set data.columns to {{{field}: "{heading}"}}' if self.settable else ""


@dataclass(frozen=True, slots=True)
class Header:
    """Where the columns of a table are: ``row`` is the header's index (-1: there is none), ``index`` field →
    column."""

    table: str
    row: int
    index: Mapping[str, int]
    width: int  # cells of the header row


def find_header(path: Place, found: Mapping[str, Table], columns: Columns) -> Header:
    """The first row of the tables that heads all needed columns. BadInput where no row does, or where two
    columns have the heading of one field."""
    for name, table in found.items():
        for number, cells in enumerate(table):
            places = _places(cells, columns)
            if all(places[field] for field in columns.needed):
                _refuse_doubled(path, name, number, cells, places, columns)
                index = {field: at[0] for field, at in places.items() if at}
                return Header(name, number, index, len(cells))
    if columns.order:
        for name, table in found.items():
            index = {field: at for at, field in enumerate(columns.order) if field}
            first = next((row for row in table if any(cell.strip() for cell in row)), [])
            if len(first) > max(index.values()) and plain_number(first[index["onset"]]).isdecimal():
                return Header(name, -1, index, max(len(row) for row in table))
    raise BadInput(_no_header(path, found, columns))


def described(path: Place, header: Header, table: Table) -> str:
    """Which column was read as which field, for `distmer data check`."""
    cells = table[header.row] if header.row >= 0 else []
    taken = ", ".join(
        f"{field} = {' '.join(cells[at].split()) if cells else 'column'} ({letter(at)})"
        for field, at in header.index.items()
    )
    where = f"header in row {header.row + 1}" if cells else "no header, columns in the published order"
    return f"{path.name}, {header.table}, {where}: {taken}"


def rows_below(header: Header, table: Table) -> Iterator[tuple[int, list[str], dict[str, str]]]:
    """The rows below a header that are not blank: the row's number in the file, its cells, and field →
    cell."""
    for number, cells in enumerate(table[header.row + 1 :], start=header.row + 2):
        if any(cell.strip() for cell in cells):
            index = header.index.items()
            yield number, cells, {name: cells[at] if at < len(cells) else "" for name, at in index}


def letter(index: int) -> str:
    """Excel's name of a column: 0 is A, 25 is Z, 26 is AA."""
    return (letter(index // 26 - 1) if index >= 26 else "") + chr(ord("A") + index % 26)


_NUMBERS = {letter(index): index for index in range(26 + 26 * 26)}  # of the names of one or two letters


def _places(cells: Sequence[str], columns: Columns) -> dict[str, list[int]]:
    """Field → the columns that these cells head with it."""
    headings = [_heading(cell) for cell in cells]
    places: dict[str, list[int]] = {}
    for name, accepted in (*columns.needed.items(), *columns.optional.items()):
        if len(accepted) == 1 and (lettered := _LETTERS.fullmatch(accepted[0].strip())):
            number = _NUMBERS[lettered[1].upper()]
            places[name] = [number] if number < len(cells) else []
        else:
            known = {_heading(title) for title in accepted}
            places[name] = [at for at, heading in enumerate(headings) if heading and heading in known]
    return places


def _refuse_doubled(
    path: Place,
    name: str,
    number: int,
    cells: Sequence[str],
    places: Mapping[str, list[int]],
    columns: Columns,
) -> None:
    for field_name, at in places.items():
        if len(at) > 1:
            both = " and ".join(f"{tidy(cells[i])!r} (column {letter(i)})" for i in at)
            raise BadInput(
                f"{path}: row {number + 1} of {name} has several columns for the {field_name}, {both}; delete"
                f" all but one{columns.or_set(field_name, f'column {letter(at[0])}')}."
            )
    shared: dict[int, str] = {}
    for field_name, at in places.items():
        if at and shared.setdefault(at[0], field_name) != field_name:
            raise BadInput(
                f"{path}: row {number + 1} of {name}: column {letter(at[0])} is taken for the"
                f" {shared[at[0]]} and for the {field_name}; correct data.columns."
            )


def _heading(text: str) -> str:
    return re.sub(r"[\W_]+", "", tidy(text).lower())


def _no_header(path: Place, found: Mapping[str, Table], columns: Columns) -> str:
    """Why no row can be the header: the row that comes closest, and what it lacks."""
    candidates = [
        (sum(bool(_places(row, columns)[field]) for field in columns.needed), name, i, row)
        for name, table in found.items()
        for i, row in enumerate(table)
    ]
    best = max(candidates, key=lambda c: c[0], default=(0, "", 0, []))
    wanted = ", ".join(names[0] for names in columns.needed.values())
    if best[0] < 2:
        how = "Name its columns in data.columns" if columns.settable else "Rename its columns"
        return (
            f"{path}: no table ({listing(found)}) has a row with the columns {wanted}; is this the right"
            f" file? {how} if they are called otherwise."
        )
    _, table, number, row = best
    have = _places(row, columns)
    titles = [tidy(cell) for cell in row if tidy(cell)]
    lacking = {field: names[0] for field, names in columns.needed.items() if not have[field]}
    hints = ", ".join(f"{name!r} ({nearest(name, titles).rstrip('.')})" for name in lacking.values())
    first = next(iter(lacking))
    return (
        f"{path}: row {number + 1} of {table} looks like the header but lacks the column {hints}; rename the"
        f" column{columns.or_set(first, 'its heading')}."
    )
