"""Data sets of a user's own: `DatasetInfo` values outside distmer, named in a protocol's ``sets``.

A name is ``./file.py:NAME`` (relative to the protocol's file), ``package.module:NAME``, or one that an
installed package announces in the entry-point group ``distmer.datasets``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from distmer.datasets.base import DatasetInfo, ReadOptions
from distmer.datasets.sheets import Annotation
from distmer.plugins import anchored_reference, announced, find, is_reference, raised
from distmer.storage import Place
from distmer.types import BadInput

GROUP = "distmer.datasets"


def own_sets(known: Mapping[str, DatasetInfo], found: dict[str, DatasetInfo]) -> Callable[[str, Place], str]:
    """A function that turns a key of ``sets`` into a data set's name, and puts what it found outside distmer
    into ``found``. It raises BadInput where a reference leads nowhere, or to no `DatasetInfo` with a name of
    its own."""

    def name_of(key: str, folder: Place) -> str:
        if key in known:
            return key
        reference = anchored_reference(key, folder) if isinstance(folder, Path) else key
        plugin = find(reference) if is_reference(key) else announced(key, GROUP)
        if plugin is None:
            return key
        info: Any = plugin.entry
        if not isinstance(info, DatasetInfo):
            raise BadInput(
                f"{key}: {plugin.reference} is a {type(info).__name__}; make it a"
                " distmer.datasets.DatasetInfo."
            )
        if known.get(info.name) is info:
            return info.name
        if info.name in known or not re.fullmatch(r"[a-z0-9_-]+", info.name):
            raise BadInput(
                f"{key}: the data set {plugin.reference} has the name {info.name!r}; give it a name of its"
                " own, of small letters, digits, - and _."
            )
        found[info.name] = replace(info, read=_guarded(info, key))
        return info.name

    return name_of


def _guarded(info: DatasetInfo, key: str) -> Callable[[Place, ReadOptions], list[Annotation]]:
    """The data set's ``read``. An error in it becomes one sentence that names the user's own line."""

    def read(root: Place, options: ReadOptions) -> list[Annotation]:
        try:
            rows = list(info.read(root, options))
        except BadInput:
            raise
        except Exception as error:  # whatever a user's code raises is the user's to read
            raise BadInput(raised(f"{key}: reading {root}", error)) from error
        for row in rows:
            if not isinstance(row, Annotation):
                raise BadInput(f"{key}: read returned a {type(row).__name__}; return a list of Annotation.")
        return rows

    return read
