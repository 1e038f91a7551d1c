"""The price of a habit: the score that it reports minus the honest one, with an interval over subjects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from distmer.config import EvaluationConfig
from distmer.evaluation.named import Metric
from distmer.evaluation.stats import Interval, confusions_by_subject, percentiles, pooled, resamples_of
from distmer.types import FloatArray, IntArray, Predictions, SubjectKey

# From how often each of P subjects was drawn, weight_RP, and confusion_SPKK of S seeds: score_R.
Statistic = Callable[[IntArray, IntArray], FloatArray]


@dataclass(frozen=True, slots=True, eq=False)
class Reported:
    """A way to report: the counts of P subjects, and the score that is made of them."""

    score: Statistic
    confusion_SPKK: IntArray


@dataclass(frozen=True, slots=True)
class Price:
    """A habit, and how a score that it touches moves. ``score`` is the name of the honest one.

    ``gain`` is ``feigned`` − ``honest``; its interval is from resampled subjects, the same ones for both.
    """

    model: str
    habit: str
    score: str
    honest: float
    feigned: float
    gain: float
    interval: Interval

    @property
    def stamp(self) -> str:
        """What must stand beside the feigned score wherever it goes."""
        return f"habit:{self.habit}"


def price(
    model: str, habit: str, score: str, honest: Reported, feigned: Reported, cfg: EvaluationConfig
) -> Price:
    """The price of a habit. Both ways of reporting must have counts of the same subjects, in one order."""
    subjects = honest.confusion_SPKK.shape[1]
    one_1P = np.ones((1, subjects), dtype=np.int64)
    drawn_RP = resamples_of(subjects, cfg.bootstrap, np.random.default_rng(0))

    def gain(weight_RP: IntArray) -> FloatArray:
        ends = [way.score(weight_RP, way.confusion_SPKK) for way in (feigned, honest)]
        return ends[0] - ends[1]

    at = [float(way.score(one_1P, way.confusion_SPKK)[0]) for way in (honest, feigned)]
    interval = percentiles(gain(drawn_RP), cfg.confidence)
    return Price(model, habit, score, at[0], at[1], at[1] - at[0], interval)


def counts(predictions: Predictions, subjects: Sequence[SubjectKey], classes: int) -> IntArray:
    """confusion_SPKK of these subjects in this order; one without a prediction has zeros."""
    found, own_SPKK = confusions_by_subject(predictions, classes)
    whole_SPKK = np.zeros((own_SPKK.shape[0], len(subjects), classes, classes), dtype=np.int64)
    whole_SPKK[:, [subjects.index(subject) for subject in found]] = own_SPKK
    return whole_SPKK


def mean_over_seeds(metric: Metric) -> Statistic:
    """The pooled score of each seed, averaged: the honest way."""
    return lambda weight_RP, confusion_SPKK: metric(pooled(weight_RP, confusion_SPKK)).mean(1)


def best_seed(metric: Metric) -> Statistic:
    """The pooled score of the best seed; which one it is, is looked up in each resample."""
    return lambda weight_RP, confusion_SPKK: metric(pooled(weight_RP, confusion_SPKK)).max(1)


def mean_over_folds(metric: Metric) -> Statistic:
    """The score of each subject's fold, averaged over folds and seeds."""

    def score(weight_RP: IntArray, confusion_SPKK: IntArray) -> FloatArray:
        score_P = metric(confusion_SPKK, in_fold=True).mean(0)
        return weight_RP @ score_P / weight_RP.sum(1)

    return score
