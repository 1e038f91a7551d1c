"""Maps and frames as pictures: flow as colours, strain as heat, and where the face was found."""

from __future__ import annotations

import cv2
import numpy as np

from distmer.features.align import AlignedFace, transform_points
from distmer.features.frames import ByteArray, Float32Array, decode_gray, read_bytes
from distmer.features.landmarks import PointArray

THUMBNAIL = 176  # px, the longer side of a whole frame


def thumbnail(path: str, name: str) -> ByteArray:
    """A frame, grey, its longer side `THUMBNAIL` px. ClipError where there is none."""
    frame_hw = decode_gray(read_bytes(path), name)
    scale = THUMBNAIL / max(frame_hw.shape)
    size = (max(1, round(frame_hw.shape[1] * scale)), max(1, round(frame_hw.shape[0] * scale)))
    return np.asarray(cv2.resize(frame_hw, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def corners_in_thumbnail(face: AlignedFace) -> PointArray:
    """The corners of the aligned crop in px of the `thumbnail` (corners_42)."""
    size = len(face.onset_HW)
    corners_42 = np.array([(0, 0), (size, 0), (size, size), (0, size)], dtype=np.float64)
    back_23 = np.asarray(cv2.invertAffineTransform(face.transform_23), dtype=np.float64)
    return transform_points(corners_42, back_23) * (THUMBNAIL / max(face.shape))


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
