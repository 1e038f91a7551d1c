"""How long a fold takes on this machine, by a few timed steps on noise of the fold's shape; and whether Ray
therefore trains it as a task or in a worker group."""

from __future__ import annotations

import functools
import itertools
import json
import os
import time

import numpy as np

from distmer.config import ClusterConfig, ModelConfig, TrainConfig
from distmer.models import ResolvedModel, resolve
from distmer.training.network import Task, batch_bounds, train_network
from distmer.training.runtime import SingleProcess, repeatable
from distmer.types import FoldJob, JsonValue

_CLASSICAL_SECONDS = 1.0  # measured below a second a fold on some hundred clips; not worth a probe
_SECONDS_A_PIXEL = 2e-5  # of a clip in an epoch: twice what the slowest of our models took on a busy machine


def estimate_seconds(job: FoldJob) -> float:
    """Seconds that a fold takes in one process of this machine, within a factor of about 1.5. A process times
    the steps of each kind of job (its model, batch and optimiser) only once."""
    model = json.dumps(job.spec["model"], sort_keys=True)
    if _resolved(model).info.kind == "classical":
        return _CLASSICAL_SECONDS
    train = TrainConfig.model_validate(job.spec["train"])
    clips = len(job.fold.train)
    # What a step costs does not depend on these settings.
    probe = train.model_copy(update={"epochs": 4, "lr": 1e-4, "selection": "fixed"})
    batch = min(clips, train.batch_size)
    step = _step_seconds(model, probe.model_dump_json(), int(job.spec["classes"]), batch)
    trainings = 1 + (train.inner_folds - 1 if train.selection == "inner" else 0)
    return step * len(batch_bounds(clips, train.batch_size)) * train.epochs * trainings * train.ensemble


def uses_worker_group(job: FoldJob, cluster: ClusterConfig, scratch: str) -> bool:
    """Whether Ray trains the fold in a worker group with checkpoints, and not as one task.

    With ``workers_per_fold: auto`` these are the folds on a CPU that are estimated above
    `cluster.checkpoint_after`, if every node can read ``scratch``: it is on an object store, or all nodes are
    this machine. A fold on a GPU is a task, because this CPU does not show how long it takes. A classical
    model has no checkpoints.
    """
    if _resolved(json.dumps(job.spec["model"], sort_keys=True)).info.kind == "classical":
        return False
    if cluster.workers_per_fold != "auto":
        return cluster.workers_per_fold > 0
    reachable = "://" in scratch or cluster.named(os.environ) is None
    if job.spec["device"] != "cpu" or not reachable:
        return False
    try:
        longest = _upper_bound_seconds(job)
        return longest > cluster.checkpoint_after and estimate_seconds(job) > cluster.checkpoint_after
    except Exception:  # noqa: BLE001  # a fold that cannot be trained fails in its task, and is then listed
        return False


def folds_at_once(cluster: ClusterConfig) -> int:
    """Folds that Ray trains at once on the CPUs of this machine."""
    cpus = cluster.local_cpus or os.cpu_count() or 1
    return max(1, min(int(cpus / (cluster.cpus_per_fold * cluster.workers)), cluster.in_flight))


def describe_executor(job: FoldJob, cluster: ClusterConfig, scratch: str) -> str:
    """For the plan's text: whether Ray trains a fold as a task or in a group, and how long it takes here."""
    seconds = estimate_seconds(job)
    duration = f"{seconds:.0f} s"
    if seconds >= 120:
        duration = f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
    if not uses_worker_group(job, cluster, scratch):
        return f"each fold a task of its own, about {duration} on this machine"
    group = "a worker group of one" if cluster.workers == 1 else f"a worker group of {cluster.workers}"
    return f"each fold {group} with checkpoints, about {duration} in one process of this machine"


def _upper_bound_seconds(job: FoldJob) -> float:
    """More seconds than the fold takes, without timing: a process's first optimiser loads slowly."""
    train = TrainConfig.model_validate(job.spec["train"])
    size = _resolved(json.dumps(job.spec["model"], sort_keys=True)).size
    trainings = (train.inner_folds if train.selection == "inner" else 1) * train.ensemble
    return len(job.fold.train) * train.epochs * trainings * size**2 * _SECONDS_A_PIXEL


@functools.lru_cache(maxsize=256)
def _resolved(model: str) -> ResolvedModel:
    """The model of a job's ``spec["model"]`` as JSON."""
    spec: dict[str, JsonValue] = json.loads(model)
    return resolve(ModelConfig.model_validate({"name": spec["name"], **spec["options"]}))


@functools.lru_cache(maxsize=256)
def _step_seconds(model: str, train_config: str, classes: int, batch: int) -> float:
    """Seconds of one training step on ``batch`` clips of noise. The arguments are JSON, for the cache."""
    resolved, train = _resolved(model), TrainConfig.model_validate_json(train_config)
    rng = np.random.default_rng(0)
    x_NCHW = rng.normal(size=(batch, len(resolved.inputs), resolved.size, resolved.size)).astype(np.float32)
    task = Task(lambda: resolved.build(classes), x_NCHW, rng.integers(classes, size=batch), classes)
    ends = [time.perf_counter()]
    with repeatable(train.threads):
        runtime = SingleProcess()
        train_network(task, train, train.epochs, 0, runtime, lambda net: ends.append(time.perf_counter()))
    return min(end - begin for begin, end in itertools.pairwise(ends))
