"""CAS(ME)³ (Li et al. 2023): 30 fps, RGB-D; part A (elicited by videos, 100 subjects), part C (mock crime).

Part A: cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx, frames part_A/spNO.1/a/color/{n}.jpg. One video has several
clips, so a clip is named by its video and its onset: ``a_34``. In the sheet of all expressions, rows of
macro-expressions are set aside.

Part C: CAS(ME)3_part_C_ME.xlsx, frames part_C/{sub}/{count}/color/. It has no apex: the policy
``data.missing_apex`` decides.
"""

from __future__ import annotations

import re
from dataclasses import replace

from distmer.datasets.columns import Columns
from distmer.datasets.layout import HEADINGS, PLAIN, SheetLayout, micro_alone, padded
from distmer.datasets.sheets import Annotation
from distmer.datasets.text import plain_number
from distmer.storage import Place

_CITATION = (
    "Li, Dong, Lu, Wang, Yan, Wu, Liu, Huang, Fu: CAS(ME)3. IEEE Trans. Pattern Analysis and Machine"
    " Intelligence 45(3), 2023"
)
_FOLDERS = ("CASME3", "CAS(ME)3", "CAS(ME)^3", "CASMEIII")


def _named_by_onset(row: Annotation) -> Annotation:
    row = micro_alone(row)
    onset = plain_number(row.onset)
    return replace(row, clip=f"{row.clip}_{onset}") if row.clip and onset.isdecimal() else row


def _video(images: Place, row: Annotation) -> Place:
    return images / row.subject / re.sub(r"_\d+$", "", row.clip) / "color"


_PART_A = SheetLayout(
    sheets=("cas(me)3_part_A*", "casme3_part_A*", "casme3a"),
    columns=Columns({**HEADINGS, **PLAIN}, {"type": ("Expression type", "Type")}),
    images=("part_A", "Part_A_ME_clip", "part A", ""),
    subject=padded("spNO.", 1),
    folders=_FOLDERS,
    clip_folder=_video,
    refine=_named_by_onset,
)
_PART_C = SheetLayout(
    sheets=("CAS(ME)3_part_C*", "casme3_part_C*", "casme3c"),
    columns=Columns(
        {
            "subject": ("sub", "Subject"),
            "clip": ("count", "Filename"),
            "onset": PLAIN["onset"],
            "offset": PLAIN["offset"],
            "emotion": HEADINGS["emotion"],
        }
    ),
    images=("part_C", "part C", ""),
    subject=padded("spNO.", 1),
    folders=_FOLDERS,
    clip_folder=lambda images, row: images / row.subject / row.clip / "color",
    refine=lambda row: replace(row, clip=plain_number(row.clip)),
)

DATASET = (
    _PART_A.dataset(name="casme3a", title="CAS(ME)³ part A", citation=_CITATION),
    _PART_C.dataset(name="casme3c", title="CAS(ME)³ part C", citation=_CITATION),
)
