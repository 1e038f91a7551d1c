"""Which code a fold's numbers come from: the SHA-256 of each source file that has a say in them, as imported.

A fold's job carries these digests, and whoever trains the fold compares them with its own. This module stands
below all others and knows the listed ones by name alone: nothing is imported before somebody asks.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterable, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path

# What `fit_fold` calls and whose change can change a number. A test finds one that is forgotten.
SHARED = (
    "distmer.evaluation.folds",  # the inner folds
    "distmer.evaluation.metrics",  # the UAR that chooses an epoch
    "distmer.features.featureset",  # which channels there are, and their scale
    "distmer.features.inputs",  # normalisation, resizing, mirroring
    "distmer.models.base",
    "distmer.training.fold_inputs",
    "distmer.training.fit",
    "distmer.training.losses",
    "distmer.training.network",
    "distmer.training.seeds",
)

# What the models of a kind share, beside that.
OF_KIND = {
    "torch": ("distmer.models.fused", "distmer.models.layers"),
    "classical": ("distmer.models._classical",),
}

_known: dict[str, tuple[ModuleSpec | None, str]] = {}


def code_of(model: str, kind: str) -> dict[str, str]:
    """The digests of all code behind a fold, by module: the ``model``'s, its ``kind``'s, and the shared."""
    return digests_of(sorted((*SHARED, *OF_KIND[kind], model)))


def digests_of(modules: Iterable[str]) -> dict[str, str]:
    """The SHA-256 of each module's source file, by its name.

    A module that is not there yet is imported. Its file is read once, right after that: what is edited later is
    not what this process runs. A module that is imported anew (`importlib.reload`, a notebook's autoreload) is
    read anew.
    """
    return {name: _digest_of(name) for name in modules}


def other_code(theirs: Mapping[str, str], own: Mapping[str, str]) -> list[str]:
    """The modules of which the two sides do not have the same version."""
    return sorted(name for name in theirs.keys() | own.keys() if theirs.get(name) != own.get(name))


def _digest_of(name: str) -> str:
    module = importlib.import_module(name)
    imported, digest = _known.get(name, (None, ""))
    if not digest or imported is not module.__spec__:  # each import has a spec of its own
        digest = hashlib.sha256(Path(str(module.__file__)).read_bytes()).hexdigest()
        _known[name] = (module.__spec__, digest)
    return digest
