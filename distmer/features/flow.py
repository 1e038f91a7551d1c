"""Optical flow from onset to apex, in pixels, and the removal of the head's own motion from it.

A flow maps two aligned grey crops of one size, uint8 (H, W), to flow_HW2, float32 in px: [..., 0] is u (to
the right), [..., 1] is v (downwards), and apex(x + u, y + v) = onset(x, y).
"""

# pyright: strict, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from distmer.features.frames import ByteArray, ClipError, Float32Array
from distmer.features.landmarks import RIGID, PointArray

_DIS_FAST, _DIS_MEDIUM = 1, 2  # OpenCV's presets; their Python names differ between OpenCV 4 and 5
_NEW: Any = None  # let OpenCV allocate the result; its stubs ask for an array
_NEIGHBOURHOOD = 2  # px: the flow of a rigid point is read from the 5 × 5 pixels about it
_ROUNDS = 20  # of reweighting; the fit changes by less than 1e-6 px after about ten
_MIN_SCALE = 0.02  # px: residuals below it are the flow's own noise, and are not weighed against each other


def tvl1(onset_HW: ByteArray, apex_HW: ByteArray) -> Float32Array:
    """TV-L1 (Zach, Pock & Bischof 2007), OpenCV's default parameters, as in most published work. 0.15 to 0.5
    s for 128² px.

    It warps by OpenCV's bicubic kernel (a = −¾), whose phase is off by up to .04 px a component at
    quarter-pixel shifts.
    """
    return _float32(cv2.optflow.DualTVL1OpticalFlow_create().calc(onset_HW, apex_HW, _NEW))


def tvl1_fast(onset_HW: ByteArray, apex_HW: ByteArray) -> Float32Array:
    """TV-L1 on a pyramid of three levels, each half the one before, where the default has five, each four
    fifths: a face that has hardly moved needs no finer steps. Everything else is OpenCV's default. About 0.6
    of the time of ``tvl1``; the flow differs by a twentieth of its size (docs/speed.md).
    """
    method = cv2.optflow.DualTVL1OpticalFlow_create()
    method.setScalesNumber(3)
    method.setScaleStep(0.5)
    return _float32(method.calc(onset_HW, apex_HW, _NEW))


def dis(onset_HW: ByteArray, apex_HW: ByteArray) -> Float32Array:
    """DIS (Kroeger et al. 2016), preset medium down to full resolution, stride 2, 10 refinements. About 0.03
    s for 128² px."""
    method = cv2.DISOpticalFlow.create(_DIS_MEDIUM)
    method.setFinestScale(0)
    method.setPatchStride(2)
    method.setVariationalRefinementIterations(10)
    return _float32(method.calc(onset_HW, apex_HW, _NEW))


def farneback(onset_HW: ByteArray, apex_HW: ByteArray) -> Float32Array:
    """Farnebäck (2003): 4 levels of scale ½, window 15, 3 iterations, polynomials of 5 px, sigma 1.1."""
    return _float32(cv2.calcOpticalFlowFarneback(onset_HW, apex_HW, _NEW, 0.5, 4, 15, 3, 5, 1.1, 0))


def dis_fast(onset_HW: ByteArray, apex_HW: ByteArray) -> Float32Array:
    """DIS, preset fast: about 1 ms for 128² px. Good enough to rank candidates for the apex, not to be a
    feature."""
    return _float32(cv2.DISOpticalFlow.create(_DIS_FAST).calc(onset_HW, apex_HW, _NEW))


def subtract_rigid(flow_HW2: Float32Array, points_L2: PointArray) -> Float32Array:
    """The flow (px) without the motion of the head: minus the similarity that fits the rigid points robustly.

    Rigid are the nose bridge and the outer eye corners, each with the 5 × 5 pixels about it. ``points_L2``
    are the landmarks in px of the crop; points outside the crop are left out. The fit is least squares,
    reweighted with Geman-McClure weights in a fixed number of rounds and without random sampling: the same
    bits every time. One or two rigid points cannot tell rotation from expression: then the median translation
    is subtracted.

    ClipError where no rigid point lies in the crop.
    """
    height, width = flow_HW2.shape[:2]
    rigid_P2 = np.rint(points_L2[list(RIGID)]).astype(np.int64)
    inside_P = ((rigid_P2 >= 0) & (rigid_P2 < (width, height))).all(axis=1)
    rigid_P2 = rigid_P2[inside_P]
    if not len(rigid_P2):
        raise ClipError(
            "the onset's nose bridge and eye corners lie outside the crop; leave the clip out"
            " or set features.stabilise=false."
        )
    ys, xs = np.mgrid[-_NEIGHBOURHOOD : _NEIGHBOURHOOD + 1, -_NEIGHBOURHOOD : _NEIGHBOURHOOD + 1]
    offsets_K2 = np.stack([xs.ravel(), ys.ravel()], axis=1)
    samples_S2 = (rigid_P2[:, None] + offsets_K2).reshape(-1, 2)
    samples_S2 = samples_S2[((samples_S2 >= 0) & (samples_S2 < (width, height))).all(axis=1)]
    moved_S2 = flow_HW2[samples_S2[:, 1], samples_S2[:, 0]].astype(np.float64)
    if len(rigid_P2) < 3:
        rigid_HW2 = np.broadcast_to(np.median(moved_S2, axis=0), flow_HW2.shape)
    else:
        rigid_HW2 = _similarity_field(fit_similarity(samples_S2, moved_S2), height, width)
    return (flow_HW2 - rigid_HW2.astype(np.float32)).astype(np.float32)


def fit_similarity(
    samples_S2: npt.NDArray[np.int64], moved_S2: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The small similarity that fits most displacements: u = a x − b y + tx, v = b x + a y + ty, as float64
    (4,): a (zoom − 1), b (rotation, rad), tx and ty (px).

    ``samples_S2`` are the places x and y, ``moved_S2`` their displacements u and v, px. The fit starts from
    the median translation. The scale s of the weights w = (s² / (s² + r²))² is 1.48 times the median
    residual, not below 0.02 px.
    """
    x_S, y_S = samples_S2[:, 0].astype(np.float64), samples_S2[:, 1].astype(np.float64)
    zero_S, one_S = np.zeros_like(x_S), np.ones_like(x_S)
    design_2S4 = np.stack(
        [np.stack([x_S, -y_S, one_S, zero_S], axis=1), np.stack([y_S, x_S, zero_S, one_S], axis=1)]
    )
    p_4 = np.array([0.0, 0.0, *np.median(moved_S2, axis=0)])
    for _ in range(_ROUNDS):
        residual_2S = moved_S2.T - design_2S4 @ p_4
        square_S = (residual_2S**2).sum(axis=0)
        scale = max(_MIN_SCALE, 1.4826 * float(np.sqrt(np.median(square_S))))
        weight_S = (scale**2 / (scale**2 + square_S)) ** 2
        # A similarity has four unknowns: the normal equations are 4 × 4, and need no linear-algebra threads.
        normal_44 = np.einsum("csi,s,csj->ij", design_2S4, weight_S, design_2S4)
        right_4 = np.einsum("csi,s,sc->i", design_2S4, weight_S, moved_S2)
        p_4 = np.linalg.solve(normal_44, right_4)
    return p_4


def _similarity_field(p_4: npt.NDArray[np.float64], height: int, width: int) -> npt.NDArray[np.float64]:
    y_HW, x_HW = np.mgrid[0:height, 0:width].astype(np.float64)
    a, b, tx, ty = p_4
    return np.stack([a * x_HW - b * y_HW + tx, b * x_HW + a * y_HW + ty], axis=-1)


def _float32(flow_hw2: object) -> Float32Array:
    return np.ascontiguousarray(flow_hw2, dtype=np.float32)
