"""The face in the onset: dlib's HOG detector and its 68-landmark regression.

A second detection at a slightly different scale moves the box, and with it all landmarks, by about 3 px: far
more than a micro-expression. So onset and apex share the landmarks of the onset.
"""

# pyright: strict, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportAttributeAccessIssue=false

from __future__ import annotations

import functools
import hashlib
import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import dlib
import numpy as np
import numpy.typing as npt

from distmer.features.frames import ByteArray, ClipError
from distmer.types import BadInput

PointArray = npt.NDArray[np.float64]  # points_L2: x, y in px of the frame, or of the crop

# Indices of the 68 landmarks (iBUG 300-W order; "left" is the viewer's left).
LEFT_EYE_CORNERS = (36, 39)
RIGHT_EYE_CORNERS = (42, 45)
# nose bridge and outer eye corners: they move with the head, hardly with the face
RIGID = (27, 28, 29, 30, 36, 45)
# Where the detector's box lies in an aligned crop, of its side: left, top, right, bottom. The mean over 24
# subjects and clips of the embedded set, each side within .04.
_FACE_IN_CROP = (0.06, 0.11, 1.0, 1.06)


class FaceLandmarks(NamedTuple):
    """The landmarks of one face, float64 (68, 2), x and y in px of the full frame; and what was noticed:
    several faces in the frame."""

    points_L2: PointArray
    note: str


def find_face(frame_HW: ByteArray, model: Path, detector_side: int, name: str) -> FaceLandmarks:
    """The 68 landmarks of the face in a grey frame. ``name`` is the frame's file name, for messages.

    The frame is shrunk for the detector so that its longer side is ``detector_side`` px (never enlarged): HOG
    needs a face of 80 px, and time grows with the area. Where nothing is found, one more try at twice that
    scale follows, which enlarges frames smaller than twice ``detector_side``. Landmarks are then fitted on
    the full frame, inside the box. Of several faces the best-scoring one is taken (then the larger, then the
    left one), and the note says so.

    ClipError where there is no face; BadInput where the model cannot be loaded, or does not give 68
    landmarks.
    """
    height, width = frame_HW.shape
    scale = min(1.0, detector_side / max(height, width))
    boxes = _detect(frame_HW, scale) or _detect(frame_HW, 2 * scale)
    if not boxes:
        raise ClipError(
            f"{name}: no face found ({width}×{height} px); use frames in which the face is larger, raise"
            " features.detector_side, or leave the clip out."
        )
    note = f"{len(boxes)} faces found in {name}, the best-scoring one is used" if len(boxes) > 1 else ""
    return FaceLandmarks(_fitted(frame_HW, min(boxes)[2:], model), note)


def landmarks_of_crop(crop_HW: ByteArray, model: Path) -> PointArray:
    """The 68 landmarks (px) in an aligned crop, whose face lies where `distmer.features.align` puts it.

    Nothing is detected. On the embedded set, brows, eyes, nose and mouth lie within 1.3 px, in the mean, of
    the landmarks of the frame (a crop of 128 px).
    """
    left, top, right, bottom = (round(part * (len(crop_HW) - 1)) for part in _FACE_IN_CROP)
    return _fitted(crop_HW, (left, top, right, bottom), model)


def _fitted(image_HW: ByteArray, box: tuple[int, int, int, int], model: Path) -> PointArray:
    """The landmarks of the face that fills a box (left, top, right, bottom)."""
    shape = _predictor(str(model), *_stamp(model))(image_HW, dlib.rectangle(*box))
    points_L2 = np.array(
        [(shape.part(i).x, shape.part(i).y) for i in range(shape.num_parts)], dtype=np.float64
    )
    if len(points_L2) != 68:
        raise BadInput(
            f"{model}: the model gives {len(points_L2)} landmarks, not 68; give"
            " features.landmarks a 68-landmark model."
        )
    return points_L2


def model_path(landmarks: str | None) -> Path:
    """The landmark model: the configured file, else the one installed with ``face-recognition-models``.

    BadInput where there is none. The package cannot be imported (its __init__ wants pkg_resources, which
    setuptools dropped), but its file can be found.
    """
    if landmarks is not None:
        if "://" in landmarks:
            raise BadInput(
                f"{landmarks}: dlib reads its model from a file; set features.landmarks to a"
                " path that is there on every node."
            )
        path = Path(landmarks)
    else:
        spec = importlib.util.find_spec("face_recognition_models")
        if spec is None or not spec.submodule_search_locations:
            raise BadInput(
                "face_recognition_models is not installed; pip install face-recognition-models, or set"
                " features.landmarks to a model file."
            )
        path = Path(spec.submodule_search_locations[0]) / "models" / "shape_predictor_68_face_landmarks.dat"
    if not path.is_file():
        raise BadInput(
            f"{path}: the 68-landmark model is not there; set features.landmarks to the model file."
        )
    return path


def model_hash(path: Path) -> str:
    """SHA-256 of the model's bytes: the model's identity in the feature key. Read once per process for a path
    and its time."""
    return _hash(str(path), *_stamp(path))


def load(path: Path) -> None:
    """Load the model into this process, as the first clip would; BadInput if dlib cannot read it."""
    _predictor(str(path), *_stamp(path))


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


@functools.lru_cache(maxsize=4)
def _hash(path: str, mtime_ns: int, size: int) -> str:  # the time and size only key the cache
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.lru_cache(maxsize=1)
def _detector() -> Any:
    return dlib.get_frontal_face_detector()


@functools.lru_cache(maxsize=2)
def _predictor(path: str, mtime_ns: int, size: int) -> Any:
    try:
        return dlib.shape_predictor(path)
    except RuntimeError as error:
        raise BadInput(f"{path}: dlib cannot load the landmark model ({error}); install it again.") from error


def _detect(frame_HW: ByteArray, scale: float) -> list[tuple[float, int, int, int, int, int]]:
    """Faces as (−score, −area, left, top, right, bottom) in px of the full frame: the least is the best."""
    height, width = frame_HW.shape
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small_hw = frame_HW if scale == 1 else cv2.resize(frame_HW, size, interpolation=interpolation)
    boxes, scores, _ = _detector().run(np.ascontiguousarray(small_hw), 0, 0.0)
    x_scale, y_scale = size[0] / width, size[1] / height
    return [
        (
            -float(score),
            -int(box.area()),
            round(box.left() / x_scale),
            round(box.top() / y_scale),
            round(box.right() / x_scale),
            round(box.bottom() / y_scale),
        )
        for box, score in zip(boxes, scores, strict=True)
    ]
