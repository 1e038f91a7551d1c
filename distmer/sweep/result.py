"""The result of a sweep: each search's trials and choice, the refits on the outer folds, and their score."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import get_args

from distmer.experiment.result import Scored, mixed_devices, score_folds
from distmer.experiment.results_file import ClipLeftOut, FoldLeftOut, InnerScores, LeftOut, Results
from distmer.sweep.plan import Search, State, SweepPlan, Trial
from distmer.types import FoldFailure, FoldResult

_NOT_REACHED = "not reached: the sweep was stopped before it"


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """A finished search: its trials in order, and the chosen one (None: not one went through)."""

    search: Search
    trials: tuple[Trial, ...]
    chosen: Trial | None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SweepResult(Scored):
    """A sweep's end. The outer scores are of the chosen settings on the outer folds: ``folds`` and
    ``failures`` are those of their refits."""

    plan: SweepPlan
    outcomes: tuple[Outcome, ...]
    trained: int = 0  # trainings of this run; what the ledger had is not among them

    @property
    def stamps(self) -> tuple[str, ...]:
        """What a reader of the outer score must know: the plan's stamps, and what came out of the refits."""
        return (*self.plan.stamps, *mixed_devices(self.folds))

    @property
    def expected(self) -> int:
        return len(self.plan.base.folds) * len(self.plan.base.config.seeds)

    @property
    def status(self) -> str:
        if len(self.folds) == self.expected and not any(
            trial.lost for outcome in self.outcomes for trial in outcome.trials
        ):
            return "complete"
        return "partial" if self.folds or len(self.outcomes) < len(self.plan.searches) else "failed"

    @property
    def stopped(self) -> bool:
        """Whether somebody stopped it before its end."""
        unfinished = len(self.outcomes) < len(self.plan.searches)
        return unfinished or any(row.reason == _NOT_REACHED for row in self.left_out)

    @property
    def inner(self) -> InnerScores | None:
        """The validation scores of the chosen settings, the mean over searches."""
        chosen = [outcome.chosen.rungs[-1] for outcome in self.outcomes if outcome.chosen]
        if not chosen:
            return None
        uar, uf1 = sum(rung.uar for rung in chosen), sum(rung.uf1 for rung in chosen)
        return InnerScores(uar=uar / len(chosen), uf1=uf1 / len(chosen))

    @property
    def optimism(self) -> InnerScores | None:
        """The validation score of the chosen settings minus the outer score."""
        if self.summary is None or self.inner is None or self.status != "complete":
            return None
        return InnerScores(uar=self.inner.uar - self.summary.uar, uf1=self.inner.uf1 - self.summary.uf1)

    @property
    def model(self) -> str:
        """The chosen models' names: one, unless the sweep searched among them."""
        chosen = {str(o.chosen.setting.get("model.name", "")) for o in self.outcomes if o.chosen}
        return ", ".join(sorted(filter(None, chosen))) or self.plan.base.model.info.name

    @property
    def counts(self) -> dict[str, int]:
        """Trials by state; their trainings (a shared one counts once) and epochs, and those without
        stopping."""
        trials = [trial for outcome in self.outcomes for trial in outcome.trials]
        states = {state: sum(trial.state == state for trial in trials) for state in get_args(State)}
        done = len({fold for trial in trials for fold in trial.folds})
        whole = {o.search.id: o.search.trainings for o in self.outcomes}
        epochs = [
            self.plan.space.config(t.setting)[0].train.epochs * whole[t.search]
            for t in trials
            if t.state != "failed"
        ]
        return {
            "trials": len(trials),
            **states,
            "trainings": done,
            "trainings_without_stopping": sum(whole[trial.search] for trial in trials),
            "epochs": sum(trial.epochs for trial in trials),
            "epochs_without_stopping": sum(epochs),
        }

    @property
    def left_out(self) -> list[LeftOut]:
        """Everything that is not in the score, with its reason."""
        clips = [ClipLeftOut(clip=f.clip, reason=f.reason) for f in self.plan.base.failures]
        known = {(f.fold_id, f.seed): f.reason for f in self.failures}
        known |= {(f.fold_id, f.seed): "" for f in self.folds}
        ended = {outcome.search.id: outcome for outcome in self.outcomes}
        folds: list[FoldLeftOut] = []
        for search in self.plan.searches:
            for seed, fold in itertools.product(self.plan.base.config.seeds, search.outer):
                reason = known.get((fold.id, seed), _unscored(ended.get(search.id)))
                folds += [FoldLeftOut(fold=fold.id, seed=str(seed), reason=reason)] if reason else []
        return [*clips, *folds]

    @property
    def results(self) -> Results:
        """``results.json`` of a sweep. Its scores have the same keys as those of a run."""
        chosen = [
            {
                "search": o.search.id,
                "trial": o.chosen.index,
                "setting": dict(o.chosen.setting),
                **asdict(o.chosen.rungs[-1]),
            }
            for o in self.outcomes
            if o.chosen
        ]
        return self._results(
            self.plan.base,
            ("uar", "uf1"),
            model=self.model,
            parameters=None,
            mode=self.plan.sweep.mode,
            inner=self.inner,
            optimism=self.optimism,
            chosen=chosen,
            counts=self.counts,
            trained=self.trained,
            failed=self.left_out,
            selection=f"sweep:{self.plan.sweep.mode}",
            stamps=self.stamps,
            status=self.status,
            digest=self.plan.digest,
        )


def _unscored(outcome: Outcome | None) -> str:
    """Why an outer fold has no score, though no training of it failed."""
    if outcome is None or outcome.chosen is not None:
        return _NOT_REACHED
    why = next((trial.reason for trial in outcome.trials if trial.reason), "no trial went through every rung")
    return f"its search has no setting to choose: {why}"


def conclude_sweep(
    plan: SweepPlan,
    outcomes: Mapping[str, Outcome],
    refits: Iterable[FoldResult | FoldFailure],
    trained: int,
    seconds: float,
    folder: str,
) -> SweepResult:
    """The result, in the plan's order. ``outcomes`` by search; ``trained``: the trainings of this run."""
    of_fold = {(report.fold_id, report.seed): report for report in refits}
    order = [(fold.id, seed) for seed in plan.base.config.seeds for fold in plan.base.folds]
    ended = [of_fold[pair] for pair in order if pair in of_fold]
    folds = tuple(report for report in ended if isinstance(report, FoldResult))
    failures = tuple(report for report in ended if isinstance(report, FoldFailure))
    predictions, summary = score_folds(plan.base, folds)
    return SweepResult(
        plan=plan,
        outcomes=tuple(outcomes[search.id] for search in plan.searches if search.id in outcomes),
        folds=folds,
        failures=failures,
        predictions=predictions,
        summary=summary,
        seconds=seconds,
        run_dir=folder,
        trained=trained,
    )
