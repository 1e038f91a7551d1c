"""Features of a few clips in processes of this machine, which start in a second; Ray's actors take ten."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress

from distmer.config import ClusterConfig, FeatureConfig
from distmer.features.methods import portable
from distmer.features.pipeline import FeatureRequest, extraction, unit_of
from distmer.features.row import FeatureRow
from distmer.features.worker import packed, receive, require_ready, row_of, send
from distmer.types import RunError

FEW = 100  # clips: two processes are done with so many when Ray's actors have begun (docs/speed.md)


def stays_here(clips: int, cluster: ClusterConfig, environ: Mapping[str, str]) -> bool:
    """Whether processes of this machine extract so many clips: they are few, and no cluster is named."""
    return clips < FEW and cluster.named(environ) is None


def workers_for(clips: int, cluster: ClusterConfig) -> int:
    """How many processes extract so many clips here, one CPU each."""
    cpus = cluster.local_cpus or os.cpu_count() or 1
    return max(1, min(clips, cpus, cluster.extract_actors))


def describe_extraction(clips: int, cluster: ClusterConfig, environ: Mapping[str, str]) -> str:
    """For the plan's text: who extracts so many clips of frames."""
    if not stays_here(clips, cluster, environ):
        return "on Ray"
    workers = workers_for(clips, cluster)
    return f"by {workers} processes of this machine" if workers > 1 else "by a process of this machine"


def extract_in_processes(
    requests: Sequence[FeatureRequest], config: FeatureConfig, cluster: ClusterConfig
) -> Generator[list[FeatureRow]]:
    """Features of clips in batches, as the processes finish them, with the bits of `extract`.

    A clip whose process dies is given to another one, once. If that dies too, it is a row without a key: it
    is listed, nothing is stored of it, and the next run tries it again.

    Raises BadInput and RunError as `extract` does, and RunError where no process can be started.
    """
    task = json.dumps({"config": portable(config).model_dump(mode="json"), "planned": extraction(config)})
    workers = [_Worker(task.encode(), config) for _ in range(workers_for(len(requests), cluster))]
    free: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
    for worker in workers:
        free.put(worker)

    def extracted(request: FeatureRequest) -> FeatureRow:
        worker = free.get()
        try:
            return worker.extract(request)
        finally:
            free.put(worker)

    pool = ThreadPoolExecutor(len(workers), "extract")
    try:
        batch: list[FeatureRow] = []
        for future in as_completed([pool.submit(extracted, request) for request in requests]):
            batch.append(future.result())
            if len(batch) == cluster.extract_batch:
                yield batch
                batch = []
        if batch:
            yield batch
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.end()
        pool.shutdown()


class _Worker:
    """A process that extracts, started with its first clip, and again after it has died."""

    def __init__(self, task: bytes, config: FeatureConfig) -> None:
        self._task, self._config = task, config
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()  # so that none is started once it has ended
        self._ended = False

    def extract(self, request: FeatureRequest) -> FeatureRow:
        message, died = packed(request, self._config).encode(), ""
        for _ in range(2):
            process = self._started()
            reply = _exchanged(process, message)
            if reply is not None:
                return row_of(reply)
            died, self._process = _how(process), None
        failure = (
            f"the process that extracted it died, and so did a second one ({died}); nothing is stored of it,"
            " and the next run tries this clip again. Look at its frames, or leave it out."
        )
        return FeatureRow(request.clip_id, "", unit_of(request.source), "failed", error=failure)

    def end(self) -> None:
        """End the process, whatever it is doing. It cannot be used again."""
        with self._lock:
            self._ended = True
            process = self._process
        if process is not None:
            process.kill()
            process.wait()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None:
            return self._process
        with self._lock:
            if self._ended:
                raise RunError("the extraction was stopped; what is extracted is kept. Run again.")
            process = self._process = _start()
        reply = _exchanged(process, self._task)
        if reply is None:
            raise RunError(
                f"a process for the extraction could not be started ({_how(process)}); its last words are"
                " above. Run with --local, which needs none."
            )
        require_ready(reply)
        return process


def _start() -> subprocess.Popen[bytes]:
    # -P: what lies in the current folder must not be taken for a library
    command = [sys.executable, "-P", "-m", "distmer.features.worker"]
    path = os.pathsep.join(place or os.getcwd() for place in sys.path)
    return subprocess.Popen(  # noqa: S603
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
    )


def _exchanged(process: subprocess.Popen[bytes], message: bytes) -> bytes | None:
    """The process's answer; None where it has died instead."""
    assert process.stdin is not None and process.stdout is not None
    with suppress(BrokenPipeError):
        send(process.stdin, message)
        return receive(process.stdout)
    return None


def _how(process: subprocess.Popen[bytes]) -> str:
    """How a process ended that is about to end."""
    status = process.wait()
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"
