"""The observer that writes a run to MLflow in a thread of its own, so that no fold waits for a server.

A server that is locked, away or broken ends tracking with one warning, and never the run: the ledger has
everything, and `distmer track RUN_DIR` writes it later. MLflow is imported in the thread alone.
"""

from __future__ import annotations

import logging
import math
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal

from distmer import process
from distmer.addresses import mask, masked
from distmer.experiment.comparison import Comparison
from distmer.experiment.events import Event, FoldFinished, RunEnded, RunStarted
from distmer.experiment.ledger import Ledger
from distmer.experiment.plan import Plan
from distmer.storage import Place
from distmer.sweep.events import SearchEnded, SweepEnded, SweepEvent, SweepStarted, TrialEnded
from distmer.sweep.plan import SweepPlan, Trial
from distmer.tracking.whole import CONTENT, whole_run, written

if TYPE_CHECKING:
    from distmer.saved.folder import Manifest
    from distmer.tracking.items import LogItem
    from distmer.tracking.mlflow_store import MlflowStore, Opened

_log = logging.getLogger(__name__)

# Read by MLflow when it is imported or called. What the user has set stays.
_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds; else 120
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # else 7, which is 4 minutes of silence
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # the last line of stdout is the result's JSON
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # its own log repeats what our one sentence says, with a traceback
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "DO_NOT_TRACK": "true",
}
_WRITTEN = (RunStarted, FoldFinished, RunEnded, SweepStarted, TrialEnded, SearchEnded, SweepEnded)
_KNOWN = (
    "Connection refused",
    "timed out",
    "database is locked",
    "Name or service not known",
    "Temporary failure in name resolution",
)


@contextmanager
def _as_mlflow_reads() -> Iterator[None]:
    # it would announce every retry
    with process.environment(_DEFAULTS), process.only_errors_of("urllib3.connectionpool"):
        yield


class MlflowTracker:
    """Keeps one MLflow run of a run or a sweep: folds as steps of it, or as runs below it."""

    def __init__(
        self,
        uri: str,
        experiment: str,
        folds: Literal["runs", "steps"] = "steps",
        artifacts: str | None = None,
        patience: float = 30.0,
        ledger: Ledger | None = None,
    ) -> None:
        """``artifacts``: a folder for files, used when the experiment is created on SQLite. ``patience``: how
        many seconds to wait at the end for a server that answers no request; for one that answers there is no
        limit."""
        self.uri = uri
        self.error: str | None = None
        self._experiment = experiment
        self._folds = folds
        self._artifacts = artifacts
        self._ledger = ledger
        self._patience = patience
        self._queue: queue.SimpleQueue[Event | SweepEvent | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._holds = False  # whether events are kept until it is known that something is to be written
        self._whole: str | None = None  # the run that is there already, to which nothing is to be added
        self._opened: Opened | None = None
        self._tried = threading.Event()  # the run is open, or will never be
        self._once = threading.Lock()
        self._alive_at = time.monotonic()
        self._done = False
        self._run_dir = "RUN_DIR"
        self._sweep: SweepPlan | None = None

    @property
    def run_id(self) -> str | None:
        """The id of the MLflow run, from RunStarted on (from RunEnded on where no fold is trained); None if
        MLflow cannot be reached."""
        if self._whole is not None:
            return self._whole
        if self._thread is not None:
            self._tried.wait(self._patience)
        return self._opened.run.info.run_id if self._opened else None

    def __call__(self, event: Event | SweepEvent) -> None:
        if isinstance(event, RunStarted | SweepStarted):
            self._run_dir = event.run_dir if isinstance(event, RunStarted) else event.folder
            # MLflow takes seconds to load, and where no fold is trained it may hold the run already
            self._holds = isinstance(event, RunStarted) and not event.to_train and self._folds == "steps"
            if not self._holds:
                self._start()
        if self.error is not None or (self._thread is None and not self._holds):
            return
        if isinstance(event, _WRITTEN):
            self._queue.put(event)
        if isinstance(event, RunEnded) and self._holds:
            self._whole = whole_run(self.uri, self._experiment, event.result)
            if self._whole is not None:
                return
            self._start()
        if isinstance(event, RunEnded | SweepEnded):
            self.close()

    def _start(self) -> None:
        self._alive_at = time.monotonic()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Wait until all is written, also for a run that ends without RunEnded."""
        if self._thread is None:
            return
        self._queue.put(None)
        since = time.monotonic()  # the last fold may have come long ago, and the writer was right to be idle
        while self._thread.is_alive() and time.monotonic() - max(since, self._alive_at) < self._patience:
            self._thread.join(0.2)
        if not self._done and self.error is None:
            idle = f"it did nothing for {self._patience:.0f} s"
            stopped = "the writer stopped; its traceback is above"
            self._give_up(idle if self._thread.is_alive() else stopped)

    @_as_mlflow_reads()
    def _work(self) -> None:
        self._alive_at = math.inf  # loading MLflow is work of ours, however long it takes
        from distmer.tracking import mlflow_server, mlflow_store

        store: MlflowStore | None = None
        try:
            # there, making the tables is work of ours too, and has its own limit
            if not self.uri.startswith("sqlite:"):
                self._alive()
            store = mlflow_store.MlflowStore(self.uri, self._experiment, self._artifacts, self._alive)
            self._alive()
            for event in iter(self._queue.get, None):
                if self.error is not None:
                    return
                self._alive()
                self._write(store, event)
            self._done = True
        except mlflow_server.failures() as error:
            refused = mlflow_server.refused(error)
            self._give_up(reason(error) + mlflow_server.version_note(self.uri), refused=refused)
            if refused and store is not None and self._opened is not None:
                # it may refuse this too; the warning has the reason
                with suppress(*mlflow_server.failures()):
                    store.abandon(self._opened)
        finally:
            self._tried.set()

    def _alive(self) -> None:
        """The server has answered, or we are at work."""
        self._alive_at = time.monotonic()

    def _write(self, store: MlflowStore, event: Event | SweepEvent) -> None:
        from distmer.tracking import environment, items, sweep_items

        if isinstance(event, RunStarted):
            self._plan = event.plan
            self._order = {job.digest: step for step, job in enumerate(event.plan.jobs)}
            started = items.plan_items(event.plan, environment.capture())
            self._begin(store, event.plan.digest, event.plan, started)
        elif isinstance(event, SweepStarted):
            self._sweep = event.plan
            started = sweep_items.sweep_plan_items(event.plan, environment.capture())
            self._begin(store, event.plan.digest, event.plan.base, started)
        elif self._opened is None:
            return
        elif isinstance(event, FoldFinished) and self._sweep is None:
            if self._folds == "runs":
                store.write(self._opened, items.fold_items(event.result, self._plan))
            else:
                step = self._order[event.result.digest]
                store.write(self._opened, items.fold_metrics(event.result, self._plan, step))
        elif isinstance(event, TrialEnded):
            self._write_trials(store, [event.trial])
        elif isinstance(event, SearchEnded) and event.recorded:
            # The trials of a search that ended just now have been written one by one.
            self._write_trials(store, event.outcome.trials)
        elif isinstance(event, RunEnded):
            told = items.Tag(CONTENT, written(event.result))
            store.write_result(self._opened, [*items.result_items(event.result), told])
            store.end(self._opened, event.result.status, stopped=event.result.stopped)
        elif isinstance(event, SweepEnded):
            result = event.result
            store.write_result(self._opened, sweep_items.sweep_result_items(result))
            trials = [trial for outcome in result.outcomes for trial in outcome.trials]
            keys = {sweep_items.trial_key(result.plan, trial) for trial in trials}
            whole = None if result.stopped else keys
            store.end(self._opened, result.status, stopped=result.stopped, whole=whole)

    def _begin(self, store: MlflowStore, digest: str, base: Plan, started: Iterator[LogItem]) -> None:
        """Open the MLflow run of a plan's digest, and write what is known before the first fold."""
        self._opened = store.open(digest, run_name(base))
        self._tried.set()
        store.write(self._opened, started)

    def _write_trials(self, store: MlflowStore, trials: Sequence[Trial]) -> None:
        from distmer.tracking.sweep_items import trial_items

        if self._opened is None or self._sweep is None or self._ledger is None:
            return
        for trial in trials:
            folds = list(self._ledger.known(trial.folds).values())
            store.write(self._opened, trial_items(trial, folds, self._sweep, fold_runs=self._folds == "runs"))

    def _give_up(self, why: str, *, refused: bool = False) -> None:
        with self._once:
            if self.error is not None:
                return  # the end of the run has given up already, and has said so
            what = "does not take this run" if refused else "cannot be reached"
            sentence = (
                f"MLflow at {masked(self.uri)} {what} ({mask(why, self.uri)}): results are in the ledger;"
                f" `distmer track {self._run_dir}` writes them later."
            )
            _log.warning("%s", sentence)
            self.error = sentence
        self._tried.set()


@_as_mlflow_reads()
def reach(uri: str) -> tuple[str, str]:
    """What is at a tracking URI, and why this user cannot read there ("" if the user can). Nothing is
    written."""
    from distmer.tracking import mlflow_server

    try:
        version = mlflow_server.look(uri)
    except mlflow_server.failures() as error:
        why = mask(reason(error), uri) + mlflow_server.version_note(uri)
        what = "refuses us" if mlflow_server.refused(error) else "cannot be reached"
        return "", f"MLflow at {masked(uri)} {what} ({why})"
    return f"{masked(uri)}" + (f", MLflow {version}" if version else ""), ""


def track_comparison(
    uri: str, experiment: str, artifacts: str | None, comparison: Comparison, folder: Place
) -> str | None:
    """Write one MLflow run that groups the compared ones. Returns the address of MLflow's page with these
    side by side; None without a server, and after a warning where MLflow cannot be reached."""
    from distmer.tracking import items, view  # here: a broken installation is not a server that is away

    def write(store: MlflowStore) -> str | None:
        ids = [entry.results.mlflow_run_id for entry in comparison.entries if entry.results]
        members = [run_id for run_id in ids if run_id]
        written = items.comparison_items(comparison, folder)
        store.group(comparison.digest, comparison.name, members, written)
        return view.side_by_side(uri, store.experiment, members)

    return _write_to(uri, experiment, artifacts, "comparison", write)


def track_model(
    uri: str,
    experiment: str,
    artifacts: str | None,
    folder: Place,
    manifest: Manifest,
    register: str | None = None,
) -> str | None:
    """Log the kept model in ``folder``, and make it a version of the registered model ``register``.

    Its address in MLflow, or None after a warning where MLflow cannot be reached."""

    def write(store: MlflowStore) -> str:
        from distmer.tracking import kept_model

        model = kept_model.log_model(store, folder, manifest)
        if register is None:
            return f"models:/{model.model_id}"
        return f"models:/{register}/{kept_model.register_model(store, model, register)}"

    return _write_to(uri, experiment, artifacts, "model", write)


@_as_mlflow_reads()
def _write_to(
    uri: str,
    experiment: str,
    artifacts: str | None,
    what: str,
    write: Callable[[MlflowStore], str | None],
) -> str | None:
    """What ``write`` returns; None after a warning where MLflow cannot be reached, or does not take it."""
    from distmer.tracking import mlflow_server, mlflow_store

    try:
        return write(mlflow_store.MlflowStore(uri, experiment, artifacts))
    except mlflow_server.failures() as error:
        problem = f"does not take the {what}" if mlflow_server.refused(error) else "cannot be reached"
        text = "MLflow at %s %s (%s): the %s is in its folder alone."
        _log.warning(text, masked(uri), problem, mask(reason(error), uri), what)
        return None


def run_name(plan: Plan) -> str:
    """What the MLflow run is called: the experiment and its model."""
    return f"{plan.config.name} · {plan.model.info.name}"


def reason(error: Exception) -> str:
    """An error of MLflow in a few words: it wraps a refused connection in four others."""
    text = " ".join(str(error).split()) or type(error).__name__
    if re.search(r"error code 40[13]\b", text):
        return (
            "the server refuses this user: check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or"
            " what the user may do"
        )
    known = next((word for word in _KNOWN if word in text), None)
    return known.lower() if known else text[:200]
