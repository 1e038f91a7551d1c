"""Several experiments side by side: a base configuration, and rows that each change something in it.

To compare models: ``models: all`` (every registered one) or a list. For an ablation: ``rows`` that each
change a setting, and the ``reference`` row that the others are tested against.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from distmer import functions
from distmer.config import ActsIf, Config, EvaluationConfig, ModelConfig, Named, Section, parse
from distmer.config_layers import Layer, merge, merge_layers, nested, unused_settings
from distmer.digests import digest
from distmer.evaluation.named import HEADLINE, chosen
from distmer.evaluation.paired import Difference, compare, holm
from distmer.experiment.results_file import Results
from distmer.idle import given, why_idle
from distmer.models import is_network, model_info, models, resolve
from distmer.registry import lookup, nearest
from distmer.types import BadInput, JsonValue, Predictions

_UNFIT = "not applicable: "
NOT_REACHED = "not reached: the comparison was stopped before it"
_LEVEL = 0.05  # of a corrected p-value
_CONFIDENCE = EvaluationConfig().confidence
_OF_MODELS = ActsIf("models", "models are named", bool)


class CompareConfig(Section):
    """The `compare:` section. A row with the name of a compared model changes settings of its row."""

    models: Literal["all"] | tuple[str, ...] = ()
    """The models that are compared: `all`, or a list."""
    variant: Annotated[str | None, _OF_MODELS] = None
    """The variant of the models that have variants."""
    size: Annotated[int | None, _OF_MODELS] = None
    """The side of the networks' maps, in px. A network that needs more is given its smallest, and says so."""
    rows: dict[str, dict[str, Any] | None] = Field(default_factory=dict[str, dict[str, Any] | None])
    """The name of a row → what is different in it, as dotted settings. `extends` names a configuration file
    whose settings come first. `null` leaves the row out."""
    over: dict[str, dict[str, Any] | None] = Field(default_factory=dict[str, dict[str, Any] | None])
    """The name of a protocol or data set → its dotted settings. Every row runs on each of these, and only on
    these: name the base's own data, too, with `{}`. `null` leaves one out."""
    reference: str | None = None
    """The row that all others are tested against; else every pair is tested."""
    resamples: int = Field(default=10_000, ge=100)
    """Permutations and resamples of a paired test."""

    @model_validator(mode="after")
    def _no_idle_option(self) -> Self:
        settings = {"models": self.models}
        for name in sorted(self.model_fields_set):
            if reason := why_idle(name, settings, is_network, root=type(self)):
                raise ValueError(f"{reason.partition(', but')[0]}; leave {name} out")
        return self


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a comparison: a configuration, or the reason why it cannot be."""

    label: str
    on: str  # which of ``over``, "" where there is one only
    config: Config | None
    note: str = ""
    # options of the base's model that are not used, for the row names another model
    left: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A finished line. Without results, ``note`` says why: not applicable, or not reached. Without
    predictions, no fold of it finished."""

    label: str
    on: str
    note: str
    results: Results | None = None
    predictions: Predictions | None = None

    @property
    def partial(self) -> bool:
        """Whether it has results that are not of all folds."""
        return self.results is not None and self.results.status != "complete"

    @property
    def scored(self) -> Results | None:
        """The results, if they have a score: any fold finished."""
        return None if self.predictions is None else self.results


@dataclass(frozen=True, slots=True)
class Pair:
    """A paired test of two lines on the same clips. The fields ``…_holm`` are p-values, for each metric
    corrected over all pairs of the comparison."""

    a: str
    b: str
    on: str
    difference: Difference
    uar_holm: float
    uf1_holm: float
    metrics_holm: Mapping[str, float] = field(default_factory=dict[str, float])

    def verdict(self) -> str:
        """Which one is better, and in which score, where a corrected test says so."""
        found = self.difference
        tests = {"UAR": (found.uar, self.uar_holm), "UF1": (found.uf1, self.uf1_holm)}
        tests |= {name: (one.value, self.metrics_holm[name]) for name, one in found.metrics.items()}
        better = {
            score: self.a if difference > 0 else self.b
            for score, (difference, p) in tests.items()
            if p < _LEVEL
        }
        if not better:
            return "no difference shown"
        if len(better) == len(tests) and len(set(better.values())) == 1:
            return f"{better['UAR']} is better"
        return ", ".join(f"{model} is better in {score}" for score, model in better.items())

    @property
    def on_part(self) -> str:
        """Words for a test on some of the clips, whose difference is not that of the two scores."""
        clips, apart = self.difference.clips, self.difference.unpaired
        what = f"on the {clips} clips that both predicted with every seed"
        return f"{what}; {apart} more do not count" if apart else ""


@dataclass(frozen=True, slots=True)
class Untested:
    """Two lines on the same data, and why they cannot be tested against each other."""

    a: str
    b: str
    on: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """All lines and all paired tests between them."""

    name: str
    entries: tuple[Entry, ...]
    pairs: tuple[Pair, ...]
    untested: tuple[Untested, ...] = ()
    reference: str | None = None
    resamples: int = 10_000
    confidence: float = _CONFIDENCE  # of the intervals of the differences
    metrics: tuple[Named, ...] = ()
    link: str | None = None  # where MLflow's pages show the runs side by side
    # (``on``, clip id) → px, the mean motion in a clip that no row got right, where it is known
    motion: Mapping[tuple[str, str], float] = field(default_factory=dict[tuple[str, str], float])

    @property
    def exit_status(self) -> int:
        """0: every applicable row is complete; 3: one is partial or was not reached; 1: none has a score."""
        if all(entry.predictions is None for entry in self.entries):
            return 1
        reached = all(not entry.note.startswith(NOT_REACHED) for entry in self.entries)
        return 0 if reached and not any(entry.partial for entry in self.entries) else 3

    @property
    def digest(self) -> str:
        """The identity of what is compared: the runs' own digests; of a row without a run, its label."""
        rows = sorted([e.label, e.on, e.results.digest if e.results else ""] for e in self.entries)
        how: dict[str, JsonValue] = {"reference": self.reference, "resamples": self.resamples}
        if self.confidence != _CONFIDENCE:
            how["confidence"] = self.confidence
        if self.metrics:
            how["metrics"] = [functions.resolve(functions.METRIC, named).setting for named in self.metrics]
        return digest({"name": self.name, "rows": rows, **how})


def expand(tree: Mapping[str, Any], origin: str) -> tuple[CompareConfig, list[Row]]:
    """The rows of a tree with a ``compare:`` section. BadInput: nothing to compare, no such reference, or a
    row of ``rows`` that cannot be on any data."""
    base = {key: value for key, value in tree.items() if key != "compare"}
    section = parse(CompareConfig, tree.get("compare") or {"models": "all"}, origin, prefix="compare")
    settings: dict[str, tuple[dict[str, Any], str]] = {}
    names = sorted(models()) if section.models == "all" else section.models
    for name in names:
        label = name.rpartition(":")[2]  # of ./file.py:NAME the name
        if label in settings:
            raise BadInput(
                f"{origin}: compare.models has two models called {label!r}; keep or rename one, or give a row"
                " to it under compare.rows."
            )
        settings[label] = _of_model(name, section)
    for label, dotted in section.rows.items():
        if dotted is None:
            settings.pop(label, None)
            continue
        own, note = settings.get(label, ({}, ""))
        changes = dict(dotted)
        extended = changes.pop("extends", {})
        if not isinstance(extended, Mapping):
            raise BadInput(
                f"{origin}, row {label}: extends belongs in a file; here, give the row's settings."
            )
        row = merge(merge(own, extended, origin), nested(changes, f"{origin}, row {label}"), origin)
        own_model, base_model = row.get("model") or {}, base.get("model") or {}
        acting = {"name": ModelConfig().name} | base_model | own_model
        if label in models() and "name" not in own_model and acting["name"] != label:
            raise BadInput(
                f"{origin}, row {label}: it has a model's name, but {label} is not among compare.models. Add"
                f" it there, give the row model.name: {label}, or leave it out: compare.rows.{label}=null."
            )
        settings[label] = (row, note)
    if not settings:
        raise BadInput(f"{origin}: compare has neither models nor rows, so there is nothing to compare.")
    if section.reference is not None:
        lookup(settings, section.reference, "row to refer to")
    over = {on: dotted for on, dotted in section.over.items() if dotted is not None} or {"": {}}
    rows = [
        _row(label, on, merge(base, nested(dotted, f"{origin}, over {on}"), origin), changes, note, origin)
        for on, dotted in over.items()
        for label, (changes, note) in settings.items()
    ]
    for label in section.rows:
        _require_possible([row for row in rows if row.label == label])
    return section, rows


def _require_possible(rows: Sequence[Row]) -> None:
    """BadInput if a row that was written down can be on no data: it is an error, and not a poor fit."""
    if rows and all(row.config is None for row in rows):
        raise BadInput(rows[0].note.removeprefix(_UNFIT))


def unused(layers: Sequence[Layer], rows: Sequence[Row]) -> list[str]:
    """A sentence for each given setting that no row uses. BadInput for one that is asked for in vain, and for
    a row that is left out and never was there."""
    known = set(models())
    for layer in layers:
        own = (layer.tree.get("compare") or {}).get("rows") or {}
        for label in (label for label, row in own.items() if row is None and label not in known):
            raise BadInput(
                f"{layer.origin}: compare.rows.{label}=null leaves out a row that is not there;"
                f" {nearest(label, known)}"
            )
        known |= own.keys()
    finals = [row.config.model_dump() for row in rows if row.config is not None]
    notes = unused_settings(layers, finals, is_network)
    for key, value in (merge_layers(layers).get("model") or {}).items():
        without = list(dict.fromkeys(row.label for row in rows if row.left and key in row.left))
        if without:
            notes.append(
                f"model.{key}={value} of the base is not used in the rows {', '.join(without)},"
                " which name another model"
            )
    return notes


def conclude_comparison(
    name: str,
    entries: Sequence[Entry],
    reference: str | None,
    resamples: int,
    metrics: tuple[Named, ...] = (),
    confidence: float = _CONFIDENCE,
) -> Comparison:
    """Test every pair of lines on the same data, or every line against the reference; p-values are corrected
    over all these tests. ``metrics`` are tested beside UAR and UF1. ``confidence``: of the intervals of the
    differences.

    A pair that differs in classes or in the truth of a clip, or that has too few subjects in common, is
    listed as untested.
    """
    found: list[tuple[Entry, Entry, Difference]] = []
    untested: list[Untested] = []
    for a, b in combinations([e for e in entries if e.predictions is not None], 2):
        if a.on != b.on or (reference is not None and reference not in (a.label, b.label)):
            continue
        if reference == b.label:
            a, b = b, a
        try:
            found.append((a, b, _difference(a, b, resamples, confidence, metrics)))
        except BadInput as error:
            untested.append(Untested(a.label, b.label, a.on, str(error)))
    uar, uf1 = holm([d.uar_p for *_, d in found]), holm([d.uf1_p for *_, d in found])
    more = {
        name: holm([d.metrics[name].p for *_, d in found]) for name in (found[0][2].metrics if found else ())
    }
    pairs = tuple(
        Pair(a.label, b.label, a.on, d, uar[i], uf1[i], {name: p[i] for name, p in more.items()})
        for i, (a, b, d) in enumerate(found)
    )
    return Comparison(name, tuple(entries), pairs, tuple(untested), reference, resamples, confidence, metrics)


def _difference(
    a: Entry, b: Entry, resamples: int, confidence: float, metrics: Sequence[Named]
) -> Difference:
    assert a.predictions is not None and b.predictions is not None and a.results and b.results
    if a.results.classes != b.results.classes:
        raise BadInput(
            f"{a.label} and {b.label} tell different classes apart; compare runs of one label table."
        )
    k = len(a.results.classes)
    further, names = chosen(metrics, k)[len(HEADLINE) :], (a.label, b.label)
    return compare(a.predictions, b.predictions, k, resamples, confidence, names=names, metrics=further)


def _of_model(name: str, section: CompareConfig) -> tuple[dict[str, Any], str]:
    """A model's own settings in a comparison, and what must be said of them."""
    info = model_info(name)
    options: dict[str, Any] = {"name": name}
    note = ""
    if section.variant is not None and "variant" in info.options.model_fields:
        options["variant"] = section.variant
    if section.size is not None and info.kind == "torch":
        options["size"] = max(section.size, info.min_size)
        if info.min_size > section.size:
            note = f"maps enlarged to {info.min_size} px"
    return {"model": options}, note


def _row(
    label: str, on: str, base: Mapping[str, Any], changes: Mapping[str, Any], note: str, origin: str
) -> Row:
    """A row with its configuration, or with the reason why it cannot be: its model has no such option, say.
    BadInput for what is no setting at all."""
    tree = merge(base, changes, origin)
    config = parse(Config, tree, f"{origin}, row {label}{f' over {on}' if on else ''}")
    try:
        resolve(ModelConfig.model_validate(config.model.model_dump()))
        for name, _ in given(changes):
            if reason := why_idle(name, tree, is_network):
                raise BadInput(f"{origin}, row {label}: {reason}; leave {name} out.")
    except BadInput as error:
        return Row(label, on, None, f"{_UNFIT}{error}")
    left = tuple(key for key in base.get("model") or {} if key not in tree["model"])
    return Row(label, on, config, note, left)
