"""Progress of a sweep: trials by state, folds a minute, the best setting so far, and the time left."""

from __future__ import annotations

from collections import Counter

from rich.console import Console

from distmer.experiment.events import FoldFinished, Step
from distmer.report.bar import time_left
from distmer.report.live import LiveProgress
from distmer.sweep.events import SearchEnded, SweepEnded, SweepEvent, SweepStarted, TrialEnded
from distmer.sweep.plan import SweepPlan
from distmer.sweep.workers import Proposed
from distmer.types import FoldBegun, FoldFailure

_REASONS = 3  # failures shown at once; the others are counted


class SweepProgress:
    """The observer that shows how far a sweep is. ``console``: as in `distmer.report.bar.Bar`."""

    def __init__(self, console: Console | None = None) -> None:
        self._steps = LiveProgress(console, every=10.0)  # of what comes before the trials
        self._bar = self._steps.bar
        self._plan: SweepPlan | None = None
        self._states: Counter[str] = Counter()
        self._folds: Counter[str] = Counter()
        self._running: set[str] = set()
        # of each search that is under way: their subjects differ
        self._best: dict[str, tuple[float, str]] = {}
        self._recorded = 0
        self._first: float | None = None  # when the first fold was there

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._bar.close()

    def __call__(self, event: SweepEvent | Step) -> None:
        match event:
            case Step():
                return self._steps(event)
            case SweepStarted():
                return self._begin(event)
            case Proposed():
                self._states["running"] += 1
            case TrialEnded():
                self._trial_ended(event)
            case SearchEnded():
                self._search_ended(event)
            case FoldBegun():
                self._running.add(event.digest)
            case FoldFinished():
                self._folds["cached" if event.cached else "trained"] += 1
                self._first = self._first or self._bar.now()
                self._running.discard(event.result.digest)
            case FoldFailure():
                self._running.discard(event.digest)
            case SweepEnded():
                return self.close()
            case _:
                pass
        self._show()

    def _begin(self, event: SweepStarted) -> None:
        plan = self._plan = event.plan
        stamps = f" · NOT A HEADLINE: {', '.join(plan.stamps)}" if plan.stamps else ""
        done = f" ({event.recorded} finished already)" if event.recorded else ""
        self._bar.print(
            f"sweep of {plan.base.model.info.name} on {plan.base.manifest.protocol}, {plan.sweep.mode}:"
            f" {len(plan.searches)} searches{done} of {plan.sweep.wanted} trials,"
            f" at most {plan.trainings} trainings{stamps}"
        )
        self._bar.begin("trials", plan.sweep.wanted * len(plan.searches))

    def _trial_ended(self, event: TrialEnded) -> None:
        assert self._plan is not None
        trial, metric = event.trial, self._plan.sweep.metric
        self._states["running"] -= 1
        self._states[trial.state] += 1
        if trial.state == "failed" and self._states["failed"] <= _REASONS:
            self._bar.print(f"{trial.search}, trial {trial.index} failed: {trial.reason}")
        score = trial.score(metric)
        best_score, _ = self._best.get(trial.search, (-1.0, ""))
        if trial.state == "complete" and score is not None and score > best_score:
            self._best.pop(trial.search, None)  # the latest stands last
            ends = f" [{event.interval[0]:.3f}, {event.interval[1]:.3f}]" if event.interval else ""
            shown = f"{trial.search}, trial {trial.index}: inner {metric.upper()} {score:.3f}{ends}"
            self._best[trial.search] = (score, shown)

    def _search_ended(self, event: SearchEnded) -> None:
        assert self._plan is not None
        chosen, search, metric = event.outcome.chosen, event.outcome.search.id, self._plan.sweep.metric
        if event.recorded:
            self._recorded += len(event.outcome.trials)
            self._states.update(trial.state for trial in event.outcome.trials)
        choice = "no trial went through every rung"
        if chosen:
            choice = f"trial {chosen.index}, inner {metric.upper()} {chosen.score(metric):.3f}"
        self._best.pop(search, None)
        self._bar.print(f"{search}: {choice}{' (finished before)' if event.recorded else ''}")

    def _show(self) -> None:
        if self._plan is None:
            return
        now = self._bar.now()
        done = sum(self._states[state] for state in ("complete", "stopped", "failed"))
        states = (state for state in ("running", "complete", "stopped", "failed") if self._states[state])
        minutes = max(1e-9, (now - self._bar.started) / 60)
        cached = f", {self._folds['cached']} cached" if self._folds["cached"] else ""
        spent = 0.0 if self._first is None else now - self._first
        notes = [
            ", ".join(f"{self._states[state]} {state}" for state in states),
            f"{self._folds['trained'] / minutes:.0f} folds a minute, {len(self._running)} running{cached}",
            f"best so far: {list(self._best.values())[-1][1]}" if self._best else "",
            time_left(spent, done - self._recorded, self._bar.total - done) if spent else "",
        ]
        self._bar.show(now, done, notes)
