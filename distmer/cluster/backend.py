"""Ray as a backend: joined or started when the first clip or fold needs it, left when the run ends."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack

from distmer.cluster.connect import session
from distmer.config import ClusterConfig, FeatureConfig
from distmer.experiment.backend import Backend
from distmer.experiment.local import all_maps, attempt, decode_maps
from distmer.experiment.processes import extract_in_processes, stays_here
from distmer.experiment.run import Report
from distmer.features.pipeline import FeatureRequest
from distmer.features.row import FeatureRow
from distmer.sweep.space import Space
from distmer.sweep.workers import Tuner, Workers
from distmer.training.estimate import uses_worker_group
from distmer.training.fold_inputs import Inputs
from distmer.types import FoldFailure, FoldJob, FoldResult


class RayBackend(Backend):
    """Clips through Ray Data, folds through Ray tasks, searches through Ray Tune.

    Published maps are decoded in this process. Without a cluster, a few clips are extracted by processes of
    this machine. Ray reads its environment when it loads, so what imports Ray is imported after joining.

    Parameters
    ----------
    config : ClusterConfig
    scratch : str
        Path or address for the checkpoints of worker groups.
    body : callable
        Who trains a fold within its task; another than `attempt` only in tests and benchmarks.
    groups : bool
        Whether to start Ray with what worker groups need before it is known if any fold is so long.
    """

    def __init__(
        self,
        config: ClusterConfig,
        scratch: str,
        body: Callable[..., FoldResult | FoldFailure] = attempt,
        *,
        groups: bool = False,
    ) -> None:
        self._config, self._scratch, self._body = config, scratch, body
        self._exits = ExitStack()
        self._joined = False
        # whether Ray is started for worker groups
        self._groups = groups or config.workers_per_fold not in (0, "auto")

    def starting(self, clips: int) -> str:
        """Ray, unless it was started, or the clips are so few that it is not needed."""
        return "" if self._joined or stays_here(clips, self._config, os.environ) else "starting Ray"

    def start(self, clips: int, *, folds: bool) -> None:
        """Join Ray, or start it, and load Ray Data, where these are needed."""
        here = stays_here(clips, self._config, os.environ)
        if folds or not here:
            self._join()
        if not here:
            import distmer.cluster.features  # noqa: F401

    def extract(
        self, requests: Sequence[FeatureRequest], config: FeatureConfig
    ) -> Generator[list[FeatureRow]]:
        """Features of clips, as Ray's actors finish them, or processes of this machine, if they are few."""
        if all_maps(requests):
            return decode_maps(requests, config)
        if stays_here(len(requests), self._config, os.environ):
            return extract_in_processes(requests, config, self._config)
        self._join()
        from distmer.cluster.features import extract_on_ray

        return extract_on_ray(requests, config, self._config)

    def train(self, jobs: Sequence[FoldJob], inputs: Inputs) -> Generator[Report]:
        groups = any(uses_worker_group(job, self._config, self._scratch) for job in jobs)
        if groups and not self._groups:
            self.close()  # extraction came first; for folds of minutes another start is no price
        self._groups |= groups
        self._join()
        from distmer.cluster.folds import RayWorkers

        yield from RayWorkers(self._config, self._scratch, self._body).run(jobs, inputs)

    def search(self, space: Space) -> tuple[Tuner, Workers]:
        """For a sweep: Ray Tune's searchers and schedulers, and the workers that all trials share."""
        self._join()
        from distmer.cluster.folds import RayWorkers
        from distmer.cluster.search import RayTuner

        workers = RayWorkers(self._config, self._scratch, self._body)
        tuner = RayTuner(space, self._config.retries)
        self._exits.callback(workers.close)
        self._exits.callback(tuner.close)
        return tuner, workers

    def close(self) -> None:
        """End what is under way, and leave Ray, or end it if it was started here."""
        self._exits.close()
        self._joined = False

    def _join(self) -> None:
        if not self._joined:
            self._exits.enter_context(session(self._config, groups=self._groups))
            self._joined = True
