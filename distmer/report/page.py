"""``report.html``: the page of a run, sweep, comparison or learning curve, made from its folder."""

from __future__ import annotations

from distmer.report.kept import kind_of, read_run
from distmer.storage import Place, write

NAME = "report.html"


def page_of(folder: Place) -> str:
    """The page as HTML. BadInput if the folder holds none of the four, or has no result yet."""
    kind = kind_of(folder)
    if kind == "comparison":
        from distmer.report.page_comparison import comparison_page

        return comparison_page(folder)
    if kind == "curve":
        from distmer.report.page_curve import curve_page

        return curve_page(folder)
    kept = read_run(folder)
    if kind == "sweep":
        from distmer.report.page_sweep import sweep_page

        return sweep_page(kept)
    from distmer.report.page_run import run_page

    return run_page(kept)


def write_page(folder: Place, output: Place | None = None) -> Place:
    """Write the page into its folder, or to ``output``, and return its place."""
    page, where = page_of(folder), output or folder / NAME
    write(where, page.encode())
    return where
