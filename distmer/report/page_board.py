"""The board: published runs, a table for each protocol, with the command that repeats each of them."""

from __future__ import annotations

import os
import shlex
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

from distmer.report.html import render
from distmer.report.page_index import IndexRow, index_rows, read_places
from distmer.types import BadInput


def board_page(title: str, folder: Path, output: Path) -> str:
    """The page as HTML, for the place ``output``, from which its links lead to the results.

    ``folder`` holds a folder for each run, with ``results.json`` and ``config.yaml``. BadInput where one
    cannot be read or holds no score.
    """
    if not folder.is_dir():
        raise BadInput(
            f"{folder}: there is no such folder; give one that `distmer board --add RUN` has filled."
        )
    known, unfinished, unreadable = read_places(
        [("run", one) for one in sorted(folder.iterdir()) if one.is_dir()]
    )
    if unreadable:
        raise BadInput(unreadable[0])
    if unfinished:
        raise BadInput(f"{unfinished[0]}: it holds no results.json; add the run again, or delete it.")
    if lacking := [run for _, run, results in known if results.uar is None]:
        raise BadInput(f"{lacking[0]}: its results hold no score; add a finished run, or delete it.")
    rows = sorted(
        index_rows(known), key=lambda row: (row.kin, bool(row.results.stamps), -(row.results.uar or 0.0))
    )
    tables = [
        [_line(row, folder, output) for row in own] for _, own in groupby(rows, key=lambda row: row.kin)
    ]
    return render("board.html", title=title, tables=tables)


def _line(row: IndexRow, folder: Path, output: Path) -> tuple[IndexRow, str, str]:
    """A row of the index, the command that repeats it, and the link to its results."""
    place = "" if row.results.dataset == "synthetic" else " --set data.root=FOLDER"
    results = os.path.relpath(folder.resolve() / row.name / "results.json", output.resolve().parent)
    config = shlex.quote(f"{folder.name}/{row.name}/config.yaml")
    return row, f"distmer run {config}{place}", quote(results)
