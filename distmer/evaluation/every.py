# pyright: strict
"""All scores that published work prints, side by side, each with its interval and with its own floors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from distmer.evaluation.metrics import confusions
from distmer.evaluation.named import Metric
from distmer.evaluation.stats import (
    Interval,
    floor_confusions,
    mean_over_seeds,
    percentiles,
    resamples_of,
    spread,
)
from distmer.types import FloatArray, Fold, IntArray, Predictions

POOLED, FOLD_MEAN = "pooled", "mean over folds"


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One score, by the title of its metric. ``over`` says how it was averaged: pooled, or as a mean over
    folds.

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
    metrics: Sequence[Metric],
    classes: int,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[MetricRow, ...]:
    """Every metric pooled, then every metric as a mean over folds.

    With several seeds a score is the mean over the seeds, and a resample of subjects holds each subject's
    predictions of all seeds. In the mean over folds a fold weighs as often as its subjects were drawn.
    """
    confusion_SGKK, fold_of_G, subject_of_G = _by_fold_and_subject(predictions, classes)
    subjects = int(subject_of_G.max()) + 1
    drawn_RP = resamples_of(subjects, resamples, np.random.default_rng(seed))
    weight_RG = np.concatenate([np.ones((1, len(fold_of_G)), dtype=np.int64), drawn_RP[:, subject_of_G]])
    pooled_RSKK = np.einsum("rg,sgij->rsij", weight_RG, confusion_SGKK)
    scores = {POOLED: [metric(pooled_RSKK) for metric in metrics]}
    scores[FOLD_MEAN] = _fold_means(metrics, confusion_SGKK, fold_of_G, weight_RG)
    drawn = floor_confusions(folds, labels, classes) if folds else {}
    rows: list[MetricRow] = []
    for over, score_MRS in scores.items():
        for metric, score_RS in zip(metrics, score_MRS, strict=True):
            floors = {
                which: float(
                    (metric(c_DFKK.sum(1)) if over == POOLED else metric(c_DFKK, in_fold=True)).mean()
                )
                for which, c_DFKK in drawn.items()
            }
            # the first of the R rows is the score of all subjects; the others are resamples
            observed_S = score_RS[0]
            resampled_R = mean_over_seeds(score_RS[1:], pooled_RSKK[1:])
            interval = percentiles(resampled_R, confidence) if subjects > 1 else None
            value = float(observed_S.mean())
            rows.append(MetricRow(metric.title, over, value, spread(observed_S), interval, floors))
    return tuple(rows)


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


def _fold_means(
    metrics: Sequence[Metric], confusion_SGKK: IntArray, fold_of_G: IntArray, weight_RG: IntArray
) -> list[FloatArray]:
    """mean_RS of each metric: that of each fold, averaged over the folds by weight. A fold that a seed lacks
    is left out. The pairs G are sorted by fold."""
    start_F = np.flatnonzero(np.diff(fold_of_G, prepend=-1))
    share_RF = np.add.reduceat(weight_RG, start_F, axis=1) / np.bincount(fold_of_G)
    of_seed: list[list[FloatArray]] = []
    for confusion_GKK in confusion_SGKK:
        weighted_RGKK = weight_RG[:, :, None, None] * confusion_GKK
        confusion_RFKK = np.add.reduceat(weighted_RGKK, start_F, axis=1)
        share_of_seed_RF = share_RF * (confusion_RFKK.sum((2, 3)) > 0)
        # A resample may hold no clip that the seed has predicted: then it has no mean.
        total_R = np.where(share_of_seed_RF.sum(1) > 0, share_of_seed_RF.sum(1), np.nan)
        of_seed.append(
            [(share_of_seed_RF * metric(confusion_RFKK, in_fold=True)).sum(1) / total_R for metric in metrics]
        )
    return [np.stack(mean_SR, axis=1) for mean_SR in zip(*of_seed, strict=True)]
