"""Progress of a run: what comes before the folds, the folds, and the score so far."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from rich.console import Console

from distmer.experiment.events import Event, FoldFailed, FoldFinished, FoldStarted, RunEnded, RunStarted, Step
from distmer.report.bar import Bar, time_left
from distmer.report.tables import clock
from distmer.types import IntArray

_FEW = 12  # folds: each has a line of its own
_REASONS = 3  # failures shown at once; the others are counted, and listed at the end


@dataclass(frozen=True, slots=True)
class Counts:
    """How far a step or the folds are. ``fresh``: how many were done since the display began with them; ``running``:
    the digests of the folds that are being trained."""

    what: str
    total: int
    done: int = 0
    failed: int = 0
    cached: int = 0
    fresh: int = 0
    running: frozenset[str] = frozenset()

    @property
    def ended(self) -> int:
        return self.done + self.failed


class LiveProgress:
    """The observer that shows how far a run is. See `Bar` for the parameters."""

    def __init__(
        self,
        console: Console | None = None,
        every: float = 5.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.bar = Bar(console, every, now)
        self._counts: Counts | None = None
        self._confusion_KK: IntArray | None = None  # of the folds so far; None where no score can be shown yet

    def __call__(self, event: Event) -> None:
        match event:
            case Step():
                self._step(event)
            case RunStarted():
                self._run_started(event)
            case FoldStarted():
                self._fold_started(event)
            case FoldFinished():
                self._fold_finished(event)
            case FoldFailed():
                self._fold_failed(event)
            case RunEnded():
                self._run_ended(event)

    def close(self) -> None:
        """Leave the terminal as it was; a run may end without RunEnded."""
        self.bar.close()

    def _step(self, step: Step) -> None:
        before = self._counts
        if before is None or before.what != step.what:
            # No event says when a step began, so its pace counts from its first event on.
            self.bar.begin(step.what, step.total)
            fresh = 0
        else:
            fresh = before.fresh + max(0, (step.done - step.cached) - (before.ended - before.cached))
        done = step.done - step.failed
        self._counts = Counts(step.what, step.total, done, step.failed, step.cached, fresh)
        self._show(at_once=step.done >= step.total)
        if step.done >= step.total:
            self.close()

    def _run_started(self, event: RunStarted) -> None:
        plan = event.plan
        k = len(plan.classes)
        # The epoch of a global oracle is chosen at the end: there is no score before.
        self._confusion_KK = None if plan.selection == "oracle:global_epoch" else np.zeros((k, k), dtype=np.int64)
        stamps = f" · NOT A HEADLINE: {', '.join(plan.stamps)}" if plan.stamps else ""
        jobs, wanted = len(plan.jobs), event.cached + event.to_train
        asked = "" if wanted == jobs else f", {event.to_train} more asked for"
        self.bar.say(
            f"{plan.model.info.name} on {plan.manifest.protocol}:"
            f" {jobs} folds ({event.cached} in the ledger already{asked}),"
            f" {len(plan.clips)} of {plan.manifest.clips_expected} clips{stamps}"
        )
        self.bar.begin("folds", wanted)
        self._counts = Counts("folds", wanted)

    def _fold_started(self, event: FoldStarted) -> None:
        if self._counts is not None:
            self._counts = replace(self._counts, running=self._counts.running | {event.fold.digest})
            self._show()

    def _fold_finished(self, event: FoldFinished) -> None:
        before = self._counts
        if before is None:
            return
        if self._confusion_KK is not None:
            np.add.at(self._confusion_KK, (event.result.predictions.y_true_N, event.result.predictions.y_pred_N), 1)
        self._counts = replace(
            before,
            done=before.done + 1,
            cached=before.cached + event.cached,
            fresh=before.fresh + (not event.cached),
            running=before.running - {event.result.digest},
        )
        if not event.cached or self.bar.is_live:
            self._show(at_once=before.total <= _FEW)

    def _fold_failed(self, event: FoldFailed) -> None:
        before, failure = self._counts, event.failure
        if before is None:
            return
        failed, running = before.failed + 1, before.running - {failure.digest}
        self._counts = replace(before, failed=failed, fresh=before.fresh + 1, running=running)
        if failed <= _REASONS:
            rest = " (the next failures are counted here, and listed at the end)" if failed == _REASONS else ""
            self.bar.say(f"fold {failure.fold_id}, seed {failure.seed} failed: {failure.reason}{rest}")
        self._show(at_once=before.total <= _FEW)

    def _run_ended(self, event: RunEnded) -> None:
        result = event.result
        self.close()
        cached = f", {self._counts.cached} from the ledger" if self._counts and self._counts.cached else ""
        missing = f", {result.missing} not reached" if result.missing else ""
        asked = " done, as asked" if result.status == "some-folds" else " done"
        score = f" · UAR {result.summary.uar:.4f}" if result.summary else ""
        self.bar.say(
            f"{result.status}: {len(result.folds)} of {len(result.plan.jobs)} folds{asked}{cached},"
            f" {len(result.failures)} failed{missing}"
            f" · {clock(result.seconds)}{score}"
        )

    def _show(self, *, at_once: bool = False) -> None:
        counts = self._counts
        assert counts is not None
        now = self.bar.now()
        notes = [
            f"{len(counts.running)} running" if counts.running else "",
            f"{counts.cached} cached" if counts.cached else "",
            f"{counts.failed} failed" if counts.failed else "",
            time_left(now - self.bar.started, counts.fresh, max(0, counts.total - counts.ended)),
            score_so_far(self._confusion_KK) if counts.what == "folds" and self._confusion_KK is not None else "",
        ]
        self.bar.show(now, counts.ended, counts.total, notes, at_once=at_once)


def score_so_far(confusion_KK: IntArray) -> str:
    """``UAR so far 0.612``; a class that no held-out clip has shown yet cannot count, and is said."""
    n_K = confusion_KK.sum(1)
    if not n_K.any():
        return ""
    seen = n_K > 0
    uar = float((confusion_KK.diagonal()[seen] / n_K[seen]).mean())
    return f"UAR so far {uar:.3f}" + ("" if seen.all() else f" ({seen.sum()} of {len(n_K)} classes seen)")
