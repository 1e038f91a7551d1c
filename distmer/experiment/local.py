"""Folds and clips one after the other in this process, without Ray: for a debugger, and as the yardstick of `cluster`."""

from __future__ import annotations

import traceback
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from distmer.config import FeatureConfig
from distmer.features.pipeline import FeatureRequest, extract, one_thread
from distmer.features.row import FeatureRow
from distmer.training.data import Inputs
from distmer.training.fit import fit_fold
from distmer.training.network import Alone, Runtime
from distmer.types import BadInput, FlowMap, FoldBegun, FoldFailure, FoldJob, FoldResult, OtherCode, RunError


def attempt(job: FoldJob, inputs: Inputs, runtime: Runtime | None = None) -> FoldResult | FoldFailure:
    """The fold, or why its code raised. Any exception of a model is a row in the failure list, never the end of a run."""
    try:
        return fit_fold(job, inputs, runtime)
    except Exception as error:  # noqa: BLE001  # a model may raise anything; MemoryError too is this fold's alone
        return failure_of(job, error)


def failure_of(job: FoldJob, error: Exception) -> FoldFailure:
    """The row of a fold whose code raised: our own sentences as they stand, anything else with its traceback."""
    if isinstance(error, BadInput | RunError):
        return FoldFailure(job.digest, job.fold.id, job.seed, str(error), lost=isinstance(error, OtherCode))
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return FoldFailure(job.digest, job.fold.id, job.seed, reason, "".join(traceback.format_exception(error)))


class LocalExecutor:
    """Every fold in this process, one after the other; on its GPU if the folds' identity says so."""

    def run(self, jobs: Sequence[FoldJob], inputs: Inputs) -> Generator[FoldBegun | FoldResult | FoldFailure]:
        for job in jobs:
            yield FoldBegun(job.digest, job.fold.id, job.seed)
            yield attempt(job, inputs, Alone(gpu=job.spec["device"] == "cuda"))


def extract_here(requests: Sequence[FeatureRequest], config: FeatureConfig, batch: int) -> Iterator[list[FeatureRow]]:
    """Features of clips, in batches, in this process."""
    for start in range(0, len(requests), batch):
        yield [extract(request, config) for request in requests[start : start + batch]]


def all_maps(requests: Sequence[FeatureRequest]) -> bool:
    """Whether every clip is a ready-made flow map, of which nothing but a decoded image is wanted."""
    return all(isinstance(request.source, FlowMap) for request in requests)


def decode_maps(requests: Sequence[FeatureRequest], config: FeatureConfig, batch: int = 64) -> Iterator[list[FeatureRow]]:
    """Ready-made maps, decoded in this process: done before a pool of actors has begun. Reading files that are elsewhere is
    mostly waiting, so several are read at once."""
    with one_thread(), ThreadPoolExecutor(8) as pool:  # set once for all threads of the pool: each would put back another number
        for start in range(0, len(requests), batch):
            yield list(pool.map(lambda request: extract(request, config), requests[start : start + batch]))
