"""What happens during a sweep, as values. Trials begin as `Proposed`; folds begin and end as in a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from distmer.experiment.events import FoldFinished
from distmer.sweep.plan import RungScore, SweepPlan, Trial
from distmer.sweep.result import Outcome, SweepResult
from distmer.sweep.workers import Proposed
from distmer.types import FoldBegun, FoldFailure


@dataclass(frozen=True, slots=True)
class SweepStarted:
    """The plan stands; ``recorded`` of its searches were finished before."""

    plan: SweepPlan
    folder: str
    recorded: int


@dataclass(frozen=True, slots=True)
class TrialReported:
    """A trial has reached a rung."""

    search: str
    index: int
    score: RungScore


@dataclass(frozen=True, slots=True)
class TrialEnded:
    """A trial went through, was stopped, or failed. ``interval``: of its validation score, if it is its
    search's best so far."""

    trial: Trial
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class SearchEnded:
    """A search has chosen; ``recorded`` says that it had before this run."""

    outcome: Outcome
    recorded: bool


@dataclass(frozen=True, slots=True)
class SweepEnded:
    """All choices are scored, or the sweep was stopped."""

    result: SweepResult


SweepEvent = (
    SweepStarted
    | Proposed
    | TrialReported
    | TrialEnded
    | SearchEnded
    | FoldBegun
    | FoldFinished
    | FoldFailure
    | SweepEnded
)
SweepObserver = Callable[[SweepEvent], None]
