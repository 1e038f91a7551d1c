"""CASME II (Yan et al. 2014): 200 fps, 26 subjects; sheet CASME2-coding-20140508.xlsx, frames
CASME2_RAW_selected/sub01/EP02_01f/img46.jpg.

The apex is "/" in some rows: the policy ``data.missing_apex`` decides. The sheet exists in editions of 255
and 256 rows, and one of 2019 has other emotions for three clips (``editions.yaml``).
"""

from __future__ import annotations

from dataclasses import replace

from distmer.datasets.base import ReadOptions
from distmer.datasets.columns import Columns
from distmer.datasets.layout import HEADINGS, SheetLayout, padded
from distmer.datasets.sheets import Annotation, matching, read_sheet
from distmer.datasets.tables import sheet_names
from distmer.datasets.text import tidy
from distmer.storage import Place
from distmer.types import BadInput

_LAYOUT = SheetLayout(
    sheets=("CASME2-coding*", "CASMEII-coding*", "CASME2_coding*", "casme2"),
    columns=Columns(HEADINGS),
    images=(
        *("CASME2_RAW_selected", "CASME2-RAW-selected", "CASME2-RAW", "CASME2_RAW", "raw", ""),
        *("CASME2_Cropped", "Cropped"),
    ),
    subject=padded("sub", 2),
    folders=("CASME2", "CASMEII", "CASME_II", "CASME II", "CASME-II"),
)
_OBJECTIVE = sheet_names("CASME2-ObjectiveClasses*")
_OBJECTIVE_COLUMNS = Columns(
    {
        **{field: HEADINGS[field] for field in ("subject", "clip")},
        "objective": ("Objective Class", "Objective Classes", "Class"),
    }
)


def read(root: Place, options: ReadOptions) -> list[Annotation]:
    """Every row of the sheet, with its objective class where CASME2-ObjectiveClasses.xlsx lies beside it."""
    rows = _LAYOUT.read(root, options)
    sheets = matching(root, _OBJECTIVE)
    if not sheets:
        return rows
    try:
        classes = read_sheet(sheets[0], _OBJECTIVE_COLUMNS, say=options.say)
    except BadInput as error:  # most protocols have no need of it
        options.say(f"not read: {error}")
        return rows
    spell = _LAYOUT.subject
    known = {(spell(row.subject), tidy(row.clip)): row.extra.get("objective", "") for row in classes}
    return [replace(row, extra={"objective": known.get((row.subject, row.clip), "")}) for row in rows]


DATASET = replace(
    _LAYOUT.dataset(
        name="casme2",
        title="CASME II",
        citation="Yan, Li, Wang, Zhao, Liu, Chen, Fu: CASME II. PLoS ONE 9(1):e86041, 2014, doi"
        " 10.1371/journal.pone.0086041",
    ),
    read=read,
)
