"""A clip as a sequence: evenly spaced frames from onset to offset, and the flow between them.

``nearest`` takes the recorded frame that is nearest in time, of two equally near ones the earlier. ``linear``
blends the two frames about a moment, by their distance to it: simpler than the temporal interpolation model
of the field (TIM; Zhou, Zhao & Pietikäinen 2011; Pfister et al. 2011), and with other results.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from distmer.config import Config, FeatureConfig
from distmer.features.featureset import frames_read
from distmer.features.frames import ByteArray, ClipError
from distmer.idle import why_idle
from distmer.types import ApexSearch, BadInput, KeyFrames


@dataclass(frozen=True, slots=True)
class Sample:
    """A frame of a sequence: (1 − weight) × the one file + weight × the other."""

    one: str
    other: str
    weight: float


def samples(source: KeyFrames | ApexSearch, cfg: FeatureConfig) -> list[Sample]:
    """The frames of the sequence that the settings ask for, the onset first; none where they ask for none.

    ClipError where the clip is a pair of key frames, or has too few frames; BadInput where the settings ask
    for a sequence of one frame.
    """
    if not cfg.frames:
        return []
    if cfg.frames == 1:
        raise BadInput("features.frames: one frame is no sequence; give 0, or 2 and more.")
    course = dict(source.course)
    if not course:
        raise ClipError(
            f"a sequence of {cfg.frames} frames needs the frames between onset and offset, but this clip is a"
            " pair of key frames; set features.frames=0, or give the clip's folder of frames."
        )
    numbers = sorted(course)
    step = Fraction(numbers[-1] - numbers[0], cfg.frames - 1)
    places = [_place(numbers[0] + t * step, numbers) for t in range(cfg.frames)]
    if cfg.sampling == "linear" and len(numbers) > 1:
        return [Sample(course[one], course[other], weight) for one, other, weight in places]
    chosen = [one if weight <= 0.5 else other for one, other, weight in places]
    if len(set(chosen)) < cfg.frames:
        linear = cfg.sampling == "linear"
        remedy = "leave it out" if linear else "lower features.frames, or set features.sampling=linear"
        raise ClipError(
            f"from onset to offset it has {len(numbers)} frames, too few for {cfg.frames} evenly spaced ones;"
            f" {remedy}."
        )
    return [Sample(course[n], course[n], 0.0) for n in chosen]


def blended(crops: Mapping[str, ByteArray], sequence: Sequence[Sample]) -> list[ByteArray]:
    """The aligned crops of a sequence, each uint8 (H, W), from those of its files."""
    found: list[ByteArray] = []
    for sample in sequence:
        one_HW, other_HW = crops[sample.one], crops[sample.other]
        mixed_HW = one_HW + sample.weight * (other_HW.astype(np.float64) - one_HW)
        found.append(np.rint(mixed_HW).astype(np.uint8))
    return found


def require_frames(config: Config, model: str, channels: Sequence[str]) -> None:
    """BadInput unless the features have the sequence that a model reads: of the same length, for crop1 to
    crop4 of eight frames are the first half of the clip."""
    frames = frames_read(channels)
    if not frames:
        return
    if why_idle("features", config.model_dump(mode="json"), lambda name: True):
        raise BadInput(
            f"model {model}: it reads a sequence of frames, which published flow maps do not hold; choose"
            " another model, or data with frames."
        )
    if frames != config.features.frames:
        raise BadInput(
            f"model {model}: it reads a sequence of {frames} frames, but features.frames is"
            f" {config.features.frames}; set features.frames={frames}."
        )


def _place(moment: Fraction, numbers: Sequence[int]) -> tuple[int, int, float]:
    """The numbers of the frames before and after a moment, and how far it lies between them, 0..1."""
    at = bisect_right(numbers, moment)
    before = numbers[at - 1]
    if moment == before:  # a recorded frame, for which no other need be read
        return before, before, 0.0
    return before, numbers[at], float((moment - before) / (numbers[at] - before))
