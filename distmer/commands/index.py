"""`distmer index`: all runs of a workspace as one page."""

from __future__ import annotations

from collections.abc import Mapping

from distmer.report.page_index import index_page
from distmer.storage import Place, write
from distmer.types import BadInput
from distmer.workspace import Workspace


def write_index(workspace: str | None, environ: Mapping[str, str]) -> Place:
    """Write ``index.html`` into the workspace, and return its place. BadInput: there is no workspace."""
    place = Workspace.find(workspace, environ)
    if not place.root.is_dir():
        raise BadInput(
            f"{place.root}: there is no such workspace; name another folder by --workspace or in the"
            " environment variable DISTMER_HOME."
        )
    title = f"Runs in {place.root}"
    page = index_page(title, place.runs, place.sweeps, place.comparisons, place.curves)
    write(place.root / "index.html", page.encode())
    return place.root / "index.html"
