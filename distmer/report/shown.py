"""Whether a run's folder shows its result already: then its figures and its page need not be made again.

They are made from the result, from other files of the folder, and by this package. ``shown.json`` keeps a
digest of all three, and the digest of each file that was made, so a lost or edited file is made again.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import numpy as np

from distmer.digests import digest
from distmer.experiment.result import RunResult
from distmer.report.curves import curves_json
from distmer.report.explanation import ABOUT, FOLDER, MAPS
from distmer.storage import Place, write
from distmer.types import JsonValue, Predictions

_FILE = "shown.json"
# files of the folder that the figures and the page are made from, beside the result
_SOURCES = ("config.yaml", "clips.csv", "environment.json", f"{FOLDER}/{ABOUT}", f"{FOLDER}/{MAPS}")
# keys of the result that differ from call to call
_OF_THE_CALL = ("seconds", "run_dir", "mlflow_run_id")


def content_of(folder: Place, result: RunResult) -> str:
    """The digest of everything that the figures and the page of a result are made from."""
    results = {name: value for name, value in result.to_json().items() if name not in _OF_THE_CALL}
    sources: list[JsonValue] = [_digest_of(folder / name) for name in _SOURCES]
    curves = hashlib.sha256(curves_json(result.folds)).hexdigest()
    predictions = "" if result.predictions is None else _digest_of_predictions(result.predictions)
    return digest([results, curves, predictions, sources, _code()])


def is_shown(folder: Place, content: str) -> bool:
    """Whether the folder shows this content, and every file that was made from it is unchanged."""
    try:
        kept = json.loads((folder / _FILE).read_bytes())
        return kept["content"] == content and all(
            _digest_of(folder / name) == whole for name, whole in kept["files"].items()
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):  # none, or half of one
        return False


def keep_shown(folder: Place, content: str, names: Iterable[str]) -> None:
    """Remember that these files of the folder show this content."""
    files = {name: _digest_of(folder / name) for name in names}
    write(folder / _FILE, json.dumps({"content": content, "files": files}, indent=1).encode())


def _digest_of(path: Place) -> str:
    """SHA-256 of a file; "" if it is not there."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return ""


def _digest_of_predictions(predictions: Predictions) -> str:
    found = hashlib.sha256(json.dumps([predictions.clip_ids, predictions.fold_ids]).encode())
    for values in (predictions.y_true_N, predictions.y_pred_N, predictions.seed_N):
        found.update(np.asarray(values, np.int64).tobytes())
    found.update(np.asarray(predictions.prob_NK, np.float64).tobytes())
    return found.hexdigest()


@functools.cache
def _code() -> str:
    """The digest of this package's files and of matplotlib's version."""
    own = Path(__file__).parent
    files = sorted(path for path in own.rglob("*") if path.is_file() and path.suffix != ".pyc")
    parts: list[JsonValue] = [[str(path.relative_to(own)), _digest_of(path)] for path in files]
    return digest([*parts, metadata.version("matplotlib")])
