"""`distmer predict`: what a kept model answers for new clips."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import PurePath

from distmer.config import ClusterConfig
from distmer.experiment.events import Observers, Step
from distmer.report.document import Document, Lines
from distmer.report.live import LiveProgress
from distmer.report.table import Column, Row, Table
from distmer.saved.answers import UNLIKE, Answer, answers
from distmer.saved.clips import Asked, clips_of
from distmer.saved.model import SavedModel
from distmer.saved.windows import candidates, windows_of
from distmer.types import BadInput

_FEW = 40  # clips: they take as long as Ray takes to start
_SHOWN = 20  # candidates, and reasons; --csv and --json have all


def ask(
    model: SavedModel,
    inputs: Sequence[str],
    *,
    onset: str = "",
    apex: str = "",
    windows: str | None = None,
    step: str | None = None,
    local: bool = False,
) -> Iterator[Answer]:
    """Answers for the clips in the inputs, in their order. With ``windows`` (a time: ``0.5``, ``500ms``), the
    inputs are long videos, and the answers are for their windows of most motion. Many clips are done on Ray,
    unless ``local``. BadInput where the arguments do not fit together."""
    unit = model.manifest.unit
    if windows is None:
        if step is not None:
            raise BadInput("--step is the way from window to window; give --windows TIME with it.")
        return _answers(model, clips_of(inputs, unit, onset=onset, apex=apex), local=local)
    if onset or apex:
        raise BadInput("--windows looks at a whole video; leave --onset and --apex out.")
    asked = windows_of(inputs, unit, windows, step)
    return iter(candidates(list(_answers(model, asked, local=local))))


def _answers(model: SavedModel, asked: Sequence[Asked], *, local: bool) -> Iterator[Answer]:
    """Many clips are done with a display of the progress, and unless ``local`` on Ray: on the cluster of
    ``RAY_ADDRESS``, else on this machine's cores."""
    total, failed, backend = len(asked), 0, None
    with ExitStack() as exits:
        if total > _FEW and not local:
            from distmer.cluster.backend import RayBackend  # Ray is not needed for few

            backend = exits.enter_context(closing(RayBackend(ClusterConfig(), scratch="")))
        live = exits.enter_context(Observers([LiveProgress()] if total > _FEW else []))
        live(Step("answering", 0, total))
        for done, one in enumerate(answers(model, asked, backend), start=1):
            failed += bool(one.reason)
            live(Step("answering", done, total, 0, failed))
            yield one


def answers_report(model: SavedModel, found: Sequence[Answer]) -> Document:
    """The answers as a table, with what was noticed, and what could not be answered."""
    windows = any(one.interval for one in found)
    good = [answer for answer in found if not answer.reason]
    bad = [answer for answer in found if answer.reason]
    less, more = len(good) - _SHOWN, len(bad) - _SHOWN
    reasons = [_with_name(one) for one in bad[:_SHOWN]]
    reasons += [f"and {more} more: --csv lists them"] if more > 0 else []
    legend = [
        "px: motion in the aligned face, mean and largest; moved: the region that moved most.",
        f"unlike: the percentile of the distance to the nearest training clip; above {UNLIKE:.0f}, do not"
        " rely on the answer.",
        "The probabilities order the classes; they are not calibrated. They say how a face moved, not what a"
        " person feels.",
    ]
    if windows:
        legend.insert(
            0,
            "The intervals are candidates, those of most motion first, and no spotted expressions: a blink,"
            " speech and a turn of the head move a face, too.",
        )
    parts = [
        _table(model, good[:_SHOWN] if windows else good, windows=windows),
        Lines([f"and {less} intervals of less motion: --csv lists them"] if windows and less > 0 else []),
        Lines(reasons, f"no answer: {len(bad)}"),
        Lines(list(_notes(found)), "notes"),
        Lines(legend if good else []),
    ]
    title = f"{model.manifest.model['name']}, fitted to {model.manifest.protocol}"
    return Document(title, list(_warnings(model, found)), parts)


def _warnings(model: SavedModel, found: Sequence[Answer]) -> Iterator[str]:
    if seen := sum(1 for one in found if one.seen):
        yield (
            f"{seen} of {len(found)} clips are of subjects that the model was trained on: their answers show"
            " nothing."
        )
    if others := sorted({one.given for one in found if one.given not in ("", "?", *model.classes)}):
        yield (
            f"labels of the manifest that are none of the model's classes: {', '.join(others)}; the model"
            f" answers with one of {', '.join(model.classes)}."
        )


def answers_csv(model: SavedModel, found: Iterable[Answer]) -> Iterable[str]:
    """A header, and then a line for each answer as it comes."""
    probabilities = [f"prob_{name}" for name in model.classes]
    columns = ["clip", "start_s", "end_s", "label", *probabilities, "onset", "apex"]
    columns += ["mean_px", "largest_px", "moved_most"]
    columns += ["distance", "percentile", "unlike", "seen_in_training", "given", "notes", "reason"]
    yield _csv_line(columns)
    for one in found:
        moved = one.motion
        cells: list[object] = [one.clip, *(one.interval or (None, None)), one.label]
        cells += [one.probabilities.get(name) for name in model.classes]
        cells += [one.onset, one.apex]
        cells += [moved.mean, moved.largest, moved.most] if moved else [None, None, None]
        cells += [one.distance, one.percentile, one.unlike, one.seen, one.given]
        yield _csv_line([*cells, "; ".join(one.notes), one.reason])


def _csv_line(cells: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(["" if cell is None else cell for cell in cells])
    return text.getvalue()


def _with_name(one: Answer) -> str:
    return one.reason if one.reason.startswith(f"{one.clip}:") else f"{_named(one)}: {one.reason}"


def _named(one: Answer) -> str:
    return one.clip if one.interval is None else f"{one.clip}, {_seconds(one)} s"


def _short(clip: str) -> str:
    """The end of a path, marked as one; an id as it is."""
    parts = PurePath(clip).parts
    return "/".join(["…", *parts[-2:]]) if len(parts) > 3 or clip.startswith("/") else clip


def _seconds(one: Answer) -> str:
    return "" if one.interval is None else f"{one.interval[0]:.2f}–{one.interval[1]:.2f}"


def _table(model: SavedModel, found: Sequence[Answer], *, windows: bool) -> Table:
    columns = [Column("clip"), *([Column("candidate, s", right=True)] if windows else []), Column("answer")]
    columns += [Column(name, right=True) for name in model.classes]
    columns += [Column("apex"), Column("px", right=True), Column("moved"), Column("unlike", right=True)]
    rows: list[Row] = []
    for one in found:
        moved = one.motion
        cells = [_short(one.clip), *([_seconds(one)] if windows else []), one.label]
        cells += [f"{one.probabilities[name]:.2f}" for name in model.classes]
        cells += [one.apex, *((f"{moved.mean:.2f} {moved.largest:.2f}", moved.most) if moved else ("", ""))]
        cells += [f"{one.percentile:.0f}" + (" !" if one.unlike else "")]
        rows.append(Row(cells, style="dim" if one.seen else ""))
    return Table(columns, rows)


def _notes(found: Sequence[Answer]) -> Iterable[str]:
    """Each note once, with the clips that it is of."""
    clips: dict[str, list[str]] = {}
    for one in found:
        seen = [f"the subject was in the training ({one.seen})"] if one.seen else []
        for note in (*one.notes, *seen):
            clips.setdefault(note, []).append(_named(one))
    for note, own in clips.items():
        more = f" and {len(own) - 1} more" if len(own) > 1 else ""
        yield f"{note}: {'all clips' if 1 < len(own) == len(found) else own[0] + more}"
