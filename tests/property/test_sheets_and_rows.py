"""Every row of a sheet is read or listed: whatever its cells, its form and its encoding, none is lost and
none stops the others."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distmer.config import DataConfig
from distmer.datasets import load_manifest
from tests.fixtures.dataset_layouts import CASME2_HEADER, CASME2_ROWS, casme2

CLEAN = st.sampled_from([list(row) for row in CASME2_ROWS])
LINE_ENDS = ("Cc", "Cs", "Zl", "Zp")  # what a cell of a text table cannot hold in one line
CELL: Any = st.one_of(
    st.none(),
    st.integers(-3, 200),
    st.integers(10**20, 10**30),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.sampled_from(["/", "\\", "nan", ".", "..", "../x", "0" * 5000, "9" * 5000, "x" * 300, "，", "46.0"]),
    st.sampled_from(["happiness", "disgust", "Others", "EP02_01f", "sub01", "spNO.1", "注意", "Total"]),
    st.text(st.characters(exclude_categories=LINE_ENDS, max_codepoint=0xFFFD), max_size=12),
)
MESSY = st.lists(CELL, min_size=9, max_size=9)
ROWS = st.lists(st.one_of(CLEAN, MESSY), max_size=6)
FORMS = st.sampled_from(
    [("csv", ",", "utf-8"), ("csv", ";", "utf-8-sig"), ("txt", "\t", "gb18030"), ("csv", ",", "utf-16")]
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound copy without its sheet: every example writes another one."""
    root = casme2(tmp_path_factory.mktemp("casme2"))
    (root / "CASME2-coding-20140508.xlsx").unlink()
    return root


def check(root: Path, rows: list[list[Any]]) -> None:
    """Two sound rows stand first, so that there is something to train on."""
    config = DataConfig(protocol="casme2", root=str(root), subjects="as-written", missing_apex="midpoint")
    manifest = load_manifest(config, Path("/no/workspace"))
    listed = (*manifest.failures, *manifest.excluded)
    blank = [row for row in rows if not any(str(cell).strip() for cell in row if cell is not None)]
    assert len(manifest.clips) + len(listed) == len(rows) - len(blank)
    assert {clip.name for clip in manifest.clips} >= {"EP01_13"}
    for row in manifest.failures:
        assert "CASME2-coding" in row.reason and " row " in row.reason and row.reason.endswith(".")


@settings(max_examples=150, deadline=None)
@given(rows=ROWS, form=FORMS)
def test_a_text_table(root: Path, rows: list[list[Any]], form: tuple[str, str, str]) -> None:
    ending, separator, encoding = form
    whole = [*CASME2_ROWS[:4], *rows]
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator)
    writer.writerows([["" if cell is None else cell for cell in row] for row in [CASME2_HEADER, *whole]])
    sheet = root / f"CASME2-coding.{ending}"
    sheet.write_bytes(text.getvalue().encode(encoding))
    try:
        check(root, whole)
    finally:
        sheet.unlink()


@settings(max_examples=80, deadline=None)
@given(rows=ROWS)
def test_an_excel_sheet(root: Path, rows: list[list[Any]]) -> None:
    whole = [*CASME2_ROWS[:4], *rows]
    book = openpyxl.Workbook()
    for r, row in enumerate([CASME2_HEADER, *whole], start=1):
        for c, cell in enumerate(row, start=1):
            if cell is not None:
                target = book.worksheets[0].cell(r, c)
                target.value = cell
                if isinstance(cell, str):
                    target.data_type = "s"  # a text that begins with = is no formula
    sheet = root / "CASME2-coding.xlsx"
    book.save(sheet)
    try:
        check(root, whole)
    finally:
        sheet.unlink()
