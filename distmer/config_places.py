"""The settings that hold a path or name code, anywhere in a tree of settings.

A path is made absolute. A name alone becomes ``{name: …}``, and a reference if only the user's own
``plugins`` define it.
"""

# What YAML gives is untyped until pydantic has read it:
# pyright: strict, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from distmer.config import Config, PathMark, PluginMark
from distmer.idle import sections, value_at
from distmer.plugins import anchored_reference, declared
from distmer.storage import Place, anchored
from distmer.types import BadInput

# An option of the models ``torchvision`` and ``timm``, whose options are in no section. The ending says that
# it is a file, for a user's own model may have an option of this name.
_WEIGHTS, _OF_WEIGHTS = "model.weights", (".safetensors", ".pth", ".pt")

# A setting's dotted name, its value, whether it is searched by a sweep → the value in its place.
Change = Callable[[str, Any, bool], Any]


def change_settings(tree: dict[str, Any], change: Change, at: str = "", searched: bool = False) -> None:
    """Replace, in place, the settings of ``tree`` that hold paths or name code: its own, those of compared
    rows and of the files that rows extend, and those that a sweep chooses among."""
    for key, value in tree.items():
        name = f"{at}{key}"
        if _path_mark(name) or f"{name}.*" in path_settings() or plugin_group(name):
            tree[key] = change(name, value, searched)
        elif name == "compare.models" and isinstance(value, list):
            tree[key] = change("model.name", value, searched)
        elif not isinstance(value, dict):
            continue
        elif name in ("compare.rows", "compare.over"):
            for row in value.values():
                if isinstance(row, dict):
                    change_settings(row, change)
        else:
            below = "" if name in ("sweep.space", "extends") else f"{name}."
            change_settings(value, change, below, name == "sweep.space")


def anchoring(base: Place, beside: Path) -> Change:
    """Makes paths absolute. Data are below ``base``, and code is below ``beside``."""

    def change(name: str, value: Any, searched: bool) -> Any:
        if plugin_group(name):
            value = _each_name(value, lambda one: anchored_reference(one, beside), searched)
            if name == "model" and isinstance(value, dict) and "weights" in value:
                value = {**value, "weights": change(_WEIGHTS, value["weights"], searched)}
            return value
        if mark := _path_mark(name):
            return _anchored(value, mark, base, beside)
        mark = path_settings().get(f"{name}.*")  # of a mapping whose values are paths
        if mark is None or not isinstance(value, dict):
            return value
        return {key: _anchored(one, mark, base, beside) for key, one in value.items()}

    return change


def _each_name(value: Any, change: Callable[[str], str], searched: bool) -> Any:
    """The value of a setting that names code, after ``change`` of every name in it."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_each_name(one, change, searched=False) for one in value]
    if not isinstance(value, dict):
        return value
    if searched and "name" not in value:  # {choice: [a, b]}
        return {form: _each_name(some, change, searched) for form, some in value.items()}
    return {**value, "name": change(value["name"])} if isinstance(value.get("name"), str) else value


def with_names(name: str, value: Any, searched: bool) -> Any:
    """``focal`` as ``{name: focal}``, so that settings of several layers can be merged."""
    if searched or name not in plugin_settings():
        return value
    if isinstance(value_at({}, name), tuple):  # a list; a single item may be given without brackets
        several = value if isinstance(value, list) else [value]
        return [{"name": one} if isinstance(one, str) else one for one in several]
    return {"name": value} if isinstance(value, str) else value


def declaring(modules: Sequence[str]) -> Change:
    """Turns a name that only the user's own ``plugins`` define into a reference to it."""

    def change(name: str, value: Any, searched: bool) -> Any:
        group = plugin_group(name)
        return _each_name(value, lambda one: declared(one, group, modules), searched) if group else value

    return change


def _anchored(value: Any, mark: PathMark, base: Place, beside: Path) -> Any:
    if isinstance(value, dict):  # of a sweep: {choice: [a, b]}
        lists = {form: some for form, some in value.items() if isinstance(some, list)}
        return value | {form: _anchored(some, mark, base, beside) for form, some in lists.items()}
    if isinstance(value, list):
        return [_anchored(one, mark, base, beside) for one in value]
    if not isinstance(value, str):
        return value
    if mark.kind in ("module", "weights"):
        ending = ".py" if mark.kind == "module" else _OF_WEIGHTS
        return str((beside / Path(value).expanduser()).resolve()) if value.endswith(ending) else value
    if mark.kind == "protocol":
        return anchored(value, base) if value.endswith((".yaml", ".yml")) else value
    if mark.kind == "database":
        found = re.fullmatch(r"(sqlite[^:/]*:///)([^/?:][^?]*)(.*)", value)
        if found is None:
            return value
        if not isinstance(base, Path):
            problem = f"tracking.uri: {value} is relative to {base}, but SQLite needs a disk"
            raise BadInput(f"{problem}; give an absolute path.")
        return f"{found[1]}{anchored(found[2], base)}{found[3]}"
    return anchored(value, base)


def _path_mark(name: str) -> PathMark | None:
    if name == _WEIGHTS:
        return PathMark("weights")
    return path_settings().get(name) or path_settings().get(f"{name.rpartition('.')[0]}.*")


@cache
def plugin_settings() -> dict[str, str]:
    """Every setting that names code, by its dotted name, with its entry-point group."""
    marks = ((name, mark) for name, field in sections(Config) for mark in field.metadata)
    return {name: mark.group for name, mark in marks if isinstance(mark, PluginMark)}


def plugin_group(name: str) -> str | None:
    """The group of a setting that names code, or of the ``name`` in it; None for any other setting."""
    return plugin_settings().get(name.removesuffix(".name"))


@cache
def path_settings() -> dict[str, PathMark]:
    """Every setting that is marked as a path, by its dotted name; ``.*`` stands for a mapping's values."""
    found: dict[str, PathMark] = {}
    for name, field in sections(Config):
        arms = (field.annotation, *typing.get_args(field.annotation))
        in_mapping = any(typing.get_origin(arm) is dict for arm in arms)
        for mark in _marks(field.annotation, field.metadata):
            found[f"{name}.*" if in_mapping else name] = mark
    return found


def _marks(annotation: Any, metadata: Iterable[Any] = ()) -> Iterable[PathMark]:
    marks = (*metadata, *getattr(annotation, "__metadata__", ()))
    yield from (mark for mark in marks if isinstance(mark, PathMark))
    for arm in typing.get_args(annotation):
        if not (isinstance(arm, type) and issubclass(arm, BaseModel)):
            yield from _marks(arm)
