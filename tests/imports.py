"""The modules of users that tests import: forgotten again, as one process runs the tests of many files."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Collection
from pathlib import Path

# What is remembered of references and of what is installed: each of these modules, if it is loaded.
_REMEMBERED = {
    "distmer.plugins": ("own_modules",),
    "distmer.models": ("_brought",),
    "distmer.datasets.protocols": ("_own",),
    "distmer.features.methods": ("_tried", "_methods"),
}


def forget(below: Path, but: Collection[str] = ()) -> None:
    """As in a new process: no module of a file below the folder is imported, but for those named, and nothing
    is remembered of what references led to."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and name not in but and Path(file).is_relative_to(below):
            del sys.modules[name]
    for name, functions in _REMEMBERED.items():
        if name in sys.modules:
            for function in functions:
                getattr(sys.modules[name], function).cache_clear()
    if "distmer.plugins" in sys.modules:
        sys.modules["distmer.plugins"]._FOUND.clear()
    importlib.invalidate_caches()
