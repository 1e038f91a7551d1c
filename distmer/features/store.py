"""The feature store: Parquet parts keyed by content, so that a clip is extracted once.

    features/<folder>/parts/<digest of what the part says>.parquet

A part holds rows of one map size (their columns: ``row.py``), is written at once, and is never changed. A key
may be in several parts: features win over a failure, and of two failures the one that was written later.
``<folder>`` is a digest of the extraction settings, so that a user can delete one extraction.
"""

# pyright: strict, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from distmer.config import FeatureConfig
from distmer.digests import digest
from distmer.features.featureset import FeatureSet, Status, Unit, crop_channels, map_channels
from distmer.features.pipeline import FEATURE_EPOCH, extraction
from distmer.features.row import TEXTS, FeatureRow, tensor, to_table
from distmer.storage import Place, delete, files, write
from distmer.types import BadInput, ClipFailure, RunError

log = logging.getLogger(__name__)

_Entries = Sequence[tuple[str, str]]  # (clip id, key)
# bytes: a part below the first is worth merging, and is merged up to the second
_SMALL, _FULL = 32 * 2**20, 64 * 2**20
_MANY = 8  # small parts


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store says of a key: its part, and the texts of the row."""

    part: str
    status: Status
    error: str
    note: str  # what was noticed: several faces in the onset
    apex_file: str  # the frame that the max-flow search chose, else ""


class _Removed(Exception):
    """A part that was there has been removed: another run has merged it."""


class FeatureStore:
    """The features of one extraction, in its own folder in ``place``. Maps of unit "minmax" have one too."""

    def __init__(self, place: Place, cfg: FeatureConfig, unit: Unit = "px") -> None:
        settings = extraction(cfg) if unit == "px" else {"flow-maps": True}
        self.folder = place / digest({"settings": settings, "epoch": FEATURE_EPOCH})[:12]
        self.unit: Unit = unit
        self._size = cfg.size
        self._frames = cfg.frames if unit == "px" else 0
        self._columns = (*TEXTS, *map_channels(self._frames), *crop_channels(self._frames))
        self._known: dict[str, Stored] | None = None
        self._warned: set[str] = set()  # parts that were warned about

    @property
    def index(self) -> Mapping[str, Stored]:
        """Every stored key → what is said of it. Read once, and kept up to date by what this object writes;
        an unreadable part is warned about, and absent."""
        if self._known is None:
            self._known = self._read_index()
        return self._known

    def write(self, rows: Iterable[FeatureRow]) -> None:
        """Store rows, failed ones too, as one atomic part for each size of maps. A failure that has a key
        follows from the clip's bytes, as features do: a corrected file has another key. Rows without a key
        are passed over. OSError (full disk) leaves no trace."""
        unique = {row.key: row for row in rows if row.key}
        for row in unique.values():
            if row.unit != self.unit:
                raise ValueError(
                    f"{row.clip_id}: a row in {row.unit} does not belong into a store of {self.unit}"
                )
        shapes: dict[tuple[int, int], list[FeatureRow]] = {}
        for row in unique.values():
            if row.status == "ok":
                height, width = row.channels["strain"].shape
                shapes.setdefault((height, width), []).append(row)
        failed = [row for row in unique.values() if row.status == "failed"]
        if failed:  # they have no size: into the first part, or into one of their own
            own = (self._size, self._size) if self.unit == "px" else (1, 1)
            shapes.setdefault(next(iter(shapes), own), []).extend(failed)
        for (height, width), part in shapes.items():
            self._write_part(to_table(part, height, width, self._frames).select(self._columns))

    def failures(self, entries: _Entries) -> tuple[ClipFailure, ...]:
        """Those of a list of (clip id, key) whose extraction failed, with the reason. BadInput where one is
        not stored."""
        self._require(entries)
        stored = ((clip, self.index[key]) for clip, key in entries)
        return tuple(ClipFailure(clip, row.error) for clip, row in stored if row.status == "failed")

    def load(self, entries: _Entries, channels: Sequence[str] | None = None) -> FeatureSet:
        """The features of a list of (clip id, key), in its order; failed clips become ``failures``. With
        ``channels``, only these are read, because a sequence is large.

        BadInput when features are not there or a part is damaged (remedy: extract again), and for maps of
        several sizes.
        """
        while True:
            try:
                return self._load(entries, channels)
            except _Removed:  # what it held is in another part by now
                self._known = None

    def compact(self) -> None:
        """Make one part of many small ones, so that the next run opens few files.

        The new part is whole before the first of the old ones is removed, so a kill, or several runs that do
        this at once, leave rows twice and lose none. A run that has looked up a removed part looks again.
        """
        parts = {name: info.size for name, info in self._parts().items() if info.size < _SMALL}
        if len(parts) < _MANY:
            return
        groups: list[list[str]] = [[]]
        for part, size in parts.items():
            if groups[-1] and sum(parts[name] for name in groups[-1]) + size > _FULL:
                groups.append([])
            groups[-1].append(part)
        for group in groups:
            with suppress(_Removed):  # by another run, which is merging them
                self._merge(group)

    def _merge(self, parts: Sequence[str]) -> None:
        shapes: dict[str, list[tuple[str, pa.Table]]] = {}
        for part in parts:
            try:
                table = self._read(part, self._columns)
            except BadInput as error:  # it stays as it is: reading its rows raises this
                log.warning("%s", error)
                continue
            shapes.setdefault(str(table.schema.field("u").type), []).append((part, table))
        for group in shapes.values():
            if len(group) == 1:
                continue
            best: dict[str, Stored] = {}
            for part, table in group:  # the oldest first
                _enter(best, part, table)
            kept = [
                table.filter(pa.array([best[key].part == part for key in table.column("key").to_pylist()]))
                for part, table in group
            ]
            table = pa.concat_tables(kept)
            merged = self._write_part(table)
            old = {part for part, _ in group} - {merged}
            if self._known is not None:
                self._known = {key: row for key, row in self._known.items() if row.part not in old}
                _enter(self._known, merged, table)
            for part in sorted(old):
                delete(self.folder / part)

    def _write_part(self, table: pa.Table) -> str:
        buffer = io.BytesIO()
        pq.write_table(
            table,
            buffer,
            compression="zstd",
            use_dictionary=cast(Any, list(TEXTS)),
            # a sixth smaller, and quicker
            use_byte_stream_split=cast(Any, [f"{name}.list.element" for name in map_channels(self._frames)]),
            write_page_checksum=True,
        )
        texts = table.select(("key", "status", "error")).to_pylist()
        part = f"parts/{digest(sorted([row['key'], row['status'], row['error']] for row in texts))}.parquet"
        write(self.folder / part, buffer.getvalue())
        if self._known is not None:
            _enter(self._known, part, table)
        return part

    def _load(self, entries: _Entries, channels: Sequence[str] | None) -> FeatureSet:
        crops = crop_channels(self._frames) if self.unit == "px" else ()
        kinds = dict.fromkeys(map_channels(self._frames), np.float32) | dict.fromkeys(crops, np.uint8)
        names = [name for name in kinds if channels is None or name in channels]
        index = self.index
        self._require(entries)
        usable = [(clip, key) for clip, key in entries if index[key].status == "ok"]
        wanted: dict[str, list[int]] = {}
        for row, (_, key) in enumerate(usable):
            wanted.setdefault(key, []).append(row)
        arrays: dict[str, npt.NDArray[Any]] = {}
        for part in sorted({index[key].part for key in wanted}):
            table = self._read(part, ("key", *names))
            keys = cast(list[str], table.column("key").to_pylist())
            here = [(i, key) for i, key in enumerate(keys) if key in wanted and index[key].part == part]
            source = [i for i, key in here for _ in wanted[key]]
            target = [row for _, key in here for row in wanted[key]]
            for name in names if here else ():
                x_MHW = tensor(table, name)
                into_NHW = arrays.setdefault(name, np.empty((len(usable), *x_MHW.shape[1:]), x_MHW.dtype))
                if into_NHW.shape[1:] != x_MHW.shape[1:]:
                    sizes = " and ".join(f"{w}×{h}" for h, w in (into_NHW.shape[1:], x_MHW.shape[1:]))
                    raise BadInput(f"the flow maps have several sizes ({sizes} px); export them in one.")
                into_NHW[target] = x_MHW[source]
        if not arrays:
            arrays = {name: np.zeros((0, self._size, self._size), kinds[name]) for name in names}
        return FeatureSet(
            clip_ids=tuple(clip for clip, _ in usable),
            keys=tuple(key for _, key in usable),
            unit=self.unit,
            maps={name: arrays[name] for name in names if name not in crops},
            crops={name: arrays[name] for name in names if name in crops},
            failures=self.failures(entries),
        )

    def _parts(self) -> dict[str, fs.FileInfo]:
        """The parts, the oldest first, equals in the order of their names: some clocks count whole
        seconds."""
        found = {f"parts/{name}": info for name, info in files(self.folder / "parts", ".parquet").items()}
        order = sorted((cast(int, info.mtime_ns or 0), name) for name, info in found.items())
        return {name: found[name] for _, name in order}

    def _read_index(self) -> dict[str, Stored]:
        index: dict[str, Stored] = {}
        parts = list(self._parts())
        try:
            # in parallel, because an object store is slow to answer, and not slow to send bytes
            with ThreadPoolExecutor(8) as pool:
                for part, table in zip(parts, pool.map(self._texts, parts), strict=True):
                    if table is not None:
                        _enter(index, part, table)
        except FileNotFoundError:
            # Another run has just merged it into a part that may be newer than our list.
            return self._read_index()
        return index

    def _texts(self, part: str) -> pa.Table | None:
        try:
            return self._read_columns(part, TEXTS)
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException, KeyError) as error:
            if part not in self._warned:
                reason = " ".join(str(error).split())[:160]
                unreadable = "%s is not a readable feature part and counts as absent (%s); delete it."
                log.warning(unreadable, self.folder / part, reason)
                self._warned.add(part)
            return None

    def _require(self, entries: _Entries) -> None:
        missing = [clip for clip, key in entries if key not in self.index]
        if missing:
            lacking = f"{len(missing)} of {len(entries)} clips have no stored features (first: {missing[0]})"
            raise BadInput(f"{self.folder}: {lacking}; extract them.")

    def _read(self, part: str, columns: tuple[str, ...]) -> pa.Table:
        try:
            return self._read_columns(part, columns)
        except (OSError, pa.ArrowException, RunError) as error:
            if not (self.folder / part).is_file():
                raise _Removed(part) from error
            if isinstance(error, RunError):
                raise
            reason = " ".join(str(error).split())[:160]
            problem = f"{self.folder / part}: the feature part is damaged ({reason})"
            raise BadInput(f"{problem}; delete it and extract again.") from error

    def _read_columns(self, part: str, columns: tuple[str, ...]) -> pa.Table:
        """Some columns of a part; the bytes of the others are not fetched."""
        with (self.folder / part).open("rb") as file:
            return pq.ParquetFile(file, page_checksum_verification=True, pre_buffer=True).read(
                columns=list(columns)
            )


def _enter(index: dict[str, Stored], part: str, table: pa.Table) -> None:
    """Enter a part's rows, where the index has none or a failure for the key. Parts are entered in the order
    of their writing."""
    for row in table.select(TEXTS).to_pylist():
        known = index.get(row["key"])
        if known is None or known.status == "failed":
            index[row["key"]] = Stored(part, row["status"], row["error"], row["note"], row["apex_file"])
