# pyright: strict
"""All scores that published work prints, side by side, each with its interval and with its own floors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from distmer.evaluation.metrics import confusions, recall_and_f1, scores_of
from distmer.evaluation.stats import Interval, floor_confusions, percentiles
from distmer.types import FloatArray, Fold, IntArray, Predictions

POOLED, FOLD_MEAN = "pooled", "mean over folds"


def accuracy_of(confusion_xKK: IntArray) -> FloatArray:
    """The share of right predictions, which is also the micro-averaged F1 and the micro-averaged recall."""
    hit_x = np.trace(confusion_xKK, axis1=-2, axis2=-1).astype(np.float64)
    return hit_x / np.maximum(confusion_xKK.sum((-2, -1)), 1)


def weighted_f1_of(confusion_xKK: IntArray) -> FloatArray:
    """The mean F1 of the classes, each weighted by how many clips it truly has."""
    true_xK = confusion_xKK.sum(-1)
    return (recall_and_f1(confusion_xKK)[1] * true_xK).sum(-1) / np.maximum(true_xK.sum(-1), 1)


def mcc_of(confusion_xKK: IntArray) -> FloatArray:
    """Matthews' correlation coefficient for several classes (Gorodkin 2004): 1 is perfect, and 0 is what a
    constant predictor gets."""
    c_xKK = confusion_xKK.astype(np.float64)
    n_x, hit_x = c_xKK.sum((-2, -1)), np.trace(c_xKK, axis1=-2, axis2=-1)
    true_xK, predicted_xK = c_xKK.sum(-1), c_xKK.sum(-2)
    covariance_x = hit_x * n_x - (true_xK * predicted_xK).sum(-1)
    spread_x = (n_x**2 - (true_xK**2).sum(-1)) * (n_x**2 - (predicted_xK**2).sum(-1))
    return np.where(spread_x > 0, covariance_x / np.sqrt(np.where(spread_x > 0, spread_x, 1)), 0.0)


METRICS: Mapping[str, Callable[[IntArray], FloatArray]] = {
    "UAR": lambda confusion_xKK: scores_of(confusion_xKK)[0],
    "UF1": lambda confusion_xKK: scores_of(confusion_xKK)[1],
    "accuracy": accuracy_of,
    "weighted F1": weighted_f1_of,
    "MCC": mcc_of,
}
"""Scores as functions of confusion matrices with any leading axes: confusion_xKK → score_x. So pooled scores,
intervals over resampled subjects and floors of all of them are made in one way."""


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One score. ``over`` says how it was averaged: pooled, or as a mean over folds.

    ``sd`` is the standard deviation over seeds (None for one seed), ``interval`` a bootstrap over subjects
    (None for one subject), and ``floors`` what a predictor that looks at no clip gets (empty where the folds
    are not known).
    """

    metric: str
    over: str
    value: float
    sd: float | None
    interval: Interval | None
    floors: Mapping[str, float]


def every_score(
    predictions: Predictions,
    folds: Sequence[Fold],
    labels: Mapping[str, int],
    classes: int,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[MetricRow, ...]:
    """Every metric of `METRICS` pooled, then UAR and UF1 as means over folds.

    With several seeds a score is the mean over the seeds, and a resample of subjects holds each subject's
    predictions of all seeds. In the mean over folds a fold weighs as often as its subjects were drawn.
    """
    confusion_SGKK, fold_of_G, subject_of_G = _by_fold_and_subject(predictions, classes)
    subjects = int(subject_of_G.max()) + 1
    rng = np.random.default_rng(seed)
    drawn_RP = rng.multinomial(subjects, np.full(subjects, 1 / subjects), size=resamples)
    weight_RG = np.concatenate([np.ones((1, len(fold_of_G)), dtype=np.int64), drawn_RP[:, subject_of_G]])
    floors = floor_confusions(folds, labels, classes) if folds else {}
    pooled_RSKK = np.einsum("rg,sgij->rsij", weight_RG, confusion_SGKK)
    rows: list[MetricRow] = []
    for name, metric in METRICS.items():
        floor = {
            which: float(metric(confusion_DFKK.sum(1)).mean()) for which, confusion_DFKK in floors.items()
        }
        rows.append(_row(name, POOLED, metric(pooled_RSKK), floor, subjects, confidence))
    mean_RS2 = _fold_means(confusion_SGKK, fold_of_G, weight_RG)
    for i, name in enumerate(("UAR", "UF1")):
        floor = {
            which: float(scores_of(c_DFKK, occurring=True)[i].mean()) for which, c_DFKK in floors.items()
        }
        rows.append(_row(name, FOLD_MEAN, mean_RS2[..., i], floor, subjects, confidence))
    return tuple(rows)


def _row(
    name: str, over: str, score_RS: FloatArray, floors: Mapping[str, float], subjects: int, confidence: float
) -> MetricRow:
    """The first of the R rows is the score of all subjects; the others are resamples."""
    observed_S = score_RS[0]
    interval = percentiles(score_RS[1:].mean(1), confidence) if subjects > 1 else None
    sd = float(observed_S.std(ddof=1)) if len(observed_S) > 1 else None
    return MetricRow(name, over, float(observed_S.mean()), sd, interval, floors)


def _by_fold_and_subject(predictions: Predictions, classes: int) -> tuple[IntArray, IntArray, IntArray]:
    """confusion_SGKK of each seed and each pair G of fold and subject that occurs; the fold and the subject
    of each."""
    _, seed_N = np.unique(predictions.seed_N, return_inverse=True)
    _, fold_N = np.unique(np.array(predictions.fold_ids), return_inverse=True)
    _, subject_N = np.unique(np.array([str(s) for s in predictions.subjects]), return_inverse=True)
    pairs_G2, pair_N = np.unique(np.stack([fold_N, subject_N], axis=1), axis=0, return_inverse=True)
    seeds, pairs = int(seed_N.max()) + 1, len(pairs_G2)
    group_N = seed_N * pairs + pair_N.reshape(-1)
    confusion_XKK = confusions(predictions.y_true_N, predictions.y_pred_N, group_N, seeds * pairs, classes)
    return confusion_XKK.reshape(seeds, pairs, classes, classes), pairs_G2[:, 0], pairs_G2[:, 1]


def _fold_means(confusion_SGKK: IntArray, fold_of_G: IntArray, weight_RG: IntArray) -> FloatArray:
    """mean_RS2: (UAR, UF1) of each fold, averaged over the folds by weight. A fold that a seed lacks is left
    out. The pairs G are sorted by fold."""
    start_F = np.flatnonzero(np.diff(fold_of_G, prepend=-1))
    share_RF = np.add.reduceat(weight_RG, start_F, axis=1) / np.bincount(fold_of_G)
    of_seed: list[FloatArray] = []
    for confusion_GKK in confusion_SGKK:
        weighted_RGKK = weight_RG[:, :, None, None] * confusion_GKK
        confusion_RFKK = np.add.reduceat(weighted_RGKK, start_F, axis=1)
        share_of_seed_RF = share_RF * (confusion_RFKK.sum((2, 3)) > 0)
        # A resample may hold no clip that the seed has predicted: then it has no mean.
        total_R = np.where(share_of_seed_RF.sum(1) > 0, share_of_seed_RF.sum(1), np.nan)
        means = [
            (share_of_seed_RF * score_RF).sum(1) / total_R
            for score_RF in scores_of(confusion_RFKK, occurring=True)
        ]
        of_seed.append(np.stack(means, axis=-1))
    return np.stack(of_seed, axis=1)
