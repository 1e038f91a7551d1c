"""`distmer index`, a page of all runs of a workspace; `distmer board`, a page of results to be published."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from distmer.experiment.plan import repeatable_settings
from distmer.experiment.results_file import Results
from distmer.report.kept import kind_of
from distmer.report.page_board import board_page
from distmer.report.page_index import index_page
from distmer.report.run_folder import read_results
from distmer.storage import Place, write
from distmer.types import BadInput
from distmer.workspace import Workspace

_OF_HERE = ("run_dir", "mlflow_run_id")  # keys of results.json that say where, and not what


def write_index(workspace: str | None) -> Place:
    """Write ``index.html`` into the workspace, and return its place. BadInput: there is no workspace."""
    place = Workspace.find(workspace, os.environ)
    if not place.root.is_dir():
        raise BadInput(
            f"{place.root}: there is no such workspace; name another folder by --workspace or in the"
            " environment variable DISTMER_HOME."
        )
    title = f"Runs in {place.root}"
    page = index_page(title, place.runs, place.sweeps, place.comparisons, place.curves)
    write(place.root / "index.html", page.encode())
    return place.root / "index.html"


def write_board(folder: Path, output: Path) -> Path:
    """Write the page of the results in ``folder``, and return its place."""
    write(output, board_page("Results that anybody can repeat", folder, output).encode())
    return output


def add_to_board(folder: Path, run: Place, name: str | None = None) -> Path:
    """Keep the results and the configuration of a finished run in ``folder``, as ``name`` (else protocol and
    model), without the places of this machine. Returns their folder.

    BadInput for a run that is not whole, whose score is stamped, or whose configuration needs a file of this
    machine.
    """
    if kind_of(run) != "run":
        raise BadInput(
            f"{run}: it is no run; the board holds runs alone, whose one setting repeats the score."
        )
    results = read_results(run)
    if results is None or results.uar is None or results.status != "complete":
        raise BadInput(f"{run}: the run is not complete; finish it first, with the same command.")
    if results.stamps:
        raise BadInput(
            f"{run}: its score is no headline ({', '.join(results.stamps)}), so it is not published."
        )
    settings = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    data = settings.get("data") or {}
    places = [str(root) for root in (data.get("root"), *(data.get("roots") or {}).values()) if root]
    kept = repeatable_settings(settings)
    for setting, value in _texts(kept):
        if value.startswith(("/", "~")) or "://" in value:
            own = "make a package of this code, name it by package.module:NAME"
            remedy = own if ".py:" in value else "leave it out"
            raise BadInput(
                f"{run}: {setting} is {value}, a place of this machine, so nobody else can repeat the run;"
                f" {remedy}, and run again."
            )
    name = name or re.sub(r"[^\w.+-]", "-", f"{results.dataset}-{results.model}")
    if re.fullmatch(r"[\w+-][\w.+-]*", name) is None:
        raise BadInput(f"--name {name!r}: write letters, digits, and any of _ . + - between them.")
    entry = folder / name
    _require_same(entry, kept)
    text = json.dumps(_published(results, name), indent=1)
    for place in places:
        text = text.replace(json.dumps(place)[1:-1], "FOLDER")
    write(entry / "results.json", f"{text}\n".encode())
    write(entry / "config.yaml", yaml.safe_dump(kept, sort_keys=False, allow_unicode=True).encode())
    return entry


def _published(results: Results, name: str) -> dict[str, Any]:
    tree = {key: value for key, value in results.to_json().items() if key not in _OF_HERE}
    return {**tree, "run_dir": name}


def _require_same(entry: Path, kept: dict[str, Any]) -> None:
    """BadInput where another run's results would be lost."""
    config = entry / "config.yaml"
    if config.is_file() and yaml.safe_load(config.read_text(encoding="utf-8")) != kept:
        raise BadInput(
            f"{entry}: the results of another configuration lie there; give --name another name, or"
            " delete it."
        )


def _texts(tree: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a tree of settings, with its dotted name."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _texts(value, f"{name}.{key}" if name else str(key))
    elif isinstance(tree, list):
        for value in tree:
            yield from _texts(value, name)
    elif isinstance(tree, str):
        yield name, tree
