"""What came of one clip, as one row: in memory, between processes, and in the store's files.

Its columns are named here alone.

In a table the arrays are Arrow's own fixed-shape tensors, which pyarrow reads without Ray. No column is ever
null: a null in a fixed-size list can be written to Parquet but not read back (apache/arrow#35692, pyarrow 25
still). So a failed row holds zeros, and ``status`` says that they mean nothing. So do the crops of rows
whose ``unit`` is "minmax".
"""

# pyright: strict, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from distmer.features.featureset import Status, Unit, crop_channels, is_channel, map_channels
from distmer.features.frames import ByteArray, Float32Array

TEXTS = ("key", "status", "error", "note", "unit", "apex_file")


def stored_columns(frames: int = 0) -> tuple[str, ...]:
    """The columns that follow from the clip's bytes; the store keeps no others."""
    return (*TEXTS, *map_channels(frames), *crop_channels(frames))


@dataclass(frozen=True, slots=True, eq=False)
class FeatureRow:
    """The features of one clip, or why it has none.

    A failed row has an error and no arrays. It has a key, and is stored, if its failure is a function of the
    clip's bytes. Without a key (a file is missing, memory ran out) it is never stored, and the next run
    tries the clip again.

    Attributes
    ----------
    clip_id : str
        ``dataset/subject/clip``.
    key : str
        The identity of the features (`distmer.features.pipeline.clip_key`).
    unit : {"px", "minmax"}
        The scale of flow and strain: px and px/px, or 0..1 for each clip.
    status : {"ok", "failed"}
    error : str
        A sentence; "" if the status is "ok".
    note : str
        What was noticed: several faces in the onset, an implausible pair (`distmer.features.plausible`).
    onset_HW, apex_HW : uint8 arrays (H, W), optional
        The aligned grey images; None of a published flow map.
    flow_HW2 : float32 array (H, W, 2), optional
        u = [..., 0] to the right and v = [..., 1] downwards, in ``unit``.
    strain_HW : float32 array (H, W), optional
    sequence_THW : uint8 array (T, H, W), optional
        The aligned grey images of T evenly spaced frames.
    motion_MHW2 : float32 array (T − 1, H, W, 2), optional
        The flow from each of them to the next, px.
    apex_file : str
        The name of the frame that the max-flow search chose, else "".
    seconds : float
        Wall time of the extraction, s; the one field that differs between two extractions of the same clip.
    """

    clip_id: str
    key: str
    unit: Unit
    status: Status
    error: str = ""
    note: str = ""
    onset_HW: ByteArray | None = None
    apex_HW: ByteArray | None = None
    flow_HW2: Float32Array | None = None
    strain_HW: Float32Array | None = None
    sequence_THW: ByteArray | None = None
    motion_MHW2: Float32Array | None = None
    apex_file: str = ""
    seconds: float = 0.0

    @property
    def channels(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays by channel, each (H, W); those that the row does not have are left out."""
        found: dict[str, npt.NDArray[Any] | None] = {
            "strain": self.strain_HW,
            "onset": self.onset_HW,
            "apex": self.apex_HW,
        }
        if self.flow_HW2 is not None:
            found |= {"u": self.flow_HW2[..., 0], "v": self.flow_HW2[..., 1]}
        if self.sequence_THW is not None:
            found |= {f"crop{t}": x_HW for t, x_HW in enumerate(self.sequence_THW, start=1)}
        if self.motion_MHW2 is not None:
            found |= {f"u{t}": flow_HW2[..., 0] for t, flow_HW2 in enumerate(self.motion_MHW2, start=1)}
            found |= {f"v{t}": flow_HW2[..., 1] for t, flow_HW2 in enumerate(self.motion_MHW2, start=1)}
        return {name: x_HW for name, x_HW in found.items() if x_HW is not None}


def row_schema(height: int, width: int, frames: int = 0) -> pa.Schema:
    """The columns of rows whose maps are ``height`` × ``width`` px, with a sequence of so many frames."""
    size = (height, width)
    plain = [("clip_id", pa.string()), ("seconds", pa.float64()), *((name, pa.string()) for name in TEXTS)]
    maps = [(name, pa.fixed_shape_tensor(pa.float32(), size)) for name in map_channels(frames)]
    crops = [(name, pa.fixed_shape_tensor(pa.uint8(), size)) for name in crop_channels(frames)]
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in (*plain, *maps, *crops)])


def to_table(rows: Sequence[FeatureRow], height: int, width: int, frames: int = 0) -> pa.Table:
    """Rows as a table of `row_schema`. All that have maps must have maps of this size, in px."""
    schema = row_schema(height, width, frames)
    maps, crops = map_channels(frames), crop_channels(frames)
    columns: list[pa.Array] = []
    for field in schema:
        if field.name in (*maps, *crops):
            x_NHW = np.zeros((len(rows), height, width), np.uint8 if field.name in crops else np.float32)
            for n, row in enumerate(rows):
                x_NHW[n] = row.channels.get(field.name, 0)
            storage = pa.FixedSizeListArray.from_arrays(pa.array(x_NHW.reshape(-1)), height * width)
            columns.append(pa.ExtensionArray.from_storage(field.type, storage))
        else:
            columns.append(pa.array([getattr(row, field.name) for row in rows], field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def to_rows(table: pa.Table) -> list[FeatureRow]:
    """The rows of a table that `to_table` made."""
    x_NHW = {name: tensor(table, name) for name in table.column_names if is_channel(name)}
    frames = sum(name.startswith("crop") for name in x_NHW)
    rows: list[FeatureRow] = []
    for n, values in enumerate(table.drop_columns(list(x_NHW)).to_pylist()):
        row = FeatureRow(**values)
        if row.status == "ok":
            flow_HW2 = np.stack([x_NHW["u"][n], x_NHW["v"][n]], axis=-1)
            row = replace(row, flow_HW2=flow_HW2, strain_HW=x_NHW["strain"][n])
            if row.unit == "px":
                row = replace(row, onset_HW=x_NHW["onset"][n], apex_HW=x_NHW["apex"][n])
            if row.unit == "px" and frames:
                flows = [np.stack([x_NHW[f"u{t}"][n], x_NHW[f"v{t}"][n]], axis=-1) for t in range(1, frames)]
                crops = [x_NHW[f"crop{t}"][n] for t in range(1, frames + 1)]
                row = replace(row, sequence_THW=np.stack(crops), motion_MHW2=np.stack(flows))
        rows.append(row)
    return rows


def tensor(table: pa.Table, name: str) -> npt.NDArray[Any]:
    """A channel's column as x_NHW."""
    chunks = [chunk.to_numpy_ndarray() for chunk in table.column(name).chunks]
    return np.concatenate(chunks) if len(chunks) != 1 else chunks[0]
