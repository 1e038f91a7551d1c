"""The frames of one clip: a neutral face moved by an expression, a swaying head, drifting light, sensor
noise."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

from distmer.datasets.synthetic.annotations import AnnotatedClip
from distmer.datasets.synthetic.expressions import HEIGHT, WIDTH, Manner, displacement
from distmer.datasets.synthetic.faces import EYES, Face, Image
from distmer.types import FloatArray

NOISE = 1.2  # grey levels, standard deviation of the sensor's noise
GAIN = 0.01  # standard deviation of the light's change from onset to offset


def frames(
    clip: AnnotatedClip, face: Face, own: Manner, sway: float, rng: np.random.Generator
) -> Iterator[Image]:
    """The frames from onset to offset (8-bit BGR, or grey for SAMM). The onset is neutral, the apex the full
    expression."""
    flow_HW2 = displacement(clip.units, clip.amplitude, face.points_P2, own, rng)
    degree_T = _degrees(clip, rng)
    pose_T4 = _poses(len(degree_T), sway, rng)
    gain_T = 1 + np.cumsum(rng.normal(0, GAIN / np.sqrt(len(degree_T)), len(degree_T)))
    source = cv2.cvtColor(face.image_HW3, cv2.COLOR_BGR2GRAY) if clip.dataset == "samm" else face.image_HW3
    base_HW2 = np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), axis=-1).astype(np.float32)
    for degree, pose_4, gain in zip(degree_T, pose_T4, gain_T, strict=True):
        # Backward map: first undo the head's movement, then the skin's. The field is smooth and the movement
        # below 3 px, so reading it at the frame's own pixel instead of the head's is wrong by some
        # thousandths of a px.
        map_HW2 = (
            base_HW2 @ _inverse(pose_4)[:, :2].T + _inverse(pose_4)[:, 2] - np.float32(degree) * flow_HW2
        )
        moved = cv2.remap(source, map_HW2, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
        noise = rng.standard_normal(moved.shape, dtype=np.float32) * np.float32(NOISE)
        yield np.clip(moved * np.float32(gain) + noise + np.float32(0.5), 0, 255).astype(np.uint8)


def _degrees(clip: AnnotatedClip, rng: np.random.Generator) -> FloatArray:
    """How far the expression has come in each frame: 0 at the onset, 1 at the apex, a rest of it at the
    offset."""
    up, down = clip.apex - clip.onset, clip.offset - clip.apex
    rise_T = np.linspace(0, 1, up + 1)
    rest = float(rng.uniform(0.05, 0.3))
    fall_T = np.linspace(0, 1, down + 1)[1:]
    return np.concatenate([rise_T**2 * (3 - 2 * rise_T), 1 - (1 - rest) * fall_T**2 * (3 - 2 * fall_T)])


def _poses(length: int, sway: float, rng: np.random.Generator) -> FloatArray:
    """The head in each frame against the onset (``pose_T4``): shift x and y in px, turn in radians, logarithm
    of the scale. A smooth drift to a random end, with a small wave on it."""
    end_4 = rng.normal(0, 1, 4) * np.array([sway, sway, np.radians(0.15) * sway, 0.001 * sway])
    wave_4 = rng.normal(0, 0.25, 4) * np.array([sway, sway, np.radians(0.1) * sway, 0.0005 * sway])
    time_T1 = np.linspace(0, 1, length)[:, None]
    return time_T1 * end_4 + np.sin(2 * np.pi * time_T1) * wave_4


def _inverse(pose_4: FloatArray) -> npt.NDArray[np.float32]:
    """The 2×3 matrix that takes a point of the posed frame back to the neutral one; the head turns about the
    point between the eyes."""
    x, y, turn, log_scale = pose_4.tolist()
    forward_23 = cv2.getRotationMatrix2D(EYES, float(np.degrees(turn)), float(np.exp(log_scale)))
    forward_23[:, 2] += (x, y)
    return cv2.invertAffineTransform(forward_23).astype(np.float32)
