"""Face alignment: one similarity, from the eyes of the onset, for all frames of a clip."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from distmer.config import FeatureConfig
from distmer.features.frames import ByteArray, ClipError, bits_of, decode_luma, eight_bits
from distmer.features.landmarks import (
    LEFT_EYE_CORNERS,
    RIGHT_EYE_CORNERS,
    PointArray,
    find_face,
    model_path,
)

# transform_23: [[a, -b, tx], [b, a, ty]], px of the frame → px of the crop
TransformArray = npt.NDArray[np.float64]

# the left eye's centre in the crop; the right eye lies at 1 − EYE_X. Holds brows to chin.
EYE_X, EYE_Y = 0.30, 0.37
_MIN_EYE_DISTANCE = 8.0  # px in the frame; below it the crop would be made of a handful of pixels


@dataclass(frozen=True, slots=True, eq=False)
class AlignedFace:
    """The face in the onset of a clip, by which all frames of the clip are aligned."""

    onset_HW: ByteArray  # the aligned crop of the onset
    points_L2: PointArray  # 68 landmarks of the onset, px of the crop
    transform_23: TransformArray  # px of a frame → px of the crop
    shape: tuple[int, ...]  # height and width of a frame, px
    dtype: np.dtype[np.generic]  # of a frame's pixels: uint8 or uint16
    bits: int  # of them that the onset uses (`distmer.features.frames.bits_of`)
    note: str  # what was noticed: several faces in the onset

    @property
    def eyes(self) -> float:
        """The distance of the eyes in the onset, px of the frame."""
        return (1 - 2 * EYE_X) * (len(self.onset_HW) - 1) / float(np.hypot(*self.transform_23[:, 0]))

    @property
    def roll(self) -> float:
        """How far the line through the eyes is turned in the onset, degrees."""
        return -float(np.degrees(np.arctan2(self.transform_23[1, 0], self.transform_23[0, 0])))

    def crop(self, data: bytes, name: str) -> ByteArray:
        """The aligned crop of another frame of the clip (the bytes of an image).

        ClipError where they are none, or where size or depth are not those of the onset.
        """
        luma_hw = decode_luma(data, name)
        if luma_hw.shape != self.shape:
            sizes = [f"{w}×{h}" for h, w in (self.shape, luma_hw.shape)]
            raise ClipError(
                f"{name}: it has {sizes[1]} px, the onset {sizes[0]}; all frames of a clip must have one"
                " size."
            )
        if luma_hw.dtype != self.dtype:
            depths = [f"{8 * dtype.itemsize}-bit" for dtype in (self.dtype, luma_hw.dtype)]
            raise ClipError(
                f"{name}: it is {depths[1]}, the onset {depths[0]}; all frames of a clip must have one depth."
            )
        return crop(eight_bits(luma_hw, self.bits), self.transform_23, len(self.onset_HW))


def aligned_face(data: bytes, name: str, cfg: FeatureConfig) -> AlignedFace:
    """The face in an onset (the bytes of an image). ClipError where there is none."""
    luma_hw = decode_luma(data, name)
    bits = bits_of(luma_hw)
    onset_hw = eight_bits(luma_hw, bits)
    face = find_face(onset_hw, model_path(cfg.landmarks), cfg.detector_side, name)
    transform_23 = eye_transform(face.points_L2, cfg.size)
    return AlignedFace(
        crop(onset_hw, transform_23, cfg.size),
        transform_points(face.points_L2, transform_23),
        transform_23,
        luma_hw.shape,
        luma_hw.dtype,
        bits,
        face.note,
    )


def eye_centres(points_L2: PointArray) -> PointArray:
    """The centres of the viewer's left eye and of the right one (float64 (2, 2), x and y in px), from 68
    landmarks: each is the mean of the eye's two corners. The lids are not averaged, because the centre must
    not follow a blink."""
    return np.stack(
        [points_L2[list(LEFT_EYE_CORNERS)].mean(axis=0), points_L2[list(RIGHT_EYE_CORNERS)].mean(axis=0)]
    )


def eye_transform(points_L2: PointArray, size: int) -> TransformArray:
    """The similarity that puts the eyes at (.30, .37) and (.70, .37) of a crop of ``size`` px: from px of the
    frame, in which the 68 landmarks are, to px of the crop.

    Fractions are of ``size − 1``, the distance between the first and the last pixel centre, so that a
    mirrored crop has its eyes in the same two places. ClipError where the eyes lie less than 8 px apart.
    """
    left, right = (complex(x, y) for x, y in eye_centres(points_L2))
    if abs(right - left) < _MIN_EYE_DISTANCE:
        raise ClipError(
            f"the onset's eyes lie {abs(right - left):.1f} px apart, at least {_MIN_EYE_DISTANCE:.0f} are"
            " needed; use larger frames."
        )
    to_left, to_right = complex(EYE_X, EYE_Y) * (size - 1), complex(1 - EYE_X, EYE_Y) * (size - 1)
    turn = (to_right - to_left) / (right - left)
    shift = to_left - turn * left
    return np.array(
        [[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]], dtype=np.float64
    )


def crop(frame_HW: ByteArray, transform_23: TransformArray, size: int) -> ByteArray:
    """The aligned crop (uint8, ``size`` × ``size`` px) of a grey frame; beyond the frame its edge is
    repeated.

    To shrink by f, a warp takes one pixel in f. So the frame is low-passed first, by a Gaussian of sigma (f −
    1) / 2 px: aliasing would flicker between onset and apex, and flow would read it as motion.
    """
    factor = 1 / float(np.hypot(transform_23[0, 0], transform_23[1, 0]))
    if factor > 1:
        frame_HW = np.asarray(cv2.GaussianBlur(frame_HW, (0, 0), (factor - 1) / 2), dtype=np.uint8)
    crop_HW = cv2.warpAffine(
        frame_HW, transform_23, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(crop_HW, dtype=np.uint8)


def transform_points(points_L2: PointArray, transform_23: TransformArray) -> PointArray:
    """Points of the frame (L, 2), x and y in px, in px of the crop."""
    return points_L2 @ transform_23[:, :2].T + transform_23[:, 2]
