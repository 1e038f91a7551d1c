"""The features of a list of clips, in memory: what folds slice and models are fed from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from distmer.features.frames import ByteArray, Float32Array
from distmer.registry import nearest
from distmer.types import BadInput, ClipFailure

# flow in px and strain in px/px, or maps min-max scaled to 0..1 by whoever published them
Unit = Literal["px", "minmax"]
Status = Literal["ok", "failed"]

MAPS = ("u", "v", "strain")  # float32
CROPS = ("onset", "apex")  # uint8; a set of published flow maps has none
CHANNELS = MAPS + CROPS


@dataclass(frozen=True, slots=True, eq=False)
class FeatureSet:
    """The usable clips of a list, row n of every array belonging to ``clip_ids[n]``; the others are
    ``failures``.

    ``maps`` holds u, v and strain, each x_NHW float32; ``crops`` holds onset and apex, x_NHW uint8, or
    nothing.
    """

    clip_ids: tuple[str, ...]
    keys: tuple[str, ...]
    unit: Unit
    maps: Mapping[str, Float32Array]
    crops: Mapping[str, ByteArray] = field(default_factory=dict[str, ByteArray])
    failures: tuple[ClipFailure, ...] = ()

    def __post_init__(self) -> None:
        sizes = {
            len(self.keys),
            *(len(x) for x in self.maps.values()),
            *(len(x) for x in self.crops.values()),
        }
        if sizes != {len(self.clip_ids)}:
            raise ValueError(
                f"feature set: {len(self.clip_ids)} clip ids, but keys and arrays of {sorted(sizes)} rows"
            )

    def __len__(self) -> int:
        return len(self.clip_ids)

    def channel(self, name: str) -> Float32Array:
        """x_NHW float32 of one channel: u, v in px, strain in px/px (or all in 0..1, see ``unit``), onset,
        apex grey in 0..1.

        BadInput for an unknown channel, and for crops of a set that was made from published flow maps.
        """
        if name in self.maps:
            return self.maps[name]
        if name in self.crops:
            return self.crops[name].astype(np.float32) / np.float32(255)
        if name in CROPS:
            raise BadInput(
                f"these features are published flow maps, which hold no {name} image; use the"
                f" channels {', '.join(MAPS)}."
            )
        raise BadInput(f"unknown input channel {name!r}; {nearest(name, CHANNELS)}")
