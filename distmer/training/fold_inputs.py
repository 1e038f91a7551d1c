"""The model inputs of all clips, of which a fold takes its own by clip id, and their standardisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distmer.features.featureset import quantity
from distmer.features.inputs import Normalisation
from distmer.types import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """The model inputs of every usable clip: ``x_NCHW`` float32, where row n belongs to ``clip_ids[n]``.

    ``channels`` names the C channels. ``normalised_as`` is the scale they are on, which decides what no
    motion is.
    """

    clip_ids: tuple[str, ...]
    channels: tuple[str, ...]
    normalised_as: Normalisation
    x_NCHW: FloatArray

    @property
    def no_motion(self) -> FloatArray:
        """The value that no motion has in each channel (in a crop: black), before any standardisation.

        Of shape (1, C, 1, 1).
        """
        middle = 0.5 if self.normalised_as == "minmax" else 0.0
        zero_C = [middle if quantity(channel) in ("u", "v") else 0.0 for channel in self.channels]
        return np.array(zero_C, np.float32)[None, :, None, None]

    def take(self, clip_ids: Sequence[str]) -> FloatArray:
        """The inputs of these clips in this order, as a copy that may be written to. KeyError for an unknown
        clip."""
        row = {clip: i for i, clip in enumerate(self.clip_ids)}
        return self.x_NCHW[[row[clip] for clip in clip_ids]]


@dataclass(frozen=True, slots=True, eq=False)
class ChannelScale:
    """Mean and standard deviation of each of the C channels, over all pixels of the training clips."""

    mean_C: FloatArray
    std_C: FloatArray

    @classmethod
    def of(cls, x_NCHW: FloatArray) -> ChannelScale:
        """The scale of these clips. A channel that is constant has the deviation 1, so that it becomes 0."""
        # float64 sums: the order of clips must not show in the last digits.
        mean_C = x_NCHW.mean(axis=(0, 2, 3), dtype=np.float64)
        std_C = x_NCHW.std(axis=(0, 2, 3), dtype=np.float64)
        return cls(mean_C.astype(np.float32), np.where(std_C > 0, std_C, 1.0).astype(np.float32))

    def apply(self, x_NCHW: FloatArray) -> FloatArray:
        """The clips with the mean subtracted and divided by the standard deviation, channel by channel."""
        return (x_NCHW - self.mean_C[None, :, None, None]) / self.std_C[None, :, None, None]
