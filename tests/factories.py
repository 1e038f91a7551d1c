"""Plans, folds and results made by hand in memory, for tests of what is told about a run: no features, no
training."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import astuple, replace
from typing import Any

import numpy as np

from distmer.config import Config
from distmer.experiment.events import Event, FoldFinished, RunEnded, RunStarted
from distmer.experiment.plan import Plan, build_plan
from distmer.experiment.result import RunResult, conclude
from distmer.features.row import FeatureRow
from distmer.models import resolve
from distmer.types import (
    Clip,
    ClipFailure,
    FoldFailure,
    FoldJob,
    FoldResult,
    KeyFrames,
    Manifest,
    Predictions,
)

CLASSES = ("negative", "positive", "surprise")


def plan(
    people: Sequence[tuple[str, int]] = (("ones", 3), ("twos", 3)),
    each: int = 5,
    lost: int = 1,
    **sections: Any,
) -> Plan:
    """A plan over ``people`` subjects of each data set with ``each`` clips, ``lost`` of which could not be
    used."""
    clips = [
        Clip(
            name,
            f"s{s:02d}",
            f"c{i}",
            [0, 0, 1, 2, 0][(s + i) % 5],
            CLASSES[0],
            KeyFrames("onset", "apex"),
            "hand.csv row 1",
        )
        for name, subjects in people
        for s in range(1, subjects + 1)
        for i in range(each)
    ]
    manifest = Manifest("hand-made", CLASSES, tuple(clips), expected=sections.pop("expected", {}))
    tree = {"model": {"name": "linear"}, "evaluation": {"bootstrap": 100}, **sections}
    config = Config.model_validate(tree)
    unusable = [ClipFailure(clip.id, "no face was found in the onset frame") for clip in clips[:lost]]
    return build_plan(
        config, manifest, resolve(config.model), {clip.id: f"key of {clip.id}" for clip in clips}, unusable
    )


def fold(plan: Plan, job: FoldJob, skill: float = 0.6, epochs: int = 0) -> FoldResult:
    """A finished fold whose predictions are right with the probability ``skill``; the same every time.

    They follow from the fold's name and seed, and not from its digest, which moves with distmer's code.
    """
    rng = np.random.default_rng(zlib.crc32(f"{job.fold.id} {job.seed}".encode()))
    y_true_N = np.array([plan.labels[clip] for clip in job.fold.test])
    y_pred_N = np.where(
        rng.random(len(y_true_N)) < skill, y_true_N, rng.integers(len(plan.classes), size=len(y_true_N))
    )
    prob_NK = np.full((len(y_true_N), len(plan.classes)), 0.1)
    prob_NK[np.arange(len(y_true_N)), y_pred_N] = 0.8
    loss = np.exp(-np.arange(epochs) / max(1, epochs / 4)) + rng.normal(scale=0.04, size=epochs)
    n = len(y_true_N)
    predictions = Predictions(
        job.fold.test, y_true_N, y_pred_N, prob_NK, (job.fold.id,) * n, np.full(n, job.seed)
    )
    curves = {"train_loss": tuple(loss.tolist())} if epochs else {}
    return FoldResult(
        job.digest, job.fold.id, job.seed, predictions, epochs, curves, seconds=1.5, device="cpu"
    )


def failure(job: FoldJob, reason: str = "ValueError: the loss is not finite") -> FoldFailure:
    return FoldFailure(
        job.digest, job.fold.id, job.seed, reason, f"Traceback (most recent call last)\n{reason}"
    )


def result(
    plan: Plan,
    failed: int = 0,
    unreached: int = 0,
    epochs: int = 0,
    run_dir: str = "/workspace/runs/abc",
    only: Sequence[str] = (),
) -> RunResult:
    """A run's end: the first ``failed`` folds failed, the last ``unreached`` were not reached. ``only``: what
    was asked for."""
    reached = plan.jobs[: len(plan.jobs) - unreached]
    folds = [fold(plan, job, epochs=epochs) for job in reached[failed:]]
    return conclude(plan, folds, [failure(job) for job in reached[:failed]], 12.5, run_dir, only)


def events(result: RunResult, cached: int = 0) -> list[Event]:
    """What observers hear of such a run, whose first ``cached`` folds were in the ledger."""
    told: list[Event] = [RunStarted(result.plan, result.run_dir, cached, len(result.plan.jobs) - cached)]
    told += [FoldFinished(fold, cached=i < cached) for i, fold in enumerate(result.folds)]
    return [*told, *result.failures, RunEnded(result)]


def same_features(one: FeatureRow, other: FeatureRow) -> bool:
    """Whether two rows are alike but for the time that they took."""
    texts = [astuple(replace(row, channels={}, seconds=0.0)) for row in (one, other)]
    return (
        texts[0] == texts[1]
        and one.channels.keys() == other.channels.keys()
        and all(np.array_equal(x_HW, other.channels[name]) for name, x_HW in one.channels.items())
    )
