"""Optical strain: how much the skin is stretched and sheared, from the spatial derivatives of the flow.

A strain maps the flow after stabilisation, float32 (H, W, 2) in px, to float32 (H, W) in px/px. ux is du/dx
and so on. Published code disagrees on the formula, so there are several; ``docs/features.md`` compares them.

Central differences give a bright frame at the border, where flow is unreliable: it says nothing about the
face, so the outermost 4 px (in a crop of 128) are set to zero. The copies of published code keep their
border, but divide Sobel by its gain of 8, which their originals do not.
"""

from __future__ import annotations

import cv2
import numpy as np

from distmer.features.frames import Float32Array

_SOBEL_GAIN = np.float32(8)


def border(size: int) -> int:
    """The width in px of the zeroed margin of a map whose shorter side is ``size``: 4 at 128."""
    return round(size / 32)


def standard(flow_HW2: Float32Array) -> Float32Array:
    """√(ux² + vy² + ½ (uy + vx)²), the magnitude of the infinitesimal strain tensor (Shreve et al. 2011);
    central differences, the border is 0."""
    return _from_central_differences(flow_HW2, np.float32(0.5))


def half_shear(flow_HW2: Float32Array) -> Float32Array:
    """√(ux² + vy² + ¼ (uy + vx)²), where the shear counts once; central differences, the border is 0."""
    return _from_central_differences(flow_HW2, np.float32(0.25))


def smooth(flow_HW2: Float32Array) -> Float32Array:
    """The standard strain of the flow after a Gaussian of sigma = side / 64, which lessens its noise."""
    sigma = min(flow_HW2.shape[:2]) / 64
    smooth_HW2 = cv2.GaussianBlur(flow_HW2, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    return standard(np.asarray(smooth_HW2, dtype=np.float32))


def _from_central_differences(flow_HW2: Float32Array, shear: np.float32) -> Float32Array:
    (uy_HW, ux_HW), (vy_HW, vx_HW) = (np.gradient(flow_HW2[..., c]) for c in (0, 1))
    strain_HW = np.sqrt(ux_HW**2 + vy_HW**2 + shear * (uy_HW + vx_HW) ** 2).astype(np.float32)
    margin = border(min(strain_HW.shape))
    height, width = strain_HW.shape
    inner_HW = strain_HW[margin : height - margin, margin : width - margin]
    return np.pad(inner_HW, margin)


def meb(flow_HW2: Float32Array) -> Float32Array:
    """√(ux² + vy² + ½ (uy² + vx²)) by Sobel / 8, with axis 0 taken for x, as in tvaranka/meb."""
    # What that code calls x is axis 0; scipy's Sobel repeats the edge pixel, which OpenCV names
    # BORDER_REFLECT.
    uy_HW, ux_HW, vy_HW, vx_HW = _sobel(flow_HW2, cv2.BORDER_REFLECT)
    return np.sqrt(ux_HW**2 + vy_HW**2 + np.float32(0.5) * (uy_HW**2 + vx_HW**2)).astype(np.float32)


def ecnu(flow_HW2: Float32Array) -> Float32Array:
    """√(ux² + uy² + ½ (vx + uy)²) by Sobel / 8, as in ECNU's Off-TANet: uy where vy belongs."""
    ux_HW, uy_HW, vx_HW, _ = _sobel(flow_HW2, cv2.BORDER_DEFAULT)
    return np.sqrt(ux_HW**2 + uy_HW**2 + np.float32(0.5) * (vx_HW + uy_HW) ** 2).astype(np.float32)


def _sobel(flow_HW2: Float32Array, edge: int) -> list[Float32Array]:
    """The derivatives du/dx, du/dy, dv/dx and dv/dy, x along the rows of pixels."""
    planes = [np.ascontiguousarray(flow_HW2[..., c]) for c in (0, 1)]
    found_4HW = [
        cv2.Sobel(plane_HW, cv2.CV_32F, along_x, 1 - along_x, ksize=3, borderType=edge)
        for plane_HW in planes
        for along_x in (1, 0)
    ]
    return [np.asarray(x_HW, dtype=np.float32) / _SOBEL_GAIN for x_HW in found_4HW]
