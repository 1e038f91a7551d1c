"""How far a face has moved, in px, and which region of it moved most."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from distmer.features.frames import ByteArray, Float32Array
from distmer.features.landmarks import PointArray, landmarks_of_crop
from distmer.types import FloatArray

MaskArray = npt.NDArray[np.bool_]

# Region → groups of landmarks: the region is the union of their convex hulls. The cheeks reach from the lower
# lids and the nose to the jaw. They belong to the mouth, which moves them.
_REGIONS: dict[str, tuple[tuple[int, ...], ...]] = {
    "brows": (tuple(range(17, 22)), tuple(range(22, 27)), (21, 22, 27)),
    "eyes": (tuple(range(36, 42)), tuple(range(42, 48))),
    "nose": (tuple(range(27, 36)),),
    "mouth and cheeks": (
        tuple(range(48, 60)),
        (2, 3, 4, 48, 31, 41),
        (14, 13, 12, 54, 35, 46),
        (6, 8, 10, 48, 54),
    ),
}
_MARGIN = 0.03  # of the crop's side: the skin around the landmarks moves with them


@dataclass(frozen=True, slots=True)
class Motion:
    """The motion from onset to apex, px of the aligned crop, in which the eyes are .4 of its side apart.

    ``mean`` and ``largest`` are over the face; ``regions`` holds the mean over the tenth of each region that
    moved most.
    """

    mean: float
    largest: float
    regions: dict[str, float]

    @property
    def most(self) -> str:
        """The region that moved most."""
        return max(self.regions, key=lambda name: self.regions[name])


def measure(onset_HW: ByteArray, flow_HW2: Float32Array, landmarks: Path) -> Motion:
    """The motion of a clip, from its aligned onset and its flow in px."""
    points_L2 = landmarks_of_crop(onset_HW, landmarks)
    length_HW = np.hypot(flow_HW2[..., 0], flow_HW2[..., 1])
    face = length_HW[_hulls(points_L2, (tuple(range(68)),), len(onset_HW), 0)]
    masks = regions_of(points_L2, len(onset_HW))
    regions = {name: _top_tenth(length_HW[mask_HW]) for name, mask_HW in masks.items()}
    return Motion(float(face.mean()), float(face.max()), regions)


def regions_of(points_L2: PointArray, side: int) -> dict[str, MaskArray]:
    """The regions of a face with these landmarks, px of a crop of ``side`` px: name → mask_HW. They may
    overlap at their edges."""
    return {name: _hulls(points_L2, groups, side, _MARGIN) for name, groups in _REGIONS.items()}


def _top_tenth(length_P: FloatArray) -> float:
    return float(np.sort(length_P)[-max(1, len(length_P) // 10) :].mean())


def _hulls(points_L2: PointArray, groups: tuple[tuple[int, ...], ...], side: int, margin: float) -> MaskArray:
    """The mask of the convex hulls of groups of landmarks, widened by a margin; never empty."""
    mask_HW = np.zeros((side, side), np.uint8)
    for group in groups:
        inside_P2 = np.clip(np.rint(points_L2[list(group)]), 0, side - 1).astype(np.int32)
        cv2.fillConvexPoly(mask_HW, cv2.convexHull(inside_P2), 1)
    wide = 2 * round(margin * side) + 1
    wide_HW = np.asarray(cv2.dilate(mask_HW, np.ones((wide, wide), np.uint8)), dtype=np.uint8)
    return wide_HW > 0
