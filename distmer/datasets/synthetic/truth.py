"""Where a face of the embedded data set really moves: the displacement that its generator applies, in the
aligned face frame. Nothing here looks at an image of a clip."""

from __future__ import annotations

import itertools

import cv2
import numpy as np

from distmer.config import SyntheticConfig
from distmer.datasets.synthetic.annotations import AnnotatedClip, annotated_clips
from distmer.datasets.synthetic.layout import Subject
from distmer.features.align import eye_transform
from distmer.types import FloatArray


def clip_id(clip: AnnotatedClip) -> str:
    """The id that the readers of the three sets give a clip."""
    subject = clip.subject if clip.dataset == "samm" else f"sub{clip.subject}"
    return f"{clip.dataset}/{subject}/{clip.name}"


def true_motion(options: SyntheticConfig, side: int) -> dict[str, FloatArray]:
    """Clip id → length_HW: how far the skin moves from the onset to the apex, in px of an aligned crop of
    ``side`` px, for every clip of the set."""
    found: dict[str, FloatArray] = {}
    for index, own in itertools.groupby(annotated_clips(options), key=lambda clip: clip.subject_index):
        subject = Subject(options, index)
        transform_23 = eye_transform(subject.landmarks.astype(np.float64), side)
        px = float(np.hypot(transform_23[0, 0], transform_23[1, 0]))  # of the crop in one px of the frame
        for clip in own:
            flow_HW2 = subject.displacement_of(clip)
            length_HW = np.hypot(flow_HW2[..., 0], flow_HW2[..., 1])
            found[clip_id(clip)] = px * cv2.warpAffine(length_HW, transform_23, (side, side))
    return found
