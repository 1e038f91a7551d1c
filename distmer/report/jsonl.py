"""Every event of a run as a JSON line in ``events.jsonl`` of its folder: what happened when, for programs and
for the search for a fault."""

from __future__ import annotations

import json
import logging
import math
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from distmer.experiment.events import Event, FoldFinished, RunEnded, RunStarted, Step
from distmer.storage import Place, write
from distmer.types import FoldBegun, FoldFailure, JsonValue, RunError

_log = logging.getLogger(__name__)


class JsonLines:
    """Appends every event to a file, each as a whole line: a killed run leaves no half of one.

    An object store cannot append. There, all lines are kept in memory, and the whole file is written at the
    first event, at the last, and in between with an event that comes ``every`` seconds or more after the last
    write. So the file of a killed run may lack its last events. Its folds are in the ledger all the same.
    """

    def __init__(self, path: Place, every: float = 30.0) -> None:
        self._path = path
        self._every = every
        self._held: str | None = None  # on an object store: all lines, those of former runs too
        self._written_at = -math.inf
        self._broken = False

    def __call__(self, event: Event) -> None:
        if self._broken:
            return
        told = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), **event_json(event)}
        line = f"{json.dumps(told, ensure_ascii=False)}\n"
        try:
            if isinstance(self._path, Path):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(line)
            else:
                self._hold(line, last=isinstance(event, RunEnded))
        except (OSError, RunError) as error:
            # Only a log: the folds are in the ledger, whose own failure to write does end a run.
            self._broken = True
            _log.warning(
                "%s cannot be written (%s); the run goes on without it.",
                self._path,
                getattr(error, "strerror", None) or error,
            )

    def _hold(self, line: str, *, last: bool) -> None:
        if self._held is None:
            self._held = self._path.read_text() if self._path.is_file() else ""
        self._held += line
        if last or time.monotonic() - self._written_at >= self._every:
            write(self._path, self._held.encode())
            self._written_at = time.monotonic()


def event_json(event: Event) -> dict[str, JsonValue]:
    """An event as JSON: identities and numbers, no probabilities and no frames."""
    if isinstance(event, Step):
        return {"event": "step", **asdict(event)}
    if isinstance(event, RunStarted):
        plan = event.plan
        return {
            "event": "run_started",
            "run": plan.digest,
            "model": plan.model.info.name,
            "jobs": len(plan.jobs),
            "cached": event.cached,
            "to_train": event.to_train,
        }
    if isinstance(event, FoldFinished):
        fold = event.result
        return {
            "event": "fold_finished",
            "fold": fold.fold_id,
            "seed": fold.seed,
            "digest": fold.digest,
            "cached": event.cached,
            "clips": len(fold.predictions),
            "correct": int((fold.predictions.y_true_N == fold.predictions.y_pred_N).sum()),
            "epochs": fold.epochs,
            "seconds": round(fold.seconds, 3),
            "device": fold.device,
        }
    if isinstance(event, FoldBegun):
        return {"event": "fold_started", "fold": event.fold_id, "seed": event.seed, "digest": event.digest}
    if isinstance(event, FoldFailure):
        return {"event": "fold_failed", **asdict(event)}
    assert isinstance(event, RunEnded)
    result = event.result
    done = {"folds": len(result.folds), "failed": len(result.failures), "missing": result.missing}
    return {"event": "run_ended", "status": result.status, **done, "seconds": round(result.seconds, 3)}
