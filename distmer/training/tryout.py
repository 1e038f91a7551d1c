"""A user's model, tried on random maps before anything expensive is begun."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from distmer.models import ResolvedModel
from distmer.plugins import raised
from distmer.types import BadInput, FloatArray

T = TypeVar("T")


def try_out(model: ResolvedModel, classes: int = 3) -> None:
    """Build the model and let it learn from, and answer for, a few random clips.

    Models of distmer's own are not tried: their tests do it.

    Raises
    ------
    BadInput
        If the model's code raises (with its file and line), if it answers with another shape than one number
        for each clip and class, or with something that is no number, or if it cannot answer for one clip
        alone.
    """
    if model.module.startswith("distmer."):
        return
    rng = np.random.default_rng(0)
    x_NCHW = rng.random((2 * classes, len(model.inputs), model.size, model.size), dtype=np.float32)
    built = _guarded(model, "building it", lambda: model.build(classes))
    answers = _network_answers if model.info.kind == "torch" else _classical_answers
    for clips, answer_NK in answers(model, built, x_NCHW, classes):
        if answer_NK.shape != (clips, classes):
            raise BadInput(
                f"model {model.info.name}: for {clips} clips and {classes} classes it answered with the shape"
                f" {answer_NK.shape}, not ({clips}, {classes}); return one number for each clip and class."
            )
        if not np.isfinite(answer_NK).all():
            raise BadInput(
                f"model {model.info.name}: it answered random maps with something that is no number (NaN)."
            )


def _network_answers(
    model: ResolvedModel, net: Any, x_NCHW: FloatArray, classes: int
) -> list[tuple[int, FloatArray]]:
    import torch

    def step() -> FloatArray:
        net.train()
        logits_BK = net(torch.from_numpy(x_NCHW[:2]))
        logits_BK.float().sum().backward()
        return logits_BK.detach().float().numpy()

    def held_out(clips: int) -> FloatArray:
        net.eval()
        with torch.inference_mode():
            return net(torch.from_numpy(x_NCHW[:clips])).float().numpy()

    with torch.random.fork_rng():
        return [
            (2, _guarded(model, "a training step on two clips", step)),
            (2, _guarded(model, "predicting two clips", lambda: held_out(2))),
            (1, _guarded(model, "predicting one clip", lambda: held_out(1))),
        ]


def _classical_answers(
    model: ResolvedModel, classifier: Any, x_NCHW: FloatArray, classes: int
) -> list[tuple[int, FloatArray]]:
    y_N = np.arange(len(x_NCHW)) % classes
    fitted = _guarded(model, "fitting it", lambda: classifier.fit(x_NCHW, y_N, 0))
    return [
        (
            clips,
            _guarded(
                model,
                f"predicting {clips} clips",
                lambda n=clips: np.asarray(fitted.predict_proba(x_NCHW[:n])),
            ),
        )
        for clips in (2, 1)
    ]


def _guarded(model: ResolvedModel, what: str, act: Callable[[], T]) -> T:
    try:
        return act()
    except Exception as error:
        raise BadInput(raised(f"model {model.info.name}: {what}", error)) from error
