"""Ray Tune as the searcher and the scheduler of each search of a sweep.

Tune draws settings and decides which trials go on. A trial's actor trains nothing: it takes its reports from
a mailbox, where the driver puts them, and gives them to Tune. So the folds of all trials share one limit and
one ledger. A trial asks for memory and not for a CPU, which folds need (Tune refuses a trial without needs).
"""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import optuna
import ray
from optuna.trial import TrialState
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from distmer.cluster.mailbox import Mailbox, trial
from distmer.leftovers import temporary_folder
from distmer.process import environment, only_errors_of
from distmer.sweep.plan import RungScore, Search, grace_of
from distmer.sweep.space import Space
from distmer.sweep.workers import Decision, Ended, Proposed, WentOn
from distmer.types import BadInput, RunError

_TRIAL_BYTES = 256 * 2**20  # of a trial's actor; about 200 MB were measured
_TRAINABLE = "distmer-trial"
_PATIENCE = 20.0  # seconds for a search to end when it is told to
_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the ledger and MLflow hold what they would write
    "RAY_AIR_NEW_OUTPUT": "0",  # the other prints a table even when told to be silent
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that fails reports nothing
    # nothing is restored from Tune's own state: a sweep is replayed from the ledger
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
}


class _StudySearcher(Searcher):
    """Optuna's study of one search, for Tune. It tells the driver, in order, what it proposes and hears."""

    def __init__(
        self,
        space: Space,
        search: Search,
        decisions: queue.SimpleQueue[Decision | Exception],
        failed: set[tuple[str, int]],
    ) -> None:
        super().__init__(metric="score", mode="max")
        self._space, self._search, self._decisions, self._failed = space, search.id, decisions, failed
        self._study = space.study()
        self._left = space.sweep.wanted
        self._live: dict[str, optuna.Trial] = {}
        self._told: dict[str, int] = {}  # the last budget that a trial reported
        self._last = search.rungs[-1].budget
        self.closing = False

    @property
    def open(self) -> bool:
        """Trials are under way, or still to be proposed."""
        return bool(self._left or self._live)

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        return True

    def suggest(self, trial_id: str) -> Any:
        """A setting, None (not now) or FINISHED."""
        if not self._left or self.closing:
            return Searcher.FINISHED
        if len(self._live) >= self._space.sweep.concurrent:
            return None
        self._left -= 1
        trial, setting = self._space.ask(self._study)
        self._live[trial_id] = trial
        self._decisions.put(Proposed(self._search, trial.number, setting))
        return {"search": self._search, "index": trial.number}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Tune calls it when the scheduler lets the trial go on."""
        self._learn(trial_id, result)
        if result["budget"] < self._last:
            self._decisions.put(WentOn(self._search, self._live[trial_id].number, result["budget"]))

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        if result and "budget" in result:
            self._learn(trial_id, result)
        trial = self._live.pop(trial_id)
        if self.closing:
            return
        if error or (self._search, trial.number) in self._failed:
            self._study.tell(trial, state=TrialState.FAIL)
        elif self._told.get(trial_id) == self._last:
            self._study.tell(trial, result["score"] if result else None)
        else:
            self._study.tell(trial, state=TrialState.PRUNED)
        self._decisions.put(Ended(self._search, trial.number, lost=error))

    def _learn(self, trial_id: str, result: dict[str, Any]) -> None:
        # a trial that was lost and started again repeats its reports
        if self._told.get(trial_id, 0) < result["budget"]:
            self._told[trial_id] = result["budget"]
            self._live[trial_id].report(result["score"], result["budget"])

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its searcher to restore it, but a sweep is replayed from the ledger."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing, as above. Tune's own `Searcher` raises here."""


class RayTuner:
    """All searches of a sweep, each with a Tuner of its own in a thread of its own."""

    def __init__(self, space: Space, retries: int) -> None:
        self._space, self._retries = space, retries
        self._decisions: queue.SimpleQueue[Decision | Exception] = queue.SimpleQueue()
        self._delivered: dict[tuple[str, int], int] = {}
        self._failed: set[tuple[str, int]] = set()
        self._last: dict[str, int] = {}
        self._threads: list[threading.Thread] = []
        self._searchers: list[_StudySearcher] = []
        self._exits = ExitStack()
        self._exits.enter_context(environment(_SETTINGS))
        self._exits.enter_context(only_errors_of("ray.tune"))
        self._folder = str(self._exits.enter_context(temporary_folder("distmer-tune")))
        # lost only with the driver
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._mailbox: Any = Mailbox.options(scheduling_strategy=here).remote()
        needs = tune.PlacementGroupFactory([{"CPU": 0, "memory": _TRIAL_BYTES}])
        # Once, by name: registering is not safe from several threads.
        tune.register_trainable(
            _TRAINABLE, tune.with_resources(tune.with_parameters(trial, mailbox=self._mailbox), needs)
        )

    @property
    def most(self) -> int:
        """Searches whose trials all find memory; another one would wait for ever. BadInput for none."""
        there, concurrent = ray.cluster_resources().get("memory", 0.0), self._space.sweep.concurrent
        if there < concurrent * _TRIAL_BYTES:
            raise BadInput(
                f"sweep.concurrent is {concurrent}, and each trial takes {_TRIAL_BYTES // 2**20} MB, but the"
                f" cluster has {there / 2**20:.0f} MB for them; lower it."
            )
        return int(there // (concurrent * _TRIAL_BYTES))

    def begin(self, search: Search) -> None:
        self._last[search.id] = search.rungs[-1].budget
        searcher = _StudySearcher(self._space, search, self._decisions, self._failed)
        self._searchers.append(searcher)
        thread = threading.Thread(
            target=self._search, args=(search, searcher), name=f"search {search.id}", daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def decisions(self) -> Sequence[Decision]:
        said: list[Decision] = []
        while not self._decisions.empty():
            decision = self._decisions.get()
            if isinstance(decision, Exception):
                first = next(iter(str(decision).splitlines()), "")
                raise RunError(
                    f"Ray Tune broke off ({type(decision).__name__}: {first}); finished trainings are"
                    " kept. Run the same command again."
                ) from decision
            said.append(decision)
        return said

    def deliver(self, search: str, index: int, report: RungScore | None) -> None:
        number = self._delivered.get((search, index), 0)
        self._delivered[search, index] = number + 1
        if report is None:
            self._failed.add((search, index))
            self._mailbox.put.remote(search, index, number, None)
            return
        score = getattr(report, self._space.sweep.metric)
        payload = {**asdict(report), "score": score, "last": report.budget == self._last[search]}
        self._mailbox.put.remote(search, index, number, payload)

    def close(self) -> None:
        """End the searches that are under way."""
        for searcher in self._searchers:
            searcher.closing = True
        if any(thread.is_alive() for thread in self._threads):
            self._mailbox.close.remote()
        for thread in self._threads:
            thread.join(_PATIENCE)
        self._exits.close()

    def _search(self, search: Search, searcher: _StudySearcher) -> None:
        config = tune.TuneConfig(
            search_alg=searcher,
            scheduler=self._scheduler(search),
            num_samples=self._space.sweep.wanted,
            reuse_actors=True,
        )
        run_config = tune.RunConfig(
            name=re.sub(r"[^\w.-]", "-", search.id),
            storage_path=self._folder,
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=self._retries),
        )
        try:
            tune.Tuner(_TRAINABLE, tune_config=config, run_config=run_config).fit()
            if searcher.open and not searcher.closing:
                raise RuntimeError("it ended before its trials did")
        except Exception as error:  # noqa: BLE001  # in a thread: whatever it is, the driver must hear of it, or would wait for ever
            if not searcher.closing:
                self._decisions.put(error)

    def _scheduler(self, search: Search) -> TrialScheduler:
        sweep, most = self._space.sweep, search.rungs[-1].budget
        if sweep.scheduler == "none" or most == search.rungs[0].budget:
            return FIFOScheduler()
        return ASHAScheduler(
            time_attr="budget",
            metric="score",
            mode="max",
            max_t=most,
            grace_period=min(grace_of(sweep, most), most),
            reduction_factor=sweep.reduction,
        )
