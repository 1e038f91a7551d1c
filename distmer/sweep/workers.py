"""What a sweep needs: a tuner, which decides, and workers, which train folds. Ray's: `distmer.cluster`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from distmer.experiment.run import Report
from distmer.sweep.plan import RungScore, Search
from distmer.sweep.space import Setting
from distmer.training.fold_inputs import Inputs
from distmer.types import FoldJob


@dataclass(frozen=True, slots=True)
class Proposed:
    """A searcher has a next trial; ``index`` counts them from 0."""

    search: str
    index: int
    setting: Setting


@dataclass(frozen=True, slots=True)
class WentOn:
    """The scheduler has seen the report of this budget, and lets the trial go on."""

    search: str
    index: int
    budget: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The trial was stopped, has reported its last, or failed. ``lost``: its actor will not come back."""

    search: str
    index: int
    lost: bool = False


Decision = Proposed | WentOn | Ended


class Tuner(Protocol):
    """A searcher and a scheduler for each search; none hears of another search."""

    @property
    def most(self) -> int:
        """Searches that it can hold at once."""
        ...

    def begin(self, search: Search) -> None: ...

    def decisions(self) -> Sequence[Decision]:
        """The decisions since the last call, in order."""
        ...

    def deliver(self, search: str, index: int, report: RungScore | None) -> None:
        """A trial's next report; None: it failed, and will report no more."""
        ...

    def close(self) -> None: ...


class Workers(Protocol):
    """Something that trains several folds at once."""

    @property
    def room(self) -> int:
        """How many more may be submitted now."""
        ...

    def share(self, inputs: Inputs) -> Any:
        """Put a table of inputs where all folds can take their clips from it."""
        ...

    def submit(self, job: FoldJob, shared: Any) -> None: ...

    def reports(self, seconds: float) -> list[Report]:
        """What has begun or ended, after a wait of at most so many seconds for the first."""
        ...

    def close(self) -> None: ...
