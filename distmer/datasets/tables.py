"""Files of cells: Excel workbooks and text tables, read as text. An Excel file gives one table for each
worksheet. A text file does not say how its cells are separated, so it gives one table for each separator, and
the reader takes the one that has the header."""

from __future__ import annotations

import csv
import io
import struct
from datetime import date
from typing import Any

from python_calamine import CalamineError, CalamineWorkbook

from distmer.datasets import biff2
from distmer.storage import Place
from distmer.types import BadInput

EXCEL = (".xls", ".xlsx", ".xlsm")
TEXT = (".csv", ".tsv", ".txt")
Table = list[list[str]]

# What calamine raises for a file that is cut short, locked with a password, or not an Excel file.
_BROKEN = (OSError, ValueError, LookupError, TypeError, struct.error, CalamineError)
_WORKBOOK = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0", biff2.MAGIC)
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "，": "full-width commas"}


def sheet_names(*stems: str) -> tuple[str, ...]:
    """Glob patterns of a sheet's name without its ending: the Excel file first, then copies saved as text."""
    return tuple(f"{stem}{ending}" for ending in (".xls*", ".csv", ".tsv", ".txt") for stem in stems)


def tables(path: Place) -> dict[str, Table]:
    """Every table of a file, by its name for messages; row i of a table is the file's row i + 1. Of
    cells that are merged downwards, each row has the value: one subject over several clips.

    BadInput for what is neither an Excel file nor text.
    """
    head = path.read_bytes()[:8] if path.suffix.lower() in TEXT else b""
    if path.suffix.lower() not in TEXT or head.startswith(_WORKBOOK):
        return {f"worksheet {name!r}": table for name, table in worksheets(path, fill=True).items()}
    text, encoding = _decoded(path)
    found: dict[str, Table] = {}
    broken: csv.Error | None = None
    for separator, word in _SEPARATORS.items():
        if separator in text:
            try:  # a quote that is never closed would swallow the rows below it
                rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
                found[f"{encoding} text separated by {word}"] = list(rows)
            except csv.Error as error:
                broken = error
    if broken is not None and not found:
        raise BadInput(f"{path}: it is not a CSV file ({broken}); save it again as CSV UTF-8.")
    return found or {f"{encoding} text": [[line] for line in text.splitlines()]}


def worksheets(path: Place, *, fill: bool = False) -> dict[str, Table]:
    """Every worksheet as text cells, by its name; row i of a table is Excel's row i + 1. ``fill``: of cells
    that are merged downwards, each row has the value. BadInput for a file that is not a sheet."""
    try:
        data = path.read_bytes()
        if data.startswith(biff2.MAGIC):  # calamine does not read it; it has no merged cells
            return {"Sheet1": biff2.read(data)}
        book = CalamineWorkbook.from_filelike(io.BytesIO(data))
        sheets = {name: book.get_sheet_by_name(name) for name in book.sheet_names}
        cells = {name: sheet.to_python(skip_empty_area=False) for name, sheet in sheets.items()}
    except BaseException as error:
        # Of an .xls that is cut short, calamine panics, in a class that cannot be imported.
        if not isinstance(error, _BROKEN) and type(error).__name__ != "PanicException":
            raise
        reason = " ".join(str(error).split())[:120]
        raise BadInput(
            f"{path}: it cannot be read as an Excel sheet ({reason}); save it again as {' or '.join(EXCEL)}."
        ) from error
    found = {name: [[_text(cell) for cell in row] for row in rows] for name, rows in cells.items()}
    for name, sheet in sheets.items() if fill else ():
        table = found[name]
        for (top, left), (bottom, _) in sheet.merged_cell_ranges or ():
            for row in table[top + 1 : bottom + 1]:
                if left < len(row) and left < len(table[top]) and not row[left]:
                    row[left] = table[top][left]
    return found


def _text(cell: Any) -> str:
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return f"{cell} 00:00:00" if type(cell) is date else str(cell)  # as a day with a time is written


def _decoded(path: Place) -> tuple[str, str]:
    """The text and the name of its encoding. Excel writes UTF-8 with a byte order mark, or that of the
    system: GBK on a Chinese one."""
    data = path.read_bytes()
    encodings = {"utf-8-sig": "UTF-8", "gb18030": "GBK"}
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings = {"utf-16": "UTF-16"}
    for encoding, name in encodings.items():
        try:
            return data.decode(encoding), name
        except UnicodeDecodeError:
            continue
    raise BadInput(
        f"{path}: it is neither {' nor '.join(encodings.values())} text; save it again as CSV UTF-8."
    )
