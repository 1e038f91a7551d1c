"""Functions that a configuration names: losses, augmentations, optical flows, strains, metrics.

distmer's own and the user's are named and checked in the same way. An entry is a function, whose first
arguments distmer gives and whose other parameters are its options, or a class, whose constructor takes the
options and whose objects are called with those first arguments.
"""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import create_model

from distmer.code import read_sources
from distmer.config import Named, Section, TrainConfig, parse
from distmer.plugins import (
    Plugin,
    announced,
    find,
    is_reference,
    names_announced,
    own_modules,
    require_name,
    shipped,
)
from distmer.registry import nearest
from distmer.types import BadInput, JsonValue


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of function.

    ``what`` is its name in messages; ``group`` the entry-point group of installed packages; ``setting`` where
    a configuration names it; ``arguments`` how many arguments distmer gives by position; ``filled`` the
    parameters that distmer gives by name, to a function that has them.
    """

    what: str
    group: str
    setting: str
    arguments: int
    filled: tuple[str, ...] = ()


LOSS = Kind("loss", "distmer.losses", "train.loss", 2, ("count_K",))
AUGMENTATION = Kind("augmentation", "distmer.augmentations", "train.augment", 2)
FLOW = Kind("flow", "distmer.flows", "features.flow", 2)
STRAIN = Kind("strain", "distmer.strains", "features.strain", 1)
METRIC = Kind("metric", "distmer.metrics", "evaluation.metrics", 1)


@dataclass(frozen=True, slots=True)
class Function:
    """A function with its options filled in. ``name`` is its own name in distmer, or a reference without a
    path."""

    kind: Kind
    name: str
    entry: Callable[..., Any]
    options: Mapping[str, Any]
    module: str
    distribution: str

    @property
    def is_own(self) -> bool:
        """Whether it is distmer's own."""
        return self.module.startswith("distmer.")

    @property
    def setting(self) -> dict[str, JsonValue]:
        """It in a configuration, with every option written out."""
        return {"name": self.name, **self.options}

    def bound(self, **filled: Any) -> Callable[..., Any]:
        """The function of its positional arguments alone.

        ``filled`` are arguments that it is given by name if it has such a parameter.
        """
        given = {name: value for name, value in filled.items() if name in _parameters(self.entry)}
        if inspect.isclass(self.entry):
            made: Any = self.entry(**given, **self.options)
            return made
        return lambda *arguments: self.entry(*arguments, **given, **self.options)


def resolve(kind: Kind, named: Named) -> Function:
    """The function that a configuration names, with every option filled in.

    Raises
    ------
    BadInput
        If nobody knows the name (with the nearest one), if importing it raises, if an option is unknown or
        has no default, or if it is no function.
    """
    plugin = _plugin(kind, named.name)
    entry = plugin.entry
    if not callable(entry):
        found = type(entry).__name__
        raise BadInput(f"{plugin.reference}: as {kind.what} a function or a class is needed, not a {found}.")
    options = parse(
        _options(kind, plugin), named.options, f"{kind.what} {plugin.reference}", prefix=kind.setting
    )
    read_sources(own_modules(plugin.module))
    return Function(kind, plugin.reference, entry, options.model_dump(), plugin.module, plugin.distribution)


def of_training(train: TrainConfig) -> tuple[Function, ...]:
    """The loss and the augmentations of a training."""
    return (resolve(LOSS, train.loss), *(resolve(AUGMENTATION, named) for named in train.augment))


def names(kind: Kind) -> list[str]:
    """The names that need no reference: distmer's own, and those that installed packages announce."""
    return [*shipped(kind.group), *names_announced(kind.group)]


def _plugin(kind: Kind, name: str) -> Plugin:
    own = shipped(kind.group)
    if name in own:
        return replace(find(own[name]), reference=name)
    require_name(name)
    plugin = find(name) if is_reference(name) else announced(name, kind.group)
    if plugin is None:
        raise BadInput(
            f"unknown {kind.what} {name!r}; {nearest(name, names(kind))} One of your own is named"
            " package.module:NAME or ./file.py:NAME."
        )
    return plugin


def _options(kind: Kind, plugin: Plugin) -> type[Section]:
    skip = 0 if inspect.isclass(plugin.entry) else kind.arguments
    fields = options_of(plugin.entry, plugin.reference, skip=skip, filled=kind.filled)
    return create_model(f"Options of {plugin.reference}", __base__=Section, **fields)  # type: ignore[call-overload]


def options_of(
    entry: Callable[..., Any], name: str, *, skip: int, filled: tuple[str, ...] = ()
) -> dict[str, tuple[Any, Any]]:
    """The options of a class or a function: name → (type, default). BadInput for one without a default.

    The first ``skip`` parameters and those in ``filled`` are distmer's to give.
    """
    try:
        signature = _parameters(entry)
    except ValueError as error:  # of a function in C
        raise BadInput(f"{name}: its parameters are not known; wrap it in a function of your own.") from error
    positional = [p for p in signature.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    any_number = any(p.kind is p.VAR_POSITIONAL for p in signature.values())
    if len(positional) < skip and not any_number:
        raise BadInput(
            f"{name}: it takes {len(positional)} arguments by position, and distmer gives it {skip}."
        )
    parameters = positional[skip:] + [p for p in signature.values() if p.kind is p.KEYWORD_ONLY]
    try:
        types = typing.get_type_hints(
            entry.__init__ if inspect.isclass(entry) else entry, include_extras=True
        )
    except (NameError, TypeError, AttributeError):  # an annotation that exists for a type checker alone
        types = {}
    found: dict[str, tuple[Any, Any]] = {}
    for parameter in parameters:
        if parameter.name in filled:
            continue
        if parameter.name in ("name", "model_config"):
            raise BadInput(f"{name}: a parameter cannot be called {parameter.name!r} here; rename it.")
        if parameter.default is parameter.empty:
            raise BadInput(
                f"{name}: its parameter {parameter.name!r} has no default; give it one, for it is an option."
            )
        _require_writable(name, parameter.name, parameter.default)
        found[parameter.name] = (types.get(parameter.name, Any), parameter.default)
    return found


def _require_writable(name: str, option: str, value: Any) -> None:
    """BadInput for a default that no configuration can hold: it is part of a fold's identity."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BadInput(
            f"{name}: the default of its option {option!r} is a {type(value).__name__}, which no"
            " configuration can hold; use a number, a text, a list or None."
        ) from error


def _parameters(entry: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(entry).parameters
