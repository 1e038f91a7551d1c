"""Drawings of a page as SVG that takes its colours from the page's style sheet, for light and dark.

Each colour here is a number that nothing else uses. In the SVG it is replaced by a variable of the style
sheet. matplotlib is imported only when something is drawn.
"""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from distmer.report.axes import place_axes, plain_axes, ready_to_draw
from distmer.report.curves import Curve, draw_envelope, in_order

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

INK, MUTED, LINE, PAPER, ALARM = "#010101", "#010102", "#010103", "#010104", "#010105"
SERIES = ("#010111", "#010112", "#010113", "#010114")
_VARIABLES = {INK: "ink", MUTED: "muted", LINE: "line", PAPER: "paper", ALARM: "alarm"}
_VARIABLES |= {colour: f"s{n}" for n, colour in enumerate(SERIES, start=1)}
_DRAWING = threading.Lock()  # matplotlib's settings belong to the process


def svg(draw: Callable[[Any], None], width: float, height: float, name: str) -> str:
    """A figure of this size in inches, filled by ``draw``, as an ``svg`` element. Its ids follow from
    ``name``."""
    import matplotlib
    from matplotlib.figure import Figure

    ready_to_draw()
    figure = Figure(figsize=(width, height))
    buffer = io.StringIO()
    settings: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": name}
    with _DRAWING, matplotlib.rc_context(settings):
        draw(figure)
        plain_text(figure)
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(
        r'(<svg[^>]*?) width="([\d.]+)pt"', rf'\1 role="img" style="--w: {width * 96:.0f}px"', text, count=1
    )
    text = re.sub("|".join(_VARIABLES), lambda match: f"var(--{_VARIABLES[match[0]]})", text)
    return text.replace("'DejaVu Sans', 'Bitstream Vera Sans'", "system-ui").strip()


def plain_text(figure: Figure) -> None:
    """Read no text of the figure as a formula: a name may hold a dollar sign, which would begin one."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        cast(Text, text).set_parse_math(False)


Line = tuple[Sequence[float], float, bool]
"""A trial in parallel coordinates: its places, how good it is from 0 to 1, and whether it was chosen."""


def curves_svg(curves: Mapping[str, Curve]) -> str:
    """Each curve in a panel of its own: the mean over folds in the range of all folds."""
    names = in_order(curves)
    width, height = max(5.2, 3.6 * len(names)), 2.7
    each = width / len(names)

    def draw(figure: Figure) -> None:
        for i, name in enumerate(names):
            axes = place_axes(figure, i * each + 0.55, 0.35, each - 0.75, height - 0.85)
            plain_axes(axes, LINE, MUTED)
            draw_envelope(axes, name, curves[name], SERIES[i % len(SERIES)], INK)
            axes.set_xlabel(f"epoch (mean and range of {curves[name].folds} folds)", color=MUTED)

    return svg(draw, width, height, "curves")


def forest_svg(pairs: pd.DataFrame, labels: Iterable[str]) -> str:
    """The differences A − B with their intervals: UAR above, UF1 below, in each row."""
    rows, names = len(pairs), [_short(label) for label in labels]
    width, height = 5.6, 0.95 + 0.42 * rows

    def draw(figure: Figure) -> None:
        left = 0.25 + 0.068 * max(map(len, names))
        axes = place_axes(figure, left, 0.35, 0.97 * width - left, height - 0.85)
        axes.axvline(0, color=MUTED, linewidth=1)
        scores = (("uar", "UAR", SERIES[0], -0.14), ("uf1", "UF1", SERIES[1], 0.14))
        for name, label, colour, offset in scores:
            places = [row + offset for row in range(rows)]
            low, high = pairs[f"{name}_lo"].tolist(), pairs[f"{name}_hi"].tolist()
            axes.hlines(places, low, high, color=colour, linewidth=2)
            axes.scatter(pairs[f"{name}_difference"], places, color=colour, s=26, zorder=3, label=label)
        axes.set_yticks(range(rows), names, color=INK)
        axes.set_ylim(rows - 0.5, -0.5)
        axes.set_xlabel("B is better  ←  difference  →  A is better", color=MUTED)
        axes.legend(
            loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, labelcolor=MUTED, borderpad=0
        )
        plain_axes(axes, LINE, MUTED)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", color=LINE, linewidth=0.8)

    return svg(draw, width, height, "forest")


def history_svg(scores: Mapping[str, Sequence[float | None]], metric: str) -> str:
    """The validation score of each trial in its order, and the best so far: one line for each search."""
    from matplotlib.ticker import MaxNLocator

    scores = {name: values for name, values in scores.items() if any(v is not None for v in values)}
    alone = len(scores) == 1

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((0.12, 0.2, 0.86, 0.74))
        for values in scores.values():
            known = [(n, value) for n, value in enumerate(values) if value is not None]
            best = [max(value for _, value in known[: k + 1]) for k in range(len(known))]
            axes.scatter(*zip(*known, strict=True), color=SERIES[0], s=18, alpha=0.9 if alone else 0.45)
            width, alpha = (1.8, 1) if alone else (1, 0.6)
            trials = [n for n, _ in known]
            axes.step(trials, best, where="post", color=SERIES[1], linewidth=width, alpha=alpha)
        axes.set_xlabel("trial in its search (dots); the line is the best so far", color=MUTED)
        axes.set_ylabel(f"inner {metric.upper()}", color=MUTED)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        plain_axes(axes, LINE, MUTED)

    return svg(draw, 5.6, 2.8, "history") if scores else ""


def importance_svg(shares: Mapping[str, float]) -> str:
    """The share of each setting in the variance of the validation scores, the largest first."""
    ordered = sorted(shares.items(), key=lambda share: -share[1])
    names, values = [_short(name) for name, _ in ordered], [value for _, value in ordered]
    width, height = 5.6, 0.65 + 0.34 * len(names)

    def draw(figure: Figure) -> None:
        left = 0.25 + 0.075 * max(map(len, names))
        axes = place_axes(figure, left, 0.1, 0.95 * width - left, height - 0.55)
        axes.barh(range(len(names)), values, color=SERIES[0], height=0.55)
        for row, value in enumerate(values):
            axes.text(value + 0.01, row, f"{value:.2f}", va="center", color=INK)
        axes.set_yticks(range(len(names)), names, color=INK)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(0, 1.08)
        axes.set_xlabel("share of the variance of the inner score", color=MUTED)
        plain_axes(axes, LINE, MUTED)
        axes.grid(axis="y", visible=False)

    return svg(draw, width, height, "importance") if shares else ""


def parallel_svg(axes_of: Sequence[tuple[str, Sequence[tuple[float, str]]]], lines: Sequence[Line]) -> str:
    """Parallel coordinates. ``axes_of``: each setting's name and its ticks (place from 0 to 1, text)."""

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((0.06, 0.06, 0.86, 0.78))
        behind = {"facecolor": PAPER, "alpha": 0.7, "linewidth": 0, "pad": 0.6}
        columns = range(len(axes_of))
        for places, goodness, chosen in sorted(lines, key=lambda line: (line[2], line[1])):
            colour = SERIES[1] if chosen else SERIES[0]
            strength = 1.0 if chosen else 0.12 + 0.6 * goodness
            axes.plot(columns, places, color=colour, alpha=strength, linewidth=2.4 if chosen else 1.4)
        for column, (name, ticks) in enumerate(axes_of):
            axes.axvline(column, color=MUTED, linewidth=1)
            axes.text(column, 1.1, _short(name, 24), ha="center", va="bottom", color=INK, fontsize=9)
            for height, text in ticks:
                label = _short(text, 22)
                axes.text(column + 0.02, height, label, va="center", color=INK, fontsize=8, bbox=behind)
        axes.set_ylim(-0.05, 1.05)
        axes.set_xlim(-0.15, len(axes_of) - 0.6)
        axes.axis("off")

    return svg(draw, max(5.6, 1.6 * len(axes_of)), 3.4, "parallel")


def _short(text: str, most: int = 38) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
