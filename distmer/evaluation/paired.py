# pyright: strict
"""Is one model better than another? Tests on the same subjects, and a correction for many tests."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from distmer.evaluation.metrics import scores_of
from distmer.evaluation.named import Metric
from distmer.evaluation.stats import Interval, confusions_by_subject, percentiles, pooled, resamples_of
from distmer.types import BadInput, FloatArray, IntArray, Predictions


@dataclass(frozen=True, slots=True)
class Tested:
    """The score of A minus that of B by one metric, with its interval and its two-sided p-value."""

    value: float
    ci: Interval
    p: float


@dataclass(frozen=True, slots=True)
class Difference:
    """Scores of A minus scores of B on the clips that both predicted with every seed, with intervals and
    two-sided p-values. ``metrics`` are those by further metrics, by their names."""

    uar: float
    uf1: float
    uar_ci: Interval
    uf1_ci: Interval
    uar_p: float
    uf1_p: float
    subjects: int
    clips: int  # that both predicted with every seed
    unpaired: int  # clips that one of them lacks, or one of its seeds: they do not count
    metrics: Mapping[str, Tested] = field(default_factory=dict[str, Tested])


def compare(
    a: Predictions,
    b: Predictions,
    classes: int,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
    names: tuple[str, str] = ("the first run", "the second run"),
    metrics: Sequence[Metric] = (),
) -> Difference:
    """The difference of the pooled scores of A and B, paired by subject.

    The p-value is that of a permutation test. If the two models are exchangeable, each subject's predictions
    may be swapped between them. The p-value is the share of random swaps (with the observed one among them)
    whose absolute difference is at least the observed one. The interval is from a bootstrap over subjects.

    Parameters
    ----------
    a, b : predictions of the two models. With several seeds, a model's score is the mean over its seeds. Only
        clips that both predicted with every seed count: else a seed that was stopped early would be scored
        on other clips than the rest.
    classes : how many classes there are
    resamples : how many swaps, and how many bootstrap samples
    confidence : of the intervals
    seed : of the swaps and samples
    names : what an error calls the two
    metrics : those that are tested beside UAR and UF1

    Raises
    ------
    BadInput
        The two share fewer than two subjects, or do not have the same truth for the same clips.
    """
    common, either = _whole(a) & _whole(b), set(a.clip_ids) | set(b.clip_ids)
    a, b = (_only(p, common) for p in (a, b))
    _require_same_truth(a, b, names)
    if len({str(s) for s in a.subjects}) < 2:
        needed = "the clips of at least two subjects that both have predicted with every seed"
        raise BadInput(f"two runs can be compared only on {needed}.")
    # P subjects, S seeds of A or of B, R resamples
    a_SPKK, b_SPKK = confusions_by_subject(a, classes)[1], confusions_by_subject(b, classes)[1]
    # M metrics, the first two being UAR and UF1
    observed_M = _difference(metrics, a_SPKK.sum(1)[None], b_SPKK.sum(1)[None])[:, 0]
    rng = np.random.default_rng(seed)
    subjects = a_SPKK.shape[1]
    swapped_RP = rng.integers(0, 2, size=(resamples, subjects))
    null_MR = _difference(metrics, _swapped(swapped_RP, a_SPKK, b_SPKK), _swapped(swapped_RP, b_SPKK, a_SPKK))
    # Equal up to rounding is equal: sums are taken in another order under a swap.
    p_M = (1 + (np.abs(null_MR) >= np.abs(observed_M)[:, None] - 1e-12).sum(1)) / (1 + resamples)
    drawn_RP = resamples_of(subjects, resamples, rng)
    boot_MR = _difference(metrics, pooled(drawn_RP, a_SPKK), pooled(drawn_RP, b_SPKK))
    uar, uf1, *more = (
        Tested(float(value), percentiles(row_R, confidence), float(p))
        for value, row_R, p in zip(observed_M, boot_MR, p_M, strict=True)
    )
    return Difference(
        uar=uar.value,
        uf1=uf1.value,
        uar_ci=uar.ci,
        uf1_ci=uf1.ci,
        uar_p=uar.p,
        uf1_p=uf1.p,
        subjects=subjects,
        clips=len(common),
        unpaired=len(either - common),
        metrics={metric.name: tested for metric, tested in zip(metrics, more, strict=True)},
    )


def _require_same_truth(a: Predictions, b: Predictions, names: tuple[str, str]) -> None:
    """A difference between scores on other labels says nothing about the models."""
    in_a, in_b = (dict(zip(p.clip_ids, p.y_true_N.tolist(), strict=True)) for p in (a, b))
    differing = sorted(clip for clip in in_a if in_a[clip] != in_b[clip])
    if differing:
        first = differing[0]
        raise BadInput(
            f"{names[0]} and {names[1]} were scored against other labels: clip {first} is of class"
            f" {in_a[first]} in one and of class {in_b[first]} in the other"
            f" ({len(differing)} of {len(in_a)} clips differ); compare runs of one label table,"
            " with the same permutation or with none."
        )


def holm(p: Sequence[float]) -> list[float]:
    """The p-values of a family of tests after Holm's step-down correction (Holm 1979), in the same order.

    If those below a level count as significant, the chance of even one false one stays below that level.
    """
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted = [0.0] * len(p)
    running = 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = running
    return adjusted


def _whole(predictions: Predictions) -> set[str]:
    """The clips that every seed has predicted."""
    seeds = set(predictions.seed_N.tolist())
    found: defaultdict[str, set[int]] = defaultdict(set)
    for clip, seed in zip(predictions.clip_ids, predictions.seed_N.tolist(), strict=True):
        found[clip].add(seed)
    return {clip for clip, own in found.items() if own == seeds}


def _only(predictions: Predictions, clips: set[str]) -> Predictions:
    return predictions.take(np.array([clip in clips for clip in predictions.clip_ids], dtype=bool))


def _difference(metrics: Sequence[Metric], a_RSKK: IntArray, b_RSKK: IntArray) -> FloatArray:
    """difference_MR: UAR, UF1 and ``metrics`` of A minus those of B, each the mean over seeds."""
    of_a, of_b = (
        [*scores_of(c_RSKK), *(metric(c_RSKK) for metric in metrics)] for c_RSKK in (a_RSKK, b_RSKK)
    )
    both = zip(of_a, of_b, strict=True)
    return np.stack([a_RS.mean(1) - b_RS.mean(1) for a_RS, b_RS in both])


def _swapped(swap_RP: IntArray, own_SPKK: IntArray, other_TPKK: IntArray) -> IntArray:
    """confusion_RSKK of a model some of whose subjects are swapped for those of the other. As many seeds as
    the model has: those of the other in turn."""
    seeds = np.arange(len(own_SPKK)) % len(other_TPKK)
    return pooled(1 - swap_RP, own_SPKK) + pooled(swap_RP, other_TPKK)[:, seeds]
