"""Files of cells: Excel workbooks and text tables, read as text.

An Excel file gives one table a worksheet. A text file does not say how its cells are separated, so it gives
one table a separator, and the reader takes the one that has the header.
"""

from __future__ import annotations

import csv
import io
import struct

from python_calamine import CalamineError, CalamineWorkbook

from distmer.datasets import biff2
from distmer.storage import Place
from distmer.types import BadInput

EXCEL = (".xls", ".xlsx", ".xlsm")
TEXT = (".csv", ".tsv", ".txt")
Table = list[list[str]]

# What pandas and calamine let through when a file is cut short, locked with a password, or no Excel file at
# all.
_BROKEN = (OSError, ValueError, LookupError, TypeError, struct.error, CalamineError)
_WORKBOOK = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0", biff2.MAGIC)
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "，": "full-width commas"}


def sheet_names(*stems: str) -> tuple[str, ...]:
    """Glob patterns of a sheet's name without its ending: the Excel file first, then copies saved as text."""
    return tuple(f"{stem}{ending}" for ending in (".xls*", ".csv", ".tsv", ".txt") for stem in stems)


def tables(path: Place) -> dict[str, Table]:
    """Every table of a file by what it is called in a message; row i of a table is the file's row i + 1.

    Of cells that are merged downwards, each row has the value: one subject over several clips.

    BadInput for what is neither an Excel file nor text.
    """
    head = path.read_bytes()[:8] if path.suffix.lower() in TEXT else b""
    if path.suffix.lower() not in TEXT or head.startswith(_WORKBOOK):
        return {f"worksheet {name!r}": table for name, table in _filled(path, worksheets(path)).items()}
    text, encoding = _decoded(path)
    return {
        f"{encoding} text separated by {word}": _parsed(path, text, separator)
        for separator, word in _SEPARATORS.items()
        if separator in text
    } or {f"{encoding} text": [[line] for line in text.splitlines()]}


def worksheets(path: Place) -> dict[str, Table]:
    """Every worksheet as text cells, by its name; row i of a table is Excel's row i + 1.

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
            f"{path}: it cannot be read as an Excel sheet ({reason}); save it again as {' or '.join(EXCEL)}."
        ) from error
    return {
        str(name): [[str(cell) for cell in row] for row in frame.fillna("").to_numpy().tolist()]
        for name, frame in frames.items()
    }


def _filled(path: Place, found: dict[str, Table]) -> dict[str, Table]:
    data = path.read_bytes()
    if data.startswith(biff2.MAGIC):  # it has no merged cells, and calamine does not read it
        return found
    book = CalamineWorkbook.from_filelike(io.BytesIO(data))
    for name, table in found.items():
        for (top, left), (bottom, _) in book.get_sheet_by_name(name).merged_cell_ranges or ():
            for row in table[top + 1 : bottom + 1]:
                if left < len(row) and left < len(table[top]) and not row[left]:
                    row[left] = table[top][left]
    return found


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


def _parsed(path: Place, text: str, separator: str) -> Table:
    try:
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=separator))
    except csv.Error as error:
        raise BadInput(f"{path}: it is not a CSV file ({error}); save it again as CSV UTF-8.") from error
