"""Ray as a backend: joined or started when a clip or fold needs it, or is sure to, and left when the run ends."""

from __future__ import annotations

import ctypes
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from threading import Event, Thread
from types import TracebackType
from typing import Self

from distmer.cluster.connect import session
from distmer.config import ClusterConfig, FeatureConfig
from distmer.experiment.crew import Tuner, Workers
from distmer.experiment.local import all_maps, attempt, decode_maps
from distmer.experiment.run import Executor, Report
from distmer.experiment.space import Space
from distmer.features.pipeline import FeatureRequest, FeatureRow, extract
from distmer.training.data import Inputs
from distmer.training.estimate import in_group
from distmer.types import FoldFailure, FoldJob, FoldResult


class RayBackend:
    """Clips through Ray Data, folds through Ray tasks. A run that is all cached never starts Ray.

    Ready-made maps are decoded in this process, and the first clips are extracted in it while a Ray of our own starts.
    """

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
        self._session = _Session(config, groups=groups or config.workers_per_fold not in (0, "auto"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._exits.close()
        finally:
            self._session.end()

    def will_be_needed(self) -> None:
        """Start or join Ray while the caller goes on. What fails is told when Ray is first used."""
        self._session.begin()

    def extract(self, requests: Sequence[FeatureRequest], config: FeatureConfig) -> Iterator[list[FeatureRow]]:
        if all_maps(requests):
            yield from decode_maps(requests, config)
            return
        left = deque(requests)
        if self._session.own:  # what is extracted meanwhile is kept, even if this process ends before an actor is up
            self._session.begin()
            while left and not self._session.settled:
                yield [extract(left.popleft(), config)]
        if left:
            self._session.join()
            # Ray reads its environment when it loads: only after joining.
            from distmer.cluster.features import extract_on_ray

            yield from extract_on_ray(list(left), config, self._config)

    def executor(self) -> Executor:
        return self

    def run(self, jobs: Sequence[FoldJob], inputs: Inputs) -> Generator[Report]:
        self._join(groups=any(in_group(job, self._config, self._scratch) for job in jobs))
        from distmer.cluster.folds import RayFoldExecutor

        yield from RayFoldExecutor(self._config, self._scratch, self._body).run(jobs, inputs)

    def searching(self, space: Space) -> tuple[Tuner, Workers]:
        """Ray Tune's searchers and schedulers for a sweep, and the workers that its trials' folds share."""
        self._session.join()
        from distmer.cluster.folds import RayWorkers
        from distmer.cluster.search import RayTuner

        workers, tuner = RayWorkers(self._config, self._scratch, self._body), RayTuner(space, self._config.retries)
        self._exits.callback(workers.close)
        self._exits.callback(tuner.close)
        return tuner, workers

    def _join(self, *, groups: bool) -> None:
        """Wait for Ray; one of our own that was started without what worker groups need is started anew with it."""
        if groups and not self._session.groups and self._session.own:
            self._session.end()
            self._session = _Session(self._config, groups=True)
        self._session.join()


# A C handler is a pointer.
ctypes.pythonapi.PyOS_getsig.restype = ctypes.c_void_p
ctypes.pythonapi.PyOS_setsig.argtypes = (ctypes.c_int, ctypes.c_void_p)
ctypes.pythonapi.PyOS_setsig.restype = ctypes.c_void_p


class _Session:
    """Ray's session in a thread of its own, from its start to its end.

    It must be one thread. Ray's servers ask Linux to end them with whoever started them, and to Linux that is a thread.
    """

    def __init__(self, config: ClusterConfig, *, groups: bool = False) -> None:
        """``groups``: whether worker groups will be started, for which a Ray of our own needs its dashboard."""
        self._config = config
        self.groups = groups
        self._thread: Thread | None = None
        self._settled, self._over = Event(), Event()
        self._error: BaseException | None = None

    @property
    def own(self) -> bool:
        """Whether it is a cluster of our own, on this machine."""
        return (self._config.address or os.environ.get("RAY_ADDRESS")) in (None, "local")

    @property
    def settled(self) -> bool:
        """Whether Ray is there, or has failed to come."""
        return self._settled.is_set()

    def begin(self) -> None:
        if self._thread is None:
            self._thread = Thread(target=self._hold, name="ray session", daemon=True)
            self._thread.start()

    def join(self) -> None:
        """Wait until Ray is there; what its start raised is raised here."""
        self.begin()
        self._settled.wait()
        if self._error is not None:
            raise self._error

    def end(self) -> None:
        """Leave Ray, if it was begun, and wait for that."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _hold(self) -> None:
        # Ray's core sets a handler of SIGTERM of its own that aborts the process. Python's functions for handlers refuse to
        # work outside of the main thread; those of its C interface do not.
        handler = ctypes.pythonapi.PyOS_getsig(signal.SIGTERM)
        try:
            with session(self._config, groups=self.groups):
                ctypes.pythonapi.PyOS_setsig(signal.SIGTERM, handler)
                self._settled.set()
                # Ray Train and torch: whoever waited for Ray will want them next.
                from distmer.cluster.folds import warm_up

                if self.own and not self._config.gpus_per_fold:
                    warm_up()
                self._over.wait()
        except BaseException as error:  # noqa: BLE001  # whatever it is, it is for whoever waits for Ray
            self._error = error
        finally:
            self._settled.set()
