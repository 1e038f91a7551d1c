"""Where the work is done: the two heavy arrows (features of many clips, many folds) behind one small interface."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Protocol, Self

from distmer.config import ClusterConfig, FeatureConfig
from distmer.experiment.local import LocalExecutor, extract_here
from distmer.experiment.run import Executor
from distmer.features.pipeline import FeatureRequest
from distmer.features.row import FeatureRow
from distmer.types import BadInput


class Backend(Protocol):
    """A context: what it started is ended with it. Nothing is started before it is needed."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def extract(self, requests: Sequence[FeatureRequest], config: FeatureConfig) -> Iterator[list[FeatureRow]]:
        """Features of clips, in batches as they come, in any order."""
        ...

    def executor(self) -> Executor:
        """Whoever trains the folds. BadInput where it cannot train them as configured."""
        ...


class LocalBackend:
    """This process, one thing after the other."""

    def __init__(self, config: ClusterConfig) -> None:
        self._workers = config.workers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None

    def extract(self, requests: Sequence[FeatureRequest], config: FeatureConfig) -> Iterator[list[FeatureRow]]:
        return extract_here(requests, config, batch=4)

    def executor(self) -> Executor:
        if self._workers > 1:
            raise BadInput(
                f"cluster.workers_per_fold={self._workers}: with --local one process trains a fold, and its numbers would be others; leave"
                " --local out, or set cluster.workers_per_fold=1."
            )
        return LocalExecutor()
