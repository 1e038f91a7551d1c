"""Learning curves of all folds together, and their file in the run's folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from distmer.types import FoldResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURVES = {
    "train_loss": "training loss",
    "inner_uar": "UAR on inner folds",
    "inner_loss": "cross-entropy on inner folds",
    "test_accuracy": "accuracy on the held-out clips",
}
"""What each curve is called in a drawing."""

_PARTS = ("mean", "low", "high")


@dataclass(frozen=True, slots=True)
class Curve:
    """The mean, the lowest and the highest fold at each epoch, and the number of folds."""

    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    folds: int


def curves_of(folds: Sequence[FoldResult]) -> dict[str, Curve]:
    """The curves by name. Folds that stopped earlier count as long as they ran."""
    names = dict.fromkeys(name for fold in folds for name in fold.curves)
    return {name: _envelope([fold.curves[name] for fold in folds if name in fold.curves]) for name in names}


def curves_json(folds: Sequence[FoldResult]) -> bytes:
    """``curves.json``: numbers with six digits, null for a number that is not finite."""
    tree = {
        name: {
            **{part: [_six(value) for value in getattr(curve, part)] for part in _PARTS},
            "folds": curve.folds,
        }
        for name, curve in curves_of(folds).items()
    }
    return json.dumps(tree).encode()


def read_curves(tree: Mapping[str, Any]) -> dict[str, Curve]:
    """The inverse of `curves_json`, from its JSON. KeyError, TypeError or ValueError on anything else."""
    return {
        str(name): Curve(*(_numbers(curve[part]) for part in _PARTS), folds=int(curve["folds"]))
        for name, curve in tree.items()
    }


def in_order(names: Iterable[str]) -> list[str]:
    """The order in which curves are drawn: the known ones first."""
    known = list(CURVES)
    return sorted(names, key=lambda name: (known.index(name) if name in known else len(known), name))


def draw_envelope(axes: Axes, name: str, curve: Curve, colour: str, ink: str) -> None:
    """A curve under its title: the mean over folds in the range of all folds."""
    epochs = range(1, len(curve.mean) + 1)
    whole = "lowest to highest fold"
    axes.fill_between(epochs, curve.low, curve.high, color=colour, alpha=0.18, linewidth=0, label=whole)
    axes.plot(epochs, curve.mean, color=colour, linewidth=1.8, label=f"mean of {curve.folds} folds")
    axes.set_title(CURVES.get(name, name), fontsize=10, color=ink, loc="left")
    axes.margins(x=0.01)


def _six(value: float) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) else None


def _numbers(values: Sequence[float | None]) -> tuple[float, ...]:
    return tuple(float("nan") if value is None else float(value) for value in values)


def _envelope(lines: Sequence[Sequence[float]]) -> Curve:
    values_FE = np.full((len(lines), max(map(len, lines))), np.nan)
    for f, line in enumerate(lines):
        values_FE[f, : len(line)] = line
    masked_FE = np.ma.masked_invalid(values_FE)
    parts = (masked_FE.mean(0), masked_FE.min(0), masked_FE.max(0))
    mean, low, high = (tuple(np.ma.filled(part, np.nan).tolist()) for part in parts)
    return Curve(mean, low, high, len(lines))
