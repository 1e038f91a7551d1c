"""The plan of a sweep: who searches on which subjects, what a trial is scored on, which setting is chosen.

`nested`: one search for each outer fold, on its training subjects alone; the choice is refitted on them and
scored once on the held-out subjects. `flat`: one search whose trials are scored on the inner folds of all
outer folds, so every subject has a say in the choice. `oracle`: one search on the test folds themselves. The
last two are stamped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from distmer.code import code_of
from distmer.config import Config, FeatureConfig
from distmer.digests import digest
from distmer.evaluation.folds import inner_folds
from distmer.evaluation.metrics import scores
from distmer.evaluation.stats import bootstrap
from distmer.experiment.plan import Plan, digest_of_data, fold_jobs
from distmer.functions import of_training
from distmer.models import ResolvedModel, resolve
from distmer.sweep.space import SEARCHABLE, Setting, Space, SweepConfig
from distmer.types import Fold, FoldJob, FoldResult, JsonValue, Predictions

State = Literal["complete", "stopped", "failed"]


@dataclass(frozen=True, slots=True)
class Rung:
    """What a trial trains before its next report. ``budget``: the folds, or epochs, that it has then done."""

    budget: int
    folds: tuple[Fold, ...]
    epochs: int | None = None  # of `rungs: epochs`: every fold is trained for so many


@dataclass(frozen=True, slots=True)
class Search:
    """What one searcher works on. ``outer``: the folds on which its choice is refitted and scored."""

    id: str
    rungs: tuple[Rung, ...]
    outer: tuple[Fold, ...]

    @property
    def trainings(self) -> int:
        """Trainings of a trial without a scheduler: one a fold."""
        return len({fold.id for rung in self.rungs for fold in rung.folds})

    @property
    def most(self) -> int:
        """Trainings of a trial that is not stopped; every rung of epochs trains its folds anew."""
        return sum(len(rung.folds) for rung in self.rungs)


@dataclass(frozen=True, slots=True)
class RungScore:
    """The validation scores of a trial at a rung, pooled over the clips of its folds so far."""

    budget: int
    uar: float
    uf1: float


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting, tried: ``complete`` (every rung), ``stopped`` by the scheduler, or ``failed``."""

    search: str
    index: int
    setting: Setting
    state: State
    rungs: tuple[RungScore, ...]
    folds: tuple[str, ...]  # digests of its ledger entries
    epochs: int  # of all its trainings together
    reason: str = ""
    lost: bool = False  # a worker or the trial's driver died: another try may do better

    @classmethod
    def of_json(cls, tree: Mapping[str, JsonValue]) -> Trial:
        rungs = tuple(RungScore(**rung) for rung in tree["rungs"])
        return cls(**{**tree, "rungs": rungs, "folds": tuple(tree["folds"])})

    def to_json(self) -> dict[str, JsonValue]:
        return asdict(self)

    def score(self, metric: str) -> float | None:
        """The validation score at the last rung it reached."""
        return getattr(self.rungs[-1], metric) if self.rungs else None


@dataclass(frozen=True, slots=True, eq=False)
class SweepPlan:
    """A sweep, complete and identified. ``base`` is the plan of the base configuration on the clips that
    every setting can use."""

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
        of_mode = {"nested": (), "flat": ("selection-optimistic",), "oracle": ("oracle:setting",)}
        return (*of_mode[self.sweep.mode], *self.base.stamps)

    @property
    def settings(self) -> dict[str, JsonValue]:
        """A configuration that gives the same sweep again. Its section is as given, because what was left out
        may be no option of the mode."""
        return {**self.space.acting(), "sweep": self.sweep.model_dump(mode="json", exclude_unset=True)}

    @property
    def data_by_features(self) -> dict[str, str]:
        """The digest of the clips, their content and labels, for each of `features_of` a setting."""
        labels = self.base.labels
        return {
            features_of(setting): digest_of_data(self._keys(self.space.config(setting)[0]), labels)
            for setting in self.space.feature_settings()
        }

    @property
    def trainings(self) -> int:
        """Trainings of all trials if none is stopped, the refits not counted."""
        return self.sweep.wanted * sum(search.most for search in self.searches)

    def jobs(self, setting: Setting, rung: Rung) -> tuple[FoldJob, ...]:
        """A trial's trainings for a rung, with the first seed. BadInput where the setting cannot be."""
        config, model = self.space.config(setting)
        if rung.epochs is not None:
            train = config.train.model_copy(update={"epochs": rung.epochs})
            config = config.model_copy(update={"train": train})
        return self._jobs(config, model, rung.folds, config.seeds[:1])

    def refits(self, search: Search, setting: Setting) -> tuple[FoldJob, ...]:
        """The chosen setting on a search's outer folds, with every seed: the same jobs as of a run."""
        config, model = self.space.config(setting)
        return self._jobs(config, model, search.outer, config.seeds)

    def _jobs(
        self, config: Config, model: ResolvedModel, folds: Sequence[Fold], seeds: Sequence[int]
    ) -> tuple[FoldJob, ...]:
        labels, classes = self.base.labels, len(self.base.classes)
        return fold_jobs(config, model, folds, labels, self._keys(config), seeds, classes)

    def _keys(self, config: Config) -> Mapping[str, str]:
        return self.keys[feature_digest(config.features)]

    def validation(self, folds: Sequence[FoldResult], budget: int) -> RungScore:
        """The pooled validation scores of a trial's folds."""
        pooled = Predictions.concat([fold.predictions for fold in folds])
        scored = scores(pooled.y_true_N, pooled.y_pred_N, len(self.base.classes))
        return RungScore(budget, scored.uar, scored.uf1)

    def interval(self, folds: Sequence[FoldResult]) -> tuple[float, float] | None:
        """The 95 % interval of a trial's validation score over the subjects of its folds; None for fewer than
        two subjects. It is for the progress display, so 500 resamples are enough."""
        pooled = Predictions.concat([fold.predictions for fold in folds])
        if len(set(pooled.subjects)) < 2:
            return None
        ends = getattr(bootstrap(pooled, len(self.base.classes), 500, 0.95, 0), self.sweep.metric)
        return ends.lo, ends.hi

    def choose(self, trials: Sequence[Trial]) -> Trial | None:
        """The complete trial with the best validation score, the first of equals, if any is complete."""
        whole = [trial for trial in trials if trial.state == "complete"]
        metric = self.sweep.metric
        return max(whole, key=lambda trial: (trial.score(metric) or 0.0, -trial.index), default=None)


def features_of(setting: Setting) -> str:
    """The digest of a setting's part that is of features."""
    return digest({name: value for name, value in setting.items() if name.startswith("features.")})


def feature_digest(features: FeatureConfig) -> str:
    return digest(features.model_dump(mode="json"))


def plan_sweep(space: Space, base: Plan, keys: Mapping[str, Mapping[str, str]]) -> SweepPlan:
    """The searches of a sweep. BadInput where a fold's training subjects are too few to be split again."""
    searched = space.sweep.space.get("model.name")
    names = searched.countable if searched else (base.model.info.name,)
    models = [resolve(base.config.model.model_validate({"name": name})) for name in names]
    settings = base.config.model_dump(
        mode="json", include=set(SEARCHABLE), exclude={"features": {"landmarks"}}
    )
    identity = {
        "base": base.digest,
        "settings": settings,  # whole: what is idle in the base may act in a trial
        "sweep": space.sweep.model_dump(mode="json", exclude={"space"}),
        # draws depend on its order
        "space": [[name, domain.model_dump(mode="json")] for name, domain in space.sweep.space.items()],
        "features": sorted(digest(sorted(clips.items())) for clips in keys.values()),
        "code": [code_of(model.module, model.info.kind, _functions(space)) for model in models],
    }
    return SweepPlan(digest(identity), space, base, keys, tuple(_searches(space.sweep, base)))


def _functions(space: Space) -> list[str]:
    """The modules of every loss and augmentation that a trial may use."""
    configs = [config for config, model in space.with_each_name() if model.info.kind == "torch"]
    return sorted({function.module for config in configs for function in of_training(config.train)})


def _searches(sweep: SweepConfig, base: Plan) -> list[Search]:
    if sweep.mode == "oracle":
        rungs = tuple(Rung(n, (fold,)) for n, fold in enumerate(base.folds, start=1))
        return [Search("all", rungs, base.folds)]
    inner = [_inner(outer, base, sweep.inner_folds) for outer in base.folds]
    if sweep.mode == "flat":
        return [Search("all", _rungs(sweep, base, inner), base.folds)]
    pairs = zip(base.folds, inner, strict=True)
    return [Search(outer.id, _rungs(sweep, base, [own]), (outer,)) for outer, own in pairs]


def _inner(outer: Fold, base: Plan, k: int) -> list[Fold]:
    return [
        Fold(f"{outer.id}/{fold.id}", fold.train, fold.test)
        for fold in inner_folds(outer.train, base.labels, k)
    ]


def _rungs(sweep: SweepConfig, base: Plan, inner: Sequence[Sequence[Fold]]) -> tuple[Rung, ...]:
    """A rung for every inner fold (the same one of each outer fold), or for some epochs of all of them."""
    if sweep.rungs == "epochs":
        folds = tuple(fold for some in inner for fold in some)
        return tuple(Rung(epochs, folds, epochs) for epochs in budgets(sweep, base.config.train.epochs))
    longest = max(map(len, inner))
    return tuple(Rung(n + 1, tuple(some[n] for some in inner if n < len(some))) for n in range(longest))


def grace_of(sweep: SweepConfig, most: int) -> int:
    """The budget before which no trial is stopped."""
    return sweep.grace or (1 if sweep.rungs == "folds" else max(1, most // 9))


def budgets(sweep: SweepConfig, epochs: int) -> list[int]:
    """The epochs after which a trial reports: ASHA's rungs, and all epochs. Each rung trains anew."""
    if sweep.scheduler == "none":
        return [epochs]
    steps = [grace_of(sweep, epochs)]
    while steps[-1] * sweep.reduction < epochs:
        steps.append(steps[-1] * sweep.reduction)
    return [*steps, epochs] if steps[-1] < epochs else steps
