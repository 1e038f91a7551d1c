"""The faces of the embedded data set: two public-domain portraits, reshaped, retoned and retextured.

The portraits are of Eileen Collins (NASA, in scikit-image) and Grace Hopper (US Navy, in matplotlib). The
subjects are warped versions of these two women's faces, and no sample of the variety of real ones.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from distmer.datasets.synthetic.expressions import HEIGHT, IOD, MIRROR_P, WIDTH
from distmer.features.landmarks import find_face, model_path
from distmer.types import BadInput, FloatArray

Image = npt.NDArray[np.uint8]

EYES = (320.0, 210.0)  # px, the point between the eyes in a frame
PORTRAITS = (("skimage", "data/astronaut.png"), ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"))


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """A neutral face in a frame: ``image_HW3`` (BGR, 8 bit) and its 68 landmarks in px."""

    image_HW3: Image
    points_P2: FloatArray


@cache
def portraits() -> tuple[Face, ...]:
    """The two base faces, upright and scaled to the frame, with landmarks that dlib found."""
    return tuple(_to_frame(_installed(package, name)) for package, name in PORTRAITS)


def identity(bases: tuple[Face, ...], index: int, rng: np.random.Generator) -> Face:
    """A subject's neutral face: a base in turn, mirrored or not, reshaped, with its own skin, light and
    backdrop."""
    base = bases[index % len(bases)]
    face = _mirrored(base) if rng.random() < 0.5 else base
    face = _reshaped(face, rng)
    head_HW1 = _head_mask(face.points_P2)
    image_HW3 = _toned(face.image_HW3, rng) + _skin_texture(face.points_P2, rng)
    backdrop_3 = rng.uniform(70, 190) + rng.uniform(-9, 9, 3)
    image_HW3 = head_HW1 * image_HW3 + (1 - head_HW1) * backdrop_3
    return Face(np.clip(image_HW3 * _shading(rng), 0, 255).astype(np.uint8), face.points_P2)


def _installed(package: str, name: str) -> Path:
    """A file inside an installed package, found without importing the package."""
    spec = importlib.util.find_spec(package)
    path = Path(next(iter(spec.submodule_search_locations or ())), name) if spec else None
    if path is None or not path.is_file():
        raise BadInput(
            f"the embedded data set needs {name} of the package {package}; install {package} again."
        )
    return path


def _to_frame(path: Path) -> Face:
    image_HW3 = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image_HW3 is None:
        raise BadInput(f"{path}: the portrait cannot be decoded; install its package again.")
    gray_HW = cv2.cvtColor(image_HW3, cv2.COLOR_BGR2GRAY).astype(np.uint8)
    points_P2 = find_face(gray_HW, model_path(None), max(gray_HW.shape), path.name).points_L2
    left_2, right_2 = points_P2[36:42].mean(0), points_P2[42:48].mean(0)
    across_2 = right_2 - left_2
    turn, scale = float(np.arctan2(across_2[1], across_2[0])), IOD / float(np.hypot(*across_2))
    matrix_23 = cv2.getRotationMatrix2D(tuple((left_2 + right_2) / 2), np.degrees(turn), scale)
    matrix_23[:, 2] += np.array(EYES) - (left_2 + right_2) / 2
    framed_HW3 = cv2.warpAffine(
        image_HW3, matrix_23, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return Face(framed_HW3.astype(np.uint8), points_P2 @ matrix_23[:, :2].T + matrix_23[:, 2])


def _mirrored(face: Face) -> Face:
    points_P2 = face.points_P2[MIRROR_P] * (-1, 1) + (WIDTH - 1, 0)
    return Face(np.ascontiguousarray(face.image_HW3[:, ::-1]), points_P2)


def _reshaped(face: Face, rng: np.random.Generator) -> Face:
    """The face with other proportions: landmarks moved by twelve parameters, the skin between them by a
    Gaussian RBF."""
    target_P2 = face.points_P2 + IOD * _proportions((face.points_P2 - EYES) / IOD, rng)
    sigma = 0.6 * IOD
    gram_PP = _gaussian(target_P2, target_P2, sigma)
    # The ridge smooths: neighbouring landmarks that move differently must not fold the skin between them.
    weight_P2 = np.linalg.solve(gram_PP + 0.05 * np.eye(len(gram_PP)), face.points_P2 - target_P2)
    step = 4
    y_hw, x_hw = np.mgrid[0:HEIGHT:step, 0:WIDTH:step]
    grid_N2 = np.stack([x_hw.ravel(), y_hw.ravel()], axis=1).astype(np.float64)
    back_hw2 = (_gaussian(grid_N2, target_P2, sigma) @ weight_P2).reshape(*x_hw.shape, 2).astype(np.float32)
    back_HW2 = cv2.resize(back_hw2, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    y_HW, x_HW = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    image_HW3 = cv2.remap(
        face.image_HW3,
        x_HW + back_HW2[..., 0],
        y_HW + back_HW2[..., 1],
        cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    # where the ridge let the landmarks come to lie, to first order
    moved_P2 = face.points_P2 - gram_PP @ weight_P2
    return Face(image_HW3.astype(np.uint8), moved_P2)


def _gaussian(a_N2: FloatArray, b_P2: FloatArray, sigma: float) -> FloatArray:
    square_NP = (a_N2**2).sum(1)[:, None] - 2 * a_N2 @ b_P2.T + (b_P2**2).sum(1)
    return np.exp(-0.5 * square_NP / sigma**2)


def _proportions(unit_P2: FloatArray, rng: np.random.Generator) -> FloatArray:
    """A random subject's landmark shifts, for landmarks from the point between the eyes (x right, y down); in
    IOD."""
    a_12 = np.clip(rng.normal(0.0, 1.5, 12), -2.4, 2.4)
    x_P, y_P = unit_P2.T
    shift_P2 = np.zeros_like(unit_P2)
    jaw, brows, nose, mouth = slice(0, 17), slice(17, 27), slice(27, 36), slice(48, 68)
    shift_P2[jaw, 0] += 0.055 * a_12[0] * x_P[jaw]  # width of the face
    shift_P2[jaw, 1] += 0.05 * a_12[1] * np.clip(y_P[jaw], 0, None)  # length of the chin
    for eye, brow, side in ((slice(36, 42), slice(17, 22), -1.0), (slice(42, 48), slice(22, 27), 1.0)):
        centre_2 = unit_P2[eye].mean(0)
        shift_P2[eye, 0] += side * 0.025 * a_12[2]  # distance of the eyes
        shift_P2[brow, 0] += side * 0.025 * a_12[2]
        shift_P2[eye] += (unit_P2[eye] - centre_2) * (0.06 * a_12[3], 0.10 * a_12[3])  # size of the eyes
        shift_P2[eye, 1] += side * 0.07 * a_12[4] * (x_P[eye] - centre_2[0])  # slant of the eyes
        shift_P2[brow, 1] += side * 0.08 * a_12[5] * (x_P[brow] - centre_2[0])  # slant of the brows
    shift_P2[brows, 1] += 0.03 * a_12[6]  # height of the brows
    shift_P2[nose, 1] += 0.06 * a_12[7] * np.clip(y_P[nose], 0, None)  # length of the nose
    shift_P2[nose, 0] += 0.12 * a_12[8] * x_P[nose]  # width of the nose
    shift_P2[mouth, 0] += 0.09 * a_12[9] * x_P[mouth]  # width of the mouth
    shift_P2[mouth, 1] += 0.04 * a_12[10]  # height of the mouth
    shift_P2[mouth, 1] += 0.12 * a_12[11] * (y_P[mouth] - y_P[mouth].mean())  # fullness of the lips
    return shift_P2


def _toned(image_HW3: Image, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Another complexion: lightness by a gamma and a contrast, hue by a shift in CIE Lab. Float BGR,
    0..255."""
    lab_HW3 = cv2.cvtColor(image_HW3.astype(np.float32) / 255, cv2.COLOR_BGR2LAB)
    gamma, contrast = float(rng.uniform(0.85, 1.45)), float(rng.uniform(0.85, 1.1))
    light_HW = np.clip(lab_HW3[..., 0] / 100, 0, 1) ** gamma
    toned_HW = 100 * np.clip(0.5 + contrast * (light_HW - 0.5), 0, 1)
    # Darker skin at the same chroma would look sunburnt: chroma follows lightness.
    fade_HW1 = np.clip((toned_HW + 10) / (lab_HW3[..., 0] + 10), 0, 1)[..., None]
    lab_HW3[..., 1:] = lab_HW3[..., 1:] * (fade_HW1 * np.float32(rng.uniform(0.6, 0.95))) + rng.normal(
        0.0, (2.0, 3.5)
    ).astype(np.float32)
    lab_HW3[..., 0] = toned_HW
    return np.clip(cv2.cvtColor(lab_HW3, cv2.COLOR_LAB2BGR), 0, 1) * np.float32(255)


def _skin_texture(points_P2: FloatArray, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Pores and moles inside the face (``add_HW1``, grey levels): the enlarged portraits are too soft to
    follow skin by flow."""
    noise_HW = rng.standard_normal((HEIGHT, WIDTH), dtype=np.float32)
    band_HW = cv2.GaussianBlur(noise_HW, (0, 0), 1.4) - cv2.GaussianBlur(noise_HW, (0, 0), 4.0)
    add_HW = band_HW * np.float32(rng.uniform(2.5, 4.5) / float(band_HW.std()))
    y_HW, x_HW = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    for _ in range(int(rng.integers(2, 7))):
        anchor_2 = points_P2[rng.integers(0, 27)] * 0.55 + points_P2[30] * 0.45 + rng.normal(0, 0.08 * IOD, 2)
        square_HW = (x_HW - np.float32(anchor_2[0])) ** 2 + (y_HW - np.float32(anchor_2[1])) ** 2
        add_HW = add_HW - np.float32(rng.uniform(15, 45)) * np.exp(
            -0.5 * square_HW / np.float32(rng.uniform(1.0, 2.2) ** 2)
        )
    hull_K2 = cv2.convexHull(points_P2.astype(np.int32).reshape(-1, 1, 2))
    inside_HW = np.zeros((HEIGHT, WIDTH), np.float32)
    cv2.fillConvexPoly(inside_HW, hull_K2, 1.0)
    return (add_HW * cv2.GaussianBlur(inside_HW, (0, 0), 6.0))[..., None]


def _head_mask(points_P2: FloatArray) -> npt.NDArray[np.float32]:
    """1 on head and hair, 0 on the portrait's surroundings, with a soft edge (``mask_HW1``)."""
    mask_HW = np.zeros((HEIGHT, WIDTH), np.float32)
    x, y = points_P2[27]
    cv2.ellipse(mask_HW, (int(x), int(y)), (int(1.6 * IOD), int(2.05 * IOD)), 0, 0, 360, 1.0, -1)
    return cv2.GaussianBlur(mask_HW, (0, 0), 12.0).astype(np.float32)[..., None]


def _shading(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Light from one side: a gain that falls linearly across the frame (``gain_HW1``)."""
    angle, strength = float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(0.0, 0.22))
    y_HW, x_HW = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j].astype(np.float32)
    return (1 + np.float32(strength) * (np.float32(np.cos(angle)) * x_HW + np.float32(np.sin(angle)) * y_HW))[
        ..., None
    ]
