"""Clips that every model got wrong: with these, a label, an apex or the alignment may be at fault."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from distmer.experiment.comparison import Entry


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
    whose truth differs between rows.
    """
    of_data: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.scored is not None:
            of_data[entry.on].append(entry)
    found: list[HardClip] = []
    counted: dict[str, tuple[int, int]] = {}
    for on, rows in of_data.items():
        answers: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for row in rows:
            assert row.predictions is not None and row.results is not None
            names, own = row.results.classes, row.predictions
            pairs = zip(own.y_true_N.tolist(), own.y_pred_N.tolist(), strict=True)
            for clip, (truth, answer) in zip(own.clip_ids, pairs, strict=True):
                answers[clip].append((names[truth], names[answer]))
        most = max(len(own) for own in answers.values())
        of_all = {clip: own for clip, own in answers.items() if len(own) == most}
        if most < 2:
            continue
        counted[on] = (len(of_all), most)
        for clip, own in sorted(of_all.items()):
            truths = {truth for truth, _ in own}
            if len(truths) == 1 and all(truth != answer for truth, answer in own):
                given = Counter(answer for _, answer in own)
                found.append(HardClip(on, clip, own[0][0], dict(given.most_common())))
    return found, counted
