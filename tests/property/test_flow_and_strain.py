"""Flow, stabilisation and strain against analytic truth: known motion, exact derivatives, and what must leave
them unchanged."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from distmer.config import FeatureConfig, Named
from distmer.features.flow import subtract_rigid
from distmer.features.frames import ClipError
from distmer.features.landmarks import RIGID
from distmer.features.methods import methods
from distmer.plugins import shipped

FLOWS, STRAINS = sorted(shipped("distmer.flows")), sorted(shipped("distmer.strains"))


def compute_flow(onset_HW: np.ndarray, apex_HW: np.ndarray, name: str) -> np.ndarray:
    return methods(FeatureConfig(flow=Named(name=name))).flow(onset_HW, apex_HW)


def optical_strain(flow_HW2: np.ndarray, name: str) -> np.ndarray:
    return methods(FeatureConfig(strain=Named(name=name))).strain(flow_HW2)


def _texture(size: int, seed: int = 0) -> np.ndarray:
    noise_HW = np.random.default_rng(seed).standard_normal((size, size)).astype(np.float32)
    smooth_HW = cv2.GaussianBlur(noise_HW, (0, 0), 1.5) + cv2.GaussianBlur(noise_HW, (0, 0), 4) * 3
    return np.clip(127 + 45 * smooth_HW / smooth_HW.std(), 0, 255).astype(np.uint8)


def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    y_HW, x_HW = np.mgrid[0:size, 0:size].astype(np.float32)
    return x_HW, y_HW


# Flow
# ----------------------------------------------------------------------------


def _known_motions() -> dict[str, np.ndarray]:
    """matrix_23: onset px to apex px, rotation and zoom about the centre of a 128 px image."""
    turn, zoom = np.deg2rad(0.8), 1.015
    linear = {
        "rotation": np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]),
        "zoom": zoom * np.eye(2),
    }
    centre_2 = np.full(2, 63.5)
    about = {
        name: np.column_stack([matrix_22, centre_2 - matrix_22 @ centre_2])
        for name, matrix_22 in linear.items()
    }
    return {"translation": np.array([[1, 0, 1.3], [0, 1, -0.7]]), **about}


def _warped(onset_HW: np.ndarray, matrix_23: np.ndarray) -> np.ndarray:
    """apex(M x) = onset(x), by a quintic spline."""
    back_22 = np.linalg.inv(matrix_23[:, :2])[::-1, ::-1]  # rows and columns in (y, x) order
    shift_2 = -back_22 @ matrix_23[::-1, 2]
    return np.clip(
        np.rint(ndimage.affine_transform(onset_HW.astype(float), back_22, shift_2, order=5, mode="reflect")),
        0,
        255,
    ).astype(np.uint8)


# TV-L1 warps by OpenCV's bicubic kernel (a = −¾), whose phase is off by up to .04 px at quarter-pixel shifts:
# a bias of the published method, which only shows against a warp by another kernel (here a quintic spline).
# px, mean end-point error of a motion of about one px
TOLERANCE = {"tvl1": 0.07, "tvl1-fast": 0.07, "tvl1-numpy": 0.07, "dis": 0.03, "farneback": 0.03}


@pytest.mark.parametrize("motion", ["translation", "rotation", "zoom"])
@pytest.mark.parametrize("method", FLOWS)
def test_flow_recovers_known_motion(method: str, motion: str) -> None:
    matrix_23 = _known_motions()[motion]
    onset_HW = _texture(128)
    apex_HW = _warped(onset_HW, matrix_23)
    x_HW, y_HW = _grid(128)
    truth_HW2 = np.stack([x_HW, y_HW, np.ones_like(x_HW)], -1) @ matrix_23.T - np.stack([x_HW, y_HW], -1)

    flow_HW2 = compute_flow(onset_HW, apex_HW, method)

    assert flow_HW2.dtype == np.float32 and flow_HW2.shape == (128, 128, 2)
    error_HW = np.linalg.norm(flow_HW2 - truth_HW2, axis=-1)[8:-8, 8:-8]
    assert error_HW.mean() < TOLERANCE[method]
    assert np.percentile(error_HW, 99) < 5 * TOLERANCE[method]


@pytest.mark.parametrize("method", FLOWS)
def test_flow_of_mirrored_frames_is_the_mirrored_flow(method: str) -> None:
    onset_HW = _texture(96)
    x_HW, y_HW = _grid(96)
    u_HW = 0.9 * np.exp(-((x_HW - 30) ** 2 + (y_HW - 50) ** 2) / 300)
    apex_HW = cv2.remap(
        onset_HW, (x_HW - u_HW).astype(np.float32), y_HW, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )
    plain_HW2 = compute_flow(onset_HW, apex_HW, method)
    flipped_HW2 = compute_flow(
        np.ascontiguousarray(onset_HW[:, ::-1]), np.ascontiguousarray(apex_HW[:, ::-1]), method
    )
    expected_HW2 = plain_HW2[:, ::-1] * (-1, 1)
    assert plain_HW2[50, 30, 0] > 0.6  # u points right, from onset to apex
    assert np.abs(flipped_HW2 - expected_HW2)[8:-8, 8:-8].mean() < 0.03


# Stabilisation
# ----------------------------------------------------------------------------


def _landmarks() -> np.ndarray:
    """68 points of an aligned 128 px crop; only the rigid ones matter here."""
    points_L2 = np.full((68, 2), 64.0)
    points_L2[list(RIGID)] = [(64, 47), (64, 53), (64, 59), (64, 65), (28, 47), (100, 47)]
    return points_L2


def _similarity_flow(a: float, b: float, tx: float, ty: float) -> np.ndarray:
    x_HW, y_HW = _grid(128)
    return np.stack([a * x_HW - b * y_HW + tx, b * x_HW + a * y_HW + ty], -1).astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(a=st.floats(-0.02, 0.02), b=st.floats(-0.02, 0.02), tx=st.floats(-3, 3), ty=st.floats(-3, 3))
def test_rigid_motion_subtracts_to_nothing(a: float, b: float, tx: float, ty: float) -> None:
    assert np.abs(subtract_rigid(_similarity_flow(a, b, tx, ty), _landmarks())).max() < 1e-3


def test_an_expression_survives_the_subtraction_of_the_heads_motion() -> None:
    x_HW, y_HW = _grid(128)
    mouth_HW = 1.5 * np.exp(-((x_HW - 64) ** 2 + (y_HW - 100) ** 2) / (2 * 8.0**2))
    expression_HW2 = np.stack([np.zeros_like(mouth_HW), -mouth_HW], -1).astype(np.float32)
    noise_HW2 = 0.02 * np.random.default_rng(0).standard_normal((128, 128, 2)).astype(np.float32)
    still_HW2 = subtract_rigid(
        _similarity_flow(0.004, -0.006, 1.2, -0.8) + expression_HW2 + noise_HW2, _landmarks()
    )
    assert np.abs(still_HW2 - expression_HW2 - noise_HW2).max() < 0.05


def test_one_moving_eye_corner_does_not_drag_the_fit_along() -> None:
    flow_HW2 = _similarity_flow(0.0, 0.004, 0.5, 0.2)
    flow_HW2[40:55, 20:36] += np.float32(1.0)  # a wink at landmark 36
    still_HW2 = subtract_rigid(flow_HW2, _landmarks())
    assert np.abs(still_HW2[60:, 40:]).max() < 0.06


def test_too_few_rigid_points_fall_back_to_translation_then_refuse() -> None:
    points_L2 = _landmarks()
    points_L2[list(RIGID)[2:]] = -500
    still_HW2 = subtract_rigid(_similarity_flow(0, 0, 1.5, -2), points_L2)
    assert np.abs(still_HW2).max() < 1e-6
    points_L2[:] = -500
    with pytest.raises(ClipError, match="outside the crop"):
        subtract_rigid(_similarity_flow(0, 0, 1, 1), points_L2)


# Strain
# ----------------------------------------------------------------------------


@pytest.mark.parametrize("variant", STRAINS)
def test_strain_of_an_affine_flow_is_exact(variant: str) -> None:
    ux, uy, vx, vy = 0.03, -0.012, 0.02, 0.045
    x_HW, y_HW = _grid(128)
    flow_HW2 = np.stack([ux * x_HW + uy * y_HW + 0.4, vx * x_HW + vy * y_HW - 1], -1).astype(np.float32)
    expected = {
        "standard": np.sqrt(ux**2 + vy**2 + 0.5 * (uy + vx) ** 2),
        "smooth": np.sqrt(ux**2 + vy**2 + 0.5 * (uy + vx) ** 2),
        "half-shear": np.sqrt(ux**2 + vy**2 + 0.25 * (uy + vx) ** 2),
        "meb": np.sqrt(uy**2 + vx**2 + 0.5 * (ux**2 + vy**2)),  # axis 0 is its x
        "ecnu": np.sqrt(ux**2 + uy**2 + 0.5 * (vx + uy) ** 2),
    }[variant]
    strain_HW = optical_strain(flow_HW2, variant)
    assert strain_HW.dtype == np.float32
    margin = 12 if variant == "smooth" else 4
    np.testing.assert_allclose(strain_HW[margin:-margin, margin:-margin], expected, rtol=2e-4)
    if variant in ("standard", "smooth", "half-shear"):
        assert not strain_HW[:4].any() and not strain_HW[:, -4:].any()


def test_meb_strain_equals_its_published_formula_with_scipy_up_to_the_border() -> None:
    flow_HW2 = np.random.default_rng(1).standard_normal((40, 40, 2)).astype(np.float32)
    u, v = flow_HW2[..., 0], flow_HW2[..., 1]
    ux, uy = ndimage.sobel(u, axis=0), ndimage.sobel(u, axis=1)
    vx, vy = ndimage.sobel(v, axis=0), ndimage.sobel(v, axis=1)
    published_HW = np.sqrt(ux**2 + vy**2 + 0.5 * (uy**2 + vx**2))
    np.testing.assert_allclose(optical_strain(flow_HW2, "meb") * 8, published_HW, rtol=1e-5)


def _random_flow(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return cv2.GaussianBlur(rng.standard_normal((48, 48, 2)).astype(np.float32), (0, 0), 3)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), turn=st.floats(-0.05, 0.05), tx=st.floats(-2, 2), factor=st.floats(-3, 3))
def test_strain_invariances(seed: int, turn: float, tx: float, factor: float) -> None:
    flow_HW2 = _random_flow(seed)
    strain_HW = optical_strain(flow_HW2, "standard")
    x_HW, y_HW = _grid(48)
    turned_HW2 = (flow_HW2 + np.stack([-turn * y_HW + tx, turn * x_HW], -1)).astype(np.float32)
    # rigid motion is no strain
    np.testing.assert_allclose(optical_strain(turned_HW2, "standard"), strain_HW, atol=2e-5)
    np.testing.assert_allclose(
        optical_strain(flow_HW2 * np.float32(factor), "standard"), abs(factor) * strain_HW, atol=2e-5
    )
    flipped_HW2 = flow_HW2[:, ::-1] * np.array([-1, 1], np.float32)
    np.testing.assert_allclose(optical_strain(flipped_HW2, "standard"), strain_HW[:, ::-1], atol=1e-6)
