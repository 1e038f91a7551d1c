"""The board: published runs, a table for each protocol, with the command that repeats each of them."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

from distmer.experiment.results_file import Results
from distmer.report.html import render
from distmer.report.page_index import IndexRow, index_rows, read_places
from distmer.types import BadInput


@dataclass(frozen=True, slots=True)
class BoardRow:
    """A row of the index, the command that repeats it, and the link to its results."""

    row: IndexRow
    command: str
    link: str


def board_page(title: str, folder: Path, output: Path) -> str:
    """The page as HTML, for the place ``output``, from which its links lead to the results.

    ``folder`` holds a folder for each run, with ``results.json`` and ``config.yaml``. BadInput where one
    cannot be read or holds no score.
    """
    if not folder.is_dir():
        raise BadInput(
            f"{folder}: there is no such folder; give one that `distmer board --add RUN` has filled."
        )
    found = read_places([("run", str(folder), one) for one in sorted(folder.iterdir()) if one.is_dir()])
    if found.unreadable:
        raise BadInput(found.unreadable[0])
    if found.unfinished:
        raise BadInput(f"{found.unfinished[0]}: it holds no results.json; add the run again, or delete it.")
    if lacking := [place[2] for place, results in found.known if results.uar is None]:
        raise BadInput(f"{lacking[0]}: its results hold no score; add a finished run, or delete it.")
    rows = [_row(row, folder, output) for row in index_rows(found.known)]
    rows.sort(key=lambda one: (one.row.kin, bool(one.row.results.stamps), -(one.row.results.uar or 0.0)))
    tables: list[tuple[Results, list[BoardRow]]] = []
    for _, some in groupby(rows, key=lambda one: one.row.kin):
        own = list(some)
        tables.append((own[0].row.results, own))
    return render("board.html", title=title, tables=tables)


def _row(row: IndexRow, folder: Path, output: Path) -> BoardRow:
    place = "" if row.results.dataset == "synthetic" else " --set data.root=FOLDER"
    results = os.path.relpath(folder.resolve() / row.name / "results.json", output.resolve().parent)
    config = shlex.quote(f"{folder.name}/{row.name}/config.yaml")
    return BoardRow(row, f"distmer run {config}{place}", quote(results))
