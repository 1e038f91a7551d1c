"""A learning curve: the same folds, trained on a growing share of their training subjects.

If it still rises at its end, the model would very likely gain from more subjects. Subjects are drawn at
random. A larger share has all subjects of a smaller one of the same draw.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from distmer.config import Section
from distmer.digests import digest
from distmer.evaluation.paired import Difference, compare
from distmer.evaluation.summary import Summary, summarise
from distmer.experiment.plan import Plan, fold_jobs
from distmer.training.seeds import derive
from distmer.types import BadInput, Fold, FoldFailure, FoldJob, FoldResult, Predictions, SubjectKey

_TRIES = 1000  # orders of subjects that are drawn until one can be trained on


class CurveConfig(Section):
    """The `curve:` section, for `distmer curve`."""

    shares: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    """The shares of the training subjects of each fold, rising. The number of subjects is rounded up."""
    draws: int = Field(default=5, ge=1, le=1000)
    """How often the subjects are drawn. For all subjects there is one draw."""
    seed: int = Field(default=0, ge=0)
    """The seed of the draws."""
    resamples: int = Field(default=10_000, ge=100)
    """Resamples of the tests between one share and the next."""

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if not self.shares or any(not 0 < share <= 1 for share in self.shares):
            raise ValueError(f"shares are above 0 and at most 1, not {list(self.shares)}")
        if any(a >= b for a, b in pairwise(self.shares)):
            raise ValueError(f"shares rise, each listed once, unlike {list(self.shares)}")
        return self


@dataclass(frozen=True, slots=True)
class Part:
    """A training of the curve: a fold on a share of its training subjects."""

    share: float
    draw: int
    job: FoldJob


@dataclass(frozen=True, slots=True, eq=False)
class CurvePlan:
    """A learning curve, complete and identified: the same plan has the same digest and folder."""

    digest: str
    plan: Plan  # of the run on all subjects
    section: CurveConfig
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """The curve at one share.

    ``subjects`` and ``clips``: how many a fold is trained on, the mean over folds and draws. ``summary`` and
    ``predictions`` are of the ``whole`` repetitions (draws × seeds; every fold finished) out of ``wanted``,
    or None. Each repetition is a seed of the predictions, so spread and interval are over all of them.
    """

    share: float
    subjects: float
    clips: float
    whole: int
    wanted: int
    summary: Summary | None
    predictions: Predictions | None


@dataclass(frozen=True, slots=True, eq=False)
class Rise:
    """The gain from one share to the next, tested on the same held-out subjects."""

    low: float
    high: float
    difference: Difference


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A learning curve; ``missing`` trainings were not reached, because it was stopped."""

    plan: CurvePlan
    points: tuple[Point, ...]
    rises: tuple[Rise, ...]
    failures: tuple[FoldFailure, ...]
    missing: int

    @property
    def status(self) -> str:
        """complete, partial (trainings failed or were not reached), or failed (no share has a score)."""
        if not self.missing and not any(point.summary for point in self.points):
            return "failed"
        return "partial" if self.failures or self.missing else "complete"


def plan_curve(plan: Plan, keys: Mapping[str, str], section: CurveConfig) -> CurvePlan:
    """Every training of the curve. Those on all subjects are the run's own: they share its ledger entries.

    Raises BadInput where epochs are chosen on held-out clips, where two shares are the same subjects, and
    where the smallest share of a fold's subjects shows one class only in every draw.
    """
    if plan.selection.startswith("oracle"):
        raise BadInput(
            "train.selection is oracle: a curve of scores that have seen the held-out clips says nothing; set"
            " it to fixed or inner."
        )
    _require_distinct(plan, section.shares)
    parts = tuple(
        Part(share, draw, job)
        for share in section.shares
        for draw in range(section.draws if share < 1 else 1)
        for job in _jobs(plan, keys, section, share, draw)
    )
    identity = {
        "jobs": sorted({part.job.digest for part in parts}),
        "run": plan.digest,
        "curve": section.model_dump(mode="json"),
    }
    return CurvePlan(digest(identity), plan, section, parts)


def conclude_curve(
    plan: CurvePlan, folds: Mapping[str, FoldResult], failures: Sequence[FoldFailure]
) -> Curve:
    """The curve of these trainings, by digest."""
    points = tuple(_point(plan, share, folds) for share in plan.section.shares)
    scored = [point for point in points if point.predictions is not None]
    rises: list[Rise] = []
    for low, high in pairwise(scored):
        assert low.predictions is not None and high.predictions is not None
        if len(set(high.predictions.subjects)) > 1:
            classes, resamples = len(plan.plan.classes), plan.section.resamples
            confidence = plan.plan.config.evaluation.confidence
            found = compare(high.predictions, low.predictions, classes, resamples, confidence)
            rises.append(Rise(low.share, high.share, found))
    done = {*folds, *(failure.digest for failure in failures)}
    missing = len({part.job.digest for part in plan.parts} - done)
    return Curve(plan, points, tuple(rises), tuple(failures), missing)


def _jobs(
    plan: Plan, keys: Mapping[str, str], section: CurveConfig, share: float, draw: int
) -> tuple[FoldJob, ...]:
    folds = [fold if share == 1 else _smaller(fold, plan, section, share, draw) for fold in plan.folds]
    config = plan.config
    return fold_jobs(config, plan.model, folds, plan.labels, keys, config.seeds, len(plan.classes))


def _smaller(fold: Fold, plan: Plan, section: CurveConfig, share: float, draw: int) -> Fold:
    """The fold, trained on the first subjects of the draw's order."""
    subjects = sorted({SubjectKey.of(clip) for clip in fold.train})
    order = _order(fold, subjects, plan, section, draw)
    kept = set(order[: _count(share, len(order))])
    return replace(fold, train=tuple(clip for clip in fold.train if SubjectKey.of(clip) in kept))


def _order(
    fold: Fold, subjects: Sequence[SubjectKey], plan: Plan, section: CurveConfig, draw: int
) -> list[SubjectKey]:
    """The order in which shares take the subjects. The smallest share shows two classes or more."""
    rng = np.random.default_rng(derive(section.seed, "curve", draw, fold.id))
    first = _count(section.shares[0], len(subjects))
    for _ in range(_TRIES):
        order = [subjects[int(i)] for i in rng.permutation(len(subjects))]
        kept = set(order[:first])
        if len({plan.labels[clip] for clip in fold.train if SubjectKey.of(clip) in kept}) > 1:
            return order
    raise BadInput(
        f"fold {fold.id}: a share of {section.shares[0]:g} is {first} of {len(subjects)} training subjects,"
        " who show one class only; raise curve.shares."
    )


def _require_distinct(plan: Plan, shares: Sequence[float]) -> None:
    of_folds = [len({SubjectKey.of(clip) for clip in fold.train}) for fold in plan.folds]
    for low, high in pairwise(shares):
        if all(_count(low, subjects) == _count(high, subjects) for subjects in of_folds):
            raise BadInput(
                f"curve.shares: {low:g} and {high:g} of {max(of_folds)} training subjects are equally many"
                f" ({_count(low, max(of_folds))}); leave one of them out."
            )


def _count(share: float, subjects: int) -> int:
    # 0.3 × 10 is 3.0000000000000004 in floating point, which is not four subjects
    return max(1, math.ceil(share * subjects - 1e-9))


def _point(plan: CurvePlan, share: float, folds: Mapping[str, FoldResult]) -> Point:
    own = [part for part in plan.parts if part.share == share]
    of_train = [{SubjectKey.of(clip) for clip in part.job.fold.train} for part in own]
    subjects = float(np.mean([len(subjects) for subjects in of_train]))
    clips = float(np.mean([len(part.job.fold.train) for part in own]))
    finished = Counter((part.draw, part.job.seed) for part in own if part.job.digest in folds)
    wanted = dict.fromkeys((part.draw, part.job.seed) for part in own)
    whole = {pair: n for n, pair in enumerate(p for p in wanted if finished[p] == len(plan.plan.folds))}
    if not whole:
        return Point(share, subjects, clips, 0, len(wanted), None, None)
    repetitions: list[Predictions] = []
    for part in own:
        if (number := whole.get((part.draw, part.job.seed))) is not None:
            found = folds[part.job.digest].predictions
            repetitions.append(replace(found, seed_N=np.full(len(found), number)))
    predictions, run = Predictions.concat(repetitions), plan.plan
    summary = summarise(predictions, run.folds, run.labels, run.classes, run.config.evaluation)
    return Point(share, subjects, clips, len(whole), len(wanted), summary, predictions)
