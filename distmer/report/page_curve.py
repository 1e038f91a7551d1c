"""The page of a learning curve."""

from __future__ import annotations

from functools import partial

from distmer.report.curve import conclusions, curve_csv, curve_report, draw_curve
from distmer.report.document import Facts
from distmer.report.html import render
from distmer.report.kept import read_mapping
from distmer.report.svg import INK, LINE, MUTED, SERIES, svg
from distmer.report.table import Table
from distmer.storage import Place
from distmer.types import BadInput

_COLOURS = {"ink": INK, "muted": MUTED, "line": LINE, "uar": SERIES[0], "uf1": SERIES[1]}


def curve_page(folder: Place) -> str:
    """The page as HTML, from ``curve.json``. BadInput where it is not there or cannot be read."""
    tree = read_mapping(folder / "curve.json")
    if not isinstance(tree.get("points"), list):
        raise BadInput(
            f"{folder}: there is no learning curve in curve.json, so none has been finished here; run the"
            " same `distmer curve` command again, which keeps what was finished."
        )
    report = curve_report(tree)
    points, *rises = [part for part in report.parts if isinstance(part, Table)]
    scored = any(point["uar"] is not None for point in tree["points"])
    return render(
        "curve.html",
        title=f"Learning curve: {tree['model']} on {tree['dataset']}",
        status=tree["status"],
        warnings=report.warnings,
        drawing=svg(partial(draw_curve, tree=tree, colours=_COLOURS), 9.2, 3.4, "curve") if scored else "",
        points=points,
        rises=rises[0] if rises else None,
        conclusions=conclusions(tree),
        settings=[row for part in report.parts if isinstance(part, Facts) for row in part.rows],
        failed=tree["failed"],
        texts={"curve.csv": curve_csv(tree), "curve.tex": points.latex()},
    )
