"""Which code a fold's numbers come from: a digest of each source file that can change them, as imported.

A digest is the SHA-256 of a file's syntax tree without its docstrings. So a change of a comment, a docstring
or the layout leaves it as it is, and any other change moves it.

A fold's job carries these digests, and the process that trains the fold compares them with its own. This
module stands below all others and knows the listed ones by name alone: nothing is imported before it is asked
for.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
from collections.abc import Iterable, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from distmer.plugins import own_modules

# What `fit_fold` calls and whose change can change a number. A test finds one that is forgotten.
SHARED = (
    "distmer.evaluation.folds",  # the inner folds
    "distmer.evaluation.metrics",  # the UAR that chooses an epoch
    "distmer.features.featureset",  # which channels there are, and their scale
    "distmer.features.inputs",  # normalisation, resizing
    "distmer.functions",  # the options of losses and augmentations
    "distmer.models.base",
    "distmer.training.augmentations",
    "distmer.training.averaging",
    "distmer.training.fold_inputs",
    "distmer.training.fit",
    "distmer.training.losses",
    "distmer.training.network",
    "distmer.training.recipe",
    "distmer.training.runtime",
    "distmer.training.seeds",
)

# What the models of a kind share, beside that.
OF_KIND = {
    "torch": ("distmer.models.fused", "distmer.models.layers"),
    "classical": ("distmer.models._classical",),
}

# What makes a model of what a user brings.
OF_USERS = ("distmer.models._plugin",)

_sources: dict[str, tuple[ModuleSpec | None, bytes]] = {}


def code_of(
    model: str, kind: str, functions: Iterable[str] = (), own: Iterable[str] | None = None
) -> dict[str, str]:
    """The digests of all code behind a fold, by module: the ``model``'s, its ``kind``'s, and the shared.

    ``model`` is the name of the module that defines it, and ``functions`` those of its loss and its
    augmentations. Of what is the user's, the modules of its own package or folder that it imports count as
    well, or those in ``own`` where another process has found them. Each file counts as this process imported
    it.
    """
    names = [*SHARED, *OF_KIND[kind]]
    for module in (model, *functions):
        names += [module] if module.startswith("distmer.") else own_modules(module) if own is None else own
    if not model.startswith("distmer."):
        names += OF_USERS
    return digests_of(names)


def digests_of(modules: Iterable[str]) -> dict[str, str]:
    """The digests of these modules, each as this process imported it."""
    return {name: digest_of_source(_source_of(name)) for name in sorted(set(modules))}


def read_sources(modules: Iterable[str]) -> None:
    """Import these modules and read their files now: what is edited later is not what this process runs."""
    for name in modules:
        _source_of(name)


@functools.cache
def digest_of_source(source: bytes) -> str:
    """The SHA-256 of a Python file's syntax tree without docstrings, 64 hexadecimal digits; of a compiled
    module, that of its bytes."""
    try:
        meaning = repr(_meaning(ast.parse(source))).encode()
    except (SyntaxError, ValueError):  # compiled
        meaning = source
    return hashlib.sha256(meaning).hexdigest()


def other_code(theirs: Mapping[str, str], own: Mapping[str, str]) -> list[str]:
    """The modules of which the two sides do not have the same version."""
    return sorted(name for name in theirs.keys() | own.keys() if theirs.get(name) != own.get(name))


def _source_of(name: str) -> bytes:
    """The module's source, read once for each import: `importlib.reload` reads it anew."""
    module = importlib.import_module(name)
    if name not in _sources or _sources[name][0] is not module.__spec__:  # each import has a spec of its own
        file = getattr(module, "__file__", None)  # a namespace package and a module of C have none
        _sources[name] = (module.__spec__, Path(file).read_bytes() if file else b"")
    return _sources[name][1]


def _meaning(node: Any) -> Any:
    """A syntax tree as nested tuples, without statements that are a mere constant (docstrings, ``...``).

    Empty fields are left out as well: versions of Python differ in them, and the digest should not.
    """
    if isinstance(node, list):
        return [_meaning(one) for one in node if not _is_mere_constant(one)]
    if isinstance(node, ast.AST):
        fields = ((name, value) for name, value in ast.iter_fields(node) if value is not None and value != [])
        return (type(node).__name__, *((name, _meaning(value)) for name, value in fields))
    return node


def _is_mere_constant(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
