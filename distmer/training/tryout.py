"""A user's model, loss and augmentations, tried on random maps before anything expensive is begun.

distmer's own are not tried: their tests do it. Networks of torchvision and timm are not distmer's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

from distmer.config import TrainConfig
from distmer.functions import AUGMENTATION, LOSS, Function, of_training
from distmer.models import ResolvedModel
from distmer.plugins import raised
from distmer.types import BadInput, FloatArray

T = TypeVar("T")
_CLASSES = 3


def try_out(model: ResolvedModel, train: TrainConfig) -> None:
    """Let the model learn from, and answer for, a few random clips, with its loss and its augmentations.

    Raises
    ------
    BadInput
        The user's code raises (with its file and line), or it does not keep to what a model, a loss or an
        augmentation must do. Or weights are to be kept of a model that cannot be saved, or of an epoch that
        is chosen on held-out clips.
    """
    if train.keep_weights and train.selection == "oracle" and model.info.kind == "torch":
        raise BadInput(
            "train.keep_weights keeps the network that a fold ends with, and train.selection=oracle takes an"
            " earlier epoch, chosen on held-out clips; leave one of the two out."
        )
    if model.info.kind == "torch":
        for function in of_training(train):
            if not function.is_own:
                if function.kind is LOSS:
                    _try_loss(function)
                else:
                    _try_augmentation(function, model)
    if not model.module.startswith("distmer.") or "package" in type(model.options).model_fields:
        _try_model(model, keep_weights=train.keep_weights)


def _try_model(model: ResolvedModel, *, keep_weights: bool) -> None:
    name = f"model {model.info.name}"
    x_NCHW = _random_maps(model, 2 * _CLASSES)
    built = _guarded(name, "building it", lambda: model.build(_CLASSES))
    answers = _network_answers if model.info.kind == "torch" else _classical_answers
    for clips, answer_NK in answers(name, built, x_NCHW):
        if answer_NK.shape != (clips, _CLASSES):
            raise BadInput(
                f"{name}: for {clips} clips and {_CLASSES} classes it answered with the shape"
                f" {answer_NK.shape}, not ({clips}, {_CLASSES}); return one number for each clip and class."
            )
        if not np.isfinite(answer_NK).all():
            raise BadInput(f"{name}: it answered random maps with something that is no number (NaN).")
        if model.info.kind == "torch" and _are_probabilities(answer_NK):
            raise BadInput(
                f"{name}: it answers with probabilities. Leave its last softmax out: the loss and the"
                " prediction begin with one, and two of them hardly learn."
            )
    if keep_weights:
        from distmer.training.fit import Fitted
        from distmer.training.weights import modules_of, packed

        packed(Fitted(built, None, 0, {}), model, _CLASSES, modules_of(model), {})


def _are_probabilities(answer_NK: FloatArray) -> bool:
    return bool((answer_NK >= 0).all() and np.allclose(answer_NK.sum(1), 1, atol=1e-3))


def _network_answers(name: str, net: Any, x_NCHW: FloatArray) -> Iterator[tuple[int, FloatArray]]:
    import torch

    def answer(clips: int) -> Any:
        logits_BK = net(torch.from_numpy(x_NCHW[:clips]))
        if not torch.is_tensor(logits_BK):
            kind = type(logits_BK).__name__
            raise BadInput(f"{name}: it answered with a {kind}; return one tensor, logits_BK.")
        return logits_BK

    def step() -> FloatArray:
        net.train()
        logits_BK = answer(2)
        logits_BK.float().sum().backward()
        return logits_BK.detach().float().numpy()

    def held_out(clips: int) -> FloatArray:
        net.eval()
        with torch.inference_mode():
            return answer(clips).float().numpy()

    with torch.random.fork_rng():
        yield 2, _guarded(name, "a training step on two clips", step)
        yield 2, _guarded(name, "predicting two clips", lambda: held_out(2))
        yield 1, _guarded(name, "predicting one clip", lambda: held_out(1))


def _classical_answers(name: str, classifier: Any, x_NCHW: FloatArray) -> Iterator[tuple[int, FloatArray]]:
    y_N = np.arange(len(x_NCHW)) % _CLASSES
    fitted = _guarded(name, "fitting it", lambda: classifier.fit(x_NCHW, y_N, 0))
    for clips in (2, 1):
        some_NCHW = x_NCHW[:clips]
        what = f"predicting {clips} clips"
        yield clips, _guarded(name, what, lambda x=some_NCHW: np.asarray(fitted.predict_proba(x)))


def _try_loss(function: Function) -> None:
    import torch

    name, clips = f"loss {function.name}", 2 * _CLASSES
    y_B = torch.arange(clips) % _CLASSES
    count_K = np.bincount(y_B.numpy(), minlength=_CLASSES)
    loss = _guarded(name, "making it", lambda: function.bound(count_K=count_K))
    if isinstance(loss, torch.nn.Module) and any(True for _ in loss.parameters()):
        raise BadInput(f"{name}: only a model's weights are trained, and it has some; make them buffers.")
    logits_BK = torch.linspace(-1, 1, clips * _CLASSES).reshape(clips, _CLASSES).requires_grad_()
    value = _guarded(name, f"{clips} clips", lambda: loss(logits_BK, y_B))
    if not torch.is_tensor(value) or value.shape not in {(), (clips,)}:
        found = tuple(value.shape) if torch.is_tensor(value) else type(value).__name__
        raise BadInput(f"{name}: for {clips} clips it answered {found}; return one number for each clip.")
    if not torch.isfinite(value).all():
        raise BadInput(f"{name}: it answered with something that is no number (NaN).")
    if value.grad_fn is None:
        raise BadInput(f"{name}: its answer does not follow from the logits; compute it with torch.")


def _try_augmentation(function: Function, model: ResolvedModel) -> None:
    import torch

    from distmer.training.augmentations import Clips

    name = f"{AUGMENTATION.what} {function.name}"
    x_NCHW = torch.from_numpy(_random_maps(model, 2 * _CLASSES))
    y_N = torch.arange(2 * _CLASSES) % _CLASSES
    before = Clips(x_NCHW.clone(), y_N.clone(), model.inputs, torch.zeros(len(model.inputs)), _CLASSES)
    augment = _guarded(name, "making it", function.bound)
    after = _guarded(name, f"{len(y_N)} clips", lambda: augment(before, np.random.default_rng(0)))
    again = _guarded(name, f"{len(y_N)} clips", lambda: augment(before, np.random.default_rng(0)))
    if not isinstance(after, Clips):
        raise BadInput(f"{name}: it answered with a {type(after).__name__}; return Clips.")
    if after.x_NCHW.shape != x_NCHW.shape or after.x_NCHW.dtype != x_NCHW.dtype:
        raise BadInput(
            f"{name}: it made {tuple(x_NCHW.shape)} {x_NCHW.dtype} into {tuple(after.x_NCHW.shape)}"
            f" {after.x_NCHW.dtype}; return clips of the shape and type that it was given."
        )
    if not torch.isfinite(after.x_NCHW).all():
        raise BadInput(f"{name}: it answered random maps with something that is no number (NaN).")
    if not torch.equal(before.x_NCHW, x_NCHW):
        raise BadInput(f"{name}: it writes into the clips that it is given; let it return new ones.")
    if not isinstance(again, Clips) or not torch.equal(after.x_NCHW, again.x_NCHW):
        raise BadInput(
            f"{name}: it gave the same clips another answer the second time; draw all random numbers from the"
            " generator that it is given, and keep nothing from one call to the next."
        )
    changed = not torch.equal(after.target, y_N) or not torch.equal(before.target, y_N)
    if changed and not getattr(function.entry, "changes_labels", False):
        raise BadInput(
            f"{name}: it changes labels without saying so; if that is meant, give it the attribute"
            " changes_labels = True."
        )


def _random_maps(model: ResolvedModel, clips: int) -> FloatArray:
    shape = (clips, len(model.inputs), model.size, model.size)
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def _guarded(name: str, what: str, act: Callable[[], T]) -> T:
    try:
        return act()
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(raised(f"{name}: {what}", error)) from error
