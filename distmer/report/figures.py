"""Drawings of a run: where it errs, on whom, and how it learned. Numbers only, never a frame. Each names
model, data and selection.

Figures are made without pyplot, which keeps global state: a tracker draws them in its own thread.
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

from distmer.evaluation.metrics import confusions
from distmer.evaluation.summary import Summary
from distmer.experiment.plan import Plan
from distmer.experiment.result import RunResult
from distmer.report.axes import plain_axes
from distmer.report.curve import draw_curve
from distmer.report.curves import CURVES, curves_of, in_order
from distmer.report.svg import plain_text
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
    """The confusion matrix, summed over seeds: rows are the truth and sum to 1, the counts stand beneath. Its
    diagonal is the recalls."""
    k = len(plan.classes)
    counts_KK = summary.confusion_KK
    n_K = counts_KK.sum(1)
    share_KK = counts_KK / np.maximum(n_K, 1)[:, None]
    side, left, head = 1.1 * k, 1.55, _head(plan)
    figure = Figure(figsize=(max(6.4, left + side + 0.4), head + side + 0.75))
    axes = _axes(figure, left, head, side, side)
    axes.imshow(share_KK, cmap=_RAMP, vmin=0, vmax=1)
    for row in range(k):
        for column in range(k):
            ink = "white" if share_KK[row, column] > 0.45 else _INK
            axes.text(
                column,
                row - 0.06,
                f"{share_KK[row, column]:.2f}",
                ha="center",
                va="center",
                color=ink,
                fontsize=13,
            )
            axes.text(
                column,
                row + 0.24,
                f"{counts_KK[row, column]}",
                ha="center",
                va="center",
                color=ink,
                fontsize=9,
                alpha=0.85,
            )
    axes.set_xticks(range(k), plan.classes, color=_INK)
    axes.set_yticks(
        range(k), [f"{name}\nn = {n}" for name, n in zip(plan.classes, n_K, strict=True)], color=_INK
    )
    axes.set_xticks(np.arange(k + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(k + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="both", length=0, labelsize=9.5)
    axes.set_xlabel("predicted", color=_MUTED, labelpad=8)
    axes.set_ylabel("true", color=_MUTED, labelpad=8)
    for spine in axes.spines.values():
        spine.set_visible(False)
    _title(figure, plan, f"pooled UAR {summary.uar:.4f}, UF1 {summary.uf1:.4f}{_over_seeds(predictions)}")
    plain_text(figure)
    return figure


def subjects(plan: Plan, predictions: Predictions) -> Figure:
    """Every subject: accuracy, and recall of each class. Blank where a subject has no clip of a class, which
    is not a recall of 0."""
    subjects = sorted(set(predictions.subjects))
    index = {subject: p for p, subject in enumerate(subjects)}
    of_N = np.array([index[subject] for subject in predictions.subjects])
    counts_PKK = confusions(
        predictions.y_true_N, predictions.y_pred_N, of_N, len(subjects), len(plan.classes)
    )
    n_PK = counts_PKK.sum(2)
    hits_PK = np.diagonal(counts_PKK, axis1=1, axis2=2)
    accuracy_P = hits_PK.sum(1) / n_PK.sum(1)
    order = sorted(
        range(len(subjects)), key=lambda p: (subjects[p].dataset, accuracy_P[p], subjects[p].subject)
    )
    subjects, n_PK, hits_PK, accuracy_P = (
        [subjects[p] for p in order],
        n_PK[order],
        hits_PK[order],
        accuracy_P[order],
    )
    recall_KP = np.where(n_PK > 0, hits_PK / np.maximum(n_PK, 1), np.nan).T
    width, head, strip = max(7.0, 2.2 + 0.2 * len(subjects)), _head(plan) + 0.3, 0.32 * len(plan.classes)
    figure = Figure(figsize=(width, head + 1.9 + 0.12 + strip + 0.85))
    above = _axes(figure, 1.25, head, width - 1.95, 1.9)
    below = _axes(figure, 1.25, head + 1.9 + 0.12, width - 1.95, strip)
    _lollipops(above, subjects, accuracy_P, n_PK.sum(1) / len(set(predictions.seed_N.tolist())))
    _recalls(below, plan, subjects, recall_KP)
    pooled = float(np.mean(predictions.y_true_N == predictions.y_pred_N))
    above.axhline(pooled, color=_MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    beside = {"xycoords": ("axes fraction", "data"), "xytext": (4, 0), "textcoords": "offset points"}
    above.annotate(f"{pooled:.2f} of all", (1, pooled), va="center", fontsize=8, color=_MUTED, **beside)
    none_right = f", {wrong} of them with no clip right" if (wrong := int((accuracy_P == 0).sum())) else ""
    _title(figure, plan, f"{len(subjects)} subjects{none_right}{_over_seeds(predictions)}")
    plain_text(figure)
    return figure


def curves(plan: Plan, folds: Sequence[FoldResult]) -> Figure:
    """How the folds learned: the mean over folds, and the range from the lowest to the highest."""
    found = curves_of(folds)
    names = in_order(found)
    width = max(6.4, 4.2 * len(names))
    head, each = _head(plan) + 0.3, (width - 0.2) / len(names)
    figure = Figure(figsize=(width, head + 2.6 + 0.6))
    for i, (name, colour) in enumerate(zip(names, _SERIES * len(names), strict=False)):
        panel = _axes(figure, i * each + 0.65, head, each - 0.75, 2.6)
        curve = found[name]
        epochs = np.arange(1, len(curve.mean) + 1)
        panel.fill_between(
            epochs,
            curve.low,
            curve.high,
            color=colour,
            alpha=0.18,
            linewidth=0,
            label="lowest to highest fold",
        )
        panel.plot(epochs, curve.mean, color=colour, linewidth=1.8, label=f"mean of {curve.folds} folds")
        panel.set_title(CURVES.get(name, name), fontsize=10, color=_INK, loc="left")
        panel.set_xlabel("epoch", fontsize=9, color=_MUTED)
        panel.margins(x=0.01)
        panel.legend(frameon=False, fontsize=8, labelcolor=_MUTED)
        plain_axes(panel, _GRID, _MUTED)
    _title(
        figure,
        plan,
        "Held-out clips were looked at in every epoch"
        if plan.selection.startswith("oracle")
        else "No held-out clip is in these curves",
    )
    plain_text(figure)
    return figure


def _lollipops(
    axes: Axes, subjects: Sequence[SubjectKey], accuracy_P: FloatArray, clips_P: FloatArray
) -> None:
    groups: dict[str, list[int]] = defaultdict(list)
    for p, subject in enumerate(subjects):
        groups[subject.dataset].append(p)
    for colour, (dataset, rows) in zip(_SERIES * len(groups), groups.items(), strict=False):
        axes.vlines(rows, 0, accuracy_P[rows], color=colour, linewidth=1.2, alpha=0.55, zorder=2)
        axes.scatter(
            rows,
            accuracy_P[rows],
            s=14 + 5 * clips_P[rows],
            color=colour,
            linewidth=0.8,
            edgecolor="white",
            zorder=3,
            clip_on=False,
        )
        axes.text(
            rows[0] - 0.45,
            1.1,
            f"{dataset} ({len(rows)})",
            color=colour,
            fontsize=9,
            va="bottom",
            fontweight="bold",
        )
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
    axes.set_xticks(
        range(len(subjects)), [subject.subject for subject in subjects], rotation=90, fontsize=7, color=_MUTED
    )
    axes.set_yticks(range(len(plan.classes)), plan.classes, fontsize=9, color=_INK)
    axes.set_xticks(np.arange(len(subjects) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(plan.classes) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    axes.set_xlabel(
        "recall of each class: light 0, dark 1, – no clip of it     ·     dots grow with a subject's clips",
        fontsize=8,
        color=_MUTED,
    )
    for spine in axes.spines.values():
        spine.set_visible(False)


def _axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes placed in inches from the top left corner, so that text keeps its room whatever the figure's
    size."""
    whole_width, whole_height = figure.get_size_inches()
    return figure.add_axes(
        (left / whole_width, 1 - (top + height) / whole_height, width / whole_width, height / whole_height)
    )


def _head(plan: Plan) -> float:
    """Inches that the title takes."""
    return 1.1 if plan.stamps else 0.85


def _title(figure: Figure, plan: Plan, note: str) -> None:
    """Model, data and selection above every drawing; a stamp in red, for a figure travels without its
    table."""
    height = figure.get_figheight()
    x = 0.25 / figure.get_figwidth()
    figure.text(
        x,
        1 - 0.3 / height,
        f"{plan.model.info.name} on {plan.manifest.protocol}",
        fontsize=13,
        fontweight="bold",
        color=_INK,
        va="center",
    )
    settings: Mapping[str, str] = {"folds": plan.config.evaluation.folds, "selection": plan.selection}
    words = " · ".join([*(f"{name}: {value}" for name, value in settings.items()), note])
    figure.text(x, 1 - 0.56 / height, words, fontsize=9, color=_MUTED, va="center")
    if plan.stamps:
        figure.text(
            x,
            1 - 0.8 / height,
            f"NOT A HEADLINE: {', '.join(plan.stamps)}",
            fontsize=9,
            fontweight="bold",
            color=_ALARM,
            va="center",
        )


def _over_seeds(predictions: Predictions) -> str:
    seeds = len(set(predictions.seed_N.tolist()))
    return f" · {seeds} seeds" if seeds > 1 else ""


def learning_curve(tree: Mapping[str, Any]) -> Figure:
    """The drawing of a ``curve.json``, under a title as above all figures."""
    figure = Figure(figsize=(9.2, 4.2))
    colours = {"ink": _INK, "muted": _MUTED, "line": _GRID, "uar": _SERIES[0], "uf1": _SERIES[1]}
    draw_curve(figure, tree, colours, head=0.85 if tree["stamps"] else 0.6)
    x, height = 0.25 / figure.get_figwidth(), figure.get_figheight()
    title = f"learning curve of {tree['model']} on {tree['dataset']}"
    figure.text(x, 1 - 0.3 / height, title, fontsize=13, fontweight="bold", color=_INK, va="center")
    words = f"{tree['confidence']:.0%} interval over held-out subjects · dots: repetitions · dashed: floor"
    figure.text(x, 1 - 0.56 / height, words, fontsize=9, color=_MUTED, va="center")
    if tree["stamps"]:
        alarm = f"NOT A HEADLINE: {', '.join(tree['stamps'])}"
        figure.text(x, 1 - 0.8 / height, alarm, fontsize=9, fontweight="bold", color=_ALARM, va="center")
    plain_text(figure)
    return figure
