"""Keyword arguments as settings: with the keys, the checks and the messages of a configuration file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePath
from types import FunctionType
from typing import Any, Literal

import numpy as np

from distmer.config_layers import Layer
from distmer.registry import nearest
from distmer.types import BadInput, JsonValue

Executor = Literal["local", "ray"]
Section = Mapping[str, Any] | None
Tracking = bool | Mapping[str, Any] | None


def layer(
    call: str, tracking: Tracking = None, code: Callable[[Any], str] | None = None, **sections: Any
) -> Layer:
    """The settings of a call. A section that is None counts as left out.

    Parameters
    ----------
    call
        How messages name where a setting comes from: ``dm.loso``.
    tracking
        Whether to write to MLflow: a bool, or the settings of the section, which is then on. None: as
        configured.
    code
        Returns the reference to a class or a function that is given in a setting, for example a loss.
    sections
        The sections and settings of a configuration, by name.
    """
    if tracking is not None:
        given = tracking if isinstance(tracking, Mapping) else {"enabled": tracking}
        sections["tracking"] = {"enabled": True, **given}
    tree = {name: plain(value, code) for name, value in sections.items() if value is not None}
    return Layer(call, tree, override=True)


def plain(value: Any, code: Callable[[Any], str] | None = None) -> JsonValue:
    """A setting as YAML would give it. Mappings and lists are copied: paths are made absolute in place."""
    if isinstance(value, Mapping):
        return {str(key): plain(one, code) for key, one in value.items()}
    if isinstance(value, list | tuple | set | range):
        return [plain(one, code) for one in value]
    if isinstance(value, PurePath):
        return str(value)
    if code is not None and isinstance(value, type | FunctionType):
        return code(value)
    return value.item() if isinstance(value, np.generic) else value


def text_of(path: str | PurePath | None) -> str | None:
    return None if path is None else str(path)


def is_local(executor: str, call: str) -> bool:
    """Whether work is done in this process. BadInput for an unknown executor."""
    if executor not in ("local", "ray"):
        raise BadInput(f"{call}: there is no executor {executor!r}; {nearest(executor, ('local', 'ray'))}")
    return executor == "local"


def seeds_of(seeds: int | Iterable[int] | None) -> list[int] | None:
    """One seed, or several."""
    return None if seeds is None else plain([seeds] if isinstance(seeds, int) else list(seeds))
