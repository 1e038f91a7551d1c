"""MMEW (Ben et al. 2021): 90 fps, 36 subjects; sheet MMEW_Micro_Exp.xlsx, frames
Micro_Expression/{emotion}/{clip}/{n}.jpg, cropped already, without a folder for each subject.
"""

from __future__ import annotations

from distmer.datasets.base import by_number
from distmer.datasets.columns import Columns
from distmer.datasets.layout import HEADINGS, SheetLayout, padded
from distmer.datasets.sheets import Annotation
from distmer.storage import Place

_EMOTIONS = "happiness|anger|surprise|disgust|fear|sadness|others?"


def _clip_folder(images: Place, row: Annotation) -> Place:
    """The folder of an emotion is found in any case."""
    found = [p for p in by_number(images) if p.name.lower() in {row.emotion, row.emotion.removesuffix("s")}]
    return (found[0] if found else images / row.emotion) / row.clip


DATASET = SheetLayout(
    sheets=("MMEW_Micro_Exp*", "mmew"),
    columns=Columns(HEADINGS),
    images=("Micro_Expression", "Micro-Expression", ""),
    subject=padded("", 2),
    subject_folder=_EMOTIONS,
    folders=("MMEW", "MMEW_Final"),
    clip_folder=_clip_folder,
).dataset(
    name="mmew",
    title="MMEW",
    citation="Ben, Ren, Zhang, Wang, Kpalma, Meng, Liu: Video-based facial micro-expression analysis. IEEE"
    " Trans. Pattern Analysis and Machine Intelligence 44(9), 2022",
)
