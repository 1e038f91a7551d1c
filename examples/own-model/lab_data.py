"""A laboratory's own data set for distmer: flow maps, one image a clip, listed in ``clips.csv``."""

from __future__ import annotations

import csv

from distmer.datasets import Annotation, DatasetInfo
from distmer.datasets.base import ReadOptions
from distmer.storage import Place
from distmer.types import FlowMap


def read(root: Place, options: ReadOptions) -> list[Annotation]:
    """One annotation for each row of ``clips.csv``, whose columns are file, subject and emotion."""
    found: list[Annotation] = []
    with (root / "clips.csv").open(encoding="utf-8") as table:
        for number, row in enumerate(csv.DictReader(table), start=2):
            where, image = f"clips.csv row {number}", root / row["file"]
            if image.is_file():
                source, problem = FlowMap(str(image.absolute())), ""
            else:
                source, problem = None, f"{where}: there is no file {row['file']}; correct the row."
            found.append(
                Annotation(row["subject"], image.stem, row["emotion"], where, source=source, problem=problem)
            )
    return found


LABMAPS = DatasetInfo(
    name="labmaps",
    title="Flow maps of the laboratory",
    citation="unpublished",
    folders=("labmaps",),
    markers=("clips.csv",),
    read=read,
)
