"""Excel 2.1 worksheets (BIFF2), the plainest .xls there is: the form of the embedded data set's CASME sheet.

The official CASME sheet is an .xls file too. A newer .xls needs a library to be written (xlwt, without a
release since 2017), and calamine, which reads all other sheets here, does not read BIFF2. So this file does
both. Another form would need a new `GENERATOR_VERSION`, because users have embedded sets in this form. The
records are those of OpenOffice's Documentation of the Microsoft Excel File Format.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

Cell = str | int | None

_BOF, _EOF, _CODEPAGE, _NUMBER, _LABEL = 0x0009, 0x000A, 0x0042, 0x0003, 0x0004


def write(rows: Iterable[Sequence[Cell]]) -> bytes:
    """Rows as a worksheet. Text must be of Windows' code page 1252, at most 255 characters a cell."""
    parts = [MAGIC, _record(_CODEPAGE, struct.pack("<H", 1252))]
    for r, row in enumerate(rows):
        for c, cell in enumerate(row):
            at = struct.pack("<HH3x", r, c)
            if isinstance(cell, int):
                parts.append(_record(_NUMBER, at + struct.pack("<d", cell)))
            elif cell is not None:
                text = cell.encode("cp1252")
                parts.append(_record(_LABEL, at + struct.pack("<B", len(text)) + text))
    return b"".join([*parts, _record(_EOF, b"")])


def read(data: bytes) -> list[list[str]]:
    """The cells of a worksheet that `write` made, as text, in rows of one length.

    struct.error where it is cut short.
    """
    cells: dict[tuple[int, int], str] = {}
    kind, place = 0, 0
    while kind != _EOF:
        kind, size = struct.unpack_from("<HH", data, place)
        body = data[place + 4 : place + 4 + size]
        place += 4 + size
        if kind == _NUMBER:
            row, column, number = struct.unpack("<HH3xd", body)
            cells[row, column] = str(int(number) if number.is_integer() else number)
        elif kind == _LABEL:
            row, column, length = struct.unpack_from("<HH3xB", body)
            cells[row, column] = body[8 : 8 + length].decode("cp1252")
    height, width = (1 + max((at[axis] for at in cells), default=-1) for axis in (0, 1))
    return [[cells.get((row, column), "") for column in range(width)] for row in range(height)]


def _record(kind: int, body: bytes) -> bytes:
    return struct.pack("<HH", kind, len(body)) + body


MAGIC = _record(_BOF, struct.pack("<HH", 0x0007, 0x0010))  # what such a file begins with
