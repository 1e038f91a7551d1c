"""A kept model explained: clips that it is asked about, for the class that it answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn

from distmer.config import TrainConfig
from distmer.explain.gather import gathered, look
from distmer.explain.runs import RANDOM
from distmer.explain.sanity import random_network
from distmer.features.inputs import model_inputs, normalisation_of
from distmer.features.landmarks import landmarks_of_crop, model_path
from distmer.report.explanation import About, Explanation
from distmer.saved.answers import as_set, features_of
from distmer.saved.clips import clips_of
from distmer.saved.model import SavedModel, as_told_here
from distmer.storage import Place
from distmer.training.fold_inputs import Inputs
from distmer.training.runtime import repeatable
from distmer.training.seeds import derive
from distmer.types import BadInput, FloatArray

OF_ANSWERS = "that it called so"


def explain_model(
    model: SavedModel, asked: Sequence[Place | str], *, onset: str = "", apex: str = ""
) -> tuple[Explanation, str, list[str]]:
    """The maps of clips for the class that the model answers, as `gathered` gives them, and a sentence for
    each clip that cannot be used. ``asked``, ``onset`` and ``apex`` as in `SavedModel.predict`.

    A network is compared with the same network with random weights. A classical model has no counterpart: it
    would have to be trained, and the folder holds no training clips. BadInput where no clip can be used.
    """
    names: list[str] = []
    inputs: list[FloatArray] = []
    shapes: list[FloatArray] = []
    problems: list[str] = []
    for one in clips_of(asked, model.manifest.unit, onset=onset, apex=apex):
        problem, row = features_of(model, one)
        if row is None or row.status == "failed":
            problems.append(f"{one.name}: {as_told_here(problem)}")
            continue
        names.append(one.name)
        inputs.append(model_inputs(as_set(row), model.resolved.inputs, model.resolved.size, model.inputs))
        if row.unit == "px":
            onset_HW = row.channels["onset"]
            points_L2 = landmarks_of_crop(onset_HW, model_path(model.features.landmarks))
            shapes.append(points_L2 / (len(onset_HW) - 1))
    if not names:
        raise BadInput(f"no clip can be explained; the first of {len(problems)}: {problems[0]}")
    x_NCHW = np.concatenate(inputs)
    scale = normalisation_of(model.manifest.unit, model.inputs)
    blank_1C11 = Inputs(tuple(names), model.resolved.inputs, scale, x_NCHW).no_motion
    network = isinstance(model.fitted.model, nn.Module)
    with repeatable(TrainConfig.model_validate(model.manifest.train).threads):
        answer_N = model.fitted.predict(x_NCHW.copy()).argmax(axis=1)
        seed = derive(model.manifest.seed, "untrained")
        untrained = random_network(model.fitted, x_NCHW, seed) if network else None
        looked = look(_as_ids(names), model.fitted, untrained, x_NCHW, answer_N, blank_1C11)
    about = About(
        of=model.manifest.identity,
        title=f"{model.manifest.model['name']}, fitted to {model.manifest.protocol}",
        whose=OF_ANSWERS,
        untrained=RANDOM if network else "",
        classes=model.classes,
        streams=model.resolved.inputs,
    )
    found, table = gathered(about, looked, np.mean(shapes, axis=0) if shapes else None, None)
    return found, table, problems


def _as_ids(names: Sequence[str]) -> list[str]:
    """The names of clips, of which no two are the same."""
    return [name if names.count(name) == 1 else f"{name} ({n})" for n, name in enumerate(names, start=1)]
