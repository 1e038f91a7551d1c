"""A kept model: written from what a training has made, and loaded to answer."""

from __future__ import annotations

import json
import logging
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from distmer.code import code_of
from distmer.config import FeatureConfig, InputConfig, ModelConfig, TrainConfig
from distmer.features.featureset import FeatureSet
from distmer.features.frames import ByteArray
from distmer.features.inputs import model_inputs
from distmer.features.landmarks import model_hash, model_path
from distmer.features.pipeline import FEATURE_EPOCH, extraction
from distmer.models import ResolvedModel, resolve
from distmer.plugins import is_reference
from distmer.saved.folder import Manifest, read_folder
from distmer.storage import Place, place
from distmer.training.fit import Fitted
from distmer.training.runtime import repeatable
from distmer.training.weights import modules_of, unpacked
from distmer.types import BadInput, FloatArray

if TYPE_CHECKING:
    from distmer.saved.answers import Answer

_log = logging.getLogger(__name__)

# Part of a fold's code that no answer depends on: a kept model stays valid when it changes.
_TRAINING_ALONE = {
    "distmer.evaluation.folds",
    "distmer.evaluation.metrics",
    "distmer.functions",
    "distmer.training.augmentations",
    "distmer.training.losses",
    "distmer.training.seeds",
}
_LIBRARIES = ("distmer", "torch", "numpy", "scipy", "scikit-learn")
_LIBRARIES += ("opencv-contrib-python-headless", "dlib-bin")
MOTION = ("u", "v", "strain")  # never a crop: no face can be seen in what is kept of the training clips
MOTION_SIZE = 16  # px
_SETTING = re.compile(rf"\bfeatures\.({'|'.join(FeatureConfig.model_fields)})\b")
CLASSES = "classes"  # the array of their names


@dataclass(frozen=True, slots=True, eq=False)
class Training:
    """The motion of the training clips: each a row of ``motion_ND``, with its distance to the nearest clip of
    another subject in ``nearest_N``."""

    motion_ND: FloatArray
    nearest_N: FloatArray

    @classmethod
    def of(cls, motion_ND: FloatArray, subjects: tuple[str, ...]) -> Training:
        """The distances leave out a clip's own subject, because a new clip is of a new subject."""
        distance_NN = np.stack([_distances(motion_ND, row_D) for row_D in motion_ND])
        subject_N = np.array(subjects)
        distance_NN[subject_N[:, None] == subject_N[None]] = np.inf
        nearest_N = distance_NN.min(axis=1).astype(np.float32)
        return cls(motion_ND, nearest_N[np.isfinite(nearest_N)])

    def distance(self, motion_D: FloatArray) -> tuple[float, float]:
        """The distance of a clip to the nearest training clip, and the percentage of training clips whose own
        distance is less."""
        nearest = float(_distances(self.motion_ND, motion_D).min())
        return nearest, float(100 * np.mean(self.nearest_N < nearest))


def _distances(motion_ND: FloatArray, motion_D: FloatArray) -> FloatArray:
    """Root mean square differences, over pixels and channels."""
    return np.sqrt(np.mean((motion_ND - motion_D) ** 2, axis=1))


def motion(features: FeatureSet, inputs: InputConfig) -> FloatArray:
    """motion_ND: flow and strain of each clip, on the model's scale, in 16 × 16 px, as one row."""
    x_NCHW = model_inputs(features, MOTION, MOTION_SIZE, inputs)
    return x_NCHW.reshape(len(x_NCHW), -1)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SavedModel:
    """A kept model, loaded. `distmer.saved.answers` asks it about clips."""

    folder: Place
    manifest: Manifest
    resolved: ResolvedModel
    fitted: Fitted
    training: Training
    features: FeatureConfig
    inputs: InputConfig

    def __repr__(self) -> str:
        subjects, classes = len(self.manifest.subjects), ", ".join(self.classes)
        name = self.manifest.model["name"]
        return f"<SavedModel {name}, fitted to {subjects} subjects: {classes}; {self.folder}>"

    @property
    def classes(self) -> tuple[str, ...]:
        return self.manifest.classes

    def probabilities(self, features: FeatureSet) -> FloatArray:
        """prob_NK of clips. Each is predicted alone, so that no clip changes the answer for another."""
        x_NCHW = model_inputs(features, self.resolved.inputs, self.resolved.size, self.inputs)
        threads = TrainConfig.model_validate(self.manifest.train).threads
        with repeatable(threads):
            answers = [self.fitted.predict(x_NCHW[i : i + 1]) for i in range(len(x_NCHW))]
        return np.concatenate(answers)

    def predict(self, *inputs: Place | str, onset: str = "", apex: str = "") -> list[Answer]:
        """Answers for clips, one each. If a clip cannot be used, its answer has the reason.

        ``inputs``: two frames of one clip, folders of frames, videos, or files ``manifest.csv``; for a model
        of published flow maps, such maps. ``onset`` and ``apex`` name frames of a single folder or video, by
        number, by file name, or by a time in the video ("1.48s"). BadInput if the inputs as a whole cannot be
        used.
        """
        from distmer.saved.answers import answers  # it imports this module
        from distmer.saved.clips import clips_of

        return list(answers(self, clips_of(inputs, self.manifest.unit, onset=onset, apex=apex)))

    def candidates(
        self, *videos: Place | str, seconds: float | str, step: float | str | None = None
    ) -> list[Answer]:
        """Intervals of long videos in which the face moved most, the most motion first, with an answer each.

        A window of ``seconds`` begins every ``step`` seconds (else every half of a window). Of windows that
        share a frame, only the one of most motion is returned. Both times may also be texts with a unit
        ("500ms"). The intervals are candidates, not spotted expressions: a blink, speech and a turn of the
        head also move a face. BadInput if the lengths make no sense.
        """
        from distmer.saved.answers import answers
        from distmer.saved.windows import candidates, windows_of

        return candidates(list(answers(self, windows_of(videos, self.manifest.unit, seconds, step))))


def load_model(folder: Place | str, landmarks: str | None = None) -> SavedModel:
    """The model in a folder that `distmer fit` has written.

    ``landmarks``: the landmark model's file, if the model was fitted with another than the installed one.

    Raises
    ------
    BadInput
        A byte differs from what was written; the folder is of a newer format; the code that answers is
        not the version that the model was fitted with, or cannot be found.
    """
    folder = place(str(folder)).absolute()
    try:
        return _loaded(folder, landmarks)
    except (ValidationError, KeyError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, BadInput):
            raise
        why = str(error).splitlines()[0][:160]
        raise BadInput(f"{folder}: what its files say does not fit together ({why}); fit again.") from error


def _loaded(folder: Place, landmarks: str | None) -> SavedModel:
    manifest, contents = read_folder(folder)
    resolved = _resolved(folder, manifest)
    _require_same_code(folder, manifest, resolved)
    features = FeatureConfig.model_validate({**manifest.features, "landmarks": landmarks})
    if manifest.unit == "px":
        _require_same_features(folder, manifest, features)
    _tell_other_libraries(folder, manifest)
    own = modules_of(resolved)
    inputs, train = InputConfig.model_validate(manifest.inputs), TrainConfig.model_validate(manifest.train)
    averaged: dict[str, Any] = {"members": train.ensemble, "symmetric": inputs.symmetric}
    fitted, arrays = unpacked(contents, resolved, len(manifest.classes), manifest.epochs, own, **averaged)
    if not np.array_equal(arrays[CLASSES], names_as_array(manifest.classes)):
        trained = ", ".join(json.loads(arrays[CLASSES].tobytes()))
        raise ValueError(
            f"its weights answer with {trained}, its manifest with {', '.join(manifest.classes)}"
        )
    training = Training(arrays["motion_ND"], arrays["nearest_N"])
    return SavedModel(folder, manifest, resolved, fitted, training, features, inputs)


def names_as_array(classes: Sequence[str]) -> ByteArray:
    """The names of the classes in their order, as an array to be kept with the weights: UTF-8 of JSON."""
    return np.frombuffer(json.dumps(list(classes), ensure_ascii=False).encode(), np.uint8)


def versions() -> dict[str, str]:
    """The libraries that an answer is computed with."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in _LIBRARIES}}


def _resolved(folder: Place, manifest: Manifest) -> ResolvedModel:
    name, options = str(manifest.model["name"]), dict(manifest.model["options"])
    flows = [manifest.features.get(kind) for kind in ("flow", "strain")]
    for one in (name, *(str(flow.get("name")) for flow in flows if isinstance(flow, dict))):
        if one.rpartition(":")[0].endswith(".py"):  # else a file of the folder's maker would be run
            raise BadInput(f"{folder}: it names code by a path, {one}; a kept model names modules alone.")
    options.pop("weights_sha256", "")  # of the weights before the training: a kept model has its own
    try:
        return resolve(ModelConfig.model_validate({"name": name, **options}))
    except BadInput as error:
        if not is_reference(name):
            raise
        raise BadInput(
            f"{folder}: its model is code of a user's own, {name}, which cannot be found here; put the folder"
            f" of that code on PYTHONPATH. {error}"
        ) from error


def _require_same_code(folder: Place, manifest: Manifest, resolved: ResolvedModel) -> None:
    here: Mapping[str, str] = code_of(resolved.module, resolved.info.kind)
    other = [name for name in here if name not in _TRAINING_ALONE and manifest.code.get(name) != here[name]]
    if other:
        version = manifest.libraries.get("distmer", "?")
        remedy = (
            f"install distmer {version} as it was then"
            if all(name.startswith("distmer.") for name in other)
            else "go back to the code of then"
        )
        raise BadInput(
            f"{folder}: the model was fitted with another version of {', '.join(other)}; {remedy}, or fit the"
            " model again."
        )


def _require_same_features(folder: Place, manifest: Manifest, features: FeatureConfig) -> None:
    if manifest.feature_epoch != FEATURE_EPOCH or extraction(features) != manifest.extraction:
        raise BadInput(
            f"{folder}: this distmer extracts other features than those that the model was fitted to; install"
            f" distmer {manifest.libraries.get('distmer', '?')} as it was then, or fit the model again."
        )
    try:
        here = model_hash(model_path(features.landmarks))
    except BadInput as error:
        raise BadInput(as_told_here(str(error))) from error
    if here != manifest.landmarks:
        raise BadInput(
            f"{folder}: the model was fitted with another landmark model than the one here; name its file by"
            " --landmarks."
        )


def as_told_here(problem: str) -> str:
    """A reason why a clip has no features, for a user of a kept model. If the reason names a setting, it is
    added that only a new fit can change it."""
    found = _SETTING.search(problem)
    if found is None:
        return problem
    here = f"{found[0]} is the model's own: fit again to change it"
    if found[1] == "landmarks":
        here = "here by --landmarks FILE"
    return f"{problem.removesuffix('.')} ({here})."


def _tell_other_libraries(folder: Place, manifest: Manifest) -> None:
    here = versions()
    changed = [(name, then) for name, then in manifest.libraries.items() if here.get(name) != then]
    other = [f"{name} {then} (here {here.get(name, 'none')})" for name, then in changed]
    if other:
        _log.warning(
            "%s was fitted with %s: its answers here may differ in the last digits.", folder, ", ".join(other)
        )
