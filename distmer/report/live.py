"""Progress of a run: what comes before the folds, the folds, and the score so far."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import numpy as np
from rich.console import Console

from distmer.experiment.events import Event, FoldFinished, RunEnded, RunStarted, Step
from distmer.report.bar import bar_for, time_left
from distmer.report.tables import clock
from distmer.types import FoldBegun, FoldFailure, IntArray

_FEW = 12  # folds: each has a line of its own
_REASONS = 3  # failures shown at once; the others are counted, and listed at the end


class LiveProgress:
    """The observer that shows how far a run is. See `distmer.report.bar.Bar` for the parameters."""

    def __init__(
        self,
        console: Console | None = None,
        every: float = 5.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.bar = bar_for(console, every, now)
        # How many have ended; of these, how many failed, were cached, or are fresh: they ended while shown.
        self._counts: Counter[str] = Counter()
        self._running: set[str] = set()  # digests
        self._confusion_KK: IntArray | None = None  # of the folds so far; None where there is no score yet

    def __call__(self, event: Event) -> None:
        match event:
            case Step():
                self._step(event)
            case RunStarted():
                self._run_started(event)
            case FoldBegun():
                self._running.add(event.digest)
                self._show()
            case FoldFinished():
                self._fold_finished(event)
            case FoldFailure():
                self._fold_failed(event)
            case RunEnded():
                self._run_ended(event)

    def close(self) -> None:
        """Leave the terminal as it was; a run may end without RunEnded."""
        self.bar.close()

    def _begin(self, what: str, total: int) -> None:
        self.bar.begin(what, total)
        self._counts.clear()
        self._running.clear()

    def _step(self, step: Step) -> None:
        before = self._counts["ended"] - self._counts["cached"]
        if step.what != self.bar.what:
            self._begin(step.what, step.total)
            # No event says when a step began, so its pace counts from its first event on.
            before = step.done - step.cached
        fresh = self._counts["fresh"] + max(0, step.done - step.cached - before)
        self.bar.total = step.total
        self._counts = Counter(ended=step.done, failed=step.failed, cached=step.cached, fresh=fresh)
        self._show(at_once=step.done >= step.total)
        if step.done >= step.total:
            self.close()

    def _run_started(self, event: RunStarted) -> None:
        plan = event.plan
        at_the_end = plan.selection == "oracle:global_epoch"  # its epoch is chosen then: no score before
        self._confusion_KK = None if at_the_end else np.zeros([len(plan.classes)] * 2, dtype=np.int64)
        stamps = f" · NOT A HEADLINE: {', '.join(plan.stamps)}" if plan.stamps else ""
        jobs, wanted = len(plan.jobs), event.cached + event.to_train
        asked = "" if wanted == jobs else f", {event.to_train} more asked for"
        self.bar.print(
            f"{plan.model.info.name} on {plan.manifest.protocol}:"
            f" {jobs} folds ({event.cached} in the ledger already{asked}),"
            f" {len(plan.clips)} of {plan.manifest.clips_expected} clips{stamps}"
        )
        self._begin("folds", wanted)

    def _fold_finished(self, event: FoldFinished) -> None:
        predictions = event.result.predictions
        if self._confusion_KK is not None:
            np.add.at(self._confusion_KK, (predictions.y_true_N, predictions.y_pred_N), 1)
        self._running.discard(event.result.digest)
        self._counts.update(("ended", "cached" if event.cached else "fresh"))
        if not event.cached or self.bar.is_live:
            self._show(at_once=self.bar.total <= _FEW)

    def _fold_failed(self, failure: FoldFailure) -> None:
        self._running.discard(failure.digest)
        self._counts.update(("ended", "fresh", "failed"))
        if self._counts["failed"] <= _REASONS:
            line = f"fold {failure.fold_id}, seed {failure.seed} failed: {failure.reason}"
            if self._counts["failed"] == _REASONS:
                line += " (the next failures are counted here, and listed at the end)"
            self.bar.print(line)
        self._show(at_once=self.bar.total <= _FEW)

    def _run_ended(self, event: RunEnded) -> None:
        result = event.result
        self.close()
        cached = f", {self._counts['cached']} from the ledger" if self._counts["cached"] else ""
        missing = f", {result.missing} not reached" if result.missing else ""
        asked = " done, as asked" if result.status == "some-folds" else " done"
        score = f" · UAR {result.summary.uar:.4f}" if result.summary else ""
        self.bar.print(
            f"{result.status}: {len(result.folds)} of {len(result.plan.jobs)} folds{asked}{cached},"
            f" {len(result.failures)} failed{missing}"
            f" · {clock(result.seconds)}{score}"
        )

    def _show(self, *, at_once: bool = False) -> None:
        now, counts = self.bar.now(), self._counts
        confusion_KK = self._confusion_KK if self.bar.what == "folds" else None
        notes = [
            f"{len(self._running)} running" if self._running else "",
            f"{counts['cached']} cached" if counts["cached"] else "",
            f"{counts['failed']} failed" if counts["failed"] else "",
            time_left(now - self.bar.started, counts["fresh"], max(0, self.bar.total - counts["ended"])),
            "" if confusion_KK is None else score_so_far(confusion_KK),
        ]
        self.bar.show(now, counts["ended"], notes, at_once=at_once)


def score_so_far(confusion_KK: IntArray) -> str:
    """``UAR so far 0.612``: over the classes that have had a held-out clip. If some have had none, the text
    says so."""
    n_K = confusion_KK.sum(1)
    if not n_K.any():
        return ""
    seen = n_K > 0
    uar = float((confusion_KK.diagonal()[seen] / n_K[seen]).mean())
    return f"UAR so far {uar:.3f}" + ("" if seen.all() else f" ({seen.sum()} of {len(n_K)} classes seen)")
