"""A sweep before it runs, and what came of it: who searches on which persons, what a trial is scored on, which setting is chosen.

`nested`: one search an outer fold, on that fold's training persons alone; its choice is refitted on them and scored once on the
persons it has never seen. `flat`: one search whose trials are scored on the inner folds of all outer folds: every person has a
say in the choice. `oracle`: one search on the test folds themselves. The last two are stamped, and never a headline.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from distmer.config import Config, FeatureConfig, digest
from distmer.evaluation.folds import inner_folds
from distmer.evaluation.metrics import scores
from distmer.evaluation.summary import Summary, summarise
from distmer.experiment.plan import Plan, fold_jobs
from distmer.experiment.space import Setting, Space, SweepConfig
from distmer.models import resolve
from distmer.types import Fold, FoldFailure, FoldJob, FoldResult, JsonValue, Predictions

State = Literal["complete", "stopped", "failed"]


@dataclass(frozen=True, slots=True)
class Rung:
    """What a trial does before it reports again. ``budget``: folds, or epochs, behind it by then."""

    budget: int
    folds: tuple[Fold, ...]
    epochs: int | None = None  # of `rungs: epochs`: every fold is trained for so many


@dataclass(frozen=True, slots=True)
class Search:
    """One searcher's world. ``outer``: the folds its choice is refitted and scored on."""

    id: str
    rungs: tuple[Rung, ...]
    outer: tuple[Fold, ...]

    @property
    def trainings(self) -> int:
        """Trainings of a trial that nobody stops and that reports once."""
        return len({fold.id for rung in self.rungs for fold in rung.folds})


@dataclass(frozen=True, slots=True)
class RungScore:
    """The validation scores of a trial at a rung, pooled over the clips of its folds so far."""

    budget: int
    uar: float
    uf1: float


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting, tried: ``complete`` through every rung, ``stopped`` by the scheduler, or ``failed`` for a reason."""

    search: str
    index: int
    setting: Setting
    state: State
    rungs: tuple[RungScore, ...]
    folds: tuple[str, ...]  # digests of its ledger entries
    epochs: int  # of all its trainings together
    reason: str = ""

    @classmethod
    def of_json(cls, tree: Mapping[str, JsonValue]) -> Trial:
        return cls(**{**tree, "rungs": tuple(RungScore(**rung) for rung in tree["rungs"]), "folds": tuple(tree["folds"])})

    def to_json(self) -> dict[str, JsonValue]:
        return asdict(self)

    def score(self, metric: str) -> float | None:
        """The validation score at the last rung it reached."""
        return getattr(self.rungs[-1], metric) if self.rungs else None


@dataclass(frozen=True, slots=True, eq=False)
class SweepPlan:
    """A sweep, complete and identified. ``base`` is the plan of the base configuration on the clips that every setting can use."""

    digest: str
    space: Space
    base: Plan
    keys: Mapping[str, Mapping[str, str]]  # a feature setting's digest → clip id → content key
    searches: tuple[Search, ...]

    @property
    def sweep(self) -> SweepConfig:
        return self.space.sweep

    @property
    def stamps(self) -> tuple[str, ...]:
        """What a reader of the outer score must know."""
        own = {"nested": (), "flat": ("selection-optimistic",), "oracle": ("oracle:setting",)}[self.sweep.mode]
        return (*own, *self.base.stamps)

    @property
    def trainings(self) -> int:
        """Trainings of all trials without a scheduler, the refits not counted."""
        return self.sweep.wanted * sum(search.trainings for search in self.searches)

    def jobs(self, setting: Setting, rung: Rung) -> tuple[FoldJob, ...]:
        """A trial's trainings for a rung, with the first of the seeds. BadInput where the setting cannot be."""
        config, model = self.space.config(setting)
        if rung.epochs is not None:
            config = config.model_copy(update={"train": config.train.model_copy(update={"epochs": rung.epochs})})
        classes = len(self.base.classes)
        return fold_jobs(config, model, rung.folds, self.base.labels, self._keys(config), config.seeds[:1], classes)

    def refits(self, search: Search, setting: Setting) -> tuple[FoldJob, ...]:
        """The chosen setting on a search's outer folds, with every seed: the same jobs as of a run of that configuration."""
        config, model = self.space.config(setting)
        return fold_jobs(config, model, search.outer, self.base.labels, self._keys(config), config.seeds, len(self.base.classes))

    def _keys(self, config: Config) -> Mapping[str, str]:
        return self.keys[feature_digest(config.features)]

    def validation(self, folds: Sequence[FoldResult], budget: int) -> RungScore:
        """The pooled validation scores of a trial's folds."""
        pooled = Predictions.concat([fold.predictions for fold in folds])
        scored = scores(pooled.y_true_N, pooled.y_pred_N, len(self.base.classes))
        return RungScore(budget, scored.uar, scored.uf1)

    def choose(self, trials: Sequence[Trial]) -> Trial | None:
        """The trial of best validation score among those that went through every rung; the first of equals. None if none did."""
        whole = [trial for trial in trials if trial.state == "complete"]
        return max(whole, key=lambda trial: (trial.score(self.sweep.metric) or 0.0, -trial.index), default=None)


def feature_digest(features: FeatureConfig) -> str:
    return digest(features.model_dump(mode="json"))


def plan_sweep(space: Space, base: Plan, keys: Mapping[str, Mapping[str, str]]) -> SweepPlan:
    """The searches of a sweep. BadInput where a fold's training persons are too few to be split again."""
    names = space.sweep.space["model.name"].countable if "model.name" in space.sweep.space else (base.model.info.name,)
    identity = {
        "base": base.digest,
        "sweep": space.sweep.model_dump(mode="json"),
        "features": sorted(digest(sorted(clips.items())) for clips in keys.values()),
        "models": [resolve(base.config.model.model_validate({"name": name})).source_digest for name in names],
    }
    return SweepPlan(digest(identity), space, base, keys, tuple(_searches(space.sweep, base)))


def _searches(sweep: SweepConfig, base: Plan) -> list[Search]:
    if sweep.mode == "oracle":
        return [Search("all", tuple(Rung(n, (fold,)) for n, fold in enumerate(base.folds, start=1)), base.folds)]
    inner = {outer.id: _inner(outer, base, sweep.inner_folds) for outer in base.folds}
    if sweep.mode == "nested":
        return [Search(outer.id, _rungs(sweep, base, [inner[outer.id]]), (outer,)) for outer in base.folds]
    return [Search("all", _rungs(sweep, base, list(inner.values())), base.folds)]


def _inner(outer: Fold, base: Plan, k: int) -> list[Fold]:
    return [Fold(f"{outer.id}/{fold.id}", fold.train, fold.test) for fold in inner_folds(outer.train, base.labels, k)]


def _rungs(sweep: SweepConfig, base: Plan, inner: Sequence[Sequence[Fold]]) -> tuple[Rung, ...]:
    """After every inner fold (the same one of each outer fold), or after so many epochs of all of them."""
    if sweep.rungs == "epochs":
        folds = tuple(fold for some in inner for fold in some)
        return tuple(Rung(epochs, folds, epochs) for epochs in budgets(sweep, base.config.train.epochs))
    longest = max(map(len, inner))
    return tuple(Rung(n + 1, tuple(some[n] for some in inner if n < len(some))) for n in range(longest))


def grace_of(sweep: SweepConfig, most: int) -> int:
    """The budget before which no trial is stopped."""
    return sweep.grace or (1 if sweep.rungs == "folds" else max(1, most // 9))


def budgets(sweep: SweepConfig, epochs: int) -> list[int]:
    """The epochs after which a trial reports: ASHA's rungs, and all of them. Every rung is a training of its own, from the start."""
    if sweep.scheduler == "none":
        return [epochs]
    steps = [grace_of(sweep, epochs)]
    while steps[-1] * sweep.reduction < epochs:
        steps.append(steps[-1] * sweep.reduction)
    return [*steps, epochs] if steps[-1] < epochs else steps


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """A finished search: its trials in order, and the chosen one (None: not one went through)."""

    search: Search
    trials: tuple[Trial, ...]
    chosen: Trial | None


@dataclass(frozen=True, slots=True, eq=False)
class SweepResult:
    """A sweep's end. The outer scores are of the chosen settings on the outer folds; ``failures`` of their refits."""

    plan: SweepPlan
    outcomes: tuple[Outcome, ...]
    folds: tuple[FoldResult, ...]  # the refits, in plan order
    failures: tuple[FoldFailure, ...]
    predictions: Predictions | None
    summary: Summary | None
    seconds: float
    folder: str
    trained: int = 0  # trainings of this run; what the ledger had is not among them
    mlflow_run_id: str | None = None

    @property
    def expected(self) -> int:
        return len(self.plan.base.folds) * len(self.plan.base.config.seeds)

    @property
    def status(self) -> str:
        if len(self.folds) == self.expected:
            return "complete"
        return "partial" if self.folds or len(self.outcomes) < len(self.plan.searches) else "failed"

    @property
    def inner(self) -> Mapping[str, float] | None:
        """The chosen settings' validation scores, the mean over searches: what the search believes."""
        chosen = [outcome.chosen.rungs[-1] for outcome in self.outcomes if outcome.chosen]
        if not chosen:
            return None
        return {name: sum(getattr(rung, name) for rung in chosen) / len(chosen) for name in ("uar", "uf1")}

    @property
    def optimism(self) -> Mapping[str, float] | None:
        """Validation score of the chosen less the outer score: how much better the search looks from the inside."""
        if self.summary is None or self.inner is None or self.status != "complete":
            return None
        return {"uar": self.inner["uar"] - self.summary.uar, "uf1": self.inner["uf1"] - self.summary.uf1}

    @property
    def counts(self) -> dict[str, int]:
        """Trials by state; their trainings (one that trials share counts once) and epochs, against those without a scheduler."""
        trials = [trial for outcome in self.outcomes for trial in outcome.trials]
        states = {state: sum(trial.state == state for trial in trials) for state in ("complete", "stopped", "failed")}
        done = len({fold for trial in trials for fold in trial.folds})
        whole = {o.search.id: o.search.trainings for o in self.outcomes}
        epochs = [self.plan.space.config(t.setting)[0].train.epochs * whole[t.search] for t in trials if t.state != "failed"]
        return {
            "trials": len(trials),
            **states,
            "trainings": done,
            "trainings_without_stopping": sum(whole[trial.search] for trial in trials),
            "epochs": sum(trial.epochs for trial in trials),
            "epochs_without_stopping": sum(epochs),
        }

    @property
    def reasons(self) -> list[dict[str, str]]:
        """Everything that is not in the score, with its reason."""
        clips = [{"clip": f.clip, "reason": f.reason} for f in self.plan.base.failures]
        known = {(f.fold_id, f.seed): f.reason for f in self.failures} | {(f.fold_id, f.seed): "" for f in self.folds}
        ended = {outcome.search.id: outcome for outcome in self.outcomes}
        folds: list[dict[str, str]] = []
        for search in self.plan.searches:
            for seed, fold in itertools.product(self.plan.base.config.seeds, search.outer):
                reason = known.get((fold.id, seed), _unscored(ended.get(search.id)))
                folds += [{"fold": fold.id, "seed": str(seed), "reason": reason}] if reason else []
        return [*clips, *folds]

    def to_json(self) -> dict[str, JsonValue]:
        """``results.json`` of a sweep; its score fields are those of a run's, so that both can be compared."""
        base = self.plan.base
        scored: dict[str, JsonValue] = self.summary.to_json() if self.summary else {"uar": None, "uf1": None}
        chosen = [
            {"search": o.search.id, "trial": o.chosen.index, "setting": dict(o.chosen.setting), **asdict(o.chosen.rungs[-1])}
            for o in self.outcomes
            if o.chosen
        ]
        return {
            "model": base.model.info.name,
            "dataset": base.manifest.protocol,
            "mode": self.plan.sweep.mode,
            **scored,
            "inner": self.inner,
            "optimism": self.optimism,
            "chosen": chosen,
            "counts": self.counts,
            "trained": self.trained,
            "clips_used": len(set(self.predictions.clip_ids)) if self.predictions else 0,
            "clips_expected": base.manifest.clips_expected,
            "folds": len(base.folds),
            "seeds": list(base.config.seeds),
            "classes": list(base.classes),
            "confidence": base.config.evaluation.confidence,
            "failed": self.reasons,
            "stamps": list(self.plan.stamps),
            "selection": f"sweep:{self.plan.sweep.mode}",
            "parameters": None,
            "devices": sorted({fold.device for fold in self.folds}),
            "seconds": round(self.seconds, 3),
            "fold_seconds": round(sum(fold.seconds for fold in self.folds), 3),
            "status": self.status,
            "run_dir": self.folder,
            "mlflow_run_id": self.mlflow_run_id,
        }


def _unscored(outcome: Outcome | None) -> str:
    """Why an outer fold has no score, though no training of it failed."""
    if outcome is None or outcome.chosen is not None:
        return "not reached: the sweep was stopped before it"
    why = next((trial.reason for trial in outcome.trials if trial.reason), "no trial went through every rung")
    return f"its search has no setting to choose: {why}"


@dataclass(slots=True)
class Tally:
    """What a running sweep gathers; `conclude_sweep` makes its result of it."""

    outcomes: dict[str, Outcome] = field(default_factory=dict[str, Outcome])
    refits: dict[str, FoldResult | FoldFailure] = field(default_factory=dict[str, "FoldResult | FoldFailure"])
    trained: int = 0


def conclude_sweep(plan: SweepPlan, tally: Tally, seconds: float, folder: str) -> SweepResult:
    """The result, in the plan's order whatever the order of arrival."""
    outcomes = tuple(tally.outcomes[search.id] for search in plan.searches if search.id in tally.outcomes)
    order = {(fold.id, seed): n for n, (seed, fold) in enumerate((s, f) for s in plan.base.config.seeds for f in plan.base.folds)}
    ended = sorted(tally.refits.values(), key=lambda report: order[report.fold_id, report.seed])
    folds = tuple(report for report in ended if isinstance(report, FoldResult))
    failures = tuple(report for report in ended if isinstance(report, FoldFailure))
    predictions = Predictions.concat([fold.predictions for fold in folds]) if folds else None
    base = plan.base
    summary = None if predictions is None else summarise(predictions, base.folds, base.labels, base.classes, base.config.evaluation)
    return SweepResult(plan, outcomes, folds, failures, predictions, summary, seconds, folder, tally.trained)
