"""Folds on Ray. A fold is a task, or on a GPU a call of a process that keeps its GPU; in it runs a Ray Train
trainer in local mode, which needs no start-up. A long fold, or one of several workers, is a Ray Train worker
group instead (`distmer.cluster.groups`).
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import ray
from ray.exceptions import OutOfMemoryError, RayError, RayTaskError
from ray.train import ScalingConfig
from ray.train.torch import TorchTrainer

from distmer.cluster.groups import first_line, forget, plain, train_in_group
from distmer.config import ClusterConfig
from distmer.experiment.local import attempt
from distmer.experiment.run import Report
from distmer.training.estimate import uses_worker_group
from distmer.training.fold_inputs import Inputs
from distmer.training.runtime import Runtime, SingleProcess, keep_memory
from distmer.types import FoldBegun, FoldFailure, FoldJob, FoldResult, RunError

_log = logging.getLogger(__name__)

Body = Callable[[FoldJob, Inputs, Runtime], FoldResult | FoldFailure]
_KEPT = 5.0  # seconds that a process keeps its GPU between two folds
_LOOK = 5.0  # seconds between looks at whether anything has begun


@dataclass(slots=True, eq=False)
class _Flight:
    """A fold that was given to Ray. ``lane``: the process that trains it, if it is one that keeps a GPU."""

    job: FoldJob
    # in a list, so that a task is given the reference and not a copy
    inputs: list[ray.ObjectRef] = field(repr=False)
    group: bool = False
    lane: Any = None
    begun: bool = False


class RayWorkers:
    """Folds as Ray tasks, `cluster.in_flight` at a time, because an autoscaler acts on pending tasks. Ray
    itself retries nothing, so it is known here which folds are being trained and which are lost."""

    def __init__(self, config: ClusterConfig, scratch: str, body: Body = attempt) -> None:
        """``scratch``: for the checkpoints of worker groups; every node must reach it if there are any.
        ``body``: another than `attempt` only in tests and benchmarks."""
        self.config, self.scratch, self._body = config, scratch, body
        self._pending: dict[ray.ObjectRefGenerator, _Flight] = {}
        # the last sign of life: a report, or a look at which some fold was being trained
        self._alive_at = 0.0
        # Of folds on GPUs: those that wait for a process, processes that wait for a GPU, and idle processes.
        self._queue: deque[_Flight] = deque()
        self._coming: dict[ray.ObjectRef, Any] = {}
        self._idle: list[tuple[float, Any]] = []
        self._lost: Counter[str] = Counter()  # by fold: processes lost with it

    @property
    def room(self) -> int:
        """How many more folds may be submitted now."""
        room = self.config.in_flight - len(self._pending) - len(self._queue)
        groups = sum(flight.group for flight in self._pending.values())
        if groups and self.config.workers_per_fold == "auto":
            # A group that waits holds a gigabyte: one that waits is enough for an autoscaler.
            there = ray.cluster_resources().get("CPU", 0.0)
            room = min(room, int(there / self.config.cpus_per_fold) + 1 - groups)
        return room

    def share(self, inputs: Inputs) -> ray.ObjectRef:
        """The table in the object store, once for all folds; each takes its clips by id."""
        return ray.put(inputs)

    def submit(self, job: FoldJob, shared: ray.ObjectRef) -> None:
        if not self._pending and not self._queue:
            self._alive_at = time.monotonic()
        self._begin(_Flight(job, [shared], group=uses_worker_group(job, self.config, self.scratch)))

    def reports(self, seconds: float | None = None) -> list[Report]:
        """What has begun or ended, after a wait of at most ``seconds``. RunError: the cluster is lost."""
        # A caller that waits without an end has nothing more to submit; a sweep soon may have.
        keep_since = float("inf") if seconds is None else time.monotonic() - _KEPT
        self._idle = [(since, lane) for since, lane in self._idle if since > keep_since]
        if not self._pending and not self._coming:
            time.sleep(seconds or 0)
            return []
        try:
            ready, _ = ray.wait(
                [*self._coming, *self._pending], num_returns=1, timeout=_LOOK if seconds is None else seconds
            )
            heard = [self._next_report(task) for task in ready if task in self._pending]
            reports = [report for report in heard if report is not None]
            if reports or self._trains():
                self._alive_at = time.monotonic()
            elif not ready:
                self._refuse_to_wait_for_ever()
        except (RayError, ConnectionError) as error:
            raise RunError(
                f"the Ray cluster was lost ({type(error).__name__}); finished folds are kept. Run again."
            ) from error
        self._idle += [(time.monotonic(), self._coming.pop(task)) for task in ready if task in self._coming]
        self._assign_lanes()
        return reports

    def run(self, jobs: Sequence[FoldJob], inputs: Inputs) -> Generator[Report]:
        """All folds of one run, as they begin and end."""
        shared = self.share(inputs)
        waiting = list(reversed(jobs))
        left = len(jobs)
        try:
            while left:
                while waiting and self.room:
                    self.submit(waiting.pop(), shared)
                for report in self.reports():  # none, every few seconds: a signal is heard
                    left -= not isinstance(report, FoldBegun)
                    yield report
        finally:
            self.close()

    def close(self) -> None:
        """End what is under way."""
        for task, flight in self._pending.items():
            if flight.lane is None:
                ray.cancel(task, force=True)
            else:
                ray.kill(flight.lane)
        for lane in self._coming.values():
            ray.kill(lane)
        for pool in (self._pending, self._queue, self._coming, self._idle):
            pool.clear()

    def _begin(self, flight: _Flight) -> None:
        flight.begun = False
        # Inside a Tune trial a task would otherwise be captured by the trial's placement group.
        options: dict[str, Any] = {"name": _name(flight.job), "scheduling_strategy": "DEFAULT"}
        job, inputs = flight.job, flight.inputs
        if flight.group:
            task = train_in_group.options(**options).remote(job, inputs, self.config, self.scratch)
        elif job.spec["device"] == "cuda" and self.config.gpus_per_fold:
            self._queue.append(flight)
            self._assign_lanes()
            return
        else:
            in_task = _train_in_task.options(num_cpus=self.config.cpus_per_fold, **options)
            task = in_task.remote(job, inputs, self._body)
        self._pending[task] = flight

    def _next_report(self, task: ray.ObjectRefGenerator) -> Report | None:
        """A fold's next report. None: its process was lost, and it was begun again."""
        flight = self._pending[task]
        job, report = flight.job, None
        try:
            report = cast(Report, ray.get(next(task)))
        except RayError as error:
            # An exception is a report, so what else ends a task is a loss: of its process, node or result.
            lost = not isinstance(error, RayTaskError)
            self._lost[job.digest] += lost
            if not lost or self._lost[job.digest] > self.config.retries:
                report = _failure(job, error)
        if isinstance(report, FoldBegun):
            flight.begun = True
            return report
        del self._pending[task]
        if flight.lane is not None:
            if isinstance(report, FoldResult):
                self._idle.append((time.monotonic(), flight.lane))
            else:
                ray.kill(flight.lane)  # what failed may have left its process unable to go on
            flight.lane = None
        if report is None:
            _log.warning("fold %s, seed %d: its process was lost; it is begun again.", job.fold.id, job.seed)
            self._begin(flight)
        elif flight.group and not (isinstance(report, FoldFailure) and report.lost):
            # of a fold that was lost they are kept: the same command goes on from them
            forget(self.scratch, job)
        return report

    def _assign_lanes(self) -> None:
        """Give waiting folds to idle processes, and ask for as many more processes as folds still wait."""
        while self._queue and self._idle:
            flight, (_, flight.lane) = self._queue.popleft(), self._idle.pop()
            train = flight.lane.train.options(name=_name(flight.job))
            self._pending[train.remote(flight.job, flight.inputs, self._body)] = flight
        while len(self._coming) > len(self._queue):
            ray.kill(self._coming.popitem()[1])
        while len(self._coming) < len(self._queue):
            needs = {"num_cpus": self.config.cpus_per_fold, "num_gpus": self.config.gpus_per_fold}
            new: Any = _Lane.options(**needs, scheduling_strategy="DEFAULT").remote()
            self._coming[new.ready.remote()] = new

    def _trains(self) -> bool:
        """Whether some fold is being trained. The loss of a task or a process is always reported, so one that
        has begun and was not lost is at work. The workers of a group are Ray Train's, which itself waits for
        another machine: they are at work as long as a machine could hold one."""
        begun = [flight for flight in self._pending.values() if flight.begun]
        if not all(flight.group for flight in begun):
            return True
        needs = {"CPU": self.config.cpus_per_fold, "GPU": self.config.gpus_per_fold}
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]] if begun else []
        return any(all(has.get(name, 0.0) >= amount for name, amount in needs.items()) for has in machines)

    def _refuse_to_wait_for_ever(self) -> None:
        """RunError when no machine has trained a fold for `cluster.patience`: a quota, a typing error, …"""
        waited, config = time.monotonic() - self._alive_at, self.config
        if waited < config.patience:
            return
        there = ray.cluster_resources()
        raise RunError(
            f"no machine has taken up a fold for {waited:.0f} s: a fold asks for {config.cpus_per_fold:g} CPU"
            f" and {config.gpus_per_fold:g} GPU, the cluster has {there.get('CPU', 0):g} and"
            f" {there.get('GPU', 0):g} in all; see `ray status`, correct cluster.cpus_per_fold or"
            " cluster.gpus_per_fold, or raise cluster.patience; finished folds are kept."
        )


def _name(job: FoldJob) -> str:
    return f"fold {job.fold.id} seed {job.seed}"


def _failure(job: FoldJob, error: RayError) -> FoldFailure:
    lost, cause = not isinstance(error, RayTaskError), error
    # outside of what `attempt` guards: inputs that cannot be fetched, another version on the node
    if isinstance(error, RayTaskError) and isinstance(error.cause, Exception):
        cause = error.cause
    what = (
        "the worker was lost and its retries are used up" if lost else "the fold could not be run on its node"
    )
    reason = f"{what} ({type(cause).__name__}: {first_line(cause)})"
    if isinstance(error, OutOfMemoryError):
        reason = (
            "the node ran out of memory with this fold, at every try; let fewer folds share a node"
            " (cluster.cpus_per_fold)"
        )
    return FoldFailure(job.digest, job.fold.id, job.seed, reason, plain(str(error)), lost=lost)


def _fold_in_process(job: FoldJob, shared: list[ray.ObjectRef], body: Body) -> Generator[Report]:
    logging.getLogger("ray.train").setLevel(logging.ERROR)  # it announces its local mode at every fold
    yield FoldBegun(job.digest, job.fold.id, job.seed)
    inputs: Inputs = ray.get(shared[0])
    # Local mode: Train's API in this very process. An exception is a result here.
    runtime = SingleProcess(gpu=job.spec["device"] == "cuda")
    if job.spec["train"]:  # a network
        keep_memory()
    trainer = TorchTrainer(lambda: body(job, inputs, runtime), scaling_config=ScalingConfig(num_workers=0))
    yield cast(Report, trainer.fit().return_value)


_train_in_task = ray.remote(num_returns="streaming", max_retries=0)(_fold_in_process)


@ray.remote
class _Lane:
    """A process that trains folds on the GPU, or the share of one, that it keeps until the driver drops it.

    A process reads only once which GPU it has. A pooled one to which Ray gives another GPU later would train
    on the wrong one, and a new process for each fold costs seconds; an actor's GPU never changes.
    """

    def ready(self) -> None:
        """Answered when it has its GPU."""

    @ray.method(num_returns="streaming")
    def train(self, job: FoldJob, shared: list[ray.ObjectRef], body: Body) -> Generator[Report]:
        yield from _fold_in_process(job, shared, body)
