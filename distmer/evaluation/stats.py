# pyright: strict
"""How sure a score is (a bootstrap over subjects), and what a predictor that sees no clip scores (the
floors)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from distmer.evaluation.metrics import confusions, scores_of
from distmer.types import FloatArray, Fold, IntArray, Predictions, SubjectKey


@dataclass(frozen=True, slots=True)
class Interval:
    """A percentile interval, from ``lo`` to ``hi``."""

    lo: float
    hi: float


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """The intervals of the pooled scores, and how many resamples lack a class.

    ``lacking`` is the share of resamples in which a class that the data have does not occur.
    """

    uar: Interval
    uf1: Interval
    lacking: float


def confusions_by_subject(predictions: Predictions, classes: int) -> tuple[tuple[SubjectKey, ...], IntArray]:
    """The P subjects, sorted, and confusion_SPKK: a confusion matrix for each seed (sorted) and subject."""
    seeds, seed_N = np.unique(predictions.seed_N, return_inverse=True)
    subjects = tuple(sorted(set(predictions.subjects)))
    index = {subject: i for i, subject in enumerate(subjects)}
    subject_N = np.array([index[subject] for subject in predictions.subjects], dtype=np.int64)
    group_N = seed_N * len(subjects) + subject_N
    groups = len(seeds) * len(subjects)
    confusion_GKK = confusions(predictions.y_true_N, predictions.y_pred_N, group_N, groups, classes)
    return subjects, confusion_GKK.reshape(len(seeds), len(subjects), classes, classes)


def resamples_of(subjects: int, n: int, rng: np.random.Generator) -> IntArray:
    """drawn_RP: how often each of the P subjects is drawn in each of ``n`` resamples, with replacement."""
    return rng.multinomial(subjects, np.full(subjects, 1 / subjects), size=n)


def pooled(weight_RP: IntArray, confusion_SPKK: IntArray) -> IntArray:
    """confusion_RSKK: the sum of the subjects' matrices, each times its weight, for every resample and
    seed."""
    seeds, subjects, classes, _ = confusion_SPKK.shape
    confusion_PX = confusion_SPKK.transpose(1, 0, 2, 3).reshape(subjects, -1)
    return (weight_RP @ confusion_PX).reshape(-1, seeds, classes, classes)


def bootstrap(predictions: Predictions, classes: int, n: int, confidence: float, seed: int) -> Bootstrap:
    """Percentile intervals of pooled UAR and UF1 over ``n`` resamples of the subjects, drawn with
    replacement.

    Subjects are drawn, not clips: one subject's clips are alike, and an interval over clips would be too
    narrow. Subjects of all data sets are drawn together. With several seeds, a resample holds every seed's
    predictions of the drawn subjects, and its score is the mean of the seeds' pooled scores; a seed that has
    predicted none of these subjects is left out. A resample in
    which a class does not occur is kept and scores 0 for it, as `metrics.scores` does. ``lacking`` says how
    often that is; where it is not small, the lower ends are pessimistic. The interval does not cover the
    variance of training on other subjects.

    Raises ValueError for fewer than two subjects.
    """
    confusion_SPKK = confusions_by_subject(predictions, classes)[1]
    subjects = confusion_SPKK.shape[1]
    if subjects < 2:
        raise ValueError(f"a bootstrap over subjects needs at least 2, not {subjects}")
    confusion_RSKK = pooled(resamples_of(subjects, n, np.random.default_rng(seed)), confusion_SPKK)
    uar_RS, uf1_RS = scores_of(confusion_RSKK)
    occurs_K = confusion_SPKK.sum((0, 1, 3)) > 0
    lacking_R = (confusion_RSKK.sum((1, 3))[:, occurs_K] == 0).any(1)
    uar, uf1 = (percentiles(mean_over_seeds(x_RS, confusion_RSKK), confidence) for x_RS in (uar_RS, uf1_RS))
    return Bootstrap(uar, uf1, float(lacking_R.mean()))


def floors(
    folds: Sequence[Fold],
    labels: Mapping[str, int],
    classes: int,
    draws: int = 200,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """What two predictors that look at no clip score on these folds: a model has learnt nothing below it.

    - ``constant`` answers with the majority class of the fold's training labels (of several, the lowest
      index).
    - ``stratified`` draws a class with the frequencies of the fold's training labels. Its score is the mean
      over ``draws`` draws from ``seed``.

    Each has the scores ``uar`` and ``uf1`` (pooled), ``uar_foldmean`` and ``uf1_foldmean``.
    """
    return {
        name: _floor(confusion_DFKK)
        for name, confusion_DFKK in floor_confusions(folds, labels, classes, draws, seed).items()
    }


def floor_confusions(
    folds: Sequence[Fold], labels: Mapping[str, int], classes: int, draws: int = 200, seed: int = 0
) -> dict[str, IntArray]:
    """confusion_DFKK of both predictors of `floors`: one matrix for each draw and fold, in the order of the
    fold ids."""
    constant_DFKK = np.empty((1, len(folds), classes, classes), dtype=np.int64)
    stratified_DFKK = np.empty((draws, len(folds), classes, classes), dtype=np.int64)
    rng = np.random.default_rng(seed)
    for f, fold in enumerate(sorted(folds, key=lambda one: one.id)):
        train_K = np.bincount([labels[clip] for clip in fold.train], minlength=classes)
        y_true_N = np.array([labels[clip] for clip in fold.test])
        majority_DN = np.full((1, len(y_true_N)), train_K.argmax())
        constant_DFKK[:, f] = _confusion_of_draws(y_true_N, majority_DN, classes)
        # A clip of the training set is drawn, and its class taken: a class that training lacks is never
        # drawn.
        clip_DN = rng.integers(train_K.sum(), size=(draws, len(y_true_N)))
        drawn_DN = np.searchsorted(train_K.cumsum(), clip_DN, side="right")
        stratified_DFKK[:, f] = _confusion_of_draws(y_true_N, drawn_DN, classes)
    return {"constant": constant_DFKK, "stratified": stratified_DFKK}


def _confusion_of_draws(y_true_N: IntArray, drawn_DN: IntArray, classes: int) -> IntArray:
    """confusion_DKK: a confusion matrix for each of D draws of N answers."""
    draws, n = drawn_DN.shape
    draw_M: IntArray = np.repeat(np.arange(draws, dtype=np.int64), n)
    return confusions(np.tile(y_true_N, draws), drawn_DN.ravel(), draw_M, draws, classes)


def _floor(confusion_DFKK: IntArray) -> dict[str, float]:
    uar_D, uf1_D = scores_of(confusion_DFKK.sum(1))
    uar_DF, uf1_DF = scores_of(confusion_DFKK, occurring=True)
    means = {"uar": uar_D, "uf1": uf1_D, "uar_foldmean": uar_DF, "uf1_foldmean": uf1_DF}
    return {name: float(values.mean()) for name, values in means.items()}


def spread(values_S: FloatArray) -> float | None:
    """The sample standard deviation over seeds; None for a single seed."""
    return float(values_S.std(ddof=1)) if len(values_S) > 1 else None


def mean_over_seeds(score_RS: FloatArray, confusion_RSKK: IntArray) -> FloatArray:
    """The mean over the seeds that have a clip in a resample: a run that was stopped, or a table of other
    code, may have none of the drawn subjects for some seed."""
    has_RS = confusion_RSKK.sum((2, 3)) > 0
    if has_RS.all():
        return score_RS.mean(axis=1)
    return np.average(np.where(has_RS, score_RS, 0.0), axis=1, weights=has_RS)


def percentiles(values_R: FloatArray, confidence: float) -> Interval:
    """The interval that holds the middle share ``confidence`` of the resampled values."""
    lo, hi = np.quantile(values_R, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(lo), float(hi))


def mean_by_subject(
    value_N: FloatArray, subjects: Sequence[SubjectKey], n: int, confidence: float, seed: int
) -> tuple[float, Interval]:
    """The mean of one value a clip, and its percentile interval over ``n`` resamples of the subjects.

    A value that is NaN counts as no clip. The mean, and both ends, are NaN where there is no value at all.
    """
    index = {subject: p for p, subject in enumerate(sorted(set(subjects)))}
    known_N = ~np.isnan(value_N)
    subject_N = np.array([index[subject] for subject in subjects], dtype=np.int64)[known_N]
    clips_P = np.bincount(subject_N, minlength=len(index))
    total_P = np.bincount(subject_N, weights=value_N[known_N], minlength=len(index))
    if not known_N.any():
        return float("nan"), Interval(float("nan"), float("nan"))
    drawn_RP = resamples_of(len(index), n, np.random.default_rng(seed))
    clips_R = drawn_RP @ clips_P
    mean_R = (drawn_RP @ total_P)[clips_R > 0] / clips_R[clips_R > 0]
    return float(total_P.sum() / clips_P.sum()), percentiles(mean_R, confidence)
