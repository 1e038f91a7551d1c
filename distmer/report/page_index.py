"""The page of a workspace: all of its runs and sweeps in one table, and which of them can be compared."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from distmer.datasets.columns import letter
from distmer.experiment.results_file import Results
from distmer.report.html import render
from distmer.report.page import NAME
from distmer.report.run_folder import read_results
from distmer.report.settings import short_settings, short_value
from distmer.report.tables import interval_text
from distmer.storage import Place
from distmer.types import BadInput


@dataclass(frozen=True, slots=True)
class IndexRow:
    """A run or a sweep in the table. Rows with one ``kin`` have the same protocol and classes; those with one
    ``letter`` also have as many clips of each subject and each class."""

    name: str
    link: str  # relative to the page; "" where the folder has no page
    path: str  # as a shell takes it
    kind: str
    results: Results
    options: str  # those options of the model that its runs here do not share
    written: str
    kin: int
    letter: str

    @property
    def folds(self) -> str:
        done, total = self.results.fold_counts
        return f"{done}/{total}"

    @property
    def interval(self) -> str:
        return interval_text(self.results.uar_ci)

    @property
    def floor(self) -> float | None:
        return max((floor.uar for floor in (self.results.floors or {}).values()), default=None)

    @property
    def models(self) -> list[str]:
        return self.results.model.split(", ")

    @property
    def stamps(self) -> list[str]:
        return list(self.results.stamps) or ["none"]


Known = tuple[str, Place, Results]
"""The kind of a folder (run, sweep), its place, and its results."""


def index_page(title: str, runs: Place, sweeps: Place, comparisons: Place, curves: Place) -> str:
    """The page as HTML. A folder that cannot be read is listed with the reason."""
    places = [("run", folder) for folder in _folders(runs)]
    places += [("sweep", folder) for folder in _folders(sweeps)]
    known, unfinished, unreadable = read_places(places)
    rows = index_rows(known)
    return render(
        "index.html",
        title=title,
        rows=sorted(rows, key=lambda row: row.written, reverse=True),
        protocols=sorted({row.results.dataset for row in rows}),
        models=sorted({model for row in rows for model in row.models}),
        stamps=sorted({stamp for row in rows for stamp in row.stamps}),
        kinds=sorted({row.kind for row in rows}),
        without_page=sum(not row.link for row in rows),
        unfinished=unfinished,
        unreadable=unreadable,
        comparisons=[(folder.name, _link("comparisons", folder)) for folder in _folders(comparisons)],
        curves=[(folder.name, _link("curves", folder)) for folder in _folders(curves)],
    )


def read_places(places: Sequence[tuple[str, Place]]) -> tuple[list[Known], list[str], list[str]]:
    """Of folders with their kind: what could be read, the folders without results, and a sentence for each
    that cannot be read."""
    with ThreadPoolExecutor(8) as pool:  # an object store takes its time for an answer
        answers = list(pool.map(_read, (folder for _, folder in places)))
    read = list(zip(places, answers, strict=True))
    known = [(kind, folder, answer) for (kind, folder), answer in read if isinstance(answer, Results)]
    unfinished = [str(folder) for (_, folder), answer in read if answer is None]
    return known, unfinished, [answer for answer in answers if isinstance(answer, str)]


def _varied(found: Sequence[Results]) -> dict[str, set[str]]:
    """Model → its options that are not the same in all of its runs."""
    values: dict[tuple[str, str], set[str]] = defaultdict(set)
    for results in found:
        for name, value in (results.options or {}).items():
            values[results.model, name].add(short_value(value))
    varied: dict[str, set[str]] = defaultdict(set)
    for (model, name), of in values.items():
        if len(of) > 1:
            varied[model].add(name)
    return varied


def _folders(place: Place) -> list[Place]:
    if not place.is_dir():
        return []
    found = (folder for folder in place.iterdir() if not folder.name.startswith("."))
    return sorted(found, key=lambda folder: folder.name)


def _read(folder: Place) -> Results | str | None:
    """``results.json``; a sentence if it cannot be read, None if it is not there."""
    try:
        return read_results(folder)
    except BadInput as error:
        return str(error)
    except NotADirectoryError:
        return f"{folder}: it is not a folder."


def index_rows(known: Sequence[Known]) -> list[IndexRow]:
    """A row for each run or sweep, in this order. ``kin`` and ``letter`` tell which can be compared."""
    kin: dict[tuple[str, ...], int] = {}
    same: dict[tuple[object, ...], str] = {}
    varied = _varied([results for *_, results in known])
    rows: list[IndexRow] = []
    for kind, folder, results in known:
        family = (results.dataset, *results.classes)
        clips = (family, tuple(sorted((one.subject, one.n) for one in results.per_subject or ())))
        clips += (tuple((name, of.n) for name, of in (results.per_class or {}).items()),)
        clips += ("labels-permuted" in results.stamps,)
        own_letter = same.setdefault(clips, letter(len(same))) if results.uar is not None else ""
        names = varied[results.model]
        own = {name: value for name, value in (results.options or {}).items() if name in names}
        rows.append(
            IndexRow(
                name=folder.name,
                link=_link(f"{kind}s", folder),
                path=shlex.quote(str(folder)),
                kind=kind,
                results=results,
                options=short_settings(own),
                written=_written(folder),
                kin=kin.setdefault(family, len(kin)),
                letter=own_letter,
            )
        )
    return rows


def _link(below: str, folder: Place) -> str:
    """The link from a page to that of a folder; "" if it has none. A name may hold a blank, # or %."""
    return quote(f"{below}/{folder.name}/{NAME}") if (folder / NAME).is_file() else ""


def _written(folder: Place) -> str:
    """When ``results.json`` was written; not known on an object store."""
    if not isinstance(folder, Path):
        return ""
    moment = (folder / "results.json").stat().st_mtime
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M")
