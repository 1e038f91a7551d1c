"""The folder of a run, sweep, comparison or learning curve, read back for its page. Only files of the folder
are read, so a copy on another machine gives the same page."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import yaml

from distmer.experiment.results_file import Results
from distmer.registry import nearest
from distmer.report.curves import Curve, read_curves
from distmer.report.explanation import Explanation, read_explanation
from distmer.report.run_folder import read_predictions, read_results
from distmer.storage import Place, why_not
from distmer.types import BadInput, JsonValue, Predictions

if TYPE_CHECKING:
    import pandas as pd

    from distmer.sweep.plan import Trial

Kind = Literal["run", "sweep", "comparison", "curve"]
_MARKS: dict[str, Kind] = {
    "sweep.yaml": "sweep",
    "config.yaml": "run",
    "pairs.csv": "comparison",
    "curve.yaml": "curve",
}
_WORDS = ("on", "row", "a", "b", "subject", "note", "verdict", "clip", "class", "answers")
_KEPT = "runs, sweeps, comparisons or curves"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class KeptRun:
    """A run or a sweep as its folder keeps it; empty where an earlier version did not keep something."""

    folder: str
    results: Results
    settings: Mapping[str, JsonValue]
    predictions: Predictions | None = None
    notes: Mapping[str, str]  # clip id → what its loader and the feature store noted
    curves: Mapping[str, Curve]
    environment: Mapping[str, JsonValue]
    times: tuple[str, str]  # of the first and the last event, ISO 8601; empty where not kept
    tracebacks: Mapping[tuple[str, str], str]  # fold id and seed → traceback of a fold that failed
    trials: tuple[Trial, ...] = ()  # of a sweep's finished searches
    chosen: frozenset[tuple[str, int]] = frozenset()  # search id and trial index
    explanation: Explanation | None = None  # where its models look, if somebody has asked


def kind_of(folder: Place) -> Kind:
    """What a folder holds. BadInput if it is not there, or holds none of the four."""
    if not folder.is_dir():
        beside = folder.parent.iterdir() if folder.parent.is_dir() else ()
        names = [other.name for other in beside if any((other / mark).is_file() for mark in _MARKS)]
        hint = nearest(folder.name, names) if names else f"give one below <workspace>/{_KEPT}."
        raise BadInput(f"{folder}: {why_not(folder, '')}; {hint}")
    for name, kind in _MARKS.items():
        if (folder / name).is_file():
            return kind
    raise BadInput(
        f"{folder}: it holds none of {', '.join(_MARKS)}, so it is not a run, sweep, comparison or curve;"
        f" give a folder below <workspace>/{_KEPT}."
    )


def read_run(folder: Place) -> KeptRun:
    """A run or a sweep. BadInput where it has not come to an end, or a file of it cannot be read."""
    kind = kind_of(folder)
    results = read_results(folder)
    if results is None:
        raise BadInput(
            f"{folder}: there is no results.json, so no run has ended here; give the folder of one,"
            " or run the same command again, which keeps what was finished."
        )
    trials, chosen = _trials(folder) if kind == "sweep" else ((), frozenset())
    times, tracebacks = _events(folder)
    return KeptRun(
        folder=str(folder),
        results=results,
        settings=read_mapping(folder / ("sweep.yaml" if kind == "sweep" else "config.yaml")),
        predictions=None if results.uar is None else read_predictions(folder, results),
        notes=_notes(folder / "clips.csv"),
        curves=_curves(folder / "curves.json"),
        environment=read_mapping(folder / "environment.json"),
        times=times,
        tracebacks=tracebacks,
        trials=trials,
        chosen=chosen,
        explanation=read_explanation(folder, results.digest),
    )


def read_text(path: Place) -> str:
    """The text of a file; "" if it is not there."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} cannot be read (it is not text); run the same command again.") from error


def read_mapping(path: Place) -> dict[str, Any]:
    """A mapping in a YAML or JSON file; empty if there is no file. BadInput if it holds something else."""
    text = read_text(path) or "{}"
    with _readable(path):
        tree = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    if not isinstance(tree, dict):
        raise BadInput(f"{path} holds no settings by name; run the same command again.")
    return tree


def read_frame(path: Place) -> pd.DataFrame:
    """A CSV file of a comparison; empty where it is not there. BadInput where it cannot be read."""
    import pandas as pd  # only a comparison needs it

    text = read_text(path)
    if not text.strip():
        return pd.DataFrame()
    # a row may be called 1, or None
    how: dict[str, Any] = {"keep_default_na": False, "na_values": [""]}
    with _readable(path, "make the comparison again"):
        return pd.read_csv(io.StringIO(text), dtype=dict.fromkeys(_WORDS, str), **how)


@contextmanager
def _readable(path: Place, remedy: str = "run the same command again") -> Iterator[None]:
    """BadInput where the text or the bytes of a file are not what they should be."""
    try:
        yield
    except (pa.ArrowException, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        lacking = isinstance(error, KeyError)
        why = f"it lacks {error}" if lacking else " ".join(str(error).split())[:160]
        raise BadInput(f"{path} cannot be read ({why}); {remedy}.") from error


def _curves(path: Place) -> dict[str, Curve]:
    tree = read_mapping(path)
    with _readable(path):
        return read_curves(tree)


def _notes(path: Place) -> dict[str, str]:
    notes: dict[str, str] = {}
    for row in csv.DictReader(io.StringIO(read_text(path))):
        apex = f"apex taken: {row['apex']}" if row.get("apex") else ""
        if note := "; ".join(part for part in (row.get("note") or "", apex) if part):
            notes[str(row.get("clip"))] = note
    return notes


def _events(folder: Place) -> tuple[tuple[str, str], dict[tuple[str, str], str]]:
    """When the first and the last event were, and the tracebacks of folds that failed. A line that is not
    an event is skipped: a machine that failed may have left half a line."""
    lines = read_text(folder / "events.jsonl").splitlines()
    tracebacks: dict[tuple[str, str], str] = {}
    events = [tree for line in (*lines[:1], *lines[-1:]) if (tree := _event(line))]
    for line in lines:
        if '"fold_failed"' in line and (tree := _event(line)):
            tracebacks[str(tree.get("fold_id")), str(tree.get("seed"))] = str(tree.get("traceback") or "")
    times = [str(tree.get("at", "")) for tree in events]
    return (times[0], times[-1]) if times else ("", ""), tracebacks


def _event(line: str) -> dict[str, Any]:
    try:
        tree = json.loads(line)
    except ValueError:
        return {}
    return tree if isinstance(tree, dict) else {}


def _trials(folder: Place) -> tuple[tuple[Trial, ...], frozenset[tuple[str, int]]]:
    """The trials of the searches that ended, and which of them were chosen."""
    from distmer.sweep.plan import Trial  # it brings Optuna, which only a sweep needs

    trials: list[Trial] = []
    chosen: set[tuple[str, int]] = set()
    records = folder / "searches"
    for path in sorted(records.iterdir(), key=lambda path: path.name) if records.is_dir() else ():
        tree = read_mapping(path)
        with _readable(path, "run the sweep again"):
            own = [Trial.of_json(trial) for trial in tree["trials"]]
        trials += own
        chosen |= {(trial.search, trial.index) for trial in own if trial.index == tree.get("chosen")}
    return tuple(trials), frozenset(chosen)
