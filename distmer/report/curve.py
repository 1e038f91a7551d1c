"""A learning curve as ``curve.json``; its text, CSV and drawing are made from this file alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from distmer.evaluation.metrics import scores_of
from distmer.evaluation.paired import holm
from distmer.evaluation.stats import Interval, confusions_by_subject
from distmer.experiment.curve import Curve, Point, Rise
from distmer.report.axes import place_axes, plain_axes
from distmer.report.document import Document, Facts, Lines
from distmer.report.table import Column, Row, Table
from distmer.report.tables import interval_text, p_text, percent
from distmer.storage import csv_text
from distmer.types import JsonValue

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SCORES = (("uar", "UAR"), ("uf1", "UF1"))
_LEVEL = 0.05
_NEAR = 0.5  # of the last share; a step from further below says nothing of the end of a curve


def curve_json(curve: Curve) -> dict[str, JsonValue]:
    """``curve.json``: all that is reported of a curve."""
    plan = curve.plan.plan
    last = next((point.summary for point in reversed(curve.points) if point.summary), None)
    return {
        "name": plan.config.name,
        "model": plan.model.info.name,
        "dataset": plan.manifest.protocol,
        "digest": curve.plan.digest,
        "folds": len(plan.folds),
        "clips_used": len(plan.clips),
        "clips_expected": plan.manifest.clips_expected,
        "seeds": list(plan.config.seeds),
        "draws": curve.plan.section.draws,
        "confidence": plan.config.evaluation.confidence,
        "selection": plan.selection,
        "stamps": list(plan.stamps),
        "status": curve.status,
        "missing": curve.missing,
        "floors": {name: dict(floor) for name, floor in (last.floors if last else {}).items()},
        "points": [_point(point, len(plan.classes)) for point in curve.points],
        "rises": _rises(curve.rises),
        "failed": [{"fold": one.fold_id, "seed": one.seed, "reason": one.reason} for one in curve.failures],
    }


def curve_report(tree: Mapping[str, Any]) -> Document:
    """The curve at each share, what each step gained, and what can be concluded."""
    warnings = [f"NOT A HEADLINE: {', '.join(tree['stamps'])}"] if tree["stamps"] else []
    if tree["missing"]:
        warnings.append(f"{tree['missing']} trainings were not reached; the same command goes on from there")
    floors = [f"{name} UAR {of['uar']:.4f} UF1 {of['uf1']:.4f}" for name, of in tree["floors"].items()]
    failed = [f"{one['fold']}, seed {one['seed']}: {one['reason']}" for one in tree["failed"]]
    parts = (
        _table(tree),
        _rise_table(tree),
        Lines([*conclusions(tree), *([f"floors, of all subjects: {', '.join(floors)}"] if floors else [])]),
        Facts(_facts(tree)),
        Lines(failed[:10], f"{len(failed)} trainings failed; a repetition with one is left out:"),
    )
    return Document(f"learning curve of {tree['model']} on {tree['dataset']}", warnings, parts)


def conclusions(tree: Mapping[str, Any]) -> list[str]:
    """What the last step of the curve says, in words."""
    if tree["missing"]:
        return ["Nothing can be concluded before all trainings are finished."]
    if not tree["rises"]:
        return ["There are no two shares to compare."]
    last = tree["rises"][-1]
    step = f"from {_percent(last['low'])} to {_percent(last['high'])} of the training subjects"
    shown = [
        name for key, name in _SCORES if last[f"{key}_p_holm"] < _LEVEL and last[f"{key}_difference"] > 0
    ]
    if shown and last["low"] < _NEAR * last["high"]:
        return [
            f"{' and '.join(shown)} rose {step}. Whether they still rise at the end, this step is too long to"
            f" say: give curve.shares one of {_percent(_NEAR * last['high'])} or more, too."
        ]
    if shown:
        return [f"{' and '.join(shown)} rose {step}: this model would very likely gain from more subjects."]
    return [
        f"No rise is shown {step}. Either more subjects would not help this model much, or there are too few"
        " held-out subjects to show that they would: look at the width of the interval."
    ]


def curve_csv(tree: Mapping[str, Any]) -> str:
    """One row for each share and score."""
    rows: list[tuple[object, ...]] = []
    for point in tree["points"]:
        for key, name in _SCORES:
            lo, hi = point[f"{key}_ci"] or ("", "")
            each = " ".join(f"{value:.6f}" for value in point[f"{key}_each"])
            own = (point["share"], point["subjects"], point["clips"], point["whole"], name)
            rows.append((*own, point[key], lo, hi, point[f"{key}_sd"], each))
    head = ("share", "subjects", "clips", "repetitions", "score", "mean", "lo", "hi", "sd", "each")
    return csv_text([head, *rows])


def draw_curve(
    figure: Figure, tree: Mapping[str, Any], colours: Mapping[str, str], head: float = 0.0
) -> None:
    """UAR and UF1 over the number of training subjects: the mean, its interval as a band, each repetition as
    a dot, and the highest floor. ``colours``: of ink, muted, line, and of the two scores; ``head``: inches
    that are left free above."""
    width, height = figure.get_size_inches()
    each = width / len(_SCORES)
    points = [point for point in tree["points"] if point["uar"] is not None]
    at = [point["subjects"] for point in points]
    for i, (key, name) in enumerate(_SCORES):
        axes = place_axes(figure, i * each + 0.55, head + 0.4, each - 0.8, height - head - 1.02)
        banded = [(x, *point[f"{key}_ci"]) for x, point in zip(at, points, strict=True) if point[f"{key}_ci"]]
        if banded:
            x_band, low, high = zip(*banded, strict=True)
            axes.fill_between(x_band, low, high, color=colours[key], alpha=0.18, linewidth=0)
        for x, point in zip(at, points, strict=True):
            own = point[f"{key}_each"]
            axes.scatter([x] * len(own), own, color=colours[key], s=12, alpha=0.45, linewidth=0)
        axes.plot(
            at, [point[key] for point in points], color=colours[key], linewidth=1.8, marker="o", markersize=4
        )
        floor = max((floor[key] for floor in tree["floors"].values()), default=None)
        if floor is not None:
            axes.axhline(floor, color=colours["muted"], linewidth=1, linestyle=(0, (4, 3)))
        axes.set_title(name, fontsize=10, color=colours["ink"], loc="left")
        axes.set_xticks(at, [f"{point['subjects']:.1f}\n{_percent(point['share'])}" for point in points])
        axes.set_xlabel("training subjects of a fold", color=colours["muted"], fontsize=9)
        plain_axes(axes, colours["line"], colours["muted"])


def _point(point: Point, classes: int) -> dict[str, JsonValue]:
    summary, predictions = point.summary, point.predictions
    names = ("share", "subjects", "clips", "whole", "wanted")
    own: dict[str, JsonValue] = {name: getattr(point, name) for name in names}
    if summary is None or predictions is None:
        for key, _ in _SCORES:
            own |= {key: None, f"{key}_ci": None, f"{key}_sd": None, f"{key}_each": []}
        return own
    each = scores_of(confusions_by_subject(predictions, classes)[1].sum(1))
    whole = summary.to_json()
    for (key, _), score_S in zip(_SCORES, each, strict=True):
        own |= {name: whole[name] for name in (key, f"{key}_ci", f"{key}_sd")}
        own[f"{key}_each"] = score_S.tolist()
    return own


def _rises(rises: Sequence[Rise]) -> list[dict[str, JsonValue]]:
    corrected = {key: holm([getattr(one.difference, f"{key}_p") for one in rises]) for key, _ in _SCORES}
    found: list[dict[str, JsonValue]] = []
    for n, one in enumerate(rises):
        own: dict[str, JsonValue] = {"low": one.low, "high": one.high}
        for key, _ in _SCORES:
            ends: Interval = getattr(one.difference, f"{key}_ci")
            own |= {f"{key}_difference": getattr(one.difference, key), f"{key}_ci": [ends.lo, ends.hi]}
            own |= {f"{key}_p": getattr(one.difference, f"{key}_p"), f"{key}_p_holm": corrected[key][n]}
        found.append(own)
    return found


def _table(tree: Mapping[str, Any]) -> Table:
    columns = [Column("share", right=True), Column("subjects", right=True), Column("clips", right=True)]
    for _, name in _SCORES:
        columns += [Column(name, right=True), Column("interval")]
    columns.append(Column("repetitions", right=True))
    rows: list[Row] = []
    for point in tree["points"]:
        cells = [_percent(point["share"]), f"{point['subjects']:.1f}", f"{point['clips']:.1f}"]
        for key, _ in _SCORES:
            spread = "" if point[f"{key}_sd"] is None else f" ± {point[f'{key}_sd']:.3f}"
            cells.append("" if point[key] is None else f"{point[key]:.4f}{spread}")
            cells.append(interval_text(point[f"{key}_ci"]))
        rows.append(Row([*cells, f"{point['whole']} of {point['wanted']}"]))
    return Table(columns, rows)


def _rise_table(tree: Mapping[str, Any]) -> Table:
    columns = [Column("step")]
    for _, name in _SCORES:
        columns += [Column(f"{name} gained", right=True), Column("interval"), Column("p, Holm", right=True)]
    rows: list[Row] = []
    for one in tree["rises"]:
        cells = [f"{_percent(one['low'])} to {_percent(one['high'])}"]
        for key, _ in _SCORES:
            cells += [f"{one[f'{key}_difference']:+.4f}", interval_text(one[f"{key}_ci"])]
            cells += [p_text(one[f"{key}_p_holm"])]
        rows.append(Row(cells))
    return Table(columns, rows, "Paired permutation tests over the held-out subjects:")


def _facts(tree: Mapping[str, Any]) -> list[tuple[str, str]]:
    seeds = len(tree["seeds"])
    repeated = f"{tree['draws']} draws of subjects" + (f" × {seeds} seeds" if seeds > 1 else "")
    return [
        ("intervals", f"{percent(tree['confidence'])}, bootstrap over the held-out subjects"),
        ("±", "the standard deviation over repetitions"),
        ("repetitions", f"{repeated}; of all subjects there is one draw"),
        ("folds", str(tree["folds"])),
        ("clips", f"{tree['clips_used']} of {tree['clips_expected']} used"),
        ("selection", tree["selection"]),
    ]


def _percent(share: float) -> str:
    return f"{100 * share:g} %"
