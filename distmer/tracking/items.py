"""What is tracked of a run, as values: functions of the plan, a fold, the result. Nothing here knows MLflow.

Never a frame or a face: clip ids, numbers, settings and drawings of numbers only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import yaml

from distmer.evaluation.metrics import fold_mean
from distmer.experiment.comparison import Comparison
from distmer.experiment.ledger import predictions_table
from distmer.experiment.plan import Plan, acting_settings
from distmer.experiment.result import RunResult, Scored
from distmer.experiment.results_file import ClipLeftOut
from distmer.report.comparison import comparison_files, comparison_report
from distmer.report.document import Document
from distmer.report.explanation import looks
from distmer.report.figures import drawings
from distmer.report.page import NAME
from distmer.report.settings import flatten
from distmer.report.tables import run_report
from distmer.storage import Place, place
from distmer.tracking.environment import Environment
from distmer.types import FoldResult, JsonValue

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing


@dataclass(frozen=True, slots=True)
class Params:
    """Settings by dotted name. Written once: a setting of a run does not change."""

    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Tag:
    """A text about the run that may change."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Metric:
    """One number. ``step``: a fold's place in the plan, an epoch (from 1), or the budget of a rung."""

    name: str
    value: float
    step: int = 0


@dataclass(frozen=True, slots=True)
class Text:
    """A file of text: YAML, JSON, Markdown, or a table as CSV."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Data:
    """The clips of a run as MLflow's data set: the protocol's name, a digest of clips, features and labels,
    and counts. No path."""

    name: str
    digest: str
    context: str
    profile: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing, drawn only when it is written."""

    path: str
    draw: Callable[[], Drawing]


@dataclass(frozen=True, slots=True)
class Child:
    """A run below the run: one fold of one seed, with its identity."""

    name: str
    key: str
    items: tuple[LogItem, ...]


LogItem = Params | Tag | Metric | Text | Data | Figure | Child


def plan_items(plan: Plan, environment: Environment) -> Iterator[LogItem]:
    """What is known before the first fold: settings, data, stamps, code and machine."""
    yield Params(
        {
            "model": plan.model.info.name,
            "dataset": plan.manifest.protocol,
            "selection": plan.selection,
            "classes": ", ".join(plan.classes),
            "folds": str(len(plan.folds)),
            "clips": str(len(plan.clips)),
            "data_digest": plan.data_digest,
            **flatten(settings(plan)),
        }
    )
    yield from stamp_items(plan.stamps)
    yield from origin_items("run", plan, environment)
    yield Text("config.yaml", yaml.safe_dump(settings(plan), sort_keys=False, allow_unicode=True))


def origin_items(kind: str, plan: Plan, environment: Environment) -> Iterator[LogItem]:
    """What a run or a sweep (``kind``) is made from: the data, the code, the machine. MLflow's list can be
    grouped by the tags."""
    yield Tag("distmer.kind", kind)
    yield Tag("distmer.model", plan.model.info.name)
    yield Tag("distmer.protocol", plan.manifest.protocol)
    yield Tag("distmer.data", plan.data_digest)
    subjects = {clip.subject_key for clip in plan.clips}
    sizes = {"clips": len(plan.clips), "subjects": len(subjects), "classes": list(plan.classes)}
    yield Data(plan.manifest.protocol, plan.data_digest, plan.config.evaluation.folds, sizes)
    yield Tag("mlflow.source.name", "distmer")
    if environment.commit:
        yield Tag("mlflow.source.git.commit", environment.commit)
        yield Tag("distmer.dirty", "yes" if environment.dirty else "no")
    yield Text("environment.json", json.dumps(environment.to_json(), indent=2))


def stamp_items(stamps: Sequence[str]) -> Iterator[LogItem]:
    """The stamps, and whether the run is a headline, so that a search can leave out those that are not."""
    yield Tag("distmer.stamps", ", ".join(stamps) or "none")
    yield Tag("distmer.headline", "no" if stamps else "yes")


def fold_items(result: FoldResult, plan: Plan) -> Iterator[LogItem]:
    """A finished fold as a run below the run. Its settings are repeated, so that a search finds it."""
    spec, sections = settings(plan), ("model", "train", "inputs", "features", "evaluation")  # those that act
    child: list[LogItem] = [
        Params(
            {
                "model": plan.model.info.name,
                "dataset": plan.manifest.protocol,
                "selection": plan.selection,
                "fold": result.fold_id,
                "seed": str(result.seed),
                **flatten({name: spec[name] for name in sections if name in spec}),
            }
        ),
        *stamp_items(plan.stamps),
        Tag("distmer.kind", "fold"),
        Tag("distmer.device", result.device),
        *fold_metrics(result, plan, step=0),
        *(
            Metric(name, value, epoch)
            for name, values in result.curves.items()
            for epoch, value in enumerate(values, start=1)
        ),
    ]
    yield Child(f"{result.fold_id} · seed {result.seed}", result.digest, tuple(child))


def fold_metrics(result: FoldResult, plan: Plan, step: int) -> Iterator[Metric]:
    """A fold's scores, named ``fold.…`` so that a search for the scores of runs does not find them."""
    predictions = result.predictions
    yield Metric("fold.clips", len(predictions), step)
    yield Metric("fold.seconds", result.seconds, step)
    if plan.selection == "oracle:global_epoch":
        return  # its epoch is chosen over all folds at the run's end, and changes with every fold that comes
    uar, uf1 = fold_mean(predictions, len(plan.classes))
    yield Metric("fold.epochs", result.epochs, step)
    yield Metric("fold.accuracy", float(np.mean(predictions.y_true_N == predictions.y_pred_N)), step)
    yield Metric("fold.uar", uar, step)
    yield Metric("fold.uf1", uf1, step)


def result_items(result: RunResult) -> Iterator[LogItem]:
    """The end of a run: scores with intervals and floors, figures, tables, and what is missing from them."""
    results = result.results
    yield Metric("folds_done", len(result.folds))
    yield Metric("folds_failed", len(result.failures))
    yield Metric("folds_missing", result.missing)
    yield Metric("clips_used", results.clips_used)
    yield Metric("clips_expected", results.clips_expected)
    yield Tag("distmer.devices", ", ".join(results.devices) or "none")
    yield failures_table(result)
    if result.folds:
        yield folds_table(result.folds, result.plan)
    explained = looks(place(result.run_dir), result.plan.digest)
    yield from score_items(result, run_report(results), {**drawings(result), **explained})


def score_items(
    result: Scored, report: Document, figures: Mapping[str, Callable[[], Drawing]]
) -> Iterator[LogItem]:
    """What the ends of a run and a sweep have in common: scores, stamps, the report, predictions, figures."""
    results = result.results
    yield from score_metrics(result.summary.to_json() if result.summary else {})
    yield Metric("seconds", result.seconds)
    yield from stamp_items(results.stamps)
    yield Tag("distmer.audited", results.audited or "no")
    yield Tag("mlflow.note.content", report.markdown())
    yield Text("results.json", json.dumps(results.to_json(), indent=2))
    yield Text("summary.md", report.markdown())
    yield from page_items(place(results.run_dir))
    if result.predictions is not None:
        yield table("predictions.csv", pd.DataFrame(predictions_table(result.predictions).to_pydict()))
    yield from (Figure(f"figures/{name}.png", draw) for name, draw in figures.items())


def page_items(folder: Place) -> Iterator[LogItem]:
    """The page in the folder. It has been written before the tracker is told of the end."""
    try:
        page = (folder / NAME).read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    yield Text(NAME, page)


def table(path: str, frame: pd.DataFrame) -> Text:
    """A table as a CSV file."""
    return Text(path, frame.to_csv(index=False))


def folds_table(folds: Sequence[FoldResult], plan: Plan) -> Text:
    """A row for each fold and seed: its scores, its time, where it was trained."""
    rows: list[dict[str, JsonValue]] = []
    for fold in folds:
        scores = {metric.name.removeprefix("fold."): metric.value for metric in fold_metrics(fold, plan, 0)}
        rows.append({"fold": fold.fold_id, "seed": fold.seed, **scores, "digest": fold.digest})
    return table("folds.csv", pd.DataFrame(rows))


def comparison_items(comparison: Comparison, folder: Place) -> Iterator[LogItem]:
    """A comparison: each row's pooled scores as metrics, the tables and the page as files."""
    yield Tag("distmer.kind", "comparison")
    yield Tag("mlflow.note.content", comparison_report(comparison).markdown())
    yield from page_items(folder)
    yield Params({"rows": str(len(comparison.entries)), "tests": str(len(comparison.pairs))})
    for entry in comparison.entries:
        if entry.scored is not None and entry.scored.uar is not None and entry.scored.uf1 is not None:
            name = f"{entry.label}.{entry.on}".rstrip(".")
            yield Metric(f"uar.{name}", entry.scored.uar)
            yield Metric(f"uf1.{name}", entry.scored.uf1)
    yield from (Text(path, text) for path, text in comparison_files(comparison).items())


def failures_table(result: RunResult) -> Text:
    """Everything that is not in the score. An empty table is written too: it replaces an older list."""
    tracebacks = {(f.fold_id, str(f.seed)): f.traceback for f in result.failures}
    rows = [
        ("clip", row.clip, "", row.reason, "")
        if isinstance(row, ClipLeftOut)
        else ("fold", row.fold, row.seed, row.reason, tracebacks.get((row.fold, row.seed), ""))
        for row in result.left_out
    ]
    names = ["what", "name", "seed", "reason", "traceback"]
    return table("failures.csv", pd.DataFrame(rows, columns=names))


def score_metrics(scored: Mapping[str, JsonValue]) -> Iterator[Metric]:
    """The numbers of a summary by dotted name: ``uar``, ``uar.low``, ``floors.constant.uar``,
    ``per_dataset.casme2.uf1``."""
    for name, value in scored.items():
        if isinstance(value, Mapping):
            yield from (Metric(f"{name}.{metric.name}", metric.value) for metric in score_metrics(value))
        elif name.endswith("_ci") and value is not None:
            low, high = value
            yield Metric(f"{name.removesuffix('_ci')}.low", float(low))
            yield Metric(f"{name.removesuffix('_ci')}.high", float(high))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield Metric(name, float(value))


def settings(plan: Plan) -> dict[str, JsonValue]:
    """The settings that act, with every option of the model filled in."""
    options = {"name": plan.model.info.name, **plan.model.spec["options"]}
    return {**acting_settings(plan.config, plan.model), "model": options}
