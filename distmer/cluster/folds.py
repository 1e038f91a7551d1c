"""Folds on Ray: one task a fold with Ray's retries and GPU shares, whose body is a Ray Train trainer.

By default the trainer runs in local mode inside the task (no start-up, pooled workers). With ``workers_per_fold: N`` the
task drives a full Ray Train worker group of N data-parallel workers, with checkpoints and a FailureConfig of its own.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, cast

import ray
import torch
from ray import train
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, get_device
from torch import nn

from distmer.config import ClusterConfig
from distmer.experiment.local import attempt
from distmer.experiment.run import Report
from distmer.leftovers import temporary_folder
from distmer.storage import Store
from distmer.training.data import Inputs
from distmer.training.network import Alone, Runtime, T, device_of
from distmer.types import FoldBegun, FoldFailure, FoldJob, FoldResult, RunError

Body = Callable[[FoldJob, Inputs, Runtime], FoldResult | FoldFailure]
_WARM = 4  # processes at most: each takes some 400 MB, and there may be fewer folds than cores
_KEPT = 5.0  # seconds that a process keeps its GPU between two folds
_LOOK = 5.0  # seconds between looks at whether anything has begun


class RayWorkers:
    """Folds as Ray tasks, an explicit number of them in flight: pending ones are what an autoscaler acts upon."""

    def __init__(self, config: ClusterConfig, scratch: str, body: Body = attempt) -> None:
        """``scratch``: where worker groups keep checkpoints; every node must reach it if ``workers_per_fold`` is used. ``body``:
        another only to measure what is around it."""
        self.config = config
        self.scratch = scratch
        self._body = body
        self._pending: dict[ray.ObjectRefGenerator, FoldJob] = {}
        self._asked_at = 0.0  # when the first fold was submitted; infinite once a fold has begun
        # Of folds on GPUs: those that wait for a process, processes that wait for a GPU, those that train, those between two folds.
        self._queue: deque[tuple[FoldJob, list[ray.ObjectRef]]] = deque()
        self._coming: dict[ray.ObjectRef, Any] = {}
        self._lanes: dict[ray.ObjectRefGenerator, tuple[Any, list[ray.ObjectRef]]] = {}
        self._idle: list[tuple[float, Any]] = []
        self._lost: Counter[str] = Counter()  # by fold: processes lost with it

    @property
    def room(self) -> int:
        """How many more folds may be submitted now."""
        return self.config.in_flight - len(self._pending) - len(self._queue)

    def share(self, inputs: Inputs) -> ray.ObjectRef:
        """The table in the object store, once for all folds; each takes its clips by id."""
        return ray.put(inputs)

    def submit(self, job: FoldJob, shared: ray.ObjectRef) -> None:
        config = self.config
        # Inside a Tune trial a task would otherwise be captured by the trial's placement group.
        options: dict[str, Any] = {"name": _name(job), "max_retries": config.retries, "scheduling_strategy": "DEFAULT"}
        inputs = [shared]  # in a list, so that a task is given the reference and not a copy
        if config.workers_per_fold:
            task = _train_in_group.options(num_cpus=0, **options).remote(job, inputs, config, self.scratch)
        elif config.gpus_per_fold:
            self._queue.append((job, inputs))
            self._asked_at = self._asked_at or time.monotonic()
            self._man_lanes()
            return
        else:
            task = _train_in_task.options(num_cpus=config.cpus_per_fold, **options).remote(job, inputs, self._body)
        self._pending[task] = job
        self._asked_at = self._asked_at or time.monotonic()

    def reports(self, seconds: float | None = None) -> list[Report]:
        """What has begun or ended, waiting (at most ``seconds``) for the first. RunError when the cluster is lost."""
        # Whoever waits without an end has nothing more to submit; a sweep soon may have.
        self._idle = [(since, lane) for since, lane in self._idle if seconds is not None and time.monotonic() - since < _KEPT]
        if not self._pending and not self._coming:
            time.sleep(seconds or 0)
            return []
        try:
            ready, _ = ray.wait([*self._coming, *self._pending], num_returns=1, timeout=_LOOK if seconds is None else seconds)
            if not ready:
                self._refuse_to_wait_for_ever()
            reports = [(task, self._next_report(task)) for task in ready if task in self._pending]
        except (RayError, ConnectionError) as error:
            raise RunError(
                f"the Ray cluster was lost ({type(error).__name__}); finished folds are kept: give the same command again."
            ) from error
        self._asked_at = math.inf if reports else self._asked_at
        self._idle += [(time.monotonic(), self._coming.pop(task)) for task in ready if task in self._coming]
        for task, report in reports:
            if not isinstance(report, FoldBegun):
                self._ended(task, report)
        self._man_lanes()
        return [report for _, report in reports if report is not None]

    def _refuse_to_wait_for_ever(self) -> None:
        """RunError when no machine has taken up a first fold for `cluster.patience`: a quota, a typing error, no spot machine."""
        waited, config = time.monotonic() - self._asked_at, self.config
        if waited < config.patience:
            return
        there = ray.cluster_resources()
        raise RunError(
            f"no machine has taken up a fold for {waited:.0f} s: a fold asks for {config.cpus_per_fold:g} CPU and"
            f" {config.gpus_per_fold:g} GPU, the cluster has {there.get('CPU', 0):g} and {there.get('GPU', 0):g} in all; see `ray status`,"
            " correct cluster.cpus_per_fold or cluster.gpus_per_fold, or raise cluster.patience."
        )

    def close(self) -> None:
        """End what is under way."""
        for task in self._pending:
            if task in self._lanes:
                ray.kill(self._lanes[task][0])
            else:
                ray.cancel(task, force=True)
        for lane in self._coming.values():
            ray.kill(lane)
        for pool in (self._pending, self._queue, self._coming, self._lanes, self._idle):
            pool.clear()

    def _next_report(self, task: ray.ObjectRefGenerator) -> Report | None:
        """None: the fold's process was lost, and it is to be begun again in another."""
        job = self._pending[task]
        try:
            return cast(Report, ray.get(next(task)))
        except RayError as error:
            # Ray would try an actor again at once, and often: all tries are gone before a lost node is known to be lost.
            lost = task in self._lanes and isinstance(error, (RayActorError, OutOfMemoryError))
            self._lost[job.digest] += lost
            return None if lost and self._lost[job.digest] <= self.config.retries else _failure(job, error)

    def _ended(self, task: ray.ObjectRefGenerator, report: FoldResult | FoldFailure | None) -> None:
        job = self._pending.pop(task)
        if task in self._lanes:
            lane, inputs = self._lanes.pop(task)
            if isinstance(report, FoldResult):
                self._idle.append((time.monotonic(), lane))
            else:
                ray.kill(lane)  # what failed may have left its process unable to go on
            if report is None:
                self._queue.append((job, inputs))
        if self.config.workers_per_fold:
            Store(self.scratch).remove(job.digest)  # the fold's checkpoints have done their work

    def _man_lanes(self) -> None:
        """Waiting folds to idle processes; as many more processes asked for as folds still wait, and no more."""
        while self._queue and self._idle:
            (job, inputs), (_, lane) = self._queue.popleft(), self._idle.pop()
            task = lane.train.options(name=_name(job)).remote(job, inputs, self._body)
            self._pending[task], self._lanes[task] = job, (lane, inputs)
        while len(self._coming) > len(self._queue):
            ray.kill(self._coming.popitem()[1])
        while len(self._coming) < len(self._queue):
            needs = {"num_cpus": self.config.cpus_per_fold, "num_gpus": self.config.gpus_per_fold}
            new: Any = _Lane.options(**needs, scheduling_strategy="DEFAULT").remote()
            self._coming[new.ready.remote()] = new


class RayFoldExecutor:
    """The folds of one run."""

    def __init__(self, config: ClusterConfig, scratch: str, body: Body = attempt) -> None:
        self._workers = RayWorkers(config, scratch, body)

    def run(self, jobs: Sequence[FoldJob], inputs: Inputs) -> Generator[Report]:
        shared = self._workers.share(inputs)
        waiting = list(reversed(jobs))
        left = len(jobs)
        try:
            while left:
                while waiting and self._workers.room:
                    self._workers.submit(waiting.pop(), shared)
                for report in self._workers.reports():  # none, every few seconds: whoever stops us is heard
                    left -= not isinstance(report, FoldBegun)
                    yield report
        finally:
            self._workers.close()


def _name(job: FoldJob) -> str:
    return f"fold {job.fold.id} seed {job.seed}"


def _failure(job: FoldJob, error: RayError) -> FoldFailure:
    first, lost = str(error).strip().splitlines()[0], True
    match error:
        case OutOfMemoryError():
            reason = "the node ran out of memory with this fold, at every try; let fewer folds share a node (cluster.cpus_per_fold)"
        case RayTaskError():  # outside of what `attempt` guards: inputs that cannot be fetched, another version on the node
            reason, lost = f"the fold could not be run on its node ({first})", False
        case _:
            reason = f"the worker was lost and its retries are used up ({type(error).__name__}: {first})"
    return FoldFailure(job.digest, job.fold.id, job.seed, reason, str(error), lost=lost)


def _fold_in_process(job: FoldJob, shared: list[ray.ObjectRef], body: Body, gpu: bool = False) -> Generator[Report]:
    logging.getLogger("ray.train").setLevel(logging.ERROR)  # it announces its local mode at every fold
    yield FoldBegun(job.digest, job.fold.id, job.seed)
    inputs: Inputs = ray.get(shared[0])
    # Local mode: Train's API in this very process. An exception is a result here, so nothing but a death is retried.
    trainer = TorchTrainer(lambda: body(job, inputs, Alone(gpu=gpu)), scaling_config=ScalingConfig(num_workers=0))
    yield cast(Report, trainer.fit().return_value)


_train_in_task = ray.remote(num_returns="streaming")(_fold_in_process)


@ray.remote(num_cpus=1, max_retries=0)
def _imported() -> None:
    """Whoever runs this has loaded this module, and torch with it."""


def warm_up() -> None:
    """Let the first processes for folds load what they need, while the driver is not ready yet."""
    for _ in range(min(_WARM, int(ray.cluster_resources().get("CPU", 0)))):
        _imported.remote()


@ray.remote
class _Lane:
    """A process that trains folds on the GPU, or the share of one, that Ray gave it for life.

    A process reads once which GPU it has. A pooled one that Ray hands another GPU later would train on the wrong one, and a process
    a fold costs seconds a fold to start; an actor's GPU never changes. It ends when the driver lets go of it.
    """

    def ready(self) -> None:
        """Answered when it has its GPU."""

    @ray.method(num_returns="streaming")
    def train(self, job: FoldJob, shared: list[ray.ObjectRef], body: Body) -> Generator[Report]:
        yield from _fold_in_process(job, shared, body, gpu=True)


@ray.remote(num_returns="streaming")
def _train_in_group(job: FoldJob, shared: list[ray.ObjectRef], config: ClusterConfig, scratch: str) -> Generator[Report]:
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    yield FoldBegun(job.digest, job.fold.id, job.seed)
    filesystem, path = Store(scratch).arrow
    resources = {"CPU": config.cpus_per_fold, "GPU": config.gpus_per_fold}
    trainer = TorchTrainer(
        _in_worker,
        train_loop_config={"job": job, "inputs": shared, "gpu": config.gpus_per_fold > 0},
        scaling_config=ScalingConfig(
            num_workers=config.workers_per_fold,
            use_gpu=config.gpus_per_fold > 0,
            resources_per_worker={name: amount for name, amount in resources.items() if amount},
        ),
        run_config=RunConfig(
            name=job.digest,
            storage_path=path,
            storage_filesystem=filesystem,
            failure_config=FailureConfig(max_failures=config.retries),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
        ),
    )
    yield cast(Report, trainer.fit().return_value)


def _in_worker(config: dict[str, Any]) -> Report:
    logging.getLogger("ray.train").setLevel(logging.ERROR)  # it announces every checkpoint
    job: FoldJob = config["job"]
    runtime = GroupRuntime(int(job.spec["train"].get("epochs", 1)), config["gpu"])
    report = attempt(job, ray.get(config["inputs"][0]), runtime)
    if isinstance(report, FoldFailure) and runtime.rank:
        raise RuntimeError(report.reason)  # nobody reads this worker's report, and the first one waits for its gradients
    return report


class GroupRuntime:
    """A worker of a Ray Train group: gradients averaged by DDP, a checkpoint about ten times a fold."""

    def __init__(self, epochs: int, gpu: bool) -> None:
        self.device = get_device() if gpu else device_of(gpu=False)
        context = train.get_context()
        self.rank = context.get_world_rank()
        self.world = context.get_world_size()
        self.every = max(1, epochs // 10)

    def wrap(self, net: nn.Module) -> nn.Module:
        return net if self.world == 1 else nn.parallel.DistributedDataParallel(net)

    def agreed(self, value: T) -> T:
        if self.world == 1:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0)
        return box[0]

    def restore(self) -> dict[str, Any] | None:
        checkpoint = train.get_checkpoint()
        if checkpoint is None:
            return None
        with checkpoint.as_directory() as folder:
            return torch.load(Path(folder) / "state.pt", weights_only=True, map_location="cpu")

    def save(self, epoch: int, state: Callable[[], dict[str, Any]]) -> None:
        if epoch % self.every:
            return
        with temporary_folder("distmer-checkpoint") as folder:
            checkpoint = None
            if self.rank == 0:
                torch.save(state(), Path(folder) / "state.pt")
                checkpoint = Checkpoint.from_directory(folder)
            train.report({"epoch": epoch}, checkpoint=checkpoint)  # every worker reports: it is a barrier
