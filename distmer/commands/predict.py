"""`distmer predict`: what a kept model answers for new clips."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import PurePath

from distmer.report.document import Document, Facts, Lines
from distmer.report.table import Column, Row, Table
from distmer.saved.answers import UNLIKE, Answer
from distmer.saved.model import SavedModel


def answers_report(model: SavedModel, found: Sequence[Answer]) -> Document:
    """The answers as a table, with what was noticed, and what could not be answered."""
    parts: list[Table | Facts | Lines] = []
    if good := [answer for answer in found if not answer.reason]:
        parts.append(_table(model, good))
    if bad := [answer for answer in found if answer.reason]:
        parts.append(Lines([f"{one.clip}: {one.reason}" for one in bad], f"no answer: {len(bad)}"))
    if notes := list(_notes(found)):
        parts.append(Lines(notes, "notes"))
    parts.append(
        Lines(
            [
                "px: motion in the aligned face, mean and largest; moved: the region that moved most.",
                f"unlike: the percentile of the distance to the nearest training clip; above {UNLIKE:.0f},"
                " do not rely on the answer.",
                "The probabilities order the classes; they are not calibrated. They say how a face moved, not"
                " what a person feels.",
            ]
        )
    )
    warnings = [
        f"{sum(1 for one in found if one.seen)} of {len(found)} clips are of subjects that the model was"
        " trained on: their answers show nothing."
    ]
    return Document(
        f"{model.manifest.model['name']}, fitted to {model.manifest.protocol}",
        warnings if any(one.seen for one in found) else (),
        parts,
    )


def answers_csv(model: SavedModel, found: Iterable[Answer]) -> Iterable[str]:
    """A header, and then a line for each answer as it comes."""
    probabilities = [f"prob_{name}" for name in model.classes]
    columns = ["clip", "label", *probabilities, "onset", "apex", "mean_px", "largest_px", "moved_most"]
    columns += ["distance", "percentile", "unlike", "seen_in_training", "given", "notes", "reason"]
    yield _csv_line(columns)
    for one in found:
        moved = one.motion
        cells: list[object] = [one.clip, one.label, *(one.probabilities.get(name) for name in model.classes)]
        cells += [one.onset, one.apex]
        cells += [moved.mean, moved.largest, moved.most] if moved else [None, None, None]
        cells += [one.distance, one.percentile, one.unlike, one.seen, one.given]
        yield _csv_line([*cells, "; ".join(one.notes), one.reason])


def _csv_line(cells: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(["" if cell is None else cell for cell in cells])
    return text.getvalue()


def _table(model: SavedModel, found: Sequence[Answer]) -> Table:
    columns = [Column("clip"), Column("answer"), *(Column(name, right=True) for name in model.classes)]
    columns += [Column("apex"), Column("px", right=True), Column("moved")]
    columns += [Column("unlike", right=True)]
    rows: list[Row] = []
    for one in found:
        moved = one.motion
        cells = [
            "/".join(PurePath(one.clip).parts[-3:]),
            one.label,
            *(f"{one.probabilities[name]:.2f}" for name in model.classes),
        ]
        cells += [one.apex]
        cells += [f"{moved.mean:.2f} {moved.largest:.2f}" if moved else "", moved.most if moved else ""]
        cells += [f"{one.percentile:.0f}" + (" !" if one.unlike else "")]
        rows.append(Row(cells, style="dim" if one.seen else ""))
    return Table(columns, rows)


def _notes(found: Sequence[Answer]) -> Iterable[str]:
    """Each note once, with the clips that it is of."""
    clips: dict[str, list[str]] = {}
    for one in found:
        seen = [f"the subject was in the training ({one.seen})"] if one.seen else []
        for note in (*one.notes, *seen):
            clips.setdefault(note, []).append(one.clip)
    for note, own in clips.items():
        more = f" and {len(own) - 1} more" if len(own) > 1 else ""
        yield f"{note}: {'all clips' if 1 < len(own) == len(found) else own[0] + more}"
