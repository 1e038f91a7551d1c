"""CASME II (Yan et al. 2014): 200 fps, 26 subjects; sheet CASME2-coding-20140508.xlsx, frames
CASME2_RAW_selected/sub01/EP02_01f/img46.jpg.

The apex is "/" in some rows: the policy ``data.missing_apex`` decides. The sheet exists in editions of 255
and 256 rows.
"""

from __future__ import annotations

from distmer.datasets.base import DatasetInfo, SheetLayout, padded

_LAYOUT = SheetLayout(
    sheets=("CASME2-coding*.xls*", "CASMEII-coding*.xls*", "CASME2_coding*.xls*", "casme2.xls*"),
    columns={
        "subject": ("Subject",),
        "clip": ("Filename", "File name"),
        "onset": ("OnsetFrame", "OnsetF"),
        "apex": ("ApexFrame", "ApexF"),
        "offset": ("OffsetFrame", "OffsetF"),
        "emotion": ("Estimated Emotion", "Emotion"),
    },
    images=(
        "CASME2_RAW_selected",
        "CASME2-RAW-selected",
        "CASME2-RAW",
        "CASME2_RAW",
        "raw",
        "",
        "CASME2_Cropped",
        "Cropped",
    ),
    subject_folder=r"sub\d+",
    subject=padded("sub", 2),
)

DATASET = DatasetInfo(
    name="casme2",
    title="CASME II",
    citation="Yan, Li, Wang, Zhao, Liu, Chen, Fu: CASME II. PLoS ONE 9(1):e86041, 2014, doi"
    " 10.1371/journal.pone.0086041",
    folders=("CASME2", "CASMEII", "CASME_II", "CASME II", "CASME-II"),
    markers=_LAYOUT.sheets,
    read=_LAYOUT.read,
)
