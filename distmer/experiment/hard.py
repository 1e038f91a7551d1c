"""Clips that every model got wrong: with these, a label, an apex or the alignment may be at fault."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from distmer.experiment.comparison import Entry
from distmer.types import Predictions


@dataclass(frozen=True, slots=True)
class HardClip:
    """A clip that no row and no seed got right. ``answers``: class → how often it was the answer; ``on``:
    which of a comparison's data."""

    on: str
    clip: str
    truth: str
    answers: dict[str, int]


def always_wrong(entries: Sequence[Entry]) -> tuple[list[HardClip], dict[str, tuple[int, int]]]:
    """The clips that all rows got wrong with all seeds, and for each data (``on``): how many clips all rows
    have predicted, and how many answers each of them has.

    Data with fewer than two answers a clip are passed over: to be wrong once is not to be hard. So are clips
    whose truth differs between rows, and rows that tell other classes apart than the first.
    """
    of_data: dict[str, list[tuple[tuple[str, ...], Predictions]]] = defaultdict(list)
    for entry in entries:
        if entry.results is not None and entry.predictions is not None:
            of_data[entry.on].append((tuple(entry.results.classes), entry.predictions))
    found: list[HardClip] = []
    counted: dict[str, tuple[int, int]] = {}
    for on, rows in of_data.items():
        names = rows[0][0]
        answers: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for own in (predictions for classes, predictions in rows if classes == names):
            for clip, *pair in zip(own.clip_ids, own.y_true_N.tolist(), own.y_pred_N.tolist(), strict=True):
                answers[clip].append((pair[0], pair[1]))
        most = max(len(own) for own in answers.values())
        if most < 2:
            continue
        of_all = {clip: own for clip, own in answers.items() if len(own) == most}
        counted[on] = (len(of_all), most)
        for clip, pairs in sorted(of_all.items()):
            if len({truth for truth, _ in pairs}) == 1 and all(truth != answer for truth, answer in pairs):
                given = Counter(names[answer] for _, answer in pairs)
                found.append(HardClip(on, clip, names[pairs[0][0]], dict(given.most_common())))
    return found, counted
