"""Settings that do nothing under the others; the conditions stand beside the fields, as `ActsIf`.

Such a setting is refused if the user asks for it. It is not part of a fold's identity.
"""

# What YAML gives is untyped until pydantic has read it:
# pyright: strict, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from distmer.config import APART, ActsIf, Config, Layer
from distmer.types import BadInput, JsonValue

IsNetwork = Callable[[str], bool]
Searched = Mapping[str, Sequence[JsonValue]]


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The section that a field holds; None for a single setting."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def sections(root: type[BaseModel], at: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every field of a section and of the sections in it, by its dotted name."""
    for key, field in root.model_fields.items():
        yield f"{at}{key}", field
        if section := section_of(field):
            yield from sections(section, f"{at}{key}.")


@cache
def conditions(root: type[BaseModel] = Config) -> dict[str, tuple[ActsIf, ...]]:
    """The conditions under which each setting acts; those of its section come first."""
    found: dict[str, tuple[ActsIf, ...]] = {}
    for name, field in sections(root):
        outer = () if APART in field.metadata else found.get(name.rpartition(".")[0], ())
        found[name] = (*outer, *(mark for mark in field.metadata if isinstance(mark, ActsIf)))
    return found


def why_idle(
    name: str,
    tree: Mapping[str, Any],
    is_network: IsNetwork,
    searched: Searched | None = None,
    root: type[BaseModel] = Config,
) -> str | None:
    """Why the setting ``name`` does nothing under the settings of ``tree``, in words; None if it acts.

    ``searched``: setting → the values that a sweep tries. A setting that acts under one of them is not idle.
    """
    known, named = conditions(root), name.rpartition(".")[0]
    # options of a thing that is chosen by name have no field: they act where the choice acts
    for condition in known.get(name, known[named] if f"{named}.name" in known else ()):
        values = (searched or {}).get(condition.setting) or (value_at(tree, condition.setting, root),)
        if not any(
            is_network(str(value)) if condition.test is None else condition.test(value) for value in values
        ):
            return f"{name} acts only where {condition.words}, but {condition.setting} is {_said(values[0])}"
    return None


def refuse_idle(
    layers: Sequence[Layer],
    stacks: Sequence[Mapping[str, Any]],
    finals: Sequence[Mapping[str, Any]],
    is_network: IsNetwork,
    searched: Searched | None = None,
) -> list[str]:
    """BadInput if a setting that the user asked for does nothing in any of ``finals``. Else a sentence for
    each other given setting that does nothing. ``stacks``: what each layer makes of those below it.

    A setting of a file is not asked for if it only repeats the default (the folder of a run and many recipes
    list all settings), or if a higher layer has made it do nothing.
    """
    last: dict[str, tuple[str, bool]] = {}  # setting → the layer that gave it, and whether it is refused
    for layer, stack in zip(layers, stacks, strict=True):
        for name, value in given(layer.tree):
            if layer.override or value != default_settings()[name]:
                refused = layer.override or why_idle(name, stack, is_network, searched) is not None
                last[name] = (layer.origin, refused)
            else:
                last.pop(name, None)
    unused: dict[tuple[str, str], list[str]] = {}  # (layer, why) → settings
    for name, (origin, refused) in last.items():
        reasons = [why_idle(name, final, is_network, searched) for final in finals]
        if not reasons or None in reasons:
            continue
        if refused:
            raise BadInput(f"{origin}: {reasons[0]}; leave {name} out.")
        unused.setdefault((origin, str(reasons[0]).removeprefix(name)), []).append(name)
    notes: list[str] = []
    for (origin, why), names in unused.items():
        verb, subject = ("is", names[0]) if len(names) == 1 else ("are", "each")
        notes.append(f"{', '.join(names)} of {origin} {verb} not used: {subject}{why}")
    return notes


def given(tree: Mapping[str, Any], root: type[BaseModel] = Config, at: str = "") -> Iterator[tuple[str, Any]]:
    """The known settings that a tree gives, by dotted name, with their values."""
    for key, value in tree.items():
        field = root.model_fields.get(str(key))
        if field is None:
            continue
        section = section_of(field)
        if section is None:
            yield f"{at}{key}", value
        elif isinstance(value, Mapping):
            yield from given(value, section, f"{at}{key}.")


def acting(
    settings: Mapping[str, Any], is_network: IsNetwork, searched: Searched | None = None
) -> dict[str, Any]:
    """A full tree of settings without those that do nothing, and without those that are `APART`."""

    def kept(tree: Mapping[str, Any], at: str) -> dict[str, Any]:
        rest: dict[str, Any] = {}
        for key, value in tree.items():
            name = f"{at}{key}"
            if name not in CHANGES_NOTHING and why_idle(name, settings, is_network, searched) is None:
                is_section = isinstance(value, Mapping) and f"{name}." in _SECTIONS
                rest[key] = kept(value, f"{name}.") if is_section else value
        return rest

    return kept(settings, "")


@cache
def default_settings() -> dict[str, Any]:
    return dict(given(Config().model_dump(mode="json")))


def value_at(tree: Mapping[str, Any], name: str, root: type[BaseModel] = Config) -> Any:
    """The value of a dotted setting in a tree, or its default."""
    *parents, last = name.split(".")
    node: Any = tree
    for key in parents:
        node = node.get(key) if isinstance(node, Mapping) else None
        section = section_of(root.model_fields[key])
        assert section is not None
        root = section
    return node[last] if isinstance(node, Mapping) and last in node else root.model_fields[last].default


def _said(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


_SECTIONS = frozenset(f"{name.rpartition('.')[0]}." for name, _ in sections(Config) if "." in name)
# settings that change no number
CHANGES_NOTHING = frozenset(name for name, field in sections(Config) if APART in field.metadata)
