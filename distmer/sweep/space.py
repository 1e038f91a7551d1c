"""What a sweep searches: settings of features, inputs, model and training, and their values.

A `Setting` is a mapping, dotted name → value, that is laid upon the base configuration.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import Field, field_validator, model_validator

from distmer.config import Config, ModelConfig, Section, acts_if, parse
from distmer.config_layers import Layer, merge, nested, require_section, unused_settings
from distmer.config_places import plugin_group
from distmer.features.methods import acting_methods
from distmer.features.sequence import require_frames
from distmer.functions import of_training
from distmer.idle import CHANGES_NOTHING, acting, why_idle
from distmer.models import ResolvedModel, is_network, resolve
from distmer.process import only_errors_of
from distmer.registry import nearest
from distmer.types import BadInput, JsonValue

Setting = Mapping[str, JsonValue]

# The others ask another question (data, evaluation), say how often it is asked (seeds), or change no number.
SEARCHABLE = ("features", "inputs", "model", "train")
_TPE_RANDOM = 10  # the first draws of Optuna's TPE are random
_TRIES = 32  # settings sampled around a value before it is called impossible


class Domain(Section):
    """The values of one searched setting. Exactly one of these forms is given."""

    choice: tuple[JsonValue, ...] | None = Field(default=None, min_length=1)
    """One of these values."""
    uniform: tuple[float, float] | None = None
    """A number between two ends."""
    loguniform: tuple[float, float] | None = None
    """A number between two ends, uniform in its logarithm."""
    integer: tuple[int, int] | None = None
    """A whole number between two ends, both included."""
    loginteger: tuple[int, int] | None = None
    """The same, uniform in its logarithm."""

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        given = self.model_dump(exclude_none=True)
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(type(self).model_fields)}")
        (form, ends) = next(iter(given.items()))
        if form == "choice":
            labels = [_label(value) for value in ends]
            # 1, 1.0 and true are one value to the searcher
            if any(label in labels[:n] for n, label in enumerate(labels)):
                raise ValueError("a choice is listed twice")
        elif not ends[0] < ends[1]:
            raise ValueError(f"{form} takes a lower and a higher end")
        elif form.startswith("log") and ends[0] <= 0:
            raise ValueError(f"{form} needs ends above 0")
        return self

    @property
    def distribution(self) -> BaseDistribution:
        """The domain as Optuna knows it."""
        if self.choice is not None:
            return CategoricalDistribution([_label(value) for value in self.choice])
        kind = FloatDistribution if self.uniform or self.loguniform else IntDistribution
        low, high = self.landmarks
        return kind(low, high, log=bool(self.loguniform or self.loginteger))

    @property
    def landmarks(self) -> tuple[JsonValue, ...]:
        """The values that a check must try: every choice, or both ends."""
        return self.choice or self.uniform or self.loguniform or self.integer or self.loginteger or ()

    @property
    def countable(self) -> tuple[JsonValue, ...]:
        """Every value, of a choice or an integer."""
        ends = self.integer or self.loginteger
        return tuple(range(ends[0], ends[1] + 1)) if ends else self.choice or ()

    def drawn(self, value: JsonValue) -> JsonValue:
        """A value as Optuna draws it."""
        return _label(value)

    def value(self, drawn: JsonValue) -> JsonValue:
        """The value that Optuna drew. It knows a list (of streams, say) by its JSON."""
        return next((value for value in self.choice or () if _label(value) == drawn), drawn)


class SweepConfig(Section):
    """The `sweep:` section. The outer folds are those of `evaluation`: LOSO, or groups of subjects."""

    space: dict[str, Domain]
    """Setting → the values that are tried. `null` leaves a setting out, such as one of a file that is
    extended."""
    mode: Literal["nested", "flat", "oracle"] = "nested"
    """Who chooses and who scores."""
    searcher: Literal["random", "grid", "tpe"] = "tpe"
    """How settings are proposed."""
    trials: Annotated[int | None, acts_if("searcher", "random", "tpe")] = Field(default=None, ge=1)
    """Trials of one search; else 16. A grid tries every combination."""
    scheduler: Literal["none", "asha"] = "asha"
    """Whether bad trials are stopped early."""
    rungs: Literal["folds", "epochs"] = "folds"
    """When a trial reports: after each inner fold, or after some epochs of all inner folds."""
    grace: Annotated[int | None, acts_if("scheduler", "asha")] = Field(default=None, ge=1)
    """Folds or epochs before a trial may be stopped; else 1 fold, or a ninth of the epochs."""
    reduction: Annotated[int, acts_if("scheduler", "asha")] = Field(default=2, ge=2)
    """At a rung, one of this many trials goes on."""
    inner_folds: Annotated[int, acts_if("mode", "nested", "flat")] = Field(default=3, ge=2)
    """Into how many inner folds the training subjects of an outer fold are split."""
    metric: Literal["uar", "uf1"] = "uar"
    """The score of the pooled validation clips that a search maximises."""
    concurrent: int = Field(default=4, ge=1)
    """Trials of one search at once. It changes what is found: such trials do not learn from each other."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """The seed of the search."""

    @field_validator("space", mode="before")
    @classmethod
    def _left_out(cls, space: Any) -> Any:
        if not isinstance(space, dict):
            return space
        return {name: domain for name, domain in space.items() if domain is not None}

    @model_validator(mode="after")
    def _no_idle_option(self) -> Self:
        if not self.space:
            raise ValueError("space names no setting to search")
        if self.searcher == "grid":
            continuous = [name for name, domain in self.space.items() if domain.uniform or domain.loguniform]
            if continuous:
                raise ValueError(f"grid needs {continuous[0]} as a choice or an integer, not as an interval")
        settings = {name: getattr(self, name) for name in type(self).model_fields}
        for name in sorted(self.model_fields_set):
            if reason := why_idle(name, settings, is_network, root=type(self)):
                raise ValueError(f"{reason}; leave {name} out")
        if self.rungs == "folds" and self.mode != "oracle" and (self.grace or 1) > self.inner_folds:
            raise ValueError(f"grace is {self.grace} folds, but there are {self.inner_folds} inner folds")
        return self

    @property
    def wanted(self) -> int:
        """Trials a search."""
        if self.searcher == "grid":
            return math.prod(len(domain.countable) for domain in self.space.values())
        return self.trials or 16


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """A base configuration and what of it is searched. ``tree`` is the base as read, before validation."""

    tree: Mapping[str, Any]
    sweep: SweepConfig
    origin: str

    @classmethod
    def read(cls, tree: Mapping[str, Any], origin: str) -> Space:
        """The space of a configuration with a ``sweep:`` section. BadInput where it is no valid one."""
        if "sweep" not in tree:
            raise BadInput(f"{origin}: it has no sweep section; add one, or give it to `distmer run`.")
        require_section(tree, origin, "sweep")
        base = {key: value for key, value in tree.items() if key != "sweep"}
        # trials by the hundred: their folds would drown the list
        base = merge({"tracking": {"folds": "steps"}}, base)
        space = cls(base, parse(SweepConfig, tree["sweep"] or {}, origin, prefix="sweep"), origin)
        space._check()
        return space

    def base(self) -> Config:
        return parse(Config, self.tree, self.origin)

    def config(self, setting: Setting) -> tuple[Config, ResolvedModel]:
        """The full configuration of a setting. BadInput where it cannot be (a kernel larger than the map)."""
        config = parse(Config, merge(self.tree, nested(setting, self.origin), self.origin), self.origin)
        model = resolve(config.model)
        if model.info.kind == "torch":
            of_training(config.train)
        acting_methods(config)
        require_frames(config, model.info.name, model.inputs)
        return config, model

    def with_each_name(self) -> Iterator[tuple[Config, ResolvedModel]]:
        """The base, and the base with each model, loss, augmentation, flow or strain that is searched."""
        yield self.config({})
        for name, domain in self.sweep.space.items():
            if plugin_group(name):
                for value in domain.landmarks:
                    yield self.config({name: value})

    @property
    def searched(self) -> dict[str, tuple[JsonValue, ...]]:
        """The values of each searched setting that a check must see."""
        return {name: domain.landmarks for name, domain in self.sweep.space.items()}

    def unused(self, layers: Sequence[Layer]) -> list[str]:
        """As `unused_settings`, and a sentence on options that not every searched model has."""
        notes = unused_settings(layers, [self.tree], is_network, self.searched)
        model = self.base().model
        others = [str(name) for name in self.searched.get("model.name", ()) if name != model.name]
        if others and model.options:
            options = ", ".join(f"model.{key}={value}" for key, value in model.options.items())
            notes.append(
                f"{options} of the base belong to {model.name} and are not used in trials of"
                f" {', '.join(others)}"
            )
        return notes

    def acting(self) -> dict[str, JsonValue]:
        """The base's settings without those that do nothing under any setting of the search."""
        return acting(self.base().model_dump(mode="json"), is_network, self.searched)

    def study(self) -> optuna.Study:
        """A new study. It draws by ``sweep.seed`` and by what it is told, and by nothing else."""
        samplers = optuna.samplers
        sampler = samplers.TPESampler if self.sweep.searcher == "tpe" else samplers.RandomSampler
        study = _new_study(sampler(seed=self.sweep.seed))
        if self.sweep.searcher == "grid":
            values = [[_label(value) for value in domain.countable] for domain in self.sweep.space.values()]
            for combination in itertools.product(*values):
                study.enqueue_trial(dict(zip(self.sweep.space, combination, strict=True)))
        return study

    def ask(self, study: optuna.Study) -> tuple[optuna.Trial, dict[str, JsonValue]]:
        """The study's next setting."""
        space = self.sweep.space
        trial = study.ask({name: domain.distribution for name, domain in space.items()})
        return trial, {name: space[name].value(drawn) for name, drawn in trial.params.items()}

    def foreseen(self) -> list[dict[str, JsonValue]]:
        """The settings that will be tried in any case: all, except those that TPE learns to draw."""
        count = min(self.sweep.wanted, _TPE_RANDOM) if self.sweep.searcher == "tpe" else self.sweep.wanted
        study = self.study()
        return [self.ask(study)[1] for _ in range(count)]

    def feature_settings(self) -> Iterator[dict[str, JsonValue]]:
        """Every combination of searched feature settings."""
        space = self.sweep.space.items()
        searched = {name: domain.choice or () for name, domain in space if name.startswith("features.")}
        for values in itertools.product(*searched.values()):
            yield dict(zip(searched, values, strict=True))

    def _check(self) -> None:
        base = self.base()
        resolve(base.model)
        if base.train.selection == "oracle":
            raise BadInput(
                f"{self.origin}: train.selection is oracle; to choose on the test folds, ask"
                " for sweep.mode: oracle by name."
            )
        problem = next(filter(None, map(self._problem_of_name, self.sweep.space)), None)
        if problem is None and self.sweep.rungs == "epochs":
            problem = self._problem_of_epochs(base)
        if problem is not None:
            raise BadInput(f"{self.origin}: {problem}")
        for name, domain in self.sweep.space.items():
            for value in domain.landmarks:
                self._check_value(name, value)

    def _problem_of_name(self, name: str) -> str | None:
        """Why a setting cannot be searched."""
        at, section = f"sweep.space.{name}", name.split(".")[0]
        if inside := next((other for other in self.sweep.space if other.startswith(f"{name}.")), None):
            return f"sweep.space.{inside} lies within {at}; search one of them."
        if section in SEARCHABLE and section == name:
            return f"{at} is a whole section; name a setting of it, {name}.…."
        if section not in SEARCHABLE:
            remedy = "leave it out." if section in Config.model_fields else nearest(section, SEARCHABLE)
            return f"{at} cannot be searched, only {', '.join(SEARCHABLE)}; {remedy}"
        if section == "features" and self.sweep.space[name].choice is None:
            return f"{at} must be a choice: every value is extracted once, before the search."
        told = dict.fromkeys(CHANGES_NOTHING, "it changes no number")
        told["train.selection"] = "it is how an epoch is chosen, not a setting of it"
        reason = told.get(name) or why_idle(name, self.tree, is_network, self.searched)
        return f"{at} cannot be searched: {reason}." if reason else None

    def _problem_of_epochs(self, base: Config) -> str | None:
        """Why trials cannot report after epochs."""
        rungs, grace, epochs = "sweep.rungs is epochs", self.sweep.grace, base.train.epochs
        if "train.epochs" in self.sweep.space:
            return f"{rungs}, so sweep.space.train.epochs cannot be searched too; use rungs: folds."
        if self.sweep.mode == "oracle":
            return "sweep.rungs: epochs goes with nested or flat; under oracle it reports after outer folds."
        searched = self.sweep.space.get("model.name")
        for model in searched.countable if searched else (base.model.name,):
            if resolve(ModelConfig(name=str(model))).info.kind == "classical":
                return f"{rungs}, but {model} is fitted in one go; use rungs: folds."
        if (grace or 1) > epochs:
            return f"sweep.grace is {grace} epochs, but train.epochs is {epochs}; lower it."
        return None

    def _check_value(self, name: str, value: JsonValue) -> None:
        """BadInput unless the value goes with some values of the other settings."""
        study = _new_study(optuna.samplers.RandomSampler(seed=0))
        problem: BadInput | None = None
        for attempt in range(_TRIES if len(self.sweep.space) > 1 else 1):
            others = self.ask(study)[1] if attempt else {}
            try:
                self.config({**others, name: value})
            except BadInput as error:
                problem = problem or error
            else:
                return
        reason = str(problem).removeprefix(f"{self.origin}: ")
        raise BadInput(f"{self.origin}: sweep.space.{name} cannot be {value!r}: {reason}") from problem


def _label(value: JsonValue) -> JsonValue:
    return json.dumps(value) if isinstance(value, list | tuple | dict) else value


def _new_study(sampler: optuna.samplers.BaseSampler) -> optuna.Study:
    with only_errors_of("optuna"):  # it announces every study
        return optuna.create_study(direction="maximize", sampler=sampler)
