"""distmer: leave-one-subject-out micro-expression recognition on Ray, honest by construction.

``import distmer as dm`` is quick: what it offers is loaded when it is first used.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distmer.api.clips import Clips as Clips
    from distmer.api.clips import FeatureArrays as FeatureArrays
    from distmer.api.clips import features as features
    from distmer.api.clips import load as load
    from distmer.api.explained import Explained as Explained
    from distmer.api.explained import explain as explain
    from distmer.api.kept import Audited as Audited
    from distmer.api.kept import audit as audit
    from distmer.api.kept import fit as fit
    from distmer.api.kept import load_model as load_model
    from distmer.api.runs import Run as Run
    from distmer.api.runs import loso as loso
    from distmer.api.runs import open_run as open_run
    from distmer.api.scores import Scored as Scored
    from distmer.api.scores import score as score
    from distmer.api.several import Compared as Compared
    from distmer.api.several import Swept as Swept
    from distmer.api.several import compare as compare
    from distmer.api.several import sweep as sweep
    from distmer.api.splits import LeaveOneSubjectOut as LeaveOneSubjectOut
    from distmer.api.splits import make_folds as make_folds
    from distmer.types import BadInput as BadInput
    from distmer.types import RunError as RunError

__version__ = "0.1.0"

_OFFERED = {
    **dict.fromkeys(("Clips", "FeatureArrays", "features", "load"), "distmer.api.clips"),
    **dict.fromkeys(("Explained", "explain"), "distmer.api.explained"),
    **dict.fromkeys(("Audited", "audit", "fit", "load_model"), "distmer.api.kept"),
    **dict.fromkeys(("Run", "loso", "open_run"), "distmer.api.runs"),
    **dict.fromkeys(("Scored", "score"), "distmer.api.scores"),
    **dict.fromkeys(("Compared", "Swept", "compare", "sweep"), "distmer.api.several"),
    **dict.fromkeys(("LeaveOneSubjectOut", "make_folds"), "distmer.api.splits"),
    **dict.fromkeys(("BadInput", "RunError"), "distmer.types"),
}
__all__ = list(_OFFERED)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _OFFERED:
        raise AttributeError(f"module 'distmer' has no attribute {name!r}")
    if name in _CALLED:  # a package, which is set here when it is imported
        return importlib.import_module(f"distmer.{name}")
    globals()[name] = found = getattr(importlib.import_module(_OFFERED[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_OFFERED})


_CALLED = ("explain", "features", "sweep")  # functions of the API whose names are those of packages, too


class _Called(ModuleType):
    """A package of distmer that can be called, for a function of the API has its name: ``dm.features(…)``."""

    @property
    def __wrapped__(self) -> Any:
        """The function: `help` and a notebook's completion show its signature."""
        name = self.__name__.rpartition(".")[2]
        return getattr(importlib.import_module(_OFFERED[name]), name)

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        return self.__wrapped__.__doc__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__wrapped__(*args, **kwargs)


class _Distmer(ModuleType):
    """This package. Python's import sets each of its packages as an attribute when it is first imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _CALLED and isinstance(value, ModuleType):
            value.__class__ = _Called
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Distmer
