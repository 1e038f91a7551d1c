"""A run explained: the held-out clips of each fold, with the weights of this fold."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import numpy as np

from distmer.config import SyntheticConfig, TrainConfig
from distmer.experiment.ledger import Ledger
from distmer.experiment.plan import Plan
from distmer.experiment.prepare import Features
from distmer.explain.gather import SIDE, ClipMaps, gathered, look
from distmer.explain.sanity import random_network, seed_of, shuffled_fit
from distmer.features.landmarks import landmarks_of_crop, model_path
from distmer.registry import lookup
from distmer.report.explanation import About, Explanation
from distmer.training.fold_inputs import Inputs
from distmer.training.runtime import repeatable
from distmer.training.weights import unpack_fold
from distmer.types import BadInput, FloatArray, FoldJob, FoldResult

_log = logging.getLogger(__name__)
_ALIKE = 1e-3  # of a probability: what another processor may change
RANDOM, SHUFFLED = "random weights", "shuffled labels"
OF_TRUTH = "of this class"


def explain_folds(
    plan: Plan,
    ledger: Ledger,
    inputs: Inputs,
    features: Features,
    progress: Callable[[int, int], None] = lambda done, total: None,
    clip: str = "",
) -> tuple[Explanation, str]:
    """The maps of a plan's held-out clips, or of one ``clip``, for the class that each belongs to, as
    `gathered` gives them. The landmarks are always the mean over all clips.

    BadInput if the ledger has no weights of these folds, or if the weights do not answer as the fold did.
    """
    known = ledger.known(job.digest for job in plan.jobs)
    ids = {one.id: one for one in plan.clips}
    only = lookup(ids, clip, "clip").id if clip else ""
    jobs = [job for job in plan.jobs if not only or only in job.fold.test]
    kept = [(job, known[job.digest]) for job in jobs if job.digest in known and known[job.digest].kept]
    if not kept:
        raise BadInput(
            f"the ledger {ledger.folder} keeps no weights of this run's folds; run it again with --set"
            " train.keep_weights=true, which trains them again to the same numbers, and then explain it."
        )
    if len(kept) < len(jobs):
        _log.warning(
            "%d of %d folds have kept no weights, and are left out.", len(jobs) - len(kept), len(jobs)
        )
    looked: list[ClipMaps] = []
    for done, (job, result) in enumerate(kept):
        progress(done, len(kept))
        looked += _of_fold(plan, job, result, ledger.weights(result), inputs, only)
    progress(len(kept), len(kept))
    evaluation = plan.config.evaluation
    about = About(
        of=plan.digest,
        title=f"{plan.model.info.name} on {plan.manifest.protocol}" + (f" · {only}" if only else ""),
        whose=OF_TRUTH,
        untrained=RANDOM if plan.model.info.kind == "torch" else SHUFFLED,
        classes=plan.classes,
        streams=plan.model.inputs,
        confidence=evaluation.confidence,
    )
    motion = _true_motion(plan.config.data.synthetic) if plan.manifest.protocol == "synthetic" else None
    shape_L2 = mean_shape(features, list(ids), plan.config.features.landmarks)
    return gathered(about, looked, shape_L2, motion, evaluation.bootstrap)


def _of_fold(
    plan: Plan, job: FoldJob, result: FoldResult, contents: Mapping[str, bytes], inputs: Inputs, only: str
) -> list[ClipMaps]:
    x_NCHW = inputs.take(job.fold.test)
    with repeatable(TrainConfig.model_validate(job.spec["train"]).threads):
        fitted = unpack_fold(job, contents, result.epochs)
        apart = np.abs(fitted.predict(x_NCHW.copy()) - result.predictions.prob_NK).max()
        if not apart <= _ALIKE:
            raise BadInput(
                f"fold {job.fold.id}, seed {job.seed}: its kept weights answer otherwise than the fold did"
                f" (by {apart:.2g} of a probability); use the libraries that it was trained with, or run it"
                " in a new workspace."
            )
        if plan.model.info.kind == "torch":
            untrained = random_network(fitted, inputs.take(job.fold.train), seed_of(job))
        else:
            untrained = shuffled_fit(job, inputs, plan.model, seed_of(job))
        clips = (only,) if only else job.fold.test
        target_N = np.array([job.labels[clip] for clip in clips])
        return look(clips, fitted, untrained, inputs.take(clips), target_N, inputs.no_motion)


def mean_shape(features: Features, clips: list[str], landmarks: str | None) -> FloatArray | None:
    """The mean landmarks of clips, from 0 to 1 of the aligned frame; None of published flow maps."""
    if features.store.unit != "px":
        return None
    stored = features.store.load([(clip, features.keys[clip]) for clip in clips], ("onset",))
    onset_NHW = stored.crops["onset"]
    points = [landmarks_of_crop(onset_HW, model_path(landmarks)) for onset_HW in onset_NHW]
    return np.mean(points, axis=0) / (onset_NHW.shape[1] - 1)


def _true_motion(options: SyntheticConfig) -> dict[str, FloatArray]:
    from distmer.datasets.synthetic.truth import true_motion  # it makes the faces of the embedded set

    return true_motion(options, SIDE)
