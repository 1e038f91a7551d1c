"""`distmer plugins`: every name that a configuration may use without a reference."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from distmer import functions
from distmer.config import ModelConfig, Named
from distmer.config_places import plugin_settings
from distmer.functions import AUGMENTATION, FLOW, LOSS, METRIC, STRAIN, Kind
from distmer.models import models, resolve
from distmer.plugins import names_announced
from distmer.registry import lookup
from distmer.report.document import Document
from distmer.report.table import Column, Row, Table
from distmer.types import BadInput, JsonValue

_FUNCTIONS = {"losses": LOSS, "augmentations": AUGMENTATION, "metrics": METRIC}
_FUNCTIONS |= {"flows": FLOW, "strains": STRAIN}
_COLUMNS = tuple(Column(name) for name in ("name", "from", "what", "options"))


def list_plugins(kind: str | None = None) -> Document:
    """A table for each kind, or for the one that is named: each name, where it comes from, what it is, and
    its options with their defaults. BadInput for an unknown kind.

    An announced name that cannot be used is a row that says why.
    """
    kinds: dict[str, Kind | None] = {"models": None}
    kinds |= {name: of for name, of in _FUNCTIONS.items() if of.setting in plugin_settings()}
    if kind is not None:
        kinds = {kind: lookup(kinds, kind, "kind of plug-in")}
    settings = {name: "model" if of is None else of.setting for name, of in kinds.items()}
    tables = [Table(_COLUMNS, _rows(of), f"{name}, for {settings[name]}:") for name, of in kinds.items()]
    title = "What a configuration can name. Your own: package.module:NAME or ./file.py:NAME"
    return Document(title, parts=tables)


def _rows(kind: Kind | None) -> list[Row]:
    if kind is None:
        return [_row(name, _of_model) for name in (*models(), *names_announced("distmer.models"))]
    return [_row(name, partial(_of_function, kind)) for name in functions.names(kind)]


def _row(name: str, look: Callable[[str], tuple[str, str, Mapping[str, JsonValue]]]) -> Row:
    try:
        origin, what, options = look(name)
    except BadInput as error:
        return Row((name, "", f"cannot be used: {error}", ""))
    return Row((name, origin, what, ", ".join(f"{key}={value}" for key, value in options.items())))


def _of_model(name: str) -> tuple[str, str, Mapping[str, JsonValue]]:
    model = resolve(ModelConfig(name=name))
    options: Any = model.spec["options"]
    return str(model.spec.get("distribution", "distmer")), model.info.title, options


def _of_function(kind: Kind, name: str) -> tuple[str, str, Mapping[str, JsonValue]]:
    function = functions.resolve(kind, Named(name=name))
    first = " ".join((inspect.getdoc(function.entry) or "").partition("\n\n")[0].split())
    return "distmer" if function.is_own else function.distribution, first.replace("`", ""), function.options
