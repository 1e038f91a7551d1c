"""Figures of a run: its errors by class and by subject, and how it learned. Each names model, data and
selection.

They are made without pyplot, which keeps global state, because a tracker draws them in its own thread.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from distmer.evaluation.stats import confusions_by_subject
from distmer.evaluation.summary import Summary
from distmer.experiment.plan import Plan
from distmer.experiment.result import RunResult
from distmer.report.axes import place_axes, place_text, plain_axes
from distmer.report.curve import draw_curve
from distmer.report.curves import curves_of, draw_envelope, in_order
from distmer.report.svg import plain_text
from distmer.report.tables import percent
from distmer.types import FloatArray, FoldResult, Predictions, SubjectKey

_INK, _MUTED, _GRID, _ALARM = "#1f2933", "#667380", "#dfe4e8", "#b3261e"
# told apart in print and by the colour-blind
_SERIES = ("#1f6f8b", "#c9792b", "#5b7f3a", "#7b4f9d", "#a33b4a", "#4c6275")
_RAMP = LinearSegmentedColormap.from_list("recall", ["#e9f0f3", "#a9cbd5", "#1f6f8b", "#0d3d50"])


def drawings(result: RunResult) -> dict[str, Callable[[], Figure]]:
    """What can be drawn of a run, by name; drawn when called."""
    found: dict[str, Callable[[], Figure]] = {}
    if result.predictions is not None and result.summary is not None:
        found["confusion"] = partial(confusion, result.plan, result.predictions, result.summary)
        found["subjects"] = partial(subjects, result.plan, result.predictions)
    if any(fold.curves for fold in result.folds):
        found["curves"] = partial(curves, result.plan, result.folds)
    return found


def confusion(plan: Plan, predictions: Predictions, summary: Summary) -> Figure:
    """The confusion matrix, summed over seeds: shares of each true class (a row), with the counts below."""
    k = len(plan.classes)
    counts_KK = summary.confusion_KK
    n_K = counts_KK.sum(1)
    share_KK = counts_KK / np.maximum(n_K, 1)[:, None]
    side, left, head = 1.1 * k, 1.55, _head(plan)
    figure = Figure(figsize=(max(6.4, left + side + 0.4), head + side + 0.75))
    axes = place_axes(figure, left, head, side, side)
    axes.imshow(share_KK, cmap=_RAMP, vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(share_KK):
        how: dict[str, Any] = {"ha": "center", "va": "center", "color": "white" if share > 0.45 else _INK}
        axes.text(column, row - 0.06, f"{share:.2f}", fontsize=13, **how)
        axes.text(column, row + 0.24, f"{counts_KK[row, column]}", fontsize=9, alpha=0.85, **how)
    axes.set_xticks(range(k), plan.classes, color=_INK)
    names = [f"{name}\nn = {n}" for name, n in zip(plan.classes, n_K, strict=True)]
    axes.set_yticks(range(k), names, color=_INK)
    _white_grid(axes, k, k, linewidth=2)
    axes.tick_params(which="both", labelsize=9.5)
    axes.set_xlabel("predicted", color=_MUTED, labelpad=8)
    axes.set_ylabel("true", color=_MUTED, labelpad=8)
    note = f"pooled UAR {summary.uar:.4f}, UF1 {summary.uf1:.4f}{_over_seeds(predictions)}"
    return _titled(figure, plan, note)


def subjects(plan: Plan, predictions: Predictions) -> Figure:
    """Every subject: accuracy, and recall of each class, blank where a subject has no clip of it."""
    found, confusion_SPKK = confusions_by_subject(predictions, len(plan.classes))
    counts_PKK = confusion_SPKK.sum(0)
    accuracy_P = np.trace(counts_PKK, axis1=1, axis2=2) / counts_PKK.sum((1, 2))
    order = sorted(range(len(found)), key=lambda p: (found[p].dataset, accuracy_P[p], found[p].subject))
    subjects, counts_PKK, accuracy_P = [found[p] for p in order], counts_PKK[order], accuracy_P[order]
    n_PK, hits_PK = counts_PKK.sum(2), np.diagonal(counts_PKK, axis1=1, axis2=2)
    recall_KP = np.where(n_PK > 0, hits_PK / np.maximum(n_PK, 1), np.nan).T
    width, head, strip = max(7.0, 2.2 + 0.2 * len(subjects)), _head(plan) + 0.3, 0.32 * len(plan.classes)
    figure = Figure(figsize=(width, head + 1.9 + 0.12 + strip + 0.85))
    above = place_axes(figure, 1.25, head, width - 1.95, 1.9)
    below = place_axes(figure, 1.25, head + 1.9 + 0.12, width - 1.95, strip)
    _lollipops(above, subjects, accuracy_P, n_PK.sum(1) / len(set(predictions.seed_N.tolist())))
    _recalls(below, plan, subjects, recall_KP)
    pooled = float(np.mean(predictions.y_true_N == predictions.y_pred_N))
    above.axhline(pooled, color=_MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    beside = {"xycoords": ("axes fraction", "data"), "xytext": (4, 0), "textcoords": "offset points"}
    above.annotate(f"{pooled:.2f} of all", (1, pooled), va="center", fontsize=8, color=_MUTED, **beside)
    none_right = f", {wrong} of them with no clip right" if (wrong := int((accuracy_P == 0).sum())) else ""
    return _titled(figure, plan, f"{len(subjects)} subjects{none_right}{_over_seeds(predictions)}")


def curves(plan: Plan, folds: Sequence[FoldResult]) -> Figure:
    """How the folds learned: the mean over folds, and the range from the lowest to the highest."""
    found = curves_of(folds)
    names = in_order(found)
    width = max(6.4, 4.2 * len(names))
    head, each = _head(plan) + 0.3, (width - 0.2) / len(names)
    figure = Figure(figsize=(width, head + 2.6 + 0.6))
    for i, name in enumerate(names):
        panel = place_axes(figure, i * each + 0.65, head, each - 0.75, 2.6)
        draw_envelope(panel, name, found[name], _SERIES[i % len(_SERIES)], _INK)
        panel.set_xlabel("epoch", fontsize=9, color=_MUTED)
        panel.legend(frameon=False, fontsize=8, labelcolor=_MUTED)
        plain_axes(panel, _GRID, _MUTED)
    looked = "Held-out clips were looked at in every epoch"
    oracle = plan.selection.startswith("oracle")
    return _titled(figure, plan, looked if oracle else "No held-out clip is in these curves")


def _lollipops(
    axes: Axes, subjects: Sequence[SubjectKey], accuracy_P: FloatArray, clips_P: FloatArray
) -> None:
    groups: dict[str, list[int]] = defaultdict(list)
    for p, subject in enumerate(subjects):
        groups[subject.dataset].append(p)
    for i, (dataset, rows) in enumerate(groups.items()):
        colour, accuracy_R, sizes_R = _SERIES[i % len(_SERIES)], accuracy_P[rows], 14 + 5 * clips_P[rows]
        axes.vlines(rows, 0, accuracy_R, color=colour, linewidth=1.2, alpha=0.55, zorder=2)
        edge = {"linewidth": 0.8, "edgecolor": "white"}
        axes.scatter(rows, accuracy_R, s=sizes_R, color=colour, zorder=3, clip_on=False, **edge)
        name = f"{dataset} ({len(rows)})"
        axes.text(rows[0] - 0.45, 1.1, name, color=colour, fontsize=9, va="bottom", fontweight="bold")
        if rows[0]:
            axes.axvline(rows[0] - 0.5, color=_GRID, linewidth=1, zorder=0)
    axes.set_xlim(-0.6, len(subjects) - 0.4)
    axes.set_ylim(0, 1.04)
    axes.set_xticks([])
    axes.set_yticks([0, 0.5, 1])
    axes.set_ylabel("accuracy", fontsize=9, color=_MUTED)
    plain_axes(axes, _GRID, _MUTED)
    axes.spines["bottom"].set_visible(False)


def _recalls(axes: Axes, plan: Plan, subjects: Sequence[SubjectKey], recall_KP: FloatArray) -> None:
    axes.imshow(recall_KP, cmap=_RAMP, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    for row, column in np.argwhere(np.isnan(recall_KP)):
        axes.plot([column], [row], marker="_", markersize=4, color="#c3ccd3", linestyle="none")
    axes.set_xlim(-0.6, len(subjects) - 0.4)
    names = [subject.subject for subject in subjects]
    axes.set_xticks(range(len(subjects)), names, rotation=90, fontsize=7, color=_MUTED)
    axes.set_yticks(range(len(plan.classes)), plan.classes, fontsize=9, color=_INK)
    _white_grid(axes, len(plan.classes), len(subjects), linewidth=1.5)
    legend = (
        "recall of each class: light 0, dark 1, – no clip of it     ·     dots grow with a subject's clips"
    )
    axes.set_xlabel(legend, fontsize=8, color=_MUTED)


def _white_grid(axes: Axes, rows: int, columns: int, linewidth: float) -> None:
    """White lines between the cells of a matrix, and no frame."""
    axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=linewidth)
    axes.tick_params(which="both", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _head(plan: Plan) -> float:
    """Inches that the title takes."""
    return 1.1 if plan.stamps else 0.85


def _title(figure: Figure, title: str, words: str, stamps: Sequence[str]) -> None:
    """The title above a drawing. Stamps are in red, because a figure is often shown without its table."""
    place_text(figure, 0.25, 0.3, title, fontsize=13, fontweight="bold", color=_INK)
    place_text(figure, 0.25, 0.56, words, fontsize=9, color=_MUTED)
    if stamps:
        alarm = f"NOT A HEADLINE: {', '.join(stamps)}"
        place_text(figure, 0.25, 0.8, alarm, fontsize=9, fontweight="bold", color=_ALARM)
    plain_text(figure)


def _titled(figure: Figure, plan: Plan, note: str) -> Figure:
    """The figure with model, data and selection above it."""
    words = f"folds: {plan.config.evaluation.folds} · selection: {plan.selection} · {note}"
    _title(figure, f"{plan.model.info.name} on {plan.manifest.protocol}", words, plan.stamps)
    return figure


def _over_seeds(predictions: Predictions) -> str:
    seeds = len(set(predictions.seed_N.tolist()))
    return f" · {seeds} seeds" if seeds > 1 else ""


def learning_curve(tree: Mapping[str, Any]) -> Figure:
    """The drawing of a ``curve.json``, with a title like that of every figure."""
    figure = Figure(figsize=(9.2, 4.2))
    colours = {"ink": _INK, "muted": _MUTED, "line": _GRID, "uar": _SERIES[0], "uf1": _SERIES[1]}
    draw_curve(figure, tree, colours, head=0.85 if tree["stamps"] else 0.6)
    words = (
        f"{percent(tree['confidence'])} interval over held-out subjects · dots: repetitions · dashed: floor"
    )
    _title(figure, f"learning curve of {tree['model']} on {tree['dataset']}", words, tree["stamps"])
    return figure
