"""The annotation sheets in the column layouts of their publishers, written so that equal rows give equal
bytes."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable, Sequence

import openpyxl

from distmer.datasets import biff2
from distmer.datasets.biff2 import Cell
from distmer.datasets.synthetic.annotations import AnnotatedClip

CASME_SHEET = "CASME-coded-20190721.xls"
CASME2_SHEET = "CASME2-coding-20140508.xlsx"
SAMM_SHEET = "SAMM_Micro_FACS_Codes_v2.xlsx"

CASME_COLUMNS = (
    "Subject",
    "Filename",
    None,
    "OnsetF",
    "ApexF1",
    "ApexF2",
    "OffsetF",
    None,
    "Onset(ms)",
    "Total(ms)",
    "AU",
    "Emotion",
)
CASME2_COLUMNS = (
    "Subject",
    "Filename",
    None,
    "OnsetFrame",
    "ApexFrame",
    "OffsetFrame",
    None,
    "Action Units",
    "Estimated Emotion",
)
SAMM_COLUMNS = (
    "Subject",
    "Filename",
    "Inducement Code",
    "Onset Frame",
    "Apex Frame",
    "Offset Frame",
    "Duration",
    "Micro",
)
SAMM_COLUMNS += ("Action Units", "Estimated Emotion", "Objective Classes", "Notes")
SAMM_HEADER_LINE = 14


def sheet(dataset: str, clips: Sequence[AnnotatedClip]) -> tuple[str, bytes]:
    """The sheet of one of the three sets: its official name, and its bytes."""
    if dataset == "casme":
        return CASME_SHEET, biff2.write([CASME_COLUMNS, *map(_casme_row, clips)])
    if dataset == "casme2":
        return CASME2_SHEET, xlsx_bytes([CASME2_COLUMNS, *map(_casme2_row, clips)])
    title = ("SAMM micro-movements, embedded synthetic set: these are not the frames or codes of SAMM",)
    head: list[Sequence[Cell]] = [title, *([()] * (SAMM_HEADER_LINE - 2))]
    return SAMM_SHEET, xlsx_bytes([*head, SAMM_COLUMNS, *map(_samm_row, clips)])


def _casme_row(clip: AnnotatedClip) -> tuple[Cell, ...]:
    rate = 60  # frames a second
    rise, total = (round(1000 * (n + 1) / rate) for n in (clip.apex - clip.onset, clip.offset - clip.onset))
    return (
        int(clip.subject),
        clip.name,
        None,
        clip.onset,
        clip.apex,
        "\\",
        clip.offset,
        None,
        rise,
        total,
        "+".join(clip.units),
        clip.emotion,
    )


def _casme2_row(clip: AnnotatedClip) -> tuple[Cell, ...]:
    return (
        int(clip.subject),
        clip.name,
        None,
        clip.onset,
        clip.apex,
        clip.offset,
        None,
        "+".join(clip.units),
        clip.emotion,
    )


def _samm_row(clip: AnnotatedClip) -> tuple[Cell, ...]:
    code = int(clip.name.split("_")[1])
    duration = clip.offset - clip.onset + 1
    numbers = (clip.onset, clip.apex, clip.offset, duration)
    return (
        clip.subject,
        clip.name,
        code,
        *numbers,
        "Micro - 1/2",
        "+".join(clip.units),
        clip.emotion,
        _objective_class(clip.units),
        None,
    )


def _objective_class(units: tuple[str, ...]) -> int:
    """SAMM's class by action units alone, I to VII: a coarse reading of Davison, Merghani & Yap 2018, enough
    to fill the column."""
    shown = {int(unit.lstrip("LR")) for unit in units}
    kinds = ((1, {6, 12}), (4, {9, 10}), (5, {15}), (2, {1, 2, 5, 26}), (3, {4, 7}), (6, {20}))
    return next((number for number, marks in kinds if shown & marks), 7)


def xlsx_bytes(rows: Iterable[Sequence[Cell]]) -> bytes:
    """Rows as an .xlsx workbook, without the clock times that openpyxl and zip put into theirs."""
    book = openpyxl.Workbook()
    sheet = book.worksheets[0]
    for r, row in enumerate(rows, start=1):
        for c, cell in enumerate(row, start=1):
            if cell is not None:
                sheet.cell(r, c, cell)
    timed, plain = io.BytesIO(), io.BytesIO()
    book.save(timed)
    with zipfile.ZipFile(timed) as source, zipfile.ZipFile(plain, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            body = source.read(name)
            if name == "docProps/core.xml":
                body = re.sub(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", b"2000-01-01T00:00:00Z", body)
            target.writestr(zipfile.ZipInfo(name, (2000, 1, 1, 0, 0, 0)), body, zipfile.ZIP_DEFLATED)
    return plain.getvalue()
