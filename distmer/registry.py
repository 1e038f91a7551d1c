"""Finding the plug-ins of a package by walking its folder: adding one touches no central file."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from distmer.types import BadInput

_LISTED = 24  # names, at most: that many, a message lists all
_FIRST = 5  # names of more
_NEAR_PART = 0.6  # as difflib measures it


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a message: the known name closest to ``name``; if none is near, all names, or of many the
    first and their number.

    Of ids with parts, such as those of clips (data set/subject/clip), every part must be near: a clip of
    another subject is not what was meant.
    """
    known = sorted(known)
    if not known:
        return "there is none."
    for close in difflib.get_close_matches(name, known, n=len(known), cutoff=0.5):
        if _near_in_parts(name, close):
            return f"did you mean {close!r}?"
    if len(known) > _LISTED:
        return f"known: {', '.join(known[:_FIRST])}, and {len(known) - _FIRST} more."
    return f"known: {', '.join(known)}."


def _near_in_parts(name: str, other: str) -> bool:
    parts, others = name.split("/"), other.split("/")
    if len(parts) == 1 or len(parts) != len(others):
        return True
    ratios = [difflib.SequenceMatcher(None, a, b).ratio() for a, b in zip(parts, others, strict=True)]
    return min(ratios) >= _NEAR_PART


def discover(package: ModuleType, kind: type, attribute: str) -> dict[str, tuple[Any, ModuleType]]:
    """Every ``attribute`` of type ``kind`` (or a tuple of them) in the modules of ``package`` whose name has
    no leading underscore: name → (entry, its module). ValueError when two modules have one name."""
    found: dict[str, tuple[Any, ModuleType]] = {}
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda m: m.name):
        if info.name.startswith("_"):
            continue
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        entries = getattr(module, attribute, ())
        for entry in entries if isinstance(entries, tuple) else (entries,):
            if not isinstance(entry, kind):
                raise ValueError(
                    f"{module.__name__}.{attribute} is a {type(entry).__name__}, not a {kind.__name__}"
                )
            name = getattr(entry, "name")
            if name in found:
                raise ValueError(f"{module.__name__} and {found[name][1].__name__} both register {name!r}")
            found[name] = (entry, module)
    return found


def lookup(found: dict[str, Any], name: str, what: str) -> Any:
    """The entry called ``name``; an unknown name is BadInput that names the nearest."""
    if name not in found:
        raise BadInput(f"unknown {what} {name!r}; {nearest(name, found)}")
    return found[name]
