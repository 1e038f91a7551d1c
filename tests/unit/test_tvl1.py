"""TV-L1 by our own solver: OpenCV's steps, OpenCV's flow within what its own rounding is worth, the same bits
always."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from distmer.features.flow import tvl1
from distmer.features.pipeline import one_thread
from distmer.features.tvl1 import tvl1_numpy


def pair(height: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two images of a smooth texture; the second is the first after a smooth motion of up to a pixel."""
    rng = np.random.default_rng(seed)
    noise_HW = cv2.GaussianBlur(rng.standard_normal((height, width)).astype(np.float32), (0, 0), 1.5)
    onset_HW = np.clip(128 + 40 * noise_HW / noise_HW.std(), 0, 255).astype(np.uint8)
    y_HW, x_HW = np.mgrid[:height, :width].astype(np.float32)
    u_HW, v_HW = 0.8 * np.sin(y_HW / 15), 0.5 * np.cos(x_HW / 20)
    return onset_HW, cv2.remap(
        onset_HW, x_HW - u_HW, y_HW - v_HW, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )


def apart(one_HW2: np.ndarray, other_HW2: np.ndarray) -> np.ndarray:
    return np.hypot(*np.moveaxis(one_HW2 - other_HW2, -1, 0))


SHAPES = [(128, 128), (64, 97), (20, 48), (18, 18), (9, 12)]  # 18 has one level, 20 two


@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_number_of_steps_gives_opencvs_flow(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where both make a fixed number of steps, for how many it takes hangs on the last digits."""
    theirs = cv2.optflow.DualTVL1OpticalFlow_create()
    theirs.setEpsilon(0)
    for name, number in (("WarpingsNumber", 3), ("OuterIterations", 2), ("InnerIterations", 12)):
        getattr(theirs, f"set{name}")(number)
    for name, number in (("EPSILON", 0), ("WARPS", 3), ("OUTER", 2), ("INNER", 12)):
        monkeypatch.setattr(f"distmer.features.tvl1._{name}", number)
    for seed in range(3):
        onset_HW, apex_HW = pair(*shape, seed)
        difference_HW = apart(tvl1_numpy(onset_HW, apex_HW), theirs.calc(onset_HW, apex_HW, None))
        # where the flow is torn, a pixel may still fall to either side
        assert np.median(difference_HW) < 1e-5 and difference_HW.mean() < 0.01


def test_it_is_opencvs_flow_within_opencvs_own_rounding() -> None:
    """Exchanging x and y in both images changes only the order of sums."""
    ours, itself = [], []
    with one_thread():
        for seed in range(8):
            onset_HW, apex_HW = pair(64, 64, seed)
            theirs_HW2 = tvl1(onset_HW, apex_HW)
            exchanged_HW2 = tvl1(np.ascontiguousarray(onset_HW.T), np.ascontiguousarray(apex_HW.T))
            ours.append(apart(tvl1_numpy(onset_HW, apex_HW), theirs_HW2))
            itself.append(apart(exchanged_HW2.transpose(1, 0, 2)[..., ::-1], theirs_HW2))
    assert np.mean(ours) < 1.5 * np.mean(itself), (np.mean(ours), np.mean(itself))
    assert np.percentile(ours, 99) < 1.5 * np.percentile(itself, 99)


def test_a_pair_has_the_same_bits_whatever_is_computed_beside_it() -> None:
    pairs = [pair(64, 64, seed) for seed in range(6)]
    with one_thread():
        alone = [tvl1_numpy(*p) for p in pairs]
        with ThreadPoolExecutor(3) as pool:
            together = list(pool.map(lambda p: tvl1_numpy(*p), reversed(pairs)))
    for one, other in zip(alone, reversed(together), strict=True):
        assert one.dtype == np.float32 and one.flags.c_contiguous and np.array_equal(one, other)


def test_images_that_say_nothing_have_no_flow() -> None:
    flat_HW = np.full((40, 40), 99, np.uint8)
    textured_HW, _ = pair(40, 40, 0)
    for one, other in ((flat_HW, flat_HW), (textured_HW, textured_HW)):
        assert not tvl1_numpy(one, other).any()
    assert np.isfinite(tvl1_numpy(flat_HW, textured_HW)).all()
