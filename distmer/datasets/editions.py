"""Which edition of its sheet a copy is, where that explains counts that differ from the published ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from distmer.datasets.sheets import Annotation

_FILE = Path(__file__).parent / "editions.yaml"


def edition_of(dataset: str, rows: Sequence[Annotation]) -> str:
    """The edition whose marks all stand in these rows, as a sentence; "" where none is known or none fits.

    A mark is the emotion of a clip.
    """
    emotions = {f"{row.subject}/{row.clip}": row.emotion for row in rows}
    editions: list[dict[str, Any]] = yaml.safe_load(_FILE.read_text(encoding="utf-8")).get(dataset, [])
    for edition in editions:
        if all(emotions.get(clip) == emotion for clip, emotion in edition["emotions"].items()):
            return f"{dataset}: the sheet is of the edition {edition['name']}: {edition['means']}"
    return ""
