"""What an audit finds in a fold, as values: nothing here knows torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Leak:
    """One way in which the fold's result depends on what it must not have seen."""

    name: str  # memory, pixels, labels, epoch, transductive, learns
    sentence: str


@dataclass(frozen=True, slots=True)
class FoldAudit:
    """The audit of one fold of one seed.

    ``trainings`` is how many trainings it took, and ``difference`` the largest difference of a probability
    that was put down to rounding.
    """

    fold: str
    seed: int
    leaks: tuple[Leak, ...]
    trainings: int
    difference: float
