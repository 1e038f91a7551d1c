"""Code that a user brings: found by a reference, imported once, and identified by its sources.

A reference is ``package.module:NAME`` or ``folder/file.py:NAME``. A file is imported under its own name, with
its folder on the import path. So it can import its neighbours, and no path gets into an identity.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.metadata
import importlib.util
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from distmer.registry import nearest
from distmer.types import BadInput

# Python's own library, what is installed beside it, and distmer: no code of the user's.
_PATHS = sysconfig.get_paths()
_OF_OTHERS = (
    "<frozen",
    *(f"{_PATHS[kind]}{os.sep}" for kind in ("stdlib", "platstdlib", "purelib", "platlib")),
    f"{Path(__file__).parent}{os.sep}",
)
_FOUND: set[str] = set()  # the modules that references of this process led to


def _of(module: str, *names: str) -> dict[str, str]:
    """Names in a configuration → references. A hyphen in a name is an underscore in Python."""
    return {name: f"{module}:{name.replace('-', '_')}" for name in names}


# What distmer itself brings of each group. Its models are found by walking their folder: `distmer.models`.
_SHIPPED: Mapping[str, Mapping[str, str]] = {
    "distmer.losses": {
        "ce": "distmer.training.losses:ce",
        "balanced": "distmer.training.losses:Balanced",
        "focal": "distmer.training.losses:focal",
    },
    "distmer.augmentations": _of("distmer.training.augmentations", "mirror", "shift", "noise", "mixup"),
    "distmer.metrics": _of("distmer.evaluation.named", "uar", "uf1", "accuracy", "weighted_f1", "mcc"),
    "distmer.flows": {
        **_of("distmer.features.flow", "tvl1", "tvl1-fast"),
        **_of("distmer.features.tvl1", "tvl1-numpy"),
        **_of("distmer.features.flow", "dis", "farneback"),
    },
    "distmer.strains": _of("distmer.features.strain", "standard", "smooth", "half-shear", "meb", "ecnu"),
}
_NAMES = {reference: name for group in _SHIPPED.values() for name, reference in group.items()}


@dataclass(frozen=True, slots=True)
class Plugin:
    """An object from outside distmer. ``reference`` is ``module:NAME`` without a path. ``distribution``
    is the installed package and its version, ``mylab 1.2``, or empty for a file."""

    reference: str
    entry: Any
    module: str
    distribution: str


def anchored_reference(reference: str, folder: Path) -> str:
    """A reference to a file with the file's path made absolute: a relative one is below ``folder``."""
    place, colon, name = reference.rpartition(":")
    if not place.endswith(".py"):
        return reference
    return f"{(folder / Path(place).expanduser()).resolve()}{colon}{name}"


def require_name(name: str) -> None:
    """BadInput for a Python file that is given without the name of something in it."""
    if name.endswith(".py"):
        raise BadInput(f"{name} is a file; say what of it is meant: {name}:NAME.")


def is_reference(name: str) -> bool:
    """Whether a name in a configuration points to code outside distmer."""
    return ":" in name


def find(reference: str) -> Plugin:
    """Import what a reference points to. What distmer itself brings has one name, whatever the reference.

    Raises
    ------
    BadInput
        If there is no such file, module or name (the nearest name is given), or if importing it raises: then
        with the error, and with the file and the line of the user's code that caused it.
    """
    place, _, name = reference.rpartition(":")
    module = _module(place, reference)
    if not hasattr(module, name):
        own = [known for known in vars(module) if not known.startswith("_")]
        raise BadInput(f"{reference}: {module.__file__} has no {name!r}; {nearest(name, own)}")
    if not module.__name__.startswith("distmer."):
        _FOUND.add(module.__name__)
    entry, defined = getattr(module, name), f"{module.__name__}:{name}"
    home = str(getattr(entry, "__module__", ""))
    shorter = _NAMES.get(f"{home}:{getattr(entry, '__qualname__', '')}")
    # a wrapper of the user's own may bear the name of what it wraps
    if shorter and getattr(importlib.import_module(home), entry.__qualname__) is entry:
        return Plugin(shorter, entry, home, distribution_of(home))
    return Plugin(defined, entry, module.__name__, distribution_of(module.__name__))


def announced(name: str, group: str) -> Plugin | None:
    """What an installed package announces under ``name`` in an entry-point group, if any does. BadInput if
    two packages announce the name, or if importing it raises."""
    found = list(importlib.metadata.entry_points(group=group, name=name))
    if len(found) > 1:
        both = " and ".join(sorted(f"{entry.dist.name if entry.dist else '?'}" for entry in found))
        raise BadInput(f"{both} both announce {name!r} in {group}; name it as package.module:NAME.")
    plugin = find(found[0].value) if found else None
    return replace(plugin, reference=name) if plugin and is_reference(plugin.reference) else plugin


def shipped(group: str) -> Mapping[str, str]:
    """What distmer itself brings of a group: name → reference."""
    if group == "distmer.models":  # by its name alone, for the models stand above this module
        return {name: f"distmer.models:{name}" for name in importlib.import_module(group).models()}
    return _SHIPPED.get(group, {})


def declared(name: str, group: str, modules: Sequence[str]) -> str:
    """The reference to what one of the user's own ``modules`` (names or files) calls ``name``; ``name``
    itself if distmer or an installed package knows it, or if it is a reference. BadInput if nothing
    defines the name, or if two modules do."""
    if is_reference(name):
        return name
    require_name(name)
    own = {place: _module(place, place) for place in modules}
    found = [place for place, module in own.items() if hasattr(module, name)]
    known = {*shipped(group), *names_announced(group)}
    if name in known:
        defined = {place: getattr(vars(own[place])[name], "__module__", "") for place in found}
        if clash := [place for place in found if defined[place] == own[place].__name__]:
            raise BadInput(
                f"{name!r} is a name of distmer or of an installed package, and {clash[0]} defines it too;"
                f" name yours {clash[0]}:{name}, or rename it."
            )
        return name
    if len(found) > 1:
        raise BadInput(f"{found[0]} and {found[1]} both define {name!r}; name one as {found[0]}:{name}.")
    if not found:
        names = {n for module in own.values() for n in vars(module) if not n.startswith("_")}
        raise BadInput(
            f"{name!r} is neither distmer's nor in {', '.join(modules)}; {nearest(name, known | names)}"
        )
    return f"{found[0]}:{name}"


def names_announced(group: str) -> list[str]:
    """The names that installed packages announce in an entry-point group."""
    return sorted({entry.name for entry in importlib.metadata.entry_points(group=group)})


def import_file(path: Path) -> ModuleType:
    """The module of a Python file, imported under the file's own name. BadInput if there is no such file, if
    its name cannot be that of a module, or if another module has the name."""
    path = path.expanduser().resolve()
    if not path.is_file():
        raise BadInput(f"{path}: there is no such file; correct the path.")
    if not path.stem.isidentifier():
        raise BadInput(
            f"{path}: {path.stem!r} cannot be imported; rename the file to letters, digits and underscores."
        )
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
        importlib.invalidate_caches()
    module = _import(path.stem, str(path))
    found = Path(str(getattr(module, "__file__", "")))
    # A copy is the same code: a submitted job's current folder, say, is one of the folder that it names.
    if found.resolve() != path and not (found.is_file() and found.read_bytes() == path.read_bytes()):
        raise BadInput(f"{path}: a module named {path.stem!r} is there already ({found}); rename the file.")
    return module


def _module(place: str, reference: str) -> ModuleType:
    return import_file(Path(place)) if place.endswith(".py") else _import(place, reference)


def _import(name: str, reference: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise BadInput(
                f"{reference}: there is no module {error.name!r}; install it, or give a file."
            ) from error
        raise BadInput(raised(f"{reference}: importing it", error)) from error
    except Exception as error:  # whatever a user's file raises is the user's to read
        raise BadInput(raised(f"{reference}: importing it", error)) from error


def raised(what: str, error: Exception) -> str:
    """One sentence for an error of the user's code, with the user's own file and line; or those of the
    package that raised it, where no line of the user's was run."""
    remedy = "correct the code and run again"
    if isinstance(error, SyntaxError):
        where = f"{error.filename}, line {error.lineno}"
    else:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if not frame.filename.startswith(_OF_OTHERS)]
        if not own:
            own, remedy = frames, "correct its settings, or the code that makes it"
        where = f"{own[-1].filename}, line {own[-1].lineno}"
    said = " ".join(str(error).split())
    return f"{what} raised {type(error).__name__} ({said}) in {where}; {remedy}."


def distribution_of(module: str) -> str:
    """The installed package of a module, with its version; empty for a file, a folder and distmer's own."""
    if module.startswith("distmer."):
        return ""
    names = _distributions(tuple(sys.path)).get(module.partition(".")[0], ())
    return " ".join(f"{name} {importlib.metadata.version(name)}" for name in sorted(set(names)))


@functools.cache
def _distributions(_path: tuple[str, ...]) -> Mapping[str, list[str]]:
    """Top-level module → the installed packages that it belongs to, by `sys.path`. Reading it takes half a
    second."""
    return importlib.metadata.packages_distributions()


@functools.cache
def own_modules(module: str) -> list[str]:
    """The modules that belong to a plug-in: its own, and all that it imports, directly or not, of its own
    top-level package (of a file: all that is not installed). They follow from the import statements, so they
    are the same in every process. A module of distmer is alone: `distmer.code` lists what else counts."""
    if module.startswith("distmer."):
        return [module]
    found: dict[str, None] = {}
    parts = module.split(".")
    waiting = [".".join(parts[: n + 1]) for n in range(len(parts))]  # a package's __init__ runs, too
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = None
            waiting += [other for other in _imported_by(name) if _is_own(other, module)]
    return sorted(found)


def places_to_ship() -> list[str]:
    """The files and folders that another machine needs, to import all that was found here.

    A top-level package's folder, or a file and those of its neighbours that it imports. A package with
    compiled parts is not among them: it must be installed on the nodes, which may be of another type.
    """
    tops = {name.partition(".")[0] for module in _FOUND for name in own_modules(module)}
    specs = map(_spec, sorted(tops))
    places = [Path([*(spec.submodule_search_locations or ()), spec.origin][0]) for spec in specs]
    compiled = ("*.so", "*.pyd", "*.dylib")
    return [str(place) for place in places if not any(any(place.rglob(name)) for name in compiled)]


def _is_own(name: str, module: str) -> bool:
    if _spec(name) is None:  # of ``from module import name``, a class or a function
        return False
    return name.partition(".")[0] == module.partition(".")[0] or not is_installed(name)


def is_installed(module: str) -> bool:
    """Whether a module is part of Python, distmer or an installed package. Nobody edits these."""
    origin = str(getattr(_spec(module), "origin", None))
    return not origin.endswith(".py") or origin.startswith(_OF_OTHERS)


def _imported_by(name: str) -> Iterator[str]:
    """Every module that the import statements of a module may mean, wherever in the file they stand."""
    spec = _spec(name)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return
    package = name if spec.submodule_search_locations else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(Path(spec.origin).read_bytes())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            relative = "." * node.level + (node.module or "")
            base = importlib.util.resolve_name(relative, package)
            names = [str(base), *(f"{base}.{alias.name}" for alias in node.names)]
        for full in names:
            parts = full.split(".")
            yield from (".".join(parts[: n + 1]) for n in range(len(parts)))


def _spec(name: str) -> Any:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):  # there is none, or its parent is no package
        return None
