"""How long a fold will take on this machine, from a few timed steps on noise of its shape; and as what it is trained on Ray for that."""

from __future__ import annotations

import functools
import itertools
import json
import os
import time
from collections.abc import Mapping

import numpy as np

from distmer.config import ClusterConfig, ModelConfig, TrainConfig
from distmer.models import ResolvedModel, resolve
from distmer.training.network import Alone, Task, batch_bounds, settled, train_network
from distmer.types import FoldJob, JsonValue

_CLASSICAL_SECONDS = 1.0  # measured below a second a fold on some hundred clips; not worth a probe
_SECONDS_A_PIXEL = 2e-5  # of a clip in an epoch: twice what the slowest of our models took on a busy machine


def estimate_seconds(job: FoldJob) -> float:
    """Seconds for one fold of this job's kind, in one process of this machine; right to within a factor of about 1.5.

    The steps of a kind of job (its model, batch and optimiser) are timed once in a process.
    """
    model = json.dumps(job.spec["model"], sort_keys=True)
    if _resolved(model).info.kind == "classical":
        return _CLASSICAL_SECONDS
    train = TrainConfig.model_validate(job.spec["train"])
    clips = len(job.fold.train)
    probe = train.model_copy(update={"epochs": 4, "lr": 1e-4, "selection": "fixed"})  # what a step costs does not depend on these
    step = _step_seconds(model, probe.model_dump_json(), int(job.spec["classes"]), min(clips, train.batch_size))
    trainings = 1 + (train.inner_folds - 1 if train.selection == "inner" else 0)
    return step * len(batch_bounds(clips, train.batch_size)) * train.epochs * trainings


def reaches(cluster: ClusterConfig, scratch: str, environ: Mapping[str, str]) -> bool:
    """Whether every node is known to reach the checkpoints: they are on an object store, or all nodes are this machine."""
    return "://" in scratch or (cluster.address or environ.get("RAY_ADDRESS")) in (None, "", "local")


def in_group(job: FoldJob, cluster: ClusterConfig, scratch: str) -> bool:
    """Whether Ray trains the fold in a worker group, with checkpoints, and not in one task.

    With `auto`: a fold on a CPU that is estimated above `cluster.checkpoint_after`, where every node reaches ``scratch``. Of a fold on a
    GPU this machine's CPU tells nothing: it is a task unless a group is asked for. A classical model has no checkpoints.
    """
    if _resolved(json.dumps(job.spec["model"], sort_keys=True)).info.kind == "classical":
        return False
    if cluster.workers_per_fold != "auto":
        return cluster.workers_per_fold > 0
    if job.spec["device"] != "cpu" or not reaches(cluster, scratch, os.environ):
        return False
    try:
        return _at_most(job) > cluster.checkpoint_after and estimate_seconds(job) > cluster.checkpoint_after
    except Exception:  # noqa: BLE001  # what cannot be trained is a row of the failures, and that is for its task to find out
        return False


def in_words(job: FoldJob, cluster: ClusterConfig, scratch: str) -> str:
    """As what Ray trains a fold, and about how long that takes here."""
    seconds = estimate_seconds(job)
    long = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
    if not in_group(job, cluster, scratch):
        return f"each fold a task of its own, about {long} on this machine"
    size = "one" if cluster.workers == 1 else str(cluster.workers)
    return f"each fold a worker group of {size} with checkpoints, about {long} in one process of this machine"


def _at_most(job: FoldJob) -> float:
    """Seconds that a fold will not take, without timing anything: the first optimiser of a process costs a second or two to load."""
    train = TrainConfig.model_validate(job.spec["train"])
    size = _resolved(json.dumps(job.spec["model"], sort_keys=True)).size
    trainings = train.inner_folds if train.selection == "inner" else 1
    return len(job.fold.train) * train.epochs * trainings * size**2 * _SECONDS_A_PIXEL


@functools.lru_cache(maxsize=256)
def _resolved(model: str) -> ResolvedModel:
    spec: dict[str, JsonValue] = json.loads(model)
    return resolve(ModelConfig.model_validate({"name": spec["name"], **spec["options"]}))


@functools.lru_cache(maxsize=256)
def _step_seconds(model: str, train_config: str, classes: int, batch: int) -> float:
    resolved, train = _resolved(model), TrainConfig.model_validate_json(train_config)
    rng = np.random.default_rng(0)
    x_NCHW = rng.normal(size=(batch, len(resolved.inputs), resolved.size, resolved.size)).astype(np.float32)
    task = Task(lambda: resolved.build(classes), x_NCHW, None, rng.integers(classes, size=batch), classes)
    clock = [time.perf_counter()]
    with settled(train.threads):
        train_network(task, train, train.epochs, 0, Alone(), lambda net: clock.append(time.perf_counter()))
    return min(b - a for a, b in itertools.pairwise(clock))
