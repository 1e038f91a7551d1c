"""The ledger: every finished fold, written at once and whole, under its content digest.

An entry is one Parquet file: the fold's predictions as rows, and in the file's metadata what else is known of
it. Under ``oracle: global_epoch`` a column holds the probabilities of every epoch. Weights that are kept lie
beside the entry, which holds their SHA-256.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePath

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from distmer import __version__
from distmer.leftovers import Removed, remove
from distmer.storage import Place, delete, write
from distmer.types import BadInput, FoldResult, Predictions, RunError, SubjectKey

_log = logging.getLogger(__name__)
_WEEK = 7 * 24 * 3600.0  # s
_META, _SUM = b"distmer", b"sha256"
# of a FoldResult, in an entry's metadata
_FIELDS = ("digest", "fold_id", "seed", "epochs", "curves", "seconds", "device")


class Ledger:
    """Finished folds by digest, in a local or remote folder."""

    def __init__(self, folder: Place) -> None:
        self.folder = folder

    def entry(self, digest: str) -> Place:
        """Where a fold's file lies, or will."""
        return self.folder / digest[:2] / f"{digest}.parquet"

    def put(self, result: FoldResult) -> FoldResult:
        """Keep a finished fold and the weights that came with it, and return it as it is kept, without them.
        RunError in one sentence when the place cannot take it."""
        entry = self.entry(result.digest)
        found = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(result.weights.items())}
        kept = replace(result, weights={}, kept=found or result.kept)
        try:
            for name, data in result.weights.items():  # before the entry, which says that they are there
                write(_beside(entry, name), data)
            write(entry, to_parquet(kept))
        except OSError as error:
            raise RunError(
                f"{entry}: the ledger cannot be written ({error.strerror or error});"
                " every fold finished before is kept. Fix the place (free space, permissions) and run again."
            ) from error
        return kept

    def get(self, digest: str) -> FoldResult | None:
        """The fold, or None. A damaged file counts as absent, with a warning: the fold is trained again."""
        entry = self.entry(digest)
        try:
            data = entry.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:  # to train the fold again would hide that the place is away
            raise RunError(
                f"{entry}: the ledger cannot be read ({error.strerror or error}); finished folds are kept."
                " Fix the place (permissions, connection) and run again."
            ) from error
        try:
            result = from_parquet(data)
            if result.digest != digest:
                raise ValueError(f"it holds the fold {result.digest[:12]}…")
        # OSError: a page or header that makes no sense
        except (OSError, pa.ArrowException, KeyError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())[:160]
            _log.warning("%s is damaged (%s): this fold is trained again.", entry, reason)
            return None
        return result

    def weights(self, result: FoldResult) -> dict[str, bytes]:
        """The files of what a fold has trained, by name; none where they were not kept. BadInput where one
        is missing or damaged."""
        contents: dict[str, bytes] = {}
        for name, sha256 in result.kept.items():
            path = _beside(self.entry(result.digest), name)
            try:
                contents[name] = path.read_bytes()
            except FileNotFoundError as error:
                raise BadInput(f"{path}: the weights of this fold are not there; {_AGAIN}") from error
            if hashlib.sha256(contents[name]).hexdigest() != sha256:
                raise BadInput(f"{path}: these weights are damaged (their SHA-256 differs); {_AGAIN}")
        return contents

    def known(self, digests: Iterable[str]) -> dict[str, FoldResult]:
        """Those of the digests that are here."""
        wanted = list(digests)
        with ThreadPoolExecutor(8) as pool:  # an object store takes its time for an answer
            return {
                digest: result
                for digest, result in zip(wanted, pool.map(self.get, wanted), strict=True)
                if result is not None
            }


_AGAIN = "delete this file and its fold's .parquet beside it, and run again with train.keep_weights=true."


def _beside(entry: Place, name: str) -> Place:
    """Where a file of an entry's weights lies."""
    return entry.parent / f"{entry.stem}.{PurePath(name).name}"


def predictions_table(predictions: Predictions) -> pa.Table:
    """Predictions as an Arrow table, one row a clip, as the ledger, the run folder and MLflow keep them."""
    keys = [SubjectKey.of(c) for c in predictions.clip_ids]
    columns: dict[str, pa.Array] = {
        "clip_id": pa.array(predictions.clip_ids, pa.string()),
        "dataset": pa.array([k.dataset for k in keys], pa.string()),
        "subject": pa.array([k.subject for k in keys], pa.string()),
        "y_true": pa.array(predictions.y_true_N, pa.int32()),
        "y_pred": pa.array(predictions.y_pred_N, pa.int32()),
    }
    for k in range(predictions.prob_NK.shape[1]):
        columns[f"prob_{k}"] = pa.array(predictions.prob_NK[:, k], pa.float64())
    columns["fold"] = pa.array(predictions.fold_ids, pa.string())
    columns["seed"] = pa.array(predictions.seed_N, pa.int64())
    return pa.table(columns)


def table_predictions(table: pa.Table) -> Predictions:
    """The inverse of `predictions_table`."""
    classes = sum(name.startswith("prob_") for name in table.column_names)
    return Predictions(
        tuple(table["clip_id"].to_pylist()),
        table["y_true"].to_numpy().astype(np.int64),
        table["y_pred"].to_numpy().astype(np.int64),
        np.stack([table[f"prob_{k}"].to_numpy() for k in range(classes)], axis=1),
        tuple(table["fold"].to_pylist()),
        table["seed"].to_numpy().astype(np.int64),
    )


def to_parquet(result: FoldResult) -> bytes:
    """A fold as the bytes of its ledger entry."""
    table = predictions_table(result.predictions)
    if result.epoch_prob_ENK is not None:
        epoch_prob_NX = result.epoch_prob_ENK.transpose(1, 0, 2).reshape(len(result.predictions), -1)
        table = table.append_column("epoch_prob", pa.array(epoch_prob_NX.tolist(), pa.list_(pa.float64())))
    meta = {"version": __version__, **{name: getattr(result, name) for name in _FIELDS}}
    if result.kept:
        meta["weights"] = dict(result.kept)
    sink = io.BytesIO()
    text = json.dumps({**meta, "curves": dict(result.curves)}).encode()
    pq.write_table(table.replace_schema_metadata({_META: text, _SUM: _sum(text, table)}), sink)
    return sink.getvalue()


def from_parquet(data: bytes) -> FoldResult:
    """The inverse of `to_parquet`. Raises ArrowException, OSError, KeyError, ValueError or TypeError."""
    table = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)  # a few kB
    metadata = table.schema.metadata or {}
    text = metadata[_META]
    # Parquet alone lets many a flipped bit through, as another number
    if metadata[_SUM] != _sum(text, table):
        raise ValueError("its checksum does not match")
    meta = json.loads(text)
    predictions = table_predictions(table)
    epochs_NX = np.array(table["epoch_prob"].to_pylist()) if "epoch_prob" in table.column_names else None
    if epochs_NX is not None:
        epochs_NX = epochs_NX.reshape(len(predictions), -1, predictions.prob_NK.shape[1]).transpose(1, 0, 2)
    fields = {name: meta[name] for name in _FIELDS}
    fields["curves"] = {name: tuple(values) for name, values in meta["curves"].items()}
    return FoldResult(
        **fields, predictions=predictions, epoch_prob_ENK=epochs_NX, kept=meta.get("weights", {})
    )


def _sum(meta: bytes, table: pa.Table) -> bytes:
    """SHA-256 of all that an entry says, the names of its columns included."""
    return hashlib.sha256(meta + json.dumps(table.to_pydict()).encode()).hexdigest().encode()


def remove_checkpoints(scratch: Place, ledger: Ledger) -> Removed:
    """Remove the checkpoints of worker groups whose fold is in the ledger. A fold goes on from the others;
    on a local disk they are removed a week after the last one was written."""
    removed = Removed()
    for folder in sorted(scratch.iterdir()) if scratch.is_dir() else ():
        if not re.fullmatch(r"[0-9a-f]{64}", folder.name):
            continue
        done = ledger.entry(folder.name).is_file()
        if isinstance(folder, Path):
            removed += remove(folder) if done or _untouched(folder) > _WEEK else Removed()
        elif done:
            delete(folder)
            removed += Removed(1)
    return removed


def _untouched(folder: Path) -> float:
    """Seconds since anything was written in a folder; none if it is gone meanwhile."""
    with suppress(OSError):
        return time.time() - max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))
    return 0.0
