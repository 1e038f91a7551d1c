"""Progress of a sweep on stderr: trials by state, folds a minute, the best setting so far with its interval, and what is left."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from distmer.experiment.events import FoldFailed, FoldFinished, FoldStarted, Step
from distmer.report.live import LiveProgress, Stderr
from distmer.report.tables import clock
from distmer.sweep.events import SearchEnded, SweepEnded, SweepEvent, SweepStarted, TrialBegan, TrialEnded
from distmer.sweep.plan import SweepPlan

_REASONS = 3  # failures told at once; the others are counted


class SweepProgress:
    """The observer that shows how far a sweep is."""

    def __init__(self, console: Console | None = None, every: float = 10.0, now: Callable[[], float] = time.monotonic) -> None:
        self._every, self._now = every, now
        self._console = console or Stderr()
        self._steps = LiveProgress(self._console, now=now)  # of what comes before the trials
        self._plan: SweepPlan | None = None
        self._states: Counter[str] = Counter()
        self._folds: Counter[str] = Counter()
        self._running: set[str] = set()
        self._best: dict[str, tuple[float, str]] = {}  # of each search that is under way: their subjects differ
        self._recorded = 0
        self._first = 0.0
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._started = self._said_at = now()

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._steps.close()
        if self._bar is not None:
            self._bar.stop()
        self._bar = None

    def __call__(self, event: SweepEvent | Step) -> None:
        match event:
            case Step():
                self._steps(event)
                return
            case SweepStarted():
                self._begin(event)
            case TrialBegan():
                self._states["running"] += 1
            case TrialEnded():
                self._trial_ended(event)
            case SearchEnded():
                self._search_ended(event)
            case FoldStarted():
                self._running.add(event.fold.digest)
            case FoldFinished():
                self._folds["cached" if event.cached else "trained"] += 1
                self._first = self._first or self._now()
                self._running.discard(event.result.digest)
            case FoldFailed():
                self._fold_failed(event)
            case SweepEnded():
                self.close()
                return
            case _:
                pass
        self._show()

    def _begin(self, event: SweepStarted) -> None:
        plan = self._plan = event.plan
        stamps = f" · NOT A HEADLINE: {', '.join(plan.stamps)}" if plan.stamps else ""
        done = f" ({event.recorded} finished already)" if event.recorded else ""
        self._say(
            f"sweep of {plan.base.model.info.name} on {plan.base.manifest.protocol}, {plan.sweep.mode}: {len(plan.searches)} searches{done}"
            f" of {plan.sweep.wanted} trials, at most {plan.trainings} trainings{stamps}"
        )
        self._started = self._said_at = self._now()
        if self._console.is_terminal:
            columns = (TextColumn("trials"), BarColumn(), TextColumn("{task.completed}/{task.total}"), TimeElapsedColumn())
            self._bar = Progress(*columns, TextColumn("{task.fields[note]}"), console=self._console, transient=True)
            self._task = self._bar.add_task("", total=plan.sweep.wanted * len(plan.searches), note="")
            self._bar.start()

    def _trial_ended(self, event: TrialEnded) -> None:
        trial = event.trial
        self._states["running"] -= 1
        self._states[trial.state] += 1
        assert self._plan is not None
        if trial.state == "failed" and self._states["failed"] <= _REASONS:
            self._say(f"{trial.search}, trial {trial.index} failed: {trial.reason}")
        score = trial.score(self._plan.sweep.metric)
        if trial.state == "complete" and score is not None and score > self._best.get(trial.search, (-1.0, ""))[0]:
            self._best.pop(trial.search, None)  # the latest stands last
            ends = f" [{event.interval[0]:.3f}, {event.interval[1]:.3f}]" if event.interval else ""
            told = f"{trial.search}, trial {trial.index}: inner {self._plan.sweep.metric.upper()} {score:.3f}{ends}"
            self._best[trial.search] = (score, told)

    def _search_ended(self, event: SearchEnded) -> None:
        chosen, search = event.outcome.chosen, event.outcome.search.id
        if event.recorded:
            self._recorded += len(event.outcome.trials)
            self._states.update(trial.state for trial in event.outcome.trials)
        assert self._plan is not None
        metric = self._plan.sweep.metric
        score = chosen.score(metric) if chosen else None
        told = f"trial {chosen.index}, inner {metric.upper()} {score:.3f}" if chosen else "no trial went through every rung"
        self._best.pop(search, None)
        self._say(f"{search}: {told}{' (finished before)' if event.recorded else ''}")

    def _fold_failed(self, event: FoldFailed) -> None:
        self._folds["failed"] += 1
        self._running.discard(event.failure.digest)

    def _show(self) -> None:
        now = self._now()
        if self._plan is None or (self._bar is None and now - self._said_at < self._every):
            return
        self._said_at = now
        total = self._plan.sweep.wanted * len(self._plan.searches)
        done = sum(self._states[state] for state in ("complete", "stopped", "failed"))
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, note=" · ".join(self._notes(now, done, total)))
        else:
            self._say(" · ".join([f"trials {done}/{total}", f"{clock(now - self._started)} elapsed", *self._notes(now, done, total)]))

    def _notes(self, now: float, done: int, total: int) -> list[str]:
        states = ", ".join(f"{self._states[s]} {s}" for s in ("running", "complete", "stopped", "failed") if self._states[s])
        minutes = max(1e-9, (now - self._started) / 60)
        fresh = done - self._recorded
        pace = (now - self._first) / fresh if fresh and self._first else 0.0  # seconds a trial, since the first training ended
        cached = f", {self._folds['cached']} cached" if self._folds["cached"] else ""
        return [
            note
            for note in (
                states,
                f"{self._folds['trained'] / minutes:.0f} folds a minute, {len(self._running)} running{cached}",
                f"best so far: {list(self._best.values())[-1][1]}" if self._best else "",
                f"about {clock(pace * (total - done))} left" if pace and total > done else "",
            )
            if note
        ]

    def _say(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True, highlight=False)
