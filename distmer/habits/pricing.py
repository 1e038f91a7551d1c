"""The price list of one model: every habit of the literature, on the same clips and with the same recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from distmer.config import Config, Named
from distmer.evaluation.named import Metric, chosen
from distmer.experiment.plan import Plan
from distmer.experiment.result import at_epoch
from distmer.habits.config import Case, HabitsConfig
from distmer.habits.prices import (
    Price,
    Reported,
    best_seed,
    counts,
    mean_over_folds,
    mean_over_seeds,
    price,
)
from distmer.habits.trainings import Splits, Trainings
from distmer.types import BadInput, FoldJob, FoldResult, Predictions

# Trains folds, and gives them in the order of their jobs; BadInput where one fails. The words name them.
Fit = Callable[[Trainings, str], list[FoldResult]]

LOSO = "leave one subject out"
LOOKED = f"{LOSO}, every epoch"
STANDARDISED = "normalised by training clips"
TUNED_INSIDE = "tuned on inner folds"
EPOCH_BY_SUBJECT = "epoch by test subject"
EPOCH_BY_FOLDS = "epoch by test folds"
MEAN_OVER_FOLDS = "mean over folds for pooled"
MICRO = "micro F1 for UF1"
WEIGHTED = "weighted F1 for UF1"
CLIP_WISE = "clip-wise folds"
OVER_ALL = "normalised over all clips"
OVERSAMPLED = "oversampled before the split"
BEST_SEED = "best seed"
TUNED = "tuned on the LOSO score"
DROPPED = "hard clips dropped"


@dataclass(frozen=True, slots=True, eq=False)
class Pricing:
    """Prices the habits of one model. ``splits``: of the plan of the honest run. ``random``: whether the seed
    changes anything, which is found out first."""

    case: Case
    section: HabitsConfig
    splits: Splits
    fit: Fit
    random: bool = True

    def prices(self) -> Iterator[Price | tuple[str, str]]:
        """Every price, habit by habit; (habit, reason) of one that cannot be priced, as when a fold fails."""
        try:
            own = self._known()
        except BadInput as error:  # without an honest score there is nothing to compare with
            yield LOSO, str(error)
            return
        split = own.splits
        ways: dict[str, Iterator[Price]] = {
            LOSO: own._reporting(),
            CLIP_WISE: own._against_loso(CLIP_WISE, split.clip_wise),
            OVERSAMPLED: own._against_loso(OVERSAMPLED, split.oversampled),
            OVER_ALL: own._over_all(),
            TUNED: own._tuned(),
        }
        ways |= {BEST_SEED: own._best_seed()} if own.random else {}
        ways |= {f"{EPOCH_BY_SUBJECT}, {EPOCH_BY_FOLDS}": own._epochs()} if own._is_network else {}
        for habit, prices in ways.items():
            try:
                yield from prices
            except BadInput as error:
                yield habit, str(error)

    def trainings(self) -> Iterator[tuple[str, list[FoldJob]]]:
        """All folds that `prices` trains, by name; nothing is trained for it. A model of which ``fit`` cannot
        tell whether it is random is taken for one that is."""
        try:
            own = self._known()
        except BadInput:
            own = self
        config, split, section = own.case.config, own.splits, own.section
        seeds, retrained = own._seeds(section.seeds), own._seeds(section.retrained)
        if own._is_network:
            honest = (LOOKED, [split.every_epoch(config, max(seeds, retrained, key=len))])
        else:
            honest = (LOSO, [split.loso(config, max(seeds, retrained, own._two_seeds, key=len))])
        found = [
            honest,
            (CLIP_WISE, [own._split(split.clip_wise, retrained)]),
            (OVERSAMPLED, [own._split(split.oversampled, retrained)]),
            (STANDARDISED, [split.standardised(config, retrained)]),
            (OVER_ALL, [split.over_all_clips(config, retrained)]),
            (TUNED, [own._outer(tried) for tried in own.case.tuned]),
            (TUNED_INSIDE, [own._inner(tried) for tried in own.case.tuned]),
        ]
        yield from ((name, [job for part in parts for job in part.jobs]) for name, parts in found)

    def _known(self) -> Pricing:
        """This, with ``random`` found out. BadInput if the folds for it cannot be had."""
        return self if self._is_network else replace(self, random=self._is_random())

    def _is_random(self) -> bool:
        """Whether another seed gives other predictions."""
        folds = self._fitted(self.splits.loso(self.case.config, self._two_seeds), LOSO)
        half = len(folds) // 2
        pairs = zip(folds[:half], folds[half:], strict=True)
        return any(not np.array_equal(a.predictions.prob_NK, b.predictions.prob_NK) for a, b in pairs)

    def _loso(self, seeds: Sequence[int]) -> Predictions:
        """The honest predictions. A network is trained once for them and for the choice of an epoch: after
        its last epoch it is the same to the bit, whether or not anybody looked at the others."""
        if self._is_network:
            return _after_the_last(self._looked(seeds))
        return self._predicted(self.splits.loso(self.case.config, seeds))

    def _looked(self, seeds: Sequence[int]) -> list[FoldResult]:
        return self._fitted(self.splits.every_epoch(self.case.config, seeds), LOOKED)

    def _reporting(self) -> Iterator[Price]:
        """Habits that need no training of their own: the same predictions, reported otherwise."""
        predictions = self._loso(self._seeds(self.section.seeds))
        uar, uf1, accuracy, weighted = self._metrics
        for metric in (uf1, uar):
            honest = self._honest(metric, predictions)
            feigned = replace(honest, score=mean_over_folds(metric))
            yield self._price(MEAN_OVER_FOLDS, metric, honest, feigned)
        honest = self._honest(uf1, predictions)
        for habit, other in ((MICRO, accuracy), (WEIGHTED, weighted)):
            yield self._price(habit, uf1, honest, replace(honest, score=mean_over_seeds(other)))
        easy = without_hard(predictions, self.section.dropped)
        yield from self._prices(f"{DROPPED} ({self.section.dropped:.0%})", predictions, easy)

    def _best_seed(self) -> Iterator[Price]:
        seeds = self._seeds(self.section.seeds)
        predictions = self._loso(seeds)
        for metric in (self._metrics[1], self._metrics[0]):
            honest = self._honest(metric, predictions)
            feigned = replace(honest, score=best_seed(metric))
            yield self._price(f"{BEST_SEED} of {len(seeds)}", metric, honest, feigned)

    def _epochs(self) -> Iterator[Price]:
        folds, uf1 = self._looked(self._seeds(self.section.seeds)), self._metrics[1]
        honest = _after_the_last(folds)
        by_subject = [at_epoch(fold, most_accurate(fold)) for fold in folds]
        by_folds = common_epoch(folds, uf1)
        for habit, chosen_folds in ((EPOCH_BY_SUBJECT, by_subject), (EPOCH_BY_FOLDS, by_folds)):
            feigned = Predictions.concat([fold.predictions for fold in chosen_folds])
            yield from self._prices(habit, honest, feigned)

    def _against_loso(self, habit: str, split: Callable[..., Trainings]) -> Iterator[Price]:
        seeds = self._seeds(self.section.retrained)
        honest = self._loso(seeds)
        yield from self._prices(habit, honest, self._predicted(self._split(split, seeds), habit))

    def _split(self, split: Callable[..., Trainings], seeds: Sequence[int]) -> Trainings:
        return split(self.case.config, seeds, self.section.clip_folds, self.section.seed)

    def _over_all(self) -> Iterator[Price]:
        seeds = self._seeds(self.section.retrained)
        honest = self.splits.standardised(self.case.config, seeds)
        predicted = self._predicted(honest, STANDARDISED)
        own = self.splits.over_all_clips(self.case.config, seeds)
        yield from self._prices(OVER_ALL, predicted, self._predicted(own, OVER_ALL))

    def _tuned(self) -> Iterator[Price]:
        """The setting of best LOSO score, against the one that inner folds choose for each fold alone."""
        uf1, k = self._metrics[1], len(self.plan.classes)
        outer: list[list[FoldResult]] = []
        inner: list[dict[str, FoldResult]] = []
        for config in self.case.tuned:
            outer.append(self._fitted(self._outer(config), TUNED))
            inner.append({fold.fold_id: fold for fold in self._fitted(self._inner(config), TUNED_INSIDE)})
        flat = [Predictions.concat([fold.predictions for fold in folds]) for folds in outer]
        best = max(range(len(flat)), key=lambda i: (_score(uf1, flat[i], k), -i))
        nested: list[Predictions] = []
        for f, fold in enumerate(self.plan.folds):
            seen = [
                Predictions.concat([one.predictions for name, one in of.items() if _within(name, fold.id)])
                for of in inner
            ]
            chosen_here = max(range(len(seen)), key=lambda i: (_score(uf1, seen[i], k), -i))
            nested.append(outer[chosen_here][f].predictions)
        yield from self._prices(f"{TUNED} ({len(flat)} settings)", Predictions.concat(nested), flat[best])

    def _outer(self, config: Config) -> Trainings:
        return self.splits.loso(config, self.case.config.seeds[:1])

    def _inner(self, config: Config) -> Trainings:
        return self.splits.inner(config, self.section.inner_folds, self.case.config.seeds[0])

    def _prices(self, habit: str, honest: Predictions, feigned: Predictions) -> Iterator[Price]:
        """The prices in UF1 and in UAR of other predictions, reported honestly."""
        for metric in (self._metrics[1], self._metrics[0]):
            yield self._price(habit, metric, self._honest(metric, honest), self._honest(metric, feigned))

    def _price(self, habit: str, metric: Metric, honest: Reported, feigned: Reported) -> Price:
        return price(self.case.label, habit, metric.title, honest, feigned, self.case.config.evaluation)

    def _honest(self, metric: Metric, predictions: Predictions) -> Reported:
        subjects = sorted({clip.subject_key for clip in self.plan.clips})
        return Reported(mean_over_seeds(metric), counts(predictions, subjects, len(self.plan.classes)))

    def _predicted(self, own: Trainings, what: str = LOSO) -> Predictions:
        return own.predictions(self._fitted(own, what))

    def _fitted(self, own: Trainings, what: str) -> list[FoldResult]:
        return self.fit(own, f"{self.case.label}: {what}")

    def _seeds(self, count: int) -> range:
        first = self.case.config.seeds[0]
        return range(first, first + (count if self.random else 1))

    @property
    def _two_seeds(self) -> range:
        first = self.case.config.seeds[0]
        return range(first, first + 2)

    @property
    def plan(self) -> Plan:
        return self.splits.plan

    @property
    def _is_network(self) -> bool:
        return self.plan.model.info.kind == "torch"

    @property
    def _metrics(self) -> tuple[Metric, ...]:
        """UAR, UF1, accuracy (which is the micro-averaged F1), weighted F1."""
        return chosen((Named(name="accuracy"), Named(name="weighted_f1")), len(self.plan.classes))


def _after_the_last(folds: Sequence[FoldResult]) -> Predictions:
    return Predictions.concat([at_epoch(fold, -1).predictions for fold in folds])


def most_accurate(fold: FoldResult) -> int:
    """The epoch at which most held-out clips of the fold are right; the earliest of equal ones."""
    y_pred_EN = np.asarray(fold.epoch_prob_ENK).argmax(axis=2)
    return int((y_pred_EN == fold.predictions.y_true_N).mean(axis=1).argmax())


def common_epoch(folds: list[FoldResult], metric: Metric) -> list[FoldResult]:
    """Each seed's folds at the one epoch at which the seed's pooled score is best."""
    found: list[FoldResult] = []
    for seed in dict.fromkeys(fold.seed for fold in folds):
        own = [fold for fold in folds if fold.seed == seed]
        shape = np.asarray(own[0].epoch_prob_ENK).shape
        score_E = [
            _score(metric, Predictions.concat([at_epoch(fold, e).predictions for fold in own]), shape[2])
            for e in range(shape[0])
        ]
        found += [at_epoch(fold, int(np.argmax(score_E))) for fold in own]
    return found


def without_hard(predictions: Predictions, share: float) -> Predictions:
    """The predictions without the ``share`` of the clips whose true class got the least probability, the mean
    over seeds."""
    true_N = predictions.prob_NK[np.arange(len(predictions)), predictions.y_true_N]
    own: dict[str, list[float]] = {}
    for clip, probability in zip(predictions.clip_ids, true_N.tolist(), strict=True):
        own.setdefault(clip, []).append(probability)
    ranked = sorted(own, key=lambda clip: (float(np.mean(own[clip])), clip))
    hard = set(ranked[: round(share * len(ranked))])
    return predictions.take(np.array([clip not in hard for clip in predictions.clip_ids]))


def _score(metric: Metric, predictions: Predictions, classes: int) -> float:
    subjects = sorted(set(predictions.subjects))
    of_PKK = counts(predictions, subjects, classes)
    return float(mean_over_seeds(metric)(np.ones((1, len(subjects)), dtype=np.int64), of_PKK)[0])


def _within(inner: str, outer: str) -> bool:
    return inner.rpartition(" ")[0] == outer  # see `Splits.inner`
