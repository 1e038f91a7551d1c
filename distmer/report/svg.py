"""Drawings of a page as SVG that takes its colours from the page: one drawing serves light and dark.

matplotlib writes colours as hexadecimal numbers. Each colour here is a number that nothing else uses, and is
replaced in the SVG by a variable of the page's style sheet. Text stays text. matplotlib is only imported when
something is drawn.
"""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from distmer.report.axes import plain_axes, ready_to_draw
from distmer.report.curves import CURVES, Curve, in_order

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, LINE, PAPER, ALARM = "#010101", "#010102", "#010103", "#010104", "#010105"
SERIES = ("#010111", "#010112", "#010113", "#010114")
_VARIABLES = {INK: "ink", MUTED: "muted", LINE: "line", PAPER: "paper", ALARM: "alarm"}
_VARIABLES |= {colour: f"s{n}" for n, colour in enumerate(SERIES, start=1)}
_DRAWING = threading.Lock()  # matplotlib's settings belong to the process


def svg(draw: Callable[[Any], None], width: float, height: float, name: str) -> str:
    """A figure of this size in inches as an ``svg`` element. ``name`` makes the ids in it its own.

    ``draw`` is given the figure.
    """
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
    """Names may hold a dollar sign, which would begin a formula: nothing in this figure is one."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        cast(Text, text).set_parse_math(False)


def curves_svg(curves: Mapping[str, Curve]) -> str:
    """Each curve in a panel of its own: the mean over folds in the range of all folds."""
    names = in_order(curves)

    def draw(figure: Figure) -> None:
        for i, (axes, name) in enumerate(zip(_panels(figure, len(names)), names, strict=True)):
            curve, colour = curves[name], SERIES[i % len(SERIES)]
            epochs = range(1, len(curve.mean) + 1)
            axes.fill_between(epochs, curve.low, curve.high, color=colour, alpha=0.18, linewidth=0)
            axes.plot(epochs, curve.mean, color=colour, linewidth=1.8)
            axes.set_title(CURVES.get(name, name), fontsize=10, color=INK, loc="left")
            axes.set_xlabel(f"epoch (mean and range of {curve.folds} folds)", color=MUTED)
            axes.margins(x=0.01)

    return svg(draw, max(5.2, 3.6 * len(names)), 2.7, "curves")


def forest_svg(pairs: pd.DataFrame) -> str:
    """The differences A − B with their intervals: UAR above, UF1 below, in each row."""
    rows = len(pairs)
    on = [f" on {on}" if isinstance(on, str) and on else "" for on in pairs["on"]]
    names = [_short(f"{a} − {b}{at}") for a, b, at in zip(pairs["a"], pairs["b"], on, strict=True)]

    def draw(figure: Figure) -> None:
        height = figure.get_figheight()
        left = (0.25 + 0.068 * max(map(len, names))) / figure.get_figwidth()
        axes = figure.add_axes((left, 0.5 / height, 0.97 - left, (height - 0.85) / height))
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

    return svg(draw, 5.6, 0.95 + 0.42 * rows, "forest")


def history_svg(scores: Mapping[str, Sequence[float | None]], metric: str) -> str:
    """The validation score of each trial in its order, and the best so far; a line a search."""
    from matplotlib.ticker import MaxNLocator

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((0.12, 0.2, 0.86, 0.74))
        alone = len(scores) == 1
        for values in scores.values():
            known = [(n, value) for n, value in enumerate(values) if value is not None]
            best = [max(value for _, value in known[: k + 1]) for k in range(len(known))]
            axes.scatter(*zip(*known, strict=True), color=SERIES[0], s=18, alpha=0.9 if alone else 0.45)
            axes.step(
                [n for n, _ in known],
                best,
                where="post",
                color=SERIES[1],
                linewidth=1.8 if alone else 1,
                alpha=1 if alone else 0.6,
            )
        axes.set_xlabel("trial in its search (dots); the line is the best so far", color=MUTED)
        axes.set_ylabel(f"inner {metric.upper()}", color=MUTED)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        plain_axes(axes, LINE, MUTED)

    known = {name: values for name, values in scores.items() if any(v is not None for v in values)}
    scores = known
    return svg(draw, 5.6, 2.8, "history") if known else ""


def importance_svg(shares: Mapping[str, float]) -> str:
    """The share of each setting in how far the validation scores lie apart, the largest first; empty without
    shares."""
    names = sorted(shares, key=lambda name: -shares[name])

    def draw(figure: Figure) -> None:
        height = figure.get_figheight()
        left = (0.25 + 0.075 * max(len(_short(name)) for name in names)) / figure.get_figwidth()
        axes = figure.add_axes((left, 0.45 / height, 0.95 - left, (height - 0.55) / height))
        values = [shares[name] for name in names]
        axes.barh(range(len(names)), values, color=SERIES[0], height=0.55)
        for row, value in enumerate(values):
            axes.text(value + 0.01, row, f"{value:.2f}", va="center", color=INK)
        axes.set_yticks(range(len(names)), [_short(name) for name in names], color=INK)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(0, 1.08)
        axes.set_xlabel("share of the variance of the inner score", color=MUTED)
        plain_axes(axes, LINE, MUTED)
        axes.grid(axis="y", visible=False)

    return svg(draw, 5.6, 0.65 + 0.34 * len(names), "importance") if shares else ""


def parallel_svg(axes_of: Sequence[tuple[str, Sequence[tuple[float, str]]]], lines: Sequence[Line]) -> str:
    """Parallel coordinates. ``axes_of``: each setting's name and its ticks (place from 0 to 1, text);
    ``lines``: each trial's places, how good it is from 0 to 1, and whether it was chosen."""

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((0.06, 0.06, 0.86, 0.78))
        columns = range(len(axes_of))
        for places, goodness, chosen in sorted(lines, key=lambda line: (line[2], line[1])):
            colour = SERIES[1] if chosen else SERIES[0]
            strength = 1.0 if chosen else 0.12 + 0.6 * goodness
            axes.plot(columns, places, color=colour, alpha=strength, linewidth=2.4 if chosen else 1.4)
        for column, (name, ticks) in enumerate(axes_of):
            axes.axvline(column, color=MUTED, linewidth=1)
            axes.text(column, 1.1, _short(name, 24), ha="center", va="bottom", color=INK, fontsize=9)
            for height, text in ticks:
                axes.text(
                    column + 0.02,
                    height,
                    _short(text, 22),
                    va="center",
                    color=INK,
                    fontsize=8,
                    bbox={"facecolor": PAPER, "alpha": 0.7, "linewidth": 0, "pad": 0.6},
                )
        axes.set_ylim(-0.05, 1.05)
        axes.set_xlim(-0.15, len(axes_of) - 0.6)
        axes.axis("off")

    return svg(draw, max(5.6, 1.6 * len(axes_of)), 3.4, "parallel")


Line = tuple[Sequence[float], float, bool]


def _panels(figure: Figure, count: int) -> list[Axes]:
    width, height = figure.get_size_inches()
    each = width / count
    found: list[Axes] = []
    for i in range(count):
        axes = figure.add_axes(
            ((i * each + 0.55) / width, 0.5 / height, (each - 0.75) / width, (height - 0.85) / height)
        )
        plain_axes(axes, LINE, MUTED)
        found.append(axes)
    return found


def _short(text: str, most: int = 38) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
