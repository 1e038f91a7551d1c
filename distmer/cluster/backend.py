"""Ray as a backend: joined or started when the first clip or fold needs it, left when the run ends."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from distmer.cluster.connect import session
from distmer.config import ClusterConfig, FeatureConfig
from distmer.experiment.local import all_maps, attempt, decode_maps
from distmer.experiment.run import Executor, Report
from distmer.features.pipeline import FeatureRequest
from distmer.features.row import FeatureRow
from distmer.sweep.space import Space
from distmer.sweep.workers import Tuner, Workers
from distmer.training.data import Inputs
from distmer.training.estimate import in_group
from distmer.types import FoldFailure, FoldJob, FoldResult


class RayBackend:
    """Clips through Ray Data (ready-made maps are decoded here), folds through Ray tasks. A run that is all cached never starts Ray."""

    def __init__(
        self,
        config: ClusterConfig,
        scratch: str,
        body: Callable[..., FoldResult | FoldFailure] = attempt,
        *,
        groups: bool = False,
    ) -> None:
        """``scratch``: for the checkpoints of worker groups. ``body``: who trains a fold within its task. ``groups``:
        whether to start Ray with what worker groups need before it is known if any fold is so long."""
        self._config = config
        self._scratch = scratch
        self._body = body
        self._exits = ExitStack()
        self._joined = False
        self._groups = groups or config.workers_per_fold not in (0, "auto")  # whether Ray is started for worker groups

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._exits.close()

    def extract(self, requests: Sequence[FeatureRequest], config: FeatureConfig) -> Iterator[list[FeatureRow]]:
        if all_maps(requests):
            return decode_maps(requests, config)
        self._join()
        from distmer.cluster.features import extract_on_ray  # Ray reads its environment when it loads: only after joining

        return extract_on_ray(requests, config, self._config)

    def executor(self) -> Executor:
        return self

    def run(self, jobs: Sequence[FoldJob], inputs: Inputs) -> Generator[Report]:
        groups = any(in_group(job, self._config, self._scratch) for job in jobs)
        if groups and self._joined and not self._groups:  # extraction came first; for folds of minutes another start is no price
            self._exits.close()
            self._joined = False
        self._groups |= groups
        self._join()
        from distmer.cluster.folds import RayFoldExecutor

        yield from RayFoldExecutor(self._config, self._scratch, self._body).run(jobs, inputs)

    def searching(self, space: Space) -> tuple[Tuner, Workers]:
        """Ray Tune's searchers and schedulers for a sweep, and the workers that its trials' folds share."""
        self._join()
        from distmer.cluster.folds import RayWorkers
        from distmer.cluster.search import RayTuner

        workers, tuner = RayWorkers(self._config, self._scratch, self._body), RayTuner(space, self._config.retries)
        self._exits.callback(workers.close)
        self._exits.callback(tuner.close)
        return tuner, workers

    def _join(self) -> None:
        if not self._joined:
            self._exits.enter_context(session(self._config, groups=self._groups))
            self._joined = True
