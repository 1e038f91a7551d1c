"""The features of one clip as one row: in memory, between processes, and in the store's files.

In a table the arrays are Arrow's fixed-shape tensors, which pyarrow reads without Ray. No column is ever
null, because a null in a fixed-size list can be written to Parquet but not read back (apache/arrow#35692,
pyarrow 25 still). So a failed row has zeros, and so have the crops of a row of unit "minmax".
"""

# pyright: strict, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from distmer.features.featureset import MAPS, Status, Unit, crop_channels, is_channel, map_channels
from distmer.features.frames import Float32Array

# These columns and the channels follow from the clip's bytes; the store keeps no others.
TEXTS = ("key", "status", "error", "note", "unit", "apex_file")


@dataclass(frozen=True, slots=True, eq=False)
class FeatureRow:
    """The features of one clip, or why it has none.

    A failed row has an error and no channels. It has a key, and is stored, if its failure is a function of
    the clip's bytes. Without a key (a file is missing, memory ran out) it is never stored, and the next run
    tries the clip again.

    ``channels`` are arrays (H, W): float32 ``u`` (to the right), ``v`` (downwards) and ``strain`` in
    ``unit``; of frames also the aligned grey images ``onset`` and ``apex``, uint8. Of a sequence of T frames
    also its images ``crop1`` to ``cropT``, and the flow from each to the next, ``u1``, ``v1`` and so on, px.
    """

    clip_id: str  # dataset/subject/clip
    key: str  # the identity of the features (`distmer.features.pipeline.clip_key`)
    unit: Unit  # of flow and strain: px and px/px, or 0..1 for each clip ("minmax")
    status: Status
    error: str = ""  # a sentence, if the status is "failed"
    note: str = ""  # several faces in the onset, an implausible pair (`distmer.features.plausible`)
    channels: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict[str, npt.NDArray[Any]])
    apex_file: str = ""  # the frame that the max-flow search chose
    seconds: float = 0.0  # of the extraction: all that differs between two extractions of one clip

    @property
    def flow_HW2(self) -> Float32Array:  # noqa: N802  # array names carry their shape
        """The channels u and v in one array."""
        return np.stack([self.channels["u"], self.channels["v"]], axis=-1)


def to_table(rows: Sequence[FeatureRow], height: int, width: int, frames: int = 0) -> pa.Table:
    """Rows as a table, with the channels of a sequence of so many frames. All rows that have maps must have
    maps of this size, in px."""
    plain = {"clip_id": pa.string(), "seconds": pa.float64(), **dict.fromkeys(TEXTS, pa.string())}
    maps, crops = map_channels(frames), crop_channels(frames)
    kinds = {**dict.fromkeys(maps, np.float32), **dict.fromkeys(crops, np.uint8)}
    columns = [pa.array([getattr(row, name) for row in rows], kind) for name, kind in plain.items()]
    for name, kind in kinds.items():
        x_NHW = np.zeros((len(rows), height, width), kind)
        for n, row in enumerate(rows):
            x_NHW[n] = row.channels.get(name, 0)
        storage = pa.FixedSizeListArray.from_arrays(pa.array(x_NHW.reshape(-1)), height * width)
        tensors = pa.fixed_shape_tensor(pa.from_numpy_dtype(kind), (height, width))
        columns.append(pa.ExtensionArray.from_storage(tensors, storage))
    named = zip((*plain, *kinds), columns, strict=True)
    schema = pa.schema([pa.field(name, column.type, nullable=False) for name, column in named])
    return pa.Table.from_arrays(columns, schema=schema)


def to_rows(table: pa.Table) -> list[FeatureRow]:
    """The rows of a table that `to_table` made."""
    x_NHW = {name: tensor(table, name) for name in table.column_names if is_channel(name)}
    rows: list[FeatureRow] = []
    for n, values in enumerate(table.drop_columns(list(x_NHW)).to_pylist()):
        names = x_NHW if values["unit"] == "px" else MAPS
        channels = {name: x_NHW[name][n] for name in names} if values["status"] == "ok" else {}
        rows.append(FeatureRow(**values, channels=channels))
    return rows


def tensor(table: pa.Table, name: str) -> npt.NDArray[Any]:
    """A channel's column as x_NHW."""
    chunks = [chunk.to_numpy_ndarray() for chunk in table.column(name).chunks]
    return np.concatenate(chunks) if len(chunks) != 1 else chunks[0]
