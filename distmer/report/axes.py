"""What figures and the drawings of a page share: how axes look, and places in inches."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def ready_to_draw() -> None:
    """Wait for IPython, if another thread is in the middle of loading it, as the tracker's does for MLflow.

    A new figure of matplotlib asks a loaded IPython for its version, and half of one has none.
    """
    if "IPython" in sys.modules:
        importlib.import_module("IPython")


def place_axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes placed in inches from the top left corner, so that text keeps its room whatever the figure's
    size."""
    w, h = figure.get_size_inches()
    return figure.add_axes((left / w, 1 - (top + height) / h, width / w, height / h))


def place_text(figure: Figure, left: float, top: float, text: str, **how: Any) -> None:
    """A line of text whose middle is so many inches below the upper edge. ``how``: as matplotlib takes it."""
    w, h = figure.get_size_inches()
    figure.text(left / w, 1 - top / h, text, va="center", **how)


def plain_axes(axes: Axes, line: str, muted: str) -> None:
    """Axes without a frame; the spines and the horizontal grid are of the colour ``line``, labels of
    ``muted``."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(line)
    axes.grid(axis="y", color=line, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=8.5, labelcolor=muted)
