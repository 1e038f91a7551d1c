"""From stored features to what a model is given: one scale, one size, the channels it asks for. Pure
functions of arrays."""

# pyright: strict, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np

from distmer.config import InputConfig
from distmer.features.featureset import CHANNELS, FeatureSet, Unit, is_channel, is_crop
from distmer.features.frames import Float32Array
from distmer.registry import nearest
from distmer.types import BadInput

Normalisation = Literal["fixed", "minmax", "none"]


def model_inputs(features: FeatureSet, channels: Sequence[str], size: int, cfg: InputConfig) -> Float32Array:
    """x_NCHW float32 of the clips of a feature set, in its order: each channel normalised, then resized to
    ``size`` px.

    BadInput for a channel that does not exist or that the set does not have, and for ``fixed`` on min-max
    maps.
    """
    planes: list[Float32Array] = []
    for channel in channels:
        x_NHW = normalise(features.channel(channel), channel, features.unit, cfg)
        planes.append(resize(x_NHW, size))
    if not planes:
        raise BadInput(f"a model needs at least one input channel; name some of {', '.join(CHANNELS)}.")
    return np.stack(planes, axis=1)


def normalise(x_NHW: Float32Array, channel: str, unit: Unit, cfg: InputConfig) -> Float32Array:
    """One channel on the scale that a model sees.

    ``fixed``: u and v over ``flow_scale`` px, clipped to ±1; strain over ``strain_scale``, clipped to 0..1.
    Keeps amplitude, and zero motion at 0. ``minmax``: each map spans 0..1, as in much published work; a
    constant map, which has no span, says that nothing moved: u and v become .5, strain 0. Maps that were
    published min-max scaled stay as they are. ``none``: px and px/px. Crops are grey values in 0..1 under all
    of them.
    """
    _check(channel)
    if is_crop(channel) or cfg.normalise == "none":
        return x_NHW
    if cfg.normalise == "minmax":
        return x_NHW if unit == "minmax" else _minmax(x_NHW, flat=0.0 if channel == "strain" else 0.5)
    if unit == "minmax":
        raise BadInput(
            "published flow maps are min-max scaled and hold no pixels, so a fixed scale is impossible;"
            " set inputs.normalise=minmax."
        )
    if channel == "strain":
        return np.clip(x_NHW / np.float32(cfg.strain_scale), np.float32(0), np.float32(1))
    return np.clip(x_NHW / np.float32(cfg.flow_scale), np.float32(-1), np.float32(1))


def resize(x_NHW: Float32Array, size: int) -> Float32Array:
    """Maps of ``size`` × ``size`` px: area means when shrinking, bilinear when enlarging. Values keep their
    unit."""
    n, height, width = x_NHW.shape
    if (height, width) == (size, size):
        return x_NHW
    interpolation = cv2.INTER_AREA if size < max(height, width) else cv2.INTER_LINEAR
    small_NHW = np.empty((n, size, size), np.float32)
    for i in range(n):
        small_NHW[i] = cv2.resize(np.ascontiguousarray(x_NHW[i]), (size, size), interpolation=interpolation)
    return small_NHW


def normalisation_of(unit: Unit, cfg: InputConfig) -> Normalisation:
    """The scale that ``normalise`` leaves: maps published min-max scaled are so under any setting."""
    return "minmax" if unit == "minmax" else cfg.normalise


def _minmax(x_NHW: Float32Array, flat: float) -> Float32Array:
    low_N11 = x_NHW.min(axis=(1, 2), keepdims=True)
    span_N11 = x_NHW.max(axis=(1, 2), keepdims=True) - low_N11
    safe_N11 = np.where(span_N11 > 0, span_N11, np.float32(1))
    return np.where(span_N11 > 0, (x_NHW - low_N11) / safe_N11, np.float32(flat)).astype(np.float32)


def _check(channel: str) -> None:
    if not is_channel(channel):
        raise BadInput(f"unknown input channel {channel!r}; {nearest(channel, CHANNELS)}")
