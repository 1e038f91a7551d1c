"""How long a fold will take on this machine, from a few timed steps on noise of its shape."""

from __future__ import annotations

import itertools
import time

import numpy as np

from distmer.config import ModelConfig, TrainConfig
from distmer.models import resolve
from distmer.training.network import Alone, Task, batch_bounds, settle, train_network
from distmer.types import FoldJob

_CLASSICAL_SECONDS = 1.0  # measured below a second a fold on some hundred clips; not worth a probe


def estimate_seconds(job: FoldJob) -> float:
    """Seconds for one fold of this job's kind, in one process of this machine; right to within a factor of about 1.5."""
    model = resolve(ModelConfig.model_validate({"name": job.spec["model"]["name"], **job.spec["model"]["options"]}))
    if model.info.kind == "classical":
        return _CLASSICAL_SECONDS
    train = TrainConfig.model_validate(job.spec["train"])
    settle(train.threads)
    clips = len(job.fold.train)
    batch = min(clips, train.batch_size)
    rng = np.random.default_rng(0)
    x_NCHW = rng.normal(size=(batch, len(model.inputs), model.size, model.size)).astype(np.float32)
    classes = int(job.spec["classes"])
    task = Task(lambda: model.build(classes), x_NCHW, None, rng.integers(classes, size=batch), classes)
    clock = [time.perf_counter()]
    train_network(task, train, 4, 0, Alone(), lambda net: clock.append(time.perf_counter()))
    step = min(b - a for a, b in itertools.pairwise(clock))
    trainings = 1 + (train.inner_folds - 1 if train.selection == "inner" else 0)
    return step * len(batch_bounds(clips, train.batch_size)) * train.epochs * trainings
