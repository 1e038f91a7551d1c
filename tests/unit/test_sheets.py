"""Sheets are read by one library, and say what they said when two others read them; what is broken is one
sentence."""

from __future__ import annotations

import datetime
import io
import warnings
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pytest
import xlwt
from hypothesis import given
from hypothesis import strategies as st

from distmer.datasets import biff2
from distmer.datasets.tables import worksheets
from distmer.types import BadInput
from tests.fixtures.dataset_layouts import LAYOUTS

CELLS: list[Any] = [
    1,
    1.0,
    1.5,
    -3,
    1e20,
    1e-7,
    True,
    "006",
    "",
    " x ",
    "nan",
    "NA",
    "é，中",
    "a\nb",
    "\\",
    None,
    0.25,
    2**53,
]
CELLS += [datetime.datetime(2014, 5, 8), datetime.date(2019, 7, 21)]


def before(data: bytes) -> dict[str, list[list[str]]]:
    """The sheet by openpyxl or xlrd, which pandas took by itself."""
    engine: Any = "openpyxl" if data.startswith(b"PK") else "xlrd"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frames = pd.read_excel(
            io.BytesIO(data), sheet_name=None, header=None, dtype=str, keep_default_na=False, engine=engine
        )
    return {
        str(name): [[str(cell) for cell in row] for row in frame.fillna("").to_numpy().tolist()]
        for name, frame in frames.items()
    }


def new_workbook() -> bytes:
    book = openpyxl.Workbook()
    sheet: Any = book.active
    for column, value in enumerate(CELLS, start=2):
        sheet.cell(3, column, value)
    sheet["B5"], sheet["C5"] = "=1/0", "#DIV/0!"
    sheet["C5"].data_type = "e"
    sheet["D5"], sheet["D5"].number_format = 7, "000"
    sheet["B7"] = "over three columns"
    sheet.merge_cells("B7:D8")
    book.create_sheet("hidden", 0).sheet_state = "hidden"
    book.create_sheet("empty")
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def old_workbook() -> bytes:
    book = xlwt.Workbook()
    sheet = book.add_sheet("Sheet1")
    dated = xlwt.easyxf(num_format_str="YYYY-MM-DD")
    for column, value in enumerate(CELLS, start=1):
        if value is not None:
            sheet.write(
                2, column, value, dated if isinstance(value, datetime.date) else xlwt.Style.default_style
            )
    sheet.write(4, 1, xlwt.Formula("1/0"))
    sheet.row(4).set_cell_error(2, "#DIV/0!")
    sheet.write_merge(6, 7, 1, 3, "over three columns")
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("make", [new_workbook, old_workbook])
def test_every_kind_of_cell_says_what_it_said(make: Any, tmp_path: Path) -> None:
    (tmp_path / "sheet").write_bytes(make())
    # Here alone: what earlier tests left may be collected, and warn, at any time.
    with warnings.catch_warnings(action="error"):
        grids = worksheets(tmp_path / "sheet")
    assert grids == before(make())
    (cells,) = [grid[2] for grid in grids.values() if len(grid) > 2]
    assert (
        cells[1:9] == ["1", "1", "1.5", "-3", "100000000000000000000", "1e-07", "True", "006"]
        and cells[19] == "2014-05-08 00:00:00"
    )


@pytest.mark.parametrize("name", ["casme", "casme2", "samm"])
def test_the_official_layouts_say_what_they_said(name: str, tmp_path: Path) -> None:
    (sheet,) = LAYOUTS[name](tmp_path).glob("*.xls*")
    assert worksheets(sheet) == before(sheet.read_bytes())


TEXT = st.text(st.characters(codec="cp1252", exclude_categories=("Cc",)), min_size=1, max_size=20)


@given(st.lists(st.lists(st.none() | st.integers(-(2**31), 2**31) | TEXT, max_size=5), max_size=5))
def test_the_plainest_xls_is_read_as_xlrd_reads_it(rows: list[list[biff2.Cell]]) -> None:
    data = biff2.write(rows)
    cells = biff2.read(data)
    told = {(r, c): str(cell) for r, row in enumerate(rows) for c, cell in enumerate(row) if cell is not None}
    assert {(r, c): cell for r, row in enumerate(cells) for c, cell in enumerate(row) if cell} == told
    assert cells == next(iter(before(data).values()))


@pytest.mark.parametrize("kind", [".xls", ".xlsx", "BIFF2"])
def test_a_sheet_that_is_cut_short_is_one_sentence(kind: str, tmp_path: Path) -> None:
    plain = biff2.write([("Subject", "Filename"), (1, "EP01")])
    whole = {".xls": old_workbook(), ".xlsx": new_workbook(), "BIFF2": plain}[kind]
    sheet = tmp_path / "sheet.xls"
    for length in range(0, len(whole), max(1, len(whole) // 60)):
        sheet.write_bytes(whole[:length])
        with pytest.raises(BadInput, match="it cannot be read as an Excel sheet"):
            worksheets(sheet)
