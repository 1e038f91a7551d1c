"""A fold as a Ray Train worker group: checkpoints, restarts of lost workers, averaged gradients."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Generator
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import ray
import torch
from ray import train
from ray.exceptions import RayError
from ray.train import Checkpoint, TrainingFailedError
from ray.train.torch import TorchTrainer, get_device
from torch import nn

from distmer.config import ClusterConfig
from distmer.experiment.local import attempt, failure_of
from distmer.experiment.run import Report
from distmer.leftovers import temporary_folder
from distmer.storage import Place, arrow, delete, place, write
from distmer.training.fold_inputs import Inputs
from distmer.training.runtime import T, keep_memory, training_device
from distmer.types import FoldBegun, FoldFailure, FoldJob

# What torch says in a worker whose neighbour has failed or is lost, which is the true reason.
_NEIGHBOUR = re.compile(r"gloo|nccl|connection (was )?(closed|reset)|broken pipe", re.IGNORECASE)


@ray.remote(num_returns="streaming", num_cpus=0, max_retries=0)
def train_in_group(
    job: FoldJob, shared: list[ray.ObjectRef], config: ClusterConfig, scratch: str
) -> Generator[Report]:
    """Drive a fold's group. An exception of a worker is a report; only what is lost is started again."""
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    delete(_failure_place(scratch, job).parent)
    yield FoldBegun(job.digest, job.fold.id, job.seed)
    filesystem, path = arrow(place(scratch))
    gpu = job.spec["device"] == "cuda"
    resources = {"CPU": config.cpus_per_fold, "GPU": config.gpus_per_fold if gpu else 0.0}
    trainer = TorchTrainer(
        _in_worker,
        train_loop_config={"job": job, "inputs": shared, "gpu": gpu, "scratch": scratch},
        scaling_config=train.ScalingConfig(
            num_workers=config.workers,
            use_gpu=gpu,
            resources_per_worker={name: amount for name, amount in resources.items() if amount},
        ),
        run_config=train.RunConfig(
            name=job.digest,
            storage_path=path,
            storage_filesystem=filesystem,
            failure_config=train.FailureConfig(max_failures=config.retries),
            checkpoint_config=train.CheckpointConfig(num_to_keep=1),
        ),
    )
    try:
        report = cast(Report, trainer.fit().return_value)
    except TrainingFailedError as error:
        report = _recorded_failure(scratch, job) or _lost(job, error)
    yield report


def forget(scratch: str, job: FoldJob) -> None:
    """Remove the fold's checkpoints."""
    delete(place(scratch) / job.digest)
    delete(_failure_place(scratch, job).parent)


def _lost(job: FoldJob, error: TrainingFailedError) -> FoldFailure:
    causes = getattr(error, "worker_failures", None) or {0: getattr(error, "controller_failure", error)}
    cause = next(iter(causes.values()))
    reason = (
        f"its worker group was lost and its retries are used up ({type(cause).__name__}: {first_line(cause)})"
    )
    return FoldFailure(job.digest, job.fold.id, job.seed, reason, plain(str(error)), lost=True)


def plain(text: str) -> str:
    """Text without a terminal's colour codes."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def first_line(error: BaseException) -> str:
    return next(iter(plain(str(error)).strip().splitlines()), "no reason given")


def _failure_place(scratch: str, job: FoldJob) -> Place:
    """Where the first worker of a group whose code raised tells the others."""
    return place(scratch) / f"{job.digest}.failure" / "failure.json"


def _recorded_failure(scratch: str, job: FoldJob) -> FoldFailure | None:
    try:
        return FoldFailure(**json.loads(_failure_place(scratch, job).read_bytes()))
    except FileNotFoundError:
        return None


def _in_worker(config: dict[str, Any]) -> Report:
    logging.getLogger("ray.train").setLevel(logging.ERROR)  # it announces every checkpoint
    job: FoldJob = config["job"]
    keep_memory()
    try:
        runtime = GroupRuntime(int(job.spec["train"].get("epochs", 1)), config["gpu"])
        inputs = cast(Inputs, ray.get(config["inputs"][0]))
    except RayError:
        raise  # lost, not wrong
    except Exception as error:  # noqa: BLE001  # as in `attempt`: a row, whatever it is
        return _agreed(config, failure_of(job, error))
    # after an exception in the code Ray Train starts the group again, but there is nothing to try again
    if runtime.world > 1 and (recorded := _recorded_failure(config["scratch"], job)):
        return recorded
    return _agreed(config, attempt(job, inputs, runtime))


def _agreed(config: dict[str, Any], report: Report) -> Report:
    """The report. If there are several workers, one whose code raised writes it down and ends the group,
    because the others wait for its gradients."""
    if not isinstance(report, FoldFailure) or train.get_context().get_world_size() == 1:
        return report
    scratch, job = config["scratch"], config["job"]
    if not _NEIGHBOUR.search(report.reason) and _recorded_failure(scratch, job) is None:
        write(_failure_place(scratch, job), json.dumps(asdict(report)).encode())
    raise RuntimeError(report.reason)


class GroupRuntime:
    """A worker of a Ray Train group: gradients averaged by DDP, a checkpoint about ten times a fold."""

    def __init__(self, epochs: int, gpu: bool) -> None:
        self._gpu, context = gpu, train.get_context()
        self.rank, self.world = context.get_world_rank(), context.get_world_size()
        self.every = max(1, epochs // 10)

    @property
    def device(self) -> torch.device:
        promised = training_device(self._gpu)
        return get_device() if self._gpu else promised

    def wrap(self, net: nn.Module) -> nn.Module:
        return net if self.world == 1 else nn.parallel.DistributedDataParallel(net)

    def broadcast(self, value: T) -> T:
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
