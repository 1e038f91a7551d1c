"""Finding the plug-ins of a package by walking its folder: adding one touches no central file."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from distmer.types import BadInput


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a message: the known name closest to ``name``, or all of them."""
    known = sorted(known)
    if not known:
        return "there is none."
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}."


def discover(package: ModuleType, kind: type, attribute: str) -> dict[str, tuple[Any, ModuleType]]:
    """Every ``attribute`` of type ``kind`` (or a tuple of them) in the modules of ``package``: name → (entry,
    its module).

    Raises ValueError when two modules claim one name. Modules whose name begins with an underscore are passed
    over.
    """
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
