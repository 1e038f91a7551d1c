"""The plain extraction loop: `python -m benchmarks.plain.extraction PAIRS.txt`, one `onset<TAB>apex` a line;
one process.

Both frames: decode, the face at full size, 68 landmarks, align by the eyes. Then TV-L1 with OpenCV's
defaults, and strain.
"""

from __future__ import annotations

import argparse
import json
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import dlib
import numpy as np

SIDE = 128


def landmark_model() -> str:
    spec = find_spec("face_recognition_models")
    assert spec is not None and spec.submodule_search_locations
    return str(Path(spec.submodule_search_locations[0]) / "models" / "shape_predictor_68_face_landmarks.dat")


def aligned(path: str, detector: Any, predictor: Any) -> np.ndarray:
    image = cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2GRAY)
    shape = predictor(image, detector(image, 0)[0])
    points = np.array([(shape.part(i).x, shape.part(i).y) for i in range(68)], np.float64)
    left, right = points[36:42].mean(axis=0), points[42:48].mean(axis=0)
    (dx, dy), middle = right - left, (left + right) / 2
    scale = 0.4 * SIDE / np.hypot(dx, dy)
    matrix = cv2.getRotationMatrix2D(tuple(middle), np.degrees(np.arctan2(dy, dx)), scale)
    matrix[:, 2] += np.array([0.5 * SIDE, 0.37 * SIDE]) - middle
    return cv2.warpAffine(image, matrix, (SIDE, SIDE))


def strain(flow: np.ndarray) -> np.ndarray:
    u_y, u_x = np.gradient(flow[..., 0])
    v_y, v_x = np.gradient(flow[..., 1])
    return np.sqrt(u_x**2 + v_y**2 + 0.5 * (u_y + v_x) ** 2)


def extract(pairs: list[tuple[str, str]]) -> np.ndarray:
    """maps_NHW3: u, v, strain."""
    detector, predictor = dlib.get_frontal_face_detector(), dlib.shape_predictor(landmark_model())
    maps = []
    for onset, apex in pairs:
        first, second = aligned(onset, detector, predictor), aligned(apex, detector, predictor)
        flow = cv2.optflow.DualTVL1OpticalFlow_create().calc(first, second, None)
        maps.append(np.dstack([flow, strain(flow)]))
    return np.stack(maps)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", type=Path)
    pairs = [tuple(line.split("\t")) for line in parser.parse_args().pairs.read_text().splitlines()]
    begun = time.perf_counter()
    maps = extract([(onset, apex) for onset, apex in pairs])
    print(
        json.dumps(
            {
                "clips": len(maps),
                "seconds": time.perf_counter() - begun,
                "opencv_threads": cv2.getNumThreads(),
            }
        )
    )


if __name__ == "__main__":
    main()
