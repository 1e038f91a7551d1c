"""`distmer report`: the page of a finished run, comparison or sweep, from its folder alone."""

from __future__ import annotations

from distmer.report.page import NAME, page_of
from distmer.storage import Place, write


def write_report(folder: Place, output: Place | None = None) -> Place:
    """Write the page into its folder, or to ``output``, and return its place."""
    page = page_of(folder)
    where = output or folder / NAME
    write(where, page.encode())
    return where
