"""The feature store: Parquet parts keyed by content, so a clip is extracted once however often its list changes.

    features/<folder>/parts/<digest of the part's keys>.parquet      rows of one map size, written at once, never changed
    features/<folder>/sets/<digest of a feature set>.json            its completion marker: written last, when every clip is there

``<folder>`` is a digest of the extraction settings, so that a person can delete one extraction; identity is in the keys alone.
Parts hold Arrow's own fixed-shape tensor type, which pyarrow reads without Ray. Its columns are never null: a null in a
fixed-size list can be written to Parquet but not read back (apache/arrow#35692, pyarrow 25 still), so a failed row holds
zeros, and ``status`` says that they mean nothing. So do the crops of rows whose ``unit`` is "minmax".
"""

# pyright: strict, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from distmer.config import FeatureConfig
from distmer.digests import digest
from distmer.features.featureset import CHANNELS, CROPS, MAPS, FeatureSet, Status, Unit
from distmer.features.pipeline import FEATURE_EPOCH, FeatureRow, extraction
from distmer.storage import Store
from distmer.types import BadInput, ClipFailure

log = logging.getLogger(__name__)

_TEXTS = ("key", "status", "error", "note", "unit", "apex_file")
_Entries = Sequence[tuple[str, str]]  # (clip id, key)


def part_schema(height: int, width: int) -> pa.Schema:
    """The one schema of parts with maps of this size: text columns, u, v, strain (float32) and onset, apex (uint8) tensors."""
    texts = [pa.field(name, pa.string(), nullable=False) for name in _TEXTS]
    maps = [pa.field(name, pa.fixed_shape_tensor(pa.float32(), (height, width)), nullable=False) for name in MAPS]
    crops = [pa.field(name, pa.fixed_shape_tensor(pa.uint8(), (height, width)), nullable=False) for name in CROPS]
    return pa.schema([*texts, *maps, *crops])


class FeatureStore:
    """The features of one extraction. ``store`` is the place of all of them; maps of unit "minmax" have a folder of their own."""

    def __init__(self, store: Store, cfg: FeatureConfig, unit: Unit = "px") -> None:
        settings = extraction(cfg) if unit == "px" else {"flow-maps": True}
        folder = digest({"settings": settings, "epoch": FEATURE_EPOCH})[:12]
        self.store = store / folder
        self.unit: Unit = unit
        self._size = cfg.size
        self._told: set[str] = set()  # parts that were warned about

    def keys(self) -> dict[str, str]:
        """Every stored key → its part. Reads only two text columns; an unreadable part is warned about, and absent."""
        return {key: part for key, (part, _) in self._index().items()}

    def write(self, rows: Iterable[FeatureRow]) -> None:
        """Store rows as one atomic part (one for each size, where published maps differ in size); failed ones too.

        A failure is as much a function of the clip's bytes as a feature is, and a mended file has another key. Rows
        without a key are passed over. OSError (full disk) leaves no trace.
        """
        unique = {row.key: row for row in rows if row.key}
        for row in unique.values():
            if row.unit != self.unit:
                raise ValueError(f"{row.clip_id}: a row in {row.unit} does not belong into a store of {self.unit}")
        shapes: dict[tuple[int, int], list[FeatureRow]] = {}
        for row in unique.values():
            if row.status == "ok" and row.strain_HW is not None:
                shapes.setdefault((row.strain_HW.shape[0], row.strain_HW.shape[1]), []).append(row)
        failed = [row for row in unique.values() if row.status == "failed"]
        if failed:  # they have no size: into the first part, or into one of their own
            shapes.setdefault(next(iter(shapes), (self._size, self._size) if self.unit == "px" else (1, 1)), []).extend(failed)
        for (height, width), part in shapes.items():
            buffer = io.BytesIO()
            pq.write_table(
                _table(part, height, width),
                buffer,
                compression="zstd",
                use_dictionary=cast(Any, list(_TEXTS)),
                use_byte_stream_split=cast(Any, [f"{name}.list.element" for name in MAPS]),  # a sixth smaller, and quicker
                write_page_checksum=True,
            )
            self.store.write(f"parts/{digest(sorted(row.key for row in part))}.parquet", buffer.getvalue())

    def complete(self, entries: _Entries) -> str:
        """Write the completion marker of a list of (clip id, key), last of all; returns the feature set's digest.

        The digest covers clip ids and keys, in any order. BadInput when a clip's features are not there.
        """
        index = self._index()
        self._require(entries, index)
        identity = digest({"unit": self.unit, "clips": dict(entries)})
        clips = {clip: {"key": key, "status": index[key][1]} for clip, key in sorted(entries)}
        marker = {"digest": identity, "unit": self.unit, "clips": clips}
        self.store.write(f"sets/{identity}.json", json.dumps(marker, indent=1, ensure_ascii=False).encode())
        return identity

    def failures(self, entries: _Entries) -> tuple[ClipFailure, ...]:
        """Those of a list of (clip id, key) whose extraction failed, with the reason. Reads no map. BadInput as `complete`."""
        index = self._index()
        self._require(entries, index)
        failed = [(clip, key) for clip, key in entries if index[key][1] == "failed"]
        errors: dict[str, str] = {}
        for part in {index[key][0] for _, key in failed}:
            errors |= {row["key"]: row["error"] for row in self._read(part, ("key", "error")).to_pylist()}
        return tuple(ClipFailure(clip, errors[key]) for clip, key in failed)

    def load(self, entries: _Entries) -> FeatureSet:
        """The features of a list of (clip id, key), in its order; failed clips become ``failures``.

        BadInput when features are not there or a part has rotted (remedy: extract again), and for maps of several sizes.
        """
        index = self._index()
        self._require(entries, index)
        usable = [(clip, key) for clip, key in entries if index[key][1] == "ok"]
        wanted: dict[str, list[int]] = {}
        for row, (_, key) in enumerate(usable):
            wanted.setdefault(key, []).append(row)
        arrays: dict[str, npt.NDArray[Any]] = {}
        texts: dict[str, dict[str, str]] = {}
        for part in sorted({index[key][0] for _, key in entries}):
            table = self._read(part, (*_TEXTS, *self._channels))
            columns = {name: _ndarray(table.column(name)) for name in self._channels}
            keys = cast(list[str], table.column("key").to_pylist())
            mine = [(i, row) for i, key in enumerate(keys) if index[key][0] == part for row in wanted.get(key, ())]
            _place(arrays, columns, mine, len(usable))
            texts |= {text["key"]: text for text in table.select(_TEXTS).to_pylist() if index[text["key"]][0] == part}
        if not arrays:
            shape = (0, self._size, self._size)
            arrays = {name: np.zeros(shape, np.uint8 if name in CROPS else np.float32) for name in self._channels}
        return FeatureSet(
            clip_ids=tuple(clip for clip, _ in usable),
            keys=tuple(key for _, key in usable),
            unit=self.unit,
            maps={name: arrays[name] for name in MAPS},
            crops={name: arrays[name] for name in CROPS if name in arrays},
            failures=tuple(ClipFailure(clip, texts[key]["error"]) for clip, key in entries if index[key][1] == "failed"),
            notes={clip: texts[key]["note"] for clip, key in entries if texts[key]["note"]},
            apexes={clip: texts[key]["apex_file"] for clip, key in entries if texts[key]["apex_file"]},
        )

    @property
    def _channels(self) -> tuple[str, ...]:
        return CHANNELS if self.unit == "px" else MAPS

    def _index(self) -> dict[str, tuple[str, Status]]:
        """Key → (part, status) of all readable parts. A key in two parts counts once: it names the same content."""
        index: dict[str, tuple[str, Status]] = {}
        parts = [f"parts/{name}" for name in (self.store / "parts").keys(".parquet")]
        with ThreadPoolExecutor(8) as pool:  # an object store takes its time for an answer, not for the bytes
            for part, pairs in zip(parts, pool.map(self._statuses, parts), strict=True):
                for key, status in pairs:
                    index.setdefault(key, (part, status))
        return index

    def _statuses(self, part: str) -> list[tuple[str, Status]]:
        try:
            table = self._read_columns(part, ("key", "status"))
            return cast(Any, list(zip(table.column("key").to_pylist(), table.column("status").to_pylist(), strict=True)))
        except (OSError, pa.ArrowException, KeyError) as error:
            if part not in self._told:
                reason = " ".join(str(error).split())[:160]
                log.warning("%s is not a readable feature part and counts as absent (%s); delete it.", self.store.path(part), reason)
                self._told.add(part)
            return []

    def _require(self, entries: _Entries, index: dict[str, tuple[str, Status]]) -> None:
        missing = [clip for clip, key in entries if key not in index]
        if missing:
            raise BadInput(
                f"{self.store.uri}: {len(missing)} of {len(entries)} clips have no stored features (first: {missing[0]}); extract them."
            )

    def _read(self, part: str, columns: tuple[str, ...]) -> pa.Table:
        try:
            return self._read_columns(part, columns)
        except (OSError, pa.ArrowException) as error:
            reason = " ".join(str(error).split())[:160]
            raise BadInput(f"{self.store.path(part)}: the feature part is damaged ({reason}); delete it and extract again.") from error

    def _read_columns(self, part: str, columns: tuple[str, ...]) -> pa.Table:
        """Some columns of a part; the bytes of the others are not fetched."""
        with self.store.open(part) as file:
            return pq.ParquetFile(file, page_checksum_verification=True, pre_buffer=True).read(columns=list(columns))


def _table(rows: list[FeatureRow], height: int, width: int) -> pa.Table:
    schema = part_schema(height, width)
    texts = {
        "key": [row.key for row in rows],
        "status": [row.status for row in rows],
        "error": [row.error for row in rows],
        "note": [row.note for row in rows],
        "unit": [row.unit for row in rows],
        "apex_file": [row.apex for row in rows],
    }
    columns: list[pa.Array] = [pa.array(texts[name], pa.string()) for name in _TEXTS]
    for name in CHANNELS:
        x_NHW = np.zeros((len(rows), height, width), np.uint8 if name in CROPS else np.float32)
        for n, row in enumerate(rows):
            plane_HW = _plane(row, name)
            if plane_HW is not None:
                x_NHW[n] = plane_HW
        storage = pa.FixedSizeListArray.from_arrays(pa.array(x_NHW.reshape(-1)), height * width)
        columns.append(pa.ExtensionArray.from_storage(schema.field(name).type, storage))
    return pa.Table.from_arrays(columns, schema=schema)


def _plane(row: FeatureRow, channel: str) -> npt.NDArray[Any] | None:
    if channel in CROPS:
        return row.onset_HW if channel == "onset" else row.apex_HW
    if channel == "strain":
        return row.strain_HW
    return None if row.flow_HW2 is None else row.flow_HW2[..., 0 if channel == "u" else 1]


def _ndarray(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    chunks = [chunk.to_numpy_ndarray() for chunk in column.chunks]
    return np.concatenate(chunks) if len(chunks) != 1 else chunks[0]


def _place(arrays: dict[str, npt.NDArray[Any]], columns: dict[str, npt.NDArray[Any]], rows: list[tuple[int, int]], total: int) -> None:
    """Copy the rows (in the part, in the set) of a part's columns into ``arrays``, which the first call allocates."""
    if not rows:
        return
    source, target = (list(side) for side in zip(*rows, strict=True))
    for name, x_MHW in columns.items():
        if name not in arrays:
            arrays[name] = np.empty((total, *x_MHW.shape[1:]), x_MHW.dtype)
        if arrays[name].shape[1:] != x_MHW.shape[1:]:
            sizes = " and ".join(f"{w}×{h}" for h, w in (arrays[name].shape[1:], x_MHW.shape[1:]))
            raise BadInput(f"the flow maps have several sizes ({sizes} px); export them in one.")
        arrays[name][target] = x_MHW[source]
