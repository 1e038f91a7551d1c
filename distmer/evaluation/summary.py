# pyright: strict
"""Everything that is printed about an experiment's predictions, as one value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from distmer.config import EvaluationConfig
from distmer.evaluation.every import MetricRow, every_score
from distmer.evaluation.metrics import fold_mean, scores
from distmer.evaluation.named import HEADLINE, chosen
from distmer.evaluation.stats import Bootstrap, Interval, bootstrap, confusions_by_subject, floors, spread
from distmer.types import BadInput, Fold, IntArray, JsonValue, Predictions, Scores

# The bootstrap's own seed: an interval must not move when the experiment's seeds do.
_BOOTSTRAP_SEED = 0


@dataclass(frozen=True, slots=True)
class SubjectRow:
    """One subject: how many clips, how many of them right, and the mean recall over the classes that they
    have.

    ``correct`` and ``recall`` are means over the seeds.
    """

    subject: str
    n: int
    correct: float
    recall: float


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """The scores of an experiment: means over its seeds, with their spread, intervals, floors and
    break-downs.

    ``uar_sd`` and ``uf1_sd`` are sample standard deviations of the seeds' pooled scores, and None for a
    single seed. ``interval`` is None with a single subject. ``metrics`` are those beside UAR and UF1, each
    pooled and as a mean over folds. ``confusion_KK`` is the sum over the seeds.
    """

    classes: tuple[str, ...]
    n: int  # distinct clips scored
    seeds: tuple[int, ...]
    uar: float
    uf1: float
    uar_sd: float | None
    uf1_sd: float | None
    interval: Bootstrap | None
    uar_foldmean: float
    uf1_foldmean: float
    floors: Mapping[str, Mapping[str, float]]
    metrics: Mapping[str, tuple[MetricRow, MetricRow]]
    per_dataset: Mapping[str, Mapping[str, float]]  # data set → uar, uf1, n
    per_class: Mapping[str, Mapping[str, float]]  # class → recall, f1, n
    per_subject: tuple[SubjectRow, ...]
    confusion_KK: IntArray

    def to_json(self) -> dict[str, JsonValue]:
        """The summary as ``results.json`` holds it; intervals are [lo, hi] or null."""
        return {
            "classes": list(self.classes),
            "n": self.n,
            "seeds": list(self.seeds),
            "uar": self.uar,
            "uar_ci": _ends(self.interval and self.interval.uar),
            "uar_sd": self.uar_sd,
            "uf1": self.uf1,
            "uf1_ci": _ends(self.interval and self.interval.uf1),
            "uf1_sd": self.uf1_sd,
            "resamples_lacking_a_class": self.interval.lacking if self.interval else None,
            "uar_foldmean": self.uar_foldmean,
            "uf1_foldmean": self.uf1_foldmean,
            "floors": {name: dict(floor) for name, floor in self.floors.items()},
            **({"metrics": _metrics_json(self.metrics)} if self.metrics else {}),
            "per_dataset": {name: dict(row) for name, row in self.per_dataset.items()},
            "per_class": {name: dict(row) for name, row in self.per_class.items()},
            "per_subject": [asdict(row) for row in self.per_subject],
            "confusion": self.confusion_KK.tolist(),
        }


def summarise(
    predictions: Predictions,
    folds: Sequence[Fold],
    labels: Mapping[str, int],
    classes: Sequence[str],
    cfg: EvaluationConfig,
) -> Summary:
    """Score an experiment.

    Parameters
    ----------
    predictions : of all seeds and all folds that are finished
    folds : all folds; the floors are those of the finished ones, so that a partial result has its own floor
    labels : clip id → class, as they were trained on (permuted, if they were)
    classes : the classes' names
    cfg : how many bootstrap samples, and the confidence of the intervals

    Raises
    ------
    BadInput
        Nothing was predicted, or a metric of ``cfg`` gives no number from -1 to 1.
    ValueError
        A seed predicts a clip twice.
    """
    if not len(predictions):
        raise BadInput("no fold has finished, so there is nothing to score; see the list of failures.")
    _refuse_repeats(predictions)
    k = len(classes)
    pooled = _per_seed(predictions, k)
    uar_S, uf1_S = np.array([s.uar for s in pooled]), np.array([s.uf1 for s in pooled])
    finished = [fold for fold in folds if fold.id in set(predictions.fold_ids)]
    interval = None
    if len(set(predictions.subjects)) > 1:
        interval = bootstrap(predictions, k, cfg.bootstrap, cfg.confidence, _BOOTSTRAP_SEED)
    uar_foldmean, uf1_foldmean = fold_mean(predictions, k)
    return Summary(
        classes=tuple(classes),
        n=len(set(predictions.clip_ids)),
        seeds=tuple(int(seed) for seed in np.unique(predictions.seed_N)),
        uar=float(uar_S.mean()),
        uf1=float(uf1_S.mean()),
        uar_sd=spread(uar_S),
        uf1_sd=spread(uf1_S),
        interval=interval,
        uar_foldmean=uar_foldmean,
        uf1_foldmean=uf1_foldmean,
        floors=floors(finished, labels, k),
        metrics=_metrics(predictions, finished, labels, k, cfg),
        per_dataset=_per_dataset(predictions, k),
        per_class=_per_class(pooled, classes),
        per_subject=_per_subject(predictions, k),
        confusion_KK=np.sum([s.confusion_KK for s in pooled], axis=0),
    )


def pooled_uar(predictions: Predictions, k: int) -> float:
    """The pooled UAR, the mean over seeds. Raises ValueError where there are no predictions, or a label is
    none of the ``k`` classes."""
    if not len(predictions):
        raise ValueError("there are no predictions to score")
    return float(np.mean([scored.uar for scored in _per_seed(predictions, k)]))


def _refuse_repeats(predictions: Predictions) -> None:
    counts = Counter(zip(predictions.clip_ids, predictions.seed_N.tolist(), strict=True))
    (clip, seed), times = counts.most_common(1)[0]
    if times > 1:
        raise ValueError(f"clip {clip} is predicted {times} times with seed {seed}")


def _per_seed(predictions: Predictions, k: int) -> list[Scores]:
    parts = [predictions.take(predictions.seed_N == seed) for seed in np.unique(predictions.seed_N)]
    return [scores(part.y_true_N, part.y_pred_N, k) for part in parts]


def _metrics(
    predictions: Predictions, folds: Sequence[Fold], labels: Mapping[str, int], k: int, cfg: EvaluationConfig
) -> dict[str, tuple[MetricRow, MetricRow]]:
    """The metrics beside the headline's, each pooled and as a mean over folds."""
    metrics = chosen(cfg.metrics, k)[len(HEADLINE) :]
    if not metrics:
        return {}
    rows = every_score(predictions, folds, labels, metrics, k, cfg.bootstrap, cfg.confidence, _BOOTSTRAP_SEED)
    pooled_and_mean = zip(rows[: len(metrics)], rows[len(metrics) :], strict=True)
    return {metric.name: both for metric, both in zip(metrics, pooled_and_mean, strict=True)}


def _metrics_json(metrics: Mapping[str, tuple[MetricRow, MetricRow]]) -> dict[str, JsonValue]:
    return {
        name: {
            "pooled": pooled.value,
            "pooled_ci": _ends(pooled.interval),
            "pooled_sd": pooled.sd,
            "foldmean": mean.value,
            "floors": {
                which: {"pooled": floor, "foldmean": mean.floors[which]}
                for which, floor in pooled.floors.items()
            },
        }
        for name, (pooled, mean) in metrics.items()
    }


def _per_dataset(predictions: Predictions, k: int) -> dict[str, dict[str, float]]:
    dataset_N = np.array([subject.dataset for subject in predictions.subjects])
    rows: dict[str, dict[str, float]] = {}
    for name in sorted(set(dataset_N.tolist())):
        part = predictions.take(dataset_N == name)
        pooled = _per_seed(part, k)
        means = {"uar": np.mean([s.uar for s in pooled]), "uf1": np.mean([s.uf1 for s in pooled])}
        rows[name] = {key: float(mean) for key, mean in means.items()} | {"n": len(set(part.clip_ids))}
    return rows


def _per_class(pooled: Sequence[Scores], classes: Sequence[str]) -> dict[str, dict[str, float]]:
    recall_K = np.mean([s.recall_K for s in pooled], axis=0)
    f1_K = np.mean([s.f1_K for s in pooled], axis=0)
    # The most of all seeds: one whose folds are not all finished has fewer.
    n_K = np.max([s.confusion_KK.sum(1) for s in pooled], axis=0)
    rows = zip(classes, recall_K.tolist(), f1_K.tolist(), n_K.tolist(), strict=True)
    return {name: {"recall": recall, "f1": f1, "n": n} for name, recall, f1, n in rows}


def _per_subject(predictions: Predictions, k: int) -> tuple[SubjectRow, ...]:
    subjects, confusion_SPKK = confusions_by_subject(predictions, k)
    n_SPK = confusion_SPKK.sum(-1)
    hit_SPK = np.diagonal(confusion_SPKK, axis1=-2, axis2=-1)
    recall_SP = (hit_SPK / np.maximum(n_SPK, 1)).sum(-1) / np.maximum((n_SPK > 0).sum(-1), 1)
    scored_SP = n_SPK.sum(-1) > 0  # a seed may not have finished with every subject
    n_P = n_SPK.sum(-1).max(0)
    correct_P = np.average(hit_SPK.sum(-1), axis=0, weights=scored_SP)
    recall_P = np.average(recall_SP, axis=0, weights=scored_SP)
    rows = zip(subjects, n_P.tolist(), correct_P.tolist(), recall_P.tolist(), strict=True)
    return tuple(SubjectRow(str(subject), n, correct, recall) for subject, n, correct, recall in rows)


def _ends(interval: Interval | None) -> list[float] | None:
    return [interval.lo, interval.hi] if interval else None
