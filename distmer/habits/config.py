"""The ``habits:`` section: which models the habits are priced for, and how far a habit goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from distmer.config import Config, Section, parse
from distmer.config_layers import merge, nested, require_section
from distmer.models import resolve
from distmer.types import BadInput

_ALLOWED = ("inputs", "model", "train")


class HabitModel(Section):
    """A model whose habits are priced. All settings are dotted."""

    settings: dict[str, Any]
    """Settings of `inputs`, `model` and `train` that replace those of the base."""
    tune: tuple[dict[str, Any], ...] = Field(min_length=2)
    """The settings among which the model is tuned, at least two."""


class HabitsConfig(Section):
    """The `habits:` section, for `distmer habits`."""

    models: dict[str, HabitModel | None] = Field(min_length=1)
    """Name → a model: its `settings`, and the settings among which it is tuned (`tune`). `null` leaves the
    model out."""
    seeds: int = Field(default=10, ge=2, le=100)
    """The seeds of which the best one is reported."""
    retrained: int = Field(default=3, ge=1)
    """The number of seeds for a habit that needs trainings of its own."""
    clip_folds: int = Field(default=10, ge=2)
    """The number of folds of the habit that splits clips without regard to who is seen in them."""
    inner_folds: int = Field(default=3, ge=2)
    """The inner folds of the honest tuning."""
    dropped: float = Field(default=0.05, gt=0, lt=0.5)
    """The share of the clips that are called hard."""
    seed: int = Field(default=0, ge=0)
    """The seed of the split into clips, and of the copies of clips."""


@dataclass(frozen=True, slots=True)
class Case:
    """A model of the price list: its configuration, and that of each setting that is tried."""

    label: str
    config: Config
    tuned: tuple[Config, ...]


def expand(tree: Mapping[str, Any], origin: str) -> tuple[HabitsConfig, list[Case]]:
    """The models of a configuration tree with a ``habits:`` section.

    BadInput: there is no such section; a setting is unknown, or changes more than inputs, model and training;
    the folds are not those of single subjects; the base itself looks at test folds.
    """
    require_section(tree, origin, "habits")
    if "habits" not in tree:
        raise BadInput(
            f"{origin}: it has no habits section; add one as in configs/habits.yaml, or give it to `distmer"
            " run`."
        )
    base = {key: value for key, value in tree.items() if key != "habits"}
    section = parse(HabitsConfig, tree["habits"] or {}, origin, prefix="habits")
    cases: list[Case] = []
    for label, model in section.models.items():
        if model is None:
            continue
        where = f"{origin}, model {label}"
        own = _laid(base, model.settings, where)
        config = _config(own, where)
        cases.append(Case(label, config, tuple(_config(_laid(own, t, where), where) for t in model.tune)))
    if not cases:
        raise BadInput(f"{origin}: habits.models names no model; give one, or more.")
    return section, cases


def _laid(base: Mapping[str, Any], dotted: Mapping[str, Any], where: str) -> dict[str, Any]:
    for name in dotted:
        if name.partition(".")[0] not in _ALLOWED:
            raise BadInput(f"{where}: {name} cannot differ here, only settings of {', '.join(_ALLOWED)}.")
    return merge(base, nested(dotted, where), where)


def _config(tree: Mapping[str, Any], where: str) -> Config:
    config = parse(Config, tree, where)
    resolve(config.model)
    if config.evaluation.folds != "loso" or config.evaluation.permute_labels is not None:
        raise BadInput(
            f"{where}: habits are priced against leave-one-subject-out with true labels; leave"
            " evaluation.folds and evaluation.permute_labels out."
        )
    if config.train.selection == "oracle":
        raise BadInput(f"{where}: train.selection is oracle, which is one of the habits; leave it out.")
    if len(config.seeds) > 1:
        raise BadInput(
            f"{where}: habits.seeds says how many seeds are used, from the first of seeds on; give one."
        )
    if config.evaluation.metrics:
        raise BadInput(f"{where}: habits are priced in UAR and UF1; leave evaluation.metrics out.")
    if config.inputs.standardise:
        raise BadInput(f"{where}: inputs.standardise is priced as a habit of its own; leave it out.")
    return config
