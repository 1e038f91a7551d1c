"""The annotation sheets in the column layouts of their publishers, written so that equal rows give equal
bytes."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter

from distmer.datasets import biff2
from distmer.datasets.biff2 import Cell
from distmer.datasets.synthetic.annotations import AnnotatedClip

Column = tuple[str | None, Callable[[AnnotatedClip], Cell]]  # its heading, and a clip's cell below it


def _milliseconds(clip: AnnotatedClip, last: int) -> int:
    rate = 60  # frames a second
    return round(1000 * (last - clip.onset + 1) / rate)


def _objective_class(clip: AnnotatedClip) -> int:
    """SAMM's class by action units alone, I to VII: a coarse reading of Davison, Merghani & Yap 2018, enough
    to fill the column."""
    shown = {int(unit.lstrip("LR")) for unit in clip.units}
    kinds = ((1, {6, 12}), (4, {9, 10}), (5, {15}), (2, {1, 2, 5, 26}), (3, {4, 7}), (6, {20}))
    return next((number for number, marks in kinds if shown & marks), 7)


def _units(clip: AnnotatedClip) -> str:
    return "+".join(clip.units)


_ONSET, _APEX, _OFFSET, _EMOTION = map(attrgetter, ("onset", "apex", "offset", "emotion"))
_NUMBER: Column = ("Subject", lambda clip: int(clip.subject))
_NAME: Column = ("Filename", attrgetter("name"))
_NAMELESS: Column = (None, lambda clip: None)
_CASME: tuple[Column, ...] = (
    *(_NUMBER, _NAME, _NAMELESS),
    *(("OnsetF", _ONSET), ("ApexF1", _APEX), ("ApexF2", lambda clip: "\\"), ("OffsetF", _OFFSET), _NAMELESS),
    ("Onset(ms)", lambda clip: _milliseconds(clip, clip.apex)),
    ("Total(ms)", lambda clip: _milliseconds(clip, clip.offset)),
    *(("AU", _units), ("Emotion", _EMOTION)),
)
_CASME2: tuple[Column, ...] = (
    *(_NUMBER, _NAME, _NAMELESS),
    *(("OnsetFrame", _ONSET), ("ApexFrame", _APEX), ("OffsetFrame", _OFFSET), _NAMELESS),
    *(("Action Units", _units), ("Estimated Emotion", _EMOTION)),
)
_SAMM: tuple[Column, ...] = (
    *(("Subject", attrgetter("subject")), _NAME),
    ("Inducement Code", lambda clip: int(clip.name.split("_")[1])),
    *(("Onset Frame", _ONSET), ("Apex Frame", _APEX), ("Offset Frame", _OFFSET)),
    ("Duration", lambda clip: clip.offset - clip.onset + 1),
    *(("Micro", lambda clip: "Micro - 1/2"), ("Action Units", _units), ("Estimated Emotion", _EMOTION)),
    *(("Objective Classes", _objective_class), ("Notes", lambda clip: None)),
)
SAMM_HEADER_LINE = 14


def sheet(dataset: str, clips: Sequence[AnnotatedClip]) -> tuple[str, bytes]:
    """The sheet of one of the three sets: its official name, and its bytes."""
    columns = {"casme": _CASME, "casme2": _CASME2, "samm": _SAMM}[dataset]
    rows = [[heading for heading, _ in columns], *([cell(clip) for _, cell in columns] for clip in clips)]
    if dataset == "casme":
        return "CASME-coded-20190721.xls", biff2.write(rows)
    if dataset == "casme2":
        return "CASME2-coding-20140508.xlsx", xlsx_bytes(rows)
    title = ["SAMM micro-movements, embedded synthetic set: these are not the frames or codes of SAMM"]
    return "SAMM_Micro_FACS_Codes_v2.xlsx", xlsx_bytes([title, *([[]] * (SAMM_HEADER_LINE - 2)), *rows])


def xlsx_bytes(rows: Iterable[Sequence[Cell]]) -> bytes:
    """Rows as an .xlsx workbook, without the clock times that openpyxl and zip put into theirs."""
    import openpyxl  # only who generates the set needs it

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
