"""4DME (Li et al. 2023): 60 fps, gray micro-expressions of 41 subjects; sheet 4DME_Labelling_Micro_release
v1.xlsx, frames gray_micro/{subject}/{fold_name}/.

A clip may have several labels, one column each. A clip with one label has it as its emotion; one with several
has them joined, as ``negative+surprise``, and belongs to no class of the built-in protocols.
"""

from __future__ import annotations

from dataclasses import replace

from distmer.datasets.columns import Columns
from distmer.datasets.layout import HEADINGS, PLAIN, SheetLayout, padded
from distmer.datasets.sheets import Annotation
from distmer.datasets.text import MISSING, plain_number

_LABELS = ("positive", "negative", "surprise", "repression", "others")


def _labelled(row: Annotation) -> Annotation:
    marked = [
        label for label in _LABELS if plain_number(row.extra.get(label, "")) not in {*MISSING, "0", "no"}
    ]
    return replace(row, emotion="+".join(marked)) if marked else row


DATASET = SheetLayout(
    sheets=("4DME_Labelling_Micro*", "4dme"),
    columns=Columns(
        {**HEADINGS, **PLAIN, "subject": ("sub_ID", "Subject"), "clip": ("fold_name", "Filename")},
        {label: (label,) for label in _LABELS},
    ),
    images=("gray_micro", "micro_gray", ""),
    subject=padded("", 1),
    folders=("4DME", "4D-ME"),
    refine=_labelled,
).dataset(
    name="4dme",
    title="4DME",
    citation="Li, Cheng, Li, Behzad, Shen, Zafeiriou, Pantic, Zhao: 4DME. IEEE Trans. Affective Computing"
    " 14(4), 2023",
)
