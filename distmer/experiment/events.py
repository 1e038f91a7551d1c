"""What happens during a run, as values, and who is told of it: the progress display, the log, the tracker.

A fold begins with `FoldBegun`. It ends with `FoldFinished`, or with `FoldFailure`, and then the run goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from distmer.experiment.plan import Plan
from distmer.experiment.result import RunResult
from distmer.types import FoldBegun, FoldFailure, FoldResult


@dataclass(frozen=True, slots=True)
class Step:
    """A step before the folds: ``done`` of ``total`` clips, ``cached`` of which were there already."""

    what: str  # "generating the embedded data set", "starting Ray", "extracting features"
    done: int
    total: int
    cached: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The plan stands; ``cached`` of its folds are in the ledger already, and ``to_train`` are to come. Where
    some folds alone were asked for, the two are not all of the plan's."""

    plan: Plan
    run_dir: str
    cached: int
    to_train: int


@dataclass(frozen=True, slots=True)
class FoldFinished:
    """A fold is in the ledger; ``cached`` says that it was there before this run."""

    result: FoldResult
    cached: bool


@dataclass(frozen=True, slots=True)
class RunEnded:
    """All folds finished or failed, or the run was stopped."""

    result: RunResult


Event = Step | RunStarted | FoldBegun | FoldFinished | FoldFailure | RunEnded
Observer = Callable[[Event], None]

_log = logging.getLogger(__name__)


class Observers:
    """Several observers as one. They only look on: one that raises is named in one warning, and is left out
    after that.

    One of these serves all stages of a run, and all runs of a comparison. As a context, it closes at its end
    every observer that has a ``close``. What a run must do, such as keeping its results, is never an
    observer's work.
    """

    def __init__(self, observers: Iterable[Callable[[Any], None]]) -> None:
        self._observers = list(observers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for observe in tuple(self._observers):
            self._guarded(observe, partial(_close, observe))

    def __call__(self, event: Any) -> None:
        for observe in tuple(self._observers):
            self._guarded(observe, partial(observe, event))

    def _guarded(self, observe: Callable[[Any], None], act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001  # no observer may end a run
            self._observers.remove(observe)
            name = getattr(observe, "__name__", type(observe).__name__)
            _log.warning(
                "%s is left out from here on (%s: %s); the run goes on.", name, type(error).__name__, error
            )
            with suppress(Exception):  # it may hold the terminal; what is wrong with it has been said
                _close(observe)


def _close(observe: Callable[[Any], None]) -> None:
    getattr(observe, "close", lambda: None)()
