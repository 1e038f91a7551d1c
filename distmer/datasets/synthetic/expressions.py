"""Facial action units as displacement fields: Gaussian bumps of skin movement at a subject's landmarks.

Units are fractions of the distance between the eyes (IOD); y points down. FACS: Ekman & Friesen 1978.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from distmer.types import FloatArray

HEIGHT, WIDTH = 480, 640  # px, the frame
IOD = 95.0  # px between the eye centres in a frame


@dataclass(frozen=True, slots=True)
class Bump:
    """Skin around the mean of ``points`` (68-landmark numbers of the image's left side, shifted by ``shift``)
    that moves along ``move``. The other side of the face is its mirror image. ``spread`` is the standard
    deviation in x and y."""

    points: tuple[int, ...]
    move: tuple[float, float]
    spread: tuple[float, float]
    shift: tuple[float, float] = (0.0, 0.0)


UNITS: dict[int, tuple[Bump, ...]] = {
    1: (Bump((20, 21), (0.0, -1.0), (0.22, 0.26), (0.02, -0.05)),),  # inner brow raiser
    2: (Bump((17, 18, 19), (0.0, -1.0), (0.22, 0.26), (0.02, -0.05)),),  # outer brow raiser
    # brow lowerer
    4: (Bump((20, 21), (0.5, 0.9), (0.26, 0.22), (0.02, -0.02)), Bump((18, 19), (0.2, 0.5), (0.2, 0.2))),
    5: (Bump((37, 38), (0.0, -0.8), (0.16, 0.09), (0.0, -0.03)),),  # upper lid raiser
    6: (Bump((40, 41), (0.1, -0.9), (0.26, 0.2), (-0.08, 0.3)),),  # cheek raiser
    # lid tightener
    7: (Bump((40, 41), (0.0, -0.7), (0.16, 0.1), (0.0, 0.04)), Bump((37, 38), (0.0, 0.3), (0.16, 0.08))),
    # nose wrinkler
    9: (Bump((31, 32), (-0.1, -1.0), (0.18, 0.22), (-0.06, -0.1)), Bump((21,), (0.2, 0.4), (0.14, 0.14))),
    10: (Bump((49, 50), (0.0, -1.0), (0.2, 0.16), (0.0, -0.04)),),  # upper lip raiser
    # corner puller
    12: (
        Bump((48,), (-0.75, -0.85), (0.24, 0.24), (-0.04, -0.02)),
        Bump((48,), (-0.2, -0.4), (0.26, 0.2), (-0.1, -0.35)),
    ),
    14: (Bump((48,), (-0.9, 0.05), (0.18, 0.18), (-0.02, 0.0)),),  # dimpler
    15: (Bump((48,), (-0.15, 1.0), (0.24, 0.22), (0.0, 0.03)),),  # lip corner depressor
    17: (Bump((7, 8), (0.0, -1.0), (0.26, 0.22), (0.1, -0.12)),),  # chin raiser
    20: (Bump((48,), (-1.0, 0.25), (0.26, 0.2)),),  # lip stretcher
    25: (Bump((58, 57), (0.0, 0.7), (0.22, 0.14), (0.02, 0.0)),),  # lips part
    # jaw drop
    26: (
        Bump((57, 58), (0.0, 1.0), (0.3, 0.24), (0.04, 0.1)),
        Bump((7, 8), (0.0, 0.9), (0.34, 0.24), (0.06, -0.05)),
    ),
    45: (Bump((37, 38), (0.0, 0.9), (0.18, 0.09)),),  # blink
}

# The 68-landmark number of the mirrored point.
_JAW_BROWS_NOSE = (*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1))
_EYES = (45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40)
_MOUTH = (54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65)
MIRROR_P: npt.NDArray[np.int64] = np.array(_JAW_BROWS_NOSE + _EYES + _MOUTH)


@dataclass(frozen=True, slots=True, eq=False)
class Manner:
    """How one subject moves: of each unit, the strength on either side of the face and the turn in
    radians."""

    gain_U2: FloatArray
    turn_U2: FloatArray


def manner(rng: np.random.Generator) -> Manner:
    """A subject's manner: units 25 % stronger or weaker, 15 % more on one side, turned by some 9 degrees."""
    n = len(UNITS)
    both, side = rng.normal(0.0, 0.25, (n, 1)), rng.normal(0.0, 0.075, (n, 1))
    return Manner(np.exp(both + np.hstack([side, -side])), rng.normal(0.0, 0.16, (n, 2)))


def displacement(
    units: tuple[str, ...], amplitude: float, points_P2: FloatArray, own: Manner, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Where the skin goes at the apex, in px (``flow_HW2``, x then y): the units together, their longest
    movement ``amplitude`` px."""
    rows: list[tuple[float, ...]] = []
    for text in units:
        number = int(text.lstrip("LR"))
        strength = float(rng.uniform(0.7, 1.3))
        index = list(UNITS).index(number)
        for side in (0, 1):  # 0: left in the image, which is the subject's right
            if (text[0] == "L" and side == 0) or (text[0] == "R" and side == 1):
                continue
            gain = strength * float(own.gain_U2[index, side])
            rows += [
                _placed(bump, side, gain, float(own.turn_U2[index, side]), points_P2)
                for bump in UNITS[number]
            ]
    x_K, y_K, dx_K, dy_K, sx_K, sy_K = np.array(rows).T
    gx_KW = np.exp(-0.5 * ((np.arange(WIDTH) - x_K[:, None]) / sx_K[:, None]) ** 2)
    gy_KH = np.exp(-0.5 * ((np.arange(HEIGHT) - y_K[:, None]) / sy_K[:, None]) ** 2)
    flow_HW2 = np.stack([gy_KH.T @ (d_K[:, None] * gx_KW) for d_K in (dx_K, dy_K)], axis=-1)
    peak = float(np.sqrt((flow_HW2**2).sum(-1).max()))
    return (flow_HW2 * (amplitude / peak)).astype(np.float32)


def _placed(bump: Bump, side: int, gain: float, turn: float, points_P2: FloatArray) -> tuple[Any, ...]:
    """A bump in px on a face: centre x and y, movement x and y, spread x and y."""
    flip = 1.0 if side == 0 else -1.0
    index = list(bump.points) if side == 0 else MIRROR_P[list(bump.points)].tolist()
    x, y = points_P2[index].mean(0) + IOD * np.array([flip * bump.shift[0], bump.shift[1]])
    dx, dy = gain * flip * bump.move[0], gain * bump.move[1]
    c, s = float(np.cos(turn)), float(np.sin(turn))
    return x, y, c * dx - s * dy, s * dx + c * dy, bump.spread[0] * IOD, bump.spread[1] * IOD
