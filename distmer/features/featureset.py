"""The features of a list of clips, in memory: what folds slice and models are fed from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from distmer.features.frames import ByteArray, Float32Array
from distmer.registry import nearest
from distmer.types import BadInput, ClipFailure

# flow in px and strain in px/px, or maps min-max scaled to 0..1 by their publishers
Unit = Literal["px", "minmax"]
Status = Literal["ok", "failed"]

MAPS = ("u", "v", "strain")  # float32
CROPS = ("onset", "apex")  # uint8; a set of published flow maps has none
CHANNELS = MAPS + CROPS
_OF_SEQUENCE = re.compile(r"(crop|u|v)([1-9]\d?)")


def map_channels(frames: int = 0) -> tuple[str, ...]:
    """The float32 channels of features with a sequence of so many frames.

    u1 and v1 are the flow from crop1 to crop2, and so on.
    """
    return (*MAPS, *(f"{name}{t}" for t in range(1, frames) for name in ("u", "v")))


def crop_channels(frames: int = 0) -> tuple[str, ...]:
    """The uint8 channels of features with a sequence of so many frames, ``crop1`` being the onset."""
    return (*CROPS, *(f"crop{t}" for t in range(1, frames + 1)))


def quantity(channel: str) -> str:
    """What a channel shows: ``u`` of u3, ``crop`` of crop1; of a channel of no sequence, its own name."""
    found = _OF_SEQUENCE.fullmatch(channel)
    return found[1] if found else channel


def is_channel(name: str) -> bool:
    """Whether some features have a channel of this name."""
    return name in CHANNELS or _OF_SEQUENCE.fullmatch(name) is not None


def is_crop(channel: str) -> bool:
    """Whether a channel is a grey image."""
    return quantity(channel) in (*CROPS, "crop")


def frames_read(channels: Iterable[str]) -> int:
    """How many frames the sequence has that these channels are of; 0 where they are of none."""
    found = [match for name in channels if (match := _OF_SEQUENCE.fullmatch(name))]
    return max((int(match[2]) + (match[1] != "crop") for match in found), default=0)


@dataclass(frozen=True, slots=True, eq=False)
class FeatureSet:
    """The usable clips of a list, row n of every array belonging to ``clip_ids[n]``; the others are
    ``failures``.

    ``maps`` holds float32 channels, each x_NHW; ``crops`` holds uint8 channels, each x_NHW, or nothing.
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
        """x_NHW float32 of one channel: flow in px, strain in px/px (or all in 0..1, see ``unit``), crops
        grey in 0..1.

        BadInput for an unknown channel, and for one that the features do not have: crops of published flow
        maps, frames of a sequence where none was extracted.
        """
        if name in self.maps:
            return self.maps[name]
        if name in self.crops:
            return self.crops[name].astype(np.float32) / np.float32(255)
        if not is_channel(name):
            raise BadInput(f"unknown input channel {name!r}; {nearest(name, CHANNELS)}")
        if self.unit == "minmax":
            raise BadInput(
                f"these features are published flow maps, which hold no {name}{' image' * is_crop(name)}; use"
                f" the channels {', '.join(MAPS)}."
            )
        raise BadInput(f"these features hold no {name}; set features.frames={frames_read([name])}.")
