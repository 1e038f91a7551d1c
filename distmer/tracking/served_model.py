"""A kept model as MLflow's pyfunc, for `mlflow models serve`: two frames in, an answer out.

A frame is written to a folder that only this user can read, and is deleted after the answer.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.pyfunc.model import PythonModel
from mlflow.types import ColSpec, DataType, Schema

from distmer.leftovers import temporary_folder
from distmer.saved.answers import Answer, answer
from distmer.saved.clips import Asked
from distmer.saved.folder import Manifest
from distmer.saved.model import load_model
from distmer.types import FlowMap, KeyFrames

FOLDER = "model"  # the artifact's name

# What MLflow imports to have the model: code, where others keep a pickle.
SCRIPT = """from mlflow.models import set_model

from distmer.tracking.served_model import ServedModel

set_model(ServedModel())
"""


class ServedModel(PythonModel):
    """Answers for rows of image files (bytes; in JSON, base64), as `distmer predict` does."""

    def load_context(self, context: Any) -> None:
        self._model = load_model(context.artifacts[FOLDER])

    def predict(  # type: ignore[override]  # MLflow annotates its own with nothing
        self, context: Any, model_input: pd.DataFrame, params: Any = None
    ) -> pd.DataFrame:
        rows = [self._answer(row) for row in model_input.to_dict("records")]
        return pd.DataFrame(rows, columns=_columns(self._model.manifest), dtype=object)

    def _answer(self, row: dict[Any, Any]) -> list[Any]:
        names = images_of(self._model.manifest)
        with temporary_folder("distmer-served") as folder:
            for name in names:
                (folder / name).write_bytes(row[name])
            files = [str(folder / name) for name in names]
            source = FlowMap(files[0]) if len(files) == 1 else KeyFrames(files[0], files[1])
            found = answer(self._model, Asked("clip", source))
        return _cells(self._model.manifest, found)


def images_of(manifest: Manifest) -> tuple[str, ...]:
    """The images that the model is given of a clip: the columns of a request."""
    return ("map",) if manifest.unit == "minmax" else ("onset", "apex")


def signature(manifest: Manifest) -> ModelSignature:
    """The columns of a request and of an answer. An answer without probabilities has a reason."""
    given = [ColSpec(DataType.binary, name) for name in images_of(manifest)]
    texts = ["label", "moved_most", "notes", "reason"]
    kinds = {**dict.fromkeys(texts, DataType.string), "unlike": DataType.boolean}
    columns = _columns(manifest)
    answered = [ColSpec(kinds.get(name, DataType.double), name, required=False) for name in columns]
    return ModelSignature(inputs=Schema(given), outputs=Schema(answered))  # type: ignore[arg-type]


def example(manifest: Manifest) -> pd.DataFrame:
    """A request that shows nobody: plain grey images. Frames without a face are answered with a reason."""
    grey = cv2.imencode(".png", np.full((28, 28, 3), 128, np.uint8))[1].tobytes()
    return pd.DataFrame({name: [grey] for name in images_of(manifest)})


def _columns(manifest: Manifest) -> list[str]:
    probabilities = [f"prob_{name}" for name in manifest.classes]
    measured = ["mean_px", "largest_px", "moved_most", "percentile", "unlike"]
    return ["label", *probabilities, *measured, "notes", "reason"]


def _cells(manifest: Manifest, found: Answer) -> list[Any]:
    moved = found.motion
    return [
        found.label or None,
        *(found.probabilities.get(name) for name in manifest.classes),
        *((moved.mean, moved.largest, moved.most) if moved else (None, None, None)),
        found.percentile,
        found.unlike,
        "; ".join(found.notes) or None,
        found.reason or None,
    ]
