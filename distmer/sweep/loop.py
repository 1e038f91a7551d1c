"""The loop of a sweep: settings are proposed, rungs become folds, scores go back, a choice is refitted.

Folds train in any order, as many at once as there is room. Reports reach a search's searcher and scheduler in
one order only: first the trial that has reported least, of equals the older one. So a sweep finds the same on
one core and on a thousand, and a killed sweep is run again: the ledger has its folds.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from distmer.config import Config
from distmer.digests import digest
from distmer.experiment.events import FoldFinished, Observers
from distmer.experiment.ledger import Ledger
from distmer.experiment.run import Report
from distmer.models import ResolvedModel
from distmer.sweep.events import (
    SearchEnded,
    SweepEnded,
    SweepObserver,
    SweepStarted,
    TrialEnded,
    TrialReported,
)
from distmer.sweep.plan import RungScore, Search, SweepPlan, Trial
from distmer.sweep.result import Outcome, SweepResult, conclude_sweep
from distmer.sweep.space import Setting
from distmer.sweep.workers import Decision, Ended, Proposed, Tuner, Workers
from distmer.training.fold_inputs import Inputs
from distmer.types import BadInput, FoldBegun, FoldFailure, FoldJob, FoldResult, RunError

_log = logging.getLogger(__name__)

_TABLES = 4  # input tables kept for trials to come: a searched feature setting has one each
_LULL = 0.02  # seconds
InputsOf = Callable[[Config, ResolvedModel], Inputs]


@dataclass(slots=True)
class _Running:
    """A trial under way: the rung it is at, its trainings so far, and its report once that is ready."""

    index: int
    setting: Setting
    clock: int  # reports behind it when it is due, counted over the trials before it in its place
    rung: int = 0
    jobs: list[FoldJob] = field(default_factory=list[FoldJob])
    scores: list[RungScore] = field(default_factory=list[RungScore])
    report: RungScore | FoldFailure | None = None


class _SearchRun:
    """One search under way, and whose turn it is."""

    def __init__(self, search: Search, concurrent: int, wanted: int) -> None:
        self.search = search
        self.live: dict[int, _Running] = {}
        self.trials: list[Trial] = []
        self.clock = 0  # of the last report delivered
        self.asked_about: int | None = None  # the trial whose report Tune is considering
        self._places = min(concurrent, wanted)
        self._left = wanted

    def propose(self, index: int, setting: Setting) -> _Running:
        self._left -= 1
        trial = self.live[index] = _Running(index, setting, self.clock + 1)
        return trial

    def turn(self) -> _Running | None:
        """The trial whose report is due; None while a decision, a proposal or that report is awaited."""
        vacant = len(self.live) < self._places and self._left > 0
        if self.asked_about is not None or vacant or not self.live:
            return None
        due = min(self.live.values(), key=lambda trial: (trial.clock, trial.index))
        return due if due.report is not None else None

    def is_best(self, trial: Trial, metric: str) -> bool:
        """Whether a trial went through every rung, with a better score than those before it."""
        scores = [other.score(metric) or 0.0 for other in self.trials if other.state == "complete"]
        return trial.state == "complete" and (trial.score(metric) or 0.0) > max(scores, default=-1.0)

    @property
    def over(self) -> bool:
        return not self.live and self._left == 0


class Sweep:
    """The loop over a plan. ``connect`` is called when the first trial or training needs it. ``at_once``:
    searches under way at the same time; it changes no result. ``keep`` gets each event before the observers.
    """

    def __init__(
        self,
        plan: SweepPlan,
        connect: Callable[[], tuple[Tuner, Workers]],
        ledger: Ledger,
        inputs: InputsOf,
        observers: Sequence[SweepObserver],
        at_once: int,
        keep: SweepObserver = lambda event: None,
    ) -> None:
        self._plan, self._connect, self._ledger = plan, connect, ledger
        self._inputs, self._observers, self._at_once, self._keep = inputs, Observers(observers), at_once, keep
        self._outcomes: dict[str, Outcome] = {}
        self._trained = 0
        self._waiting = list(reversed(plan.searches))
        self._running: dict[str, _SearchRun] = {}
        # a heap: refits first, then searches in their order
        self._ordered: list[tuple[int, int, FoldJob, Setting]] = []
        self._number = itertools.count()
        self._asked: set[str] = set()  # digests of trainings ordered and not ended
        self._done: dict[str, FoldResult | FoldFailure] = {}
        self._tables: dict[str, Any] = {}
        self._refits: list[str] = []  # digests
        self._moved_at = time.monotonic()

    def run(self, recorded: Mapping[str, Outcome], folder: str, earlier: float | None = None) -> SweepResult:
        """Search what is not ``recorded`` from an earlier run, refit every choice. Ctrl-C keeps what is
        finished. ``earlier``: the seconds of an earlier run, which stay if this one trains nothing."""
        started = time.perf_counter()
        self._tell(SweepStarted(self._plan, folder, len(recorded)))
        try:
            for outcome in recorded.values():
                self._conclude(outcome, recorded=True)
            self._waiting = [search for search in self._waiting if search.id not in recorded]
            # a sweep that is all in its records and the ledger starts nothing
            if self._waiting or self._asked:
                self._tuner, self._workers = self._connect()
                self._moved_at = time.monotonic()
            while self._waiting or self._running or self._asked:
                self._step()
        except KeyboardInterrupt:
            _log.warning("Stopped: every finished training is kept; the same command goes on from there.")
        spent = time.perf_counter() - started if self._trained or earlier is None else earlier
        refits = [self._done[digest] for digest in self._refits if digest in self._done]
        result = conclude_sweep(self._plan, self._outcomes, refits, self._trained, spent, folder)
        self._tell(SweepEnded(result))
        return result

    def _step(self) -> None:
        # `most` asks the cluster: only when there is a search to begin.
        while self._waiting and len(self._running) < self._at_once and len(self._running) < self._tuner.most:
            search = self._waiting.pop()
            self._running[search.id] = _SearchRun(
                search, self._plan.sweep.concurrent, self._plan.sweep.wanted
            )
            self._tuner.begin(search)
        for decision in self._tuner.decisions():
            self._moved_at = time.monotonic()
            self._decided(decision)
        while self._ordered and self._workers.room:
            *_, job, setting = heapq.heappop(self._ordered)
            try:
                self._workers.submit(job, self._table(setting))
            except BadInput as error:  # maps that this setting does not fit: it cannot be, others can
                self._arrived(FoldFailure(job.digest, job.fold.id, job.seed, str(error)))
        for report in self._workers.reports(_LULL):
            self._moved_at = time.monotonic()
            self._arrived(report)
        for running in list(self._running.values()):
            self._advance(running)
        patience = self._plan.base.config.cluster.patience
        if not self._asked and time.monotonic() - self._moved_at > patience:
            raise RunError(
                f"nothing trains and Ray Tune has said nothing for {patience:.0f} s: its trials may find no"
                " room (see `ray status`; lower sweep.concurrent or cluster.in_flight); finished trainings"
                " are kept: give the same command again."
            )

    def _decided(self, decision: Decision) -> None:
        running = self._running.get(decision.search)
        if running is None:
            return  # of a search that is over
        if isinstance(decision, Proposed):
            self._tell(decision)
            self._order_rung(running, running.propose(decision.index, decision.setting))
        elif (trial := running.live.get(decision.index)) is None:
            return
        elif isinstance(decision, Ended):
            self._end(running, trial, lost=decision.lost)
        # a driver that was lost and started again repeats its reports
        elif running.asked_about == trial.index and decision.budget == trial.scores[-1].budget:
            running.asked_about = None
            trial.rung, trial.clock, trial.report = trial.rung + 1, trial.clock + 1, None
            self._order_rung(running, trial)

    def _order_rung(self, running: _SearchRun, trial: _Running) -> None:
        try:
            jobs = self._plan.jobs(trial.setting, running.search.rungs[trial.rung])
        except BadInput as error:  # a kernel larger than the map, say: this setting cannot be, others can
            trial.report = FoldFailure("", "", 0, str(error))
            return
        trial.jobs += jobs
        place = 1 + self._plan.searches.index(running.search)
        for job in jobs:
            self._order(job, trial.setting, place)

    def _order(self, job: FoldJob, setting: Setting, place: int) -> None:
        """Have a training done, unless it is done, under way for another trial, or in the ledger."""
        if job.digest in self._done or job.digest in self._asked:
            return
        known = self._ledger.get(job.digest)
        if known is not None:
            self._done[job.digest] = known
            self._tell(FoldFinished(known, cached=True))
            return
        self._asked.add(job.digest)
        heapq.heappush(self._ordered, (place, next(self._number), job, setting))

    def _table(self, setting: Setting) -> Any:
        config, model = self._plan.space.config(setting)
        sections = config.model_dump(mode="json", include={"features", "inputs"})
        key = digest([sections, list(model.inputs), model.size])
        if key not in self._tables:
            if len(self._tables) >= _TABLES:
                del self._tables[next(iter(self._tables))]
            self._tables[key] = self._workers.share(self._inputs(config, model))
        return self._tables[key]

    def _arrived(self, report: Report) -> None:
        if isinstance(report, FoldBegun):
            self._tell(report)
            return
        self._asked.discard(report.digest)
        self._done[report.digest] = report
        if isinstance(report, FoldResult):
            self._ledger.put(report)
            self._trained += 1
            self._tell(FoldFinished(report, cached=False))
        else:
            self._tell(report)

    def _advance(self, running: _SearchRun) -> None:
        for trial in running.live.values():
            if trial.report is None and all(job.digest in self._done for job in trial.jobs):
                trial.report = self._score(running.search, trial)
        trial = running.turn()
        if trial is None:
            if running.over:
                del self._running[running.search.id]
                trials = tuple(sorted(running.trials, key=lambda ended: ended.index))
                self._conclude(Outcome(running.search, trials, self._plan.choose(trials)), recorded=False)
            return
        running.asked_about, running.clock = trial.index, trial.clock
        score = trial.report if isinstance(trial.report, RungScore) else None
        if score is not None:
            trial.scores.append(score)
            self._tell(TrialReported(running.search.id, trial.index, score))
        self._tuner.deliver(running.search.id, trial.index, score)

    def _score(self, search: Search, trial: _Running) -> RungScore | FoldFailure:
        ended = [self._done[job.digest] for job in trial.jobs]
        rung = search.rungs[trial.rung]
        if rung.epochs is not None:
            ended = ended[-len(rung.folds) :]  # every rung of epochs trains all its folds anew
        failure = next((report for report in ended if isinstance(report, FoldFailure)), None)
        return failure or self._plan.validation(_finished(ended), rung.budget)

    def _end(self, running: _SearchRun, trial: _Running, *, lost: bool) -> None:
        running.asked_about = None if running.asked_about == trial.index else running.asked_about
        del running.live[trial.index]
        failure = trial.report if isinstance(trial.report, FoldFailure) else None
        if failure is None and lost:
            why = "the process of the trial was lost, and its retries are used up"
            failure = FoldFailure("", "", 0, why, lost=True)
        last = trial.rung == len(running.search.rungs) - 1
        folds = _finished([self._done[job.digest] for job in trial.jobs if job.digest in self._done])
        kept = Trial(
            search=running.search.id,
            index=trial.index,
            setting=trial.setting,
            state="failed" if failure else "complete" if last else "stopped",
            rungs=tuple(trial.scores),
            folds=tuple(fold.digest for fold in folds),
            epochs=sum(fold.epochs for fold in folds),
            reason=f"fold {failure.fold_id}: {failure.reason}".removeprefix("fold : ") if failure else "",
            lost=failure is not None and failure.lost,
        )
        best = running.is_best(kept, self._plan.sweep.metric)
        interval = self._plan.interval(folds[-running.search.trainings :]) if best else None
        running.trials.append(kept)
        self._tell(TrialEnded(kept, interval))

    def _conclude(self, outcome: Outcome, *, recorded: bool) -> None:
        """A search is over: say so, and have its choice refitted on its outer folds."""
        self._outcomes[outcome.search.id] = outcome
        self._tell(SearchEnded(outcome, recorded))
        for done in {fold for trial in outcome.trials for fold in trial.folds} & self._done.keys():
            del self._done[done]  # in the ledger, should it be asked for again; here it would only add up
        if outcome.chosen is None:
            return
        for job in self._plan.refits(outcome.search, outcome.chosen.setting):
            self._refits.append(job.digest)
            self._order(job, outcome.chosen.setting, 0)

    def _tell(self, event: Any) -> None:
        self._keep(event)  # the sweep's own work, which must not fail in silence
        self._observers(event)


def _finished(reports: Sequence[FoldResult | FoldFailure]) -> list[FoldResult]:
    return [report for report in reports if isinstance(report, FoldResult)]
