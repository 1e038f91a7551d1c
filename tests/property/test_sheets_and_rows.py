"""Every row of a sheet is read or listed: whatever its cells, its form and its encoding, none is lost and
none stops the others."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distmer.config import DataConfig
from distmer.datasets import ReadOptions, datasets, load_manifest
from distmer.datasets.tables import worksheets
from tests.fixtures.dataset_layouts import CASME2_HEADER, CASME2_ROWS, casme2, smic
from tests.fixtures.further_layouts import EVERY_LAYOUT

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
    sheet = root / "CASME2-coding.xlsx"
    write(sheet, {"Sheet1": [CASME2_HEADER, *whole]})
    try:
        check(root, whole)
    finally:
        sheet.unlink()


def write(sheet: Path, tables: Mapping[str, Sequence[Sequence[Any]]]) -> None:
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    for name, rows in tables.items():
        target = book.create_sheet(name)
        for r, row in enumerate(rows, start=1):
            for c, cell in enumerate(row, start=1):
                if cell is not None:
                    target.cell(r, c).value = cell
                    if isinstance(cell, str):
                        target.cell(r, c).data_type = "s"  # a text that begins with = is no formula
    book.save(sheet)


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path, dict[str, Any]]]:
    """Of every set with a coding sheet: its folder, its sheet, and what the sheet holds."""
    found = {}
    for name, make in EVERY_LAYOUT.items():
        root = make(tmp_path_factory.mktemp("copy"))
        for sheet in root.glob("*.xls*"):
            tables = worksheets(sheet)
            sheet.unlink()
            found[name] = (root, sheet.with_suffix(".xlsx"), tables)
    return found


SHEETS = ("casme", "casme2", "samm", "mmew", "casmesq", "casme3a", "casme3c", "4dme")


@pytest.mark.parametrize("name", SHEETS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_reader_of_every_set(copies: Any, name: str, data: st.DataObject) -> None:
    assert set(copies) == set(SHEETS)
    root, sheet, tables = copies[name]
    first, *further = tables
    width = max(len(row) for row in tables[first])
    rows = data.draw(st.lists(st.lists(CELL, min_size=width, max_size=width), max_size=4))
    sound = datasets()[name].read
    write(sheet, {first: tables[first], **{other: tables[other] for other in further}})
    before = len(sound(root, ReadOptions(missing_apex="midpoint")))
    write(sheet, {first: [*tables[first], *rows], **{other: tables[other] for other in further}})
    read = sound(root, ReadOptions(missing_apex="midpoint"))
    blank = [row for row in rows if not any(str(cell).strip() for cell in row if cell is not None)]
    assert len(read) == before + len(rows) - len(blank)
    for row in read:
        assert sum(map(bool, (row.source, row.problem, row.aside))) >= 1 and row.where.startswith(sheet.name)
        assert row.aside or (row.source is None) == bool(row.problem)


@pytest.fixture(scope="module")
def smic_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return smic(tmp_path_factory.mktemp("smic"))


SMIC_HEADER = [None, "Subject", "Filename", "Emotion", "OnsetF", "OffsetF"]
SMIC_CELL = st.one_of(CELL, st.sampled_from(["s1_ne_01", "S1_NE_01", "s1_sur_01", "s11_po_02", "s2_ne_01"]))


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.lists(SMIC_CELL, min_size=6, max_size=6), max_size=8))
def test_the_sheet_of_smic_corrects_folders_and_loses_none(smic_folders: Path, rows: list[list[Any]]) -> None:
    """Each row either describes a folder's clip or is listed; the folders' clips stay, whatever it says."""
    root = smic_folders
    write(root / "SMIC-HS-E_annotation.xlsx", {"Sheet1": [SMIC_HEADER, *rows]})
    said: list[str] = []
    read = datasets()["smic"].read(root, ReadOptions(missing_apex="midpoint", say=said.append))
    clips, listed = [row for row in read if row.clip], [row for row in read if not row.clip]
    assert sorted(row.clip for row in clips) == ["s11_po_02", "s1_ne_01", "s1_sur_01"]
    assert all(row.source and not row.problem for row in clips)
    found = [re.match(r"the sheet describes (\d+) of the 3 clips", line) for line in said]
    filled = [row for row in rows if any(str(cell).strip() for cell in row if cell is not None)]
    described = next((int(match[1]) for match in found if match), 3 if filled else 0)
    assert described + len(listed) == len(filled)
    for row in listed:
        assert "SMIC-HS-E_annotation.xlsx row " in row.aside and row.aside.endswith(".")
    corrected = [row for row in clips if "onset and offset of the sheet" in row.note]
    assert len(corrected) <= described
