"""Folds and clips one after the other in this process, without Ray."""

from __future__ import annotations

import traceback
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from distmer.config import ClusterConfig, FeatureConfig
from distmer.experiment.backend import Backend
from distmer.experiment.run import Report
from distmer.features.pipeline import FeatureRequest, extract, one_thread
from distmer.features.row import FeatureRow
from distmer.training.fit import fit_and_keep
from distmer.training.fold_inputs import Inputs
from distmer.training.runtime import Runtime, SingleProcess
from distmer.training.weights import pack_fold
from distmer.types import BadInput, FlowMap, FoldBegun, FoldFailure, FoldJob, FoldResult, OtherCode, RunError

_MAPS = 64  # that are decoded at a time


class LocalBackend(Backend):
    """This process: for a debugger, and to compare with Ray."""

    def require(self, config: ClusterConfig) -> None:
        """BadInput where a fold is to be trained by several workers."""
        if config.workers > 1:
            raise BadInput(
                f"cluster.workers_per_fold={config.workers}: with --local one process trains a fold, and its"
                " numbers would be others; leave --local out, or set cluster.workers_per_fold=1."
            )

    def extract(
        self, requests: Sequence[FeatureRequest], config: FeatureConfig, batch: int = 4
    ) -> Generator[list[FeatureRow]]:
        """Features of clips, ``batch`` of them at a time."""
        for start in range(0, len(requests), batch):
            yield [extract(request, config) for request in requests[start : start + batch]]

    def train(self, jobs: Sequence[FoldJob], inputs: Inputs) -> Generator[Report]:
        """Folds in the order of their jobs; on this process's GPU if the folds' identity says so."""
        for job in jobs:
            yield FoldBegun(job.digest, job.fold.id, job.seed)
            yield attempt(job, inputs, SingleProcess(gpu=job.spec["device"] == "cuda"))


def attempt(job: FoldJob, inputs: Inputs, runtime: Runtime | None = None) -> FoldResult | FoldFailure:
    """The fold, with its weights if the job wants them, or why its code raised. Any exception of a model is a
    row in the failure list, never the end of a run."""
    try:
        result, fitted = fit_and_keep(job, inputs, runtime)
        if not job.keep_weights or fitted is None:
            return result
        x_NCHW, prob_NK = inputs.take(job.fold.test), result.predictions.prob_NK
        return replace(result, weights=pack_fold(job, fitted, x_NCHW, prob_NK))
    except Exception as error:  # noqa: BLE001  # a model may raise anything; MemoryError too is this fold's alone
        return failure_of(job, error)


def failure_of(job: FoldJob, error: Exception) -> FoldFailure:
    """The failure of a fold whose code raised: our own sentences as they are, others with the traceback."""
    if isinstance(error, BadInput | RunError):
        return FoldFailure(job.digest, job.fold.id, job.seed, str(error), lost=isinstance(error, OtherCode))
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return FoldFailure(job.digest, job.fold.id, job.seed, reason, "".join(traceback.format_exception(error)))


def all_maps(requests: Sequence[FeatureRequest]) -> bool:
    """Whether every clip is a ready-made flow map, which only needs decoding."""
    return all(isinstance(request.source, FlowMap) for request in requests)


def decode_maps(requests: Sequence[FeatureRequest], config: FeatureConfig) -> Generator[list[FeatureRow]]:
    """Ready-made maps, decoded in this process: done before a pool of actors has begun. Reading files that
    are elsewhere is mostly waiting, so several are read at once."""
    # OpenCV's number of threads is set once for all threads of the pool: each would put back another number.
    with one_thread(), ThreadPoolExecutor(8) as pool:
        for start in range(0, len(requests), _MAPS):
            yield list(pool.map(lambda request: extract(request, config), requests[start : start + _MAPS]))
