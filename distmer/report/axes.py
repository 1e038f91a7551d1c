"""How the axes of every drawing look, in a figure and on a page."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def ready_to_draw() -> None:
    """Wait for IPython, if another thread is in the middle of loading it, as the tracker's does for MLflow.

    A new figure of matplotlib asks a loaded IPython for its version, and half of one has none.
    """
    if "IPython" in sys.modules:
        importlib.import_module("IPython")


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
