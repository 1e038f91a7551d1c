"""Progress while a run is under way, on stderr: a live bar on a terminal, plain lines in a log. Stdout stays the result's."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from distmer.experiment.events import Event, FoldFailed, FoldFinished, FoldStarted, RunEnded, RunStarted, Step
from distmer.report.tables import clock
from distmer.types import IntArray, Predictions

_FEW = 12  # folds: each has a line of its own
_REASONS = 3  # failures told at once; the others are counted, and listed at the end


@dataclass(frozen=True, slots=True)
class Tally:
    """How far a step or the folds are. ``started`` is the clock at the first word of it, ``fresh`` what was done since."""

    what: str
    total: int
    started: float
    done: int = 0
    failed: int = 0
    cached: int = 0
    fresh: int = 0
    running: frozenset[str] = frozenset()

    @property
    def left(self) -> int:
        return max(0, self.total - self.done - self.failed)

    def eta(self, now: float) -> float | None:
        """Seconds left at the pace so far; None before there is a pace. What was cached took no time, and is no pace."""
        return (now - self.started) / self.fresh * self.left if self.fresh and self.left else None


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """The confusion counts of the folds so far: the running pooled score of a run."""

    confusion_KK: IntArray = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))

    def add(self, predictions: Predictions) -> Pool:
        confusion_KK = self.confusion_KK.copy()
        np.add.at(confusion_KK, (predictions.y_true_N, predictions.y_pred_N), 1)
        return Pool(confusion_KK)

    def words(self) -> str:
        """``UAR so far 0.612``; a class that no held-out clip has shown yet cannot count, and is said."""
        n_K = self.confusion_KK.sum(1)
        if not n_K.any():
            return ""
        seen = n_K > 0
        uar = float((self.confusion_KK.diagonal()[seen] / n_K[seen]).mean())
        return f"UAR so far {uar:.3f}" + ("" if seen.all() else f" ({seen.sum()} of {len(n_K)} classes seen)")


class Stderr(Console):
    """The console of progress. Once nobody reads it any more it is silent: rich itself would end the process."""

    def __init__(self) -> None:
        super().__init__(stderr=True)

    def on_broken_pipe(self) -> None:
        self.quiet = True


class LiveProgress:
    """The observer that shows how far a run is. ``console`` must not write to stdout; ``every``: seconds between plain lines."""

    def __init__(self, console: Console | None = None, every: float = 5.0, now: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Stderr()
        self._every = every
        self._now = now
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._tally: Tally | None = None
        self._pool = Pool()
        self._score_runs = True
        self._said_at = float("-inf")

    def __call__(self, event: Event) -> None:
        if isinstance(event, Step):
            self._step(event)
        elif isinstance(event, RunStarted):
            self._run_started(event)
        elif isinstance(event, FoldStarted):
            self._fold_started(event)
        elif isinstance(event, FoldFinished):
            self._fold_finished(event)
        elif isinstance(event, FoldFailed):
            self._fold_failed(event)
        else:
            self._run_ended(event)

    def close(self) -> None:
        """Leave the terminal as it was; a run may end without RunEnded."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None

    def _step(self, step: Step) -> None:
        before = self._tally
        if before is None or before.what != step.what:
            # Nothing tells when a step began, so its pace counts from its first word on.
            self._begin(Tally(step.what, step.total, self._now(), step.done - step.failed, step.failed, step.cached))
            before = self._tally
            fresh = 0
        else:
            fresh = before.fresh + max(0, (step.done - step.cached) - (before.done + before.failed - before.cached))
        assert before is not None
        self._tally = replace(before, total=step.total, done=step.done - step.failed, failed=step.failed, cached=step.cached, fresh=fresh)
        self._show(last=step.done >= step.total)
        if step.done >= step.total:
            self.close()

    def _run_started(self, event: RunStarted) -> None:
        plan = event.plan
        classes = len(plan.classes)
        self._pool = Pool(np.zeros((classes, classes), dtype=np.int64))
        self._score_runs = plan.selection != "oracle:global_epoch"  # its epoch is chosen at the end: no score stands before
        stamps = f" · NOT A HEADLINE: {', '.join(plan.stamps)}" if plan.stamps else ""
        jobs, wanted = len(plan.jobs), event.cached + event.to_train
        asked = "" if wanted == jobs else f", {event.to_train} more asked for"
        self._say(
            f"{plan.model.info.name} on {plan.manifest.protocol}:"
            f" {jobs} folds ({event.cached} in the ledger already{asked}),"
            f" {len(plan.clips)} of {plan.manifest.clips_expected} clips{stamps}"
        )
        self._begin(Tally("folds", wanted, self._now()))

    def _fold_started(self, event: FoldStarted) -> None:
        if self._tally is not None:
            self._tally = replace(self._tally, running=self._tally.running | {event.fold.digest})
            self._show(last=False)

    def _fold_finished(self, event: FoldFinished) -> None:
        if self._tally is None:
            return
        self._pool = self._pool.add(event.result.predictions)
        cached, fresh = (1, 0) if event.cached else (0, 1)
        tally = self._tally
        self._tally = replace(
            tally,
            done=tally.done + 1,
            cached=tally.cached + cached,
            fresh=tally.fresh + fresh,
            running=tally.running - {event.result.digest},
        )
        if not event.cached or self._bar is not None:
            self._show(last=self._tally.total <= _FEW)

    def _fold_failed(self, event: FoldFailed) -> None:
        if self._tally is None:
            return
        tally = replace(
            self._tally, failed=self._tally.failed + 1, fresh=self._tally.fresh + 1, running=self._tally.running - {event.failure.digest}
        )
        self._tally = tally
        if tally.failed <= _REASONS:
            failure = event.failure
            rest = " (the next failures are counted here, and listed at the end)" if tally.failed == _REASONS else ""
            self._say(f"fold {failure.fold_id}, seed {failure.seed} failed: {failure.reason}{rest}")
        self._show(last=tally.total <= _FEW)

    def _run_ended(self, event: RunEnded) -> None:
        result = event.result
        self.close()
        cached = f", {self._tally.cached} from the ledger" if self._tally and self._tally.cached else ""
        missing = f", {result.missing} not reached" if result.missing else ""
        asked = " done, as asked" if result.status == "some-folds" else " done"
        score = f" · UAR {result.summary.uar:.4f}" if result.summary else ""
        self._say(
            f"{result.status}: {len(result.folds)} of {len(result.plan.jobs)} folds{asked}{cached},"
            f" {len(result.failures)} failed{missing}"
            f" · {clock(result.seconds)}{score}"
        )

    def _begin(self, tally: Tally) -> None:
        self.close()
        self._tally = tally
        self._said_at = float("-inf")
        if self._console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeElapsedColumn())
            self._bar = Progress(*columns, TextColumn("{task.fields[note]}"), console=self._console)
            self._task = self._bar.add_task(tally.what, total=tally.total, note="")
            self._bar.start()

    def _show(self, *, last: bool) -> None:
        """Bring the bar up to date, or say a line: at once if it is the ``last``, else when the last one is old enough."""
        tally = self._tally
        assert tally is not None
        now = self._now()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, total=tally.total, completed=tally.done + tally.failed, note=" · ".join(self._notes(tally, now)))
        elif last or now - self._said_at >= self._every:
            self._said_at = now
            counts = f"{tally.what} {tally.done + tally.failed}/{tally.total}"
            self._say(" · ".join([counts, f"{clock(now - tally.started)} elapsed", *self._notes(tally, now)]))

    def _notes(self, tally: Tally, now: float) -> list[str]:
        eta = tally.eta(now)
        notes = [
            f"{len(tally.running)} running" if tally.running else "",
            f"{tally.cached} cached" if tally.cached else "",
            f"{tally.failed} failed" if tally.failed else "",
            f"about {clock(eta)} left" if eta is not None else "",
            self._pool.words() if tally.what == "folds" and self._score_runs else "",
        ]
        return [note for note in notes if note]

    def _say(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True, highlight=False)
