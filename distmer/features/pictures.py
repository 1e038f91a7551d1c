"""Maps and frames as pictures for people: flow as colours, strain as heat, the face where it was found."""

# pyright: strict, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from distmer.config import FeatureConfig
from distmer.features.align import crop, eye_centres, eye_transform, transform_points
from distmer.features.frames import (
    ByteArray,
    Float32Array,
    bits_of,
    decode_gray,
    decode_luma,
    eight_bits,
    read_bytes,
)
from distmer.features.landmarks import PointArray, find_face, model_path
from distmer.features.pipeline import motion

THUMBNAIL = 176  # px, the longer side of a whole frame


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """Where the face of an onset was found.

    Attributes
    ----------
    points_L2 : float64 array (68, 2)
        Landmarks, x and y in px of the crop.
    corners_42 : float64 array (4, 2)
        The crop's corners in px of the thumbnail.
    eyes : float
        Distance of the eyes in px of the frame.
    roll : float
        How far the line through the eyes is turned, degrees.
    transform_23 : float64 array (2, 3)
        px of the frame → px of the crop.
    bits : int
        Of the frame's pixels.
    """

    points_L2: PointArray
    corners_42: PointArray
    eyes: float
    roll: float
    transform_23: npt.NDArray[np.float64]
    bits: int


def thumbnail(path: str, name: str) -> ByteArray:
    """A frame, grey, its longer side `THUMBNAIL` px. ClipError where there is none."""
    frame_hw = decode_gray(read_bytes(path), name)
    scale = THUMBNAIL / max(frame_hw.shape)
    size = (max(1, round(frame_hw.shape[1] * scale)), max(1, round(frame_hw.shape[0] * scale)))
    return np.asarray(cv2.resize(frame_hw, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def face_in(path: str, name: str, cfg: FeatureConfig) -> Face:
    """The face of an onset, as the extraction finds it. ClipError where there is none."""
    luma_hw = decode_luma(read_bytes(path), name)
    bits = bits_of(luma_hw)
    frame_hw = eight_bits(luma_hw, bits)
    points_L2 = find_face(frame_hw, model_path(cfg.landmarks), cfg.detector_side, name).points_L2
    transform_23 = eye_transform(points_L2, cfg.size)
    left_2, right_2 = eye_centres(points_L2)
    corners_42 = np.array([(0, 0), (cfg.size, 0), (cfg.size, cfg.size), (0, cfg.size)], dtype=np.float64)
    back_23 = np.asarray(cv2.invertAffineTransform(transform_23), dtype=np.float64)
    return Face(
        transform_points(points_L2, transform_23),
        transform_points(corners_42, back_23) * (THUMBNAIL / max(frame_hw.shape)),
        float(np.hypot(*(right_2 - left_2))),
        float(np.degrees(np.arctan2(right_2[1] - left_2[1], right_2[0] - left_2[0]))),
        transform_23,
        bits,
    )


def moved(onset_HW: ByteArray, data: bytes, name: str, face: Face) -> float:
    """How far the face has moved from the onset's crop to another frame of the clip (the bytes of an image):
    mean flow, px."""
    frame_hw = eight_bits(decode_luma(data, name), face.bits)
    other_HW = crop(frame_hw, face.transform_23, onset_HW.shape[0])
    return motion(onset_HW, other_HW, face.points_L2)


def flow_colours(flow_HW2: Float32Array, reach: float) -> ByteArray:
    """rgb_HW3: the hue is the direction, the strength the length; white is no motion, ``reach`` px and more
    are full colour."""
    length_HW = np.hypot(flow_HW2[..., 0], flow_HW2[..., 1])
    angle_HW = np.degrees(np.arctan2(flow_HW2[..., 1], flow_HW2[..., 0])) % 360
    hsv_HW3 = np.stack(
        [angle_HW, np.clip(length_HW / reach, 0, 1), np.ones_like(length_HW)], axis=-1, dtype=np.float32
    )
    rgb_HW3 = np.asarray(cv2.cvtColor(hsv_HW3, cv2.COLOR_HSV2RGB))
    return np.rint(rgb_HW3 * 255).astype(np.uint8)


def wheel(size: int) -> ByteArray:
    """rgb_HW3: the legend of `flow_colours`, a disc that shows the colour of every direction."""
    line_W = np.linspace(-1, 1, size, dtype=np.float32)
    x_HW, y_HW = np.meshgrid(line_W, line_W)
    rgb_HW3 = flow_colours(np.stack([x_HW, y_HW], axis=-1), 1.0)
    rgb_HW3[np.hypot(x_HW, y_HW) > 1] = 255
    return rgb_HW3


def heat(x_HW: Float32Array, reach: float) -> ByteArray:
    """rgb_HW3: black is 0, yellow ``reach`` and more."""
    grey_HW = np.rint(np.clip(x_HW / reach, 0, 1) * 255).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(grey_HW, cv2.COLORMAP_INFERNO)[..., ::-1], dtype=np.uint8)


def jpeg(image: ByteArray, quality: int = 84) -> bytes:
    """A grey image (H, W) or an rgb one (H, W, 3) as JPEG."""
    bgr = image if image.ndim == 2 else np.ascontiguousarray(image[..., ::-1])
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
