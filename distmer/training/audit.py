"""Whether a fold's result depends on its held-out clips where it must not, tried with any model.

A fold is trained. Then another fold is trained, in which its held-out clips are training clips, as happens in
every run. Then the first fold is trained again, with other pixels and labels in its held-out clips. It must
learn the same to the bit. And the answer of the trained model for a held-out clip must not depend on the
clips beside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from distmer.config import TrainConfig
from distmer.training.fit import Fitted, fit_and_keep
from distmer.training.fold_inputs import Inputs
from distmer.training.runtime import repeatable
from distmer.types import FloatArray, FoldAudit, FoldJob, FoldResult, Leak, SubjectKey

# Of a probability: arithmetic on a batch of another size may take sums in another order.
ROUNDING = 1e-5


@dataclass(frozen=True, eq=False)
class _Trained:
    """A training, and the digest of what was learned in it."""

    result: FoldResult
    fitted: Fitted | None
    learned: str


def audit_fold(job: FoldJob, inputs: Inputs) -> FoldAudit:
    """Audit one fold: three trainings where nothing leaks, up to six to find out what does. Raises what
    `fit_fold` raises."""
    trainings = 0

    def train(pixels: bool = False, labels: bool = False) -> _Trained:
        nonlocal trainings
        trainings += 1
        other = _other_pixels(inputs, job) if pixels else inputs
        return _train(_other_labels(job) if labels else job, other, inputs)

    first = train()
    leaks = list(_leaks_of_answers(first, job, inputs))
    if [leak.name for leak in leaks] == ["learns"]:  # then nothing else can be told apart
        return FoldAudit(job.fold.id, tuple(leaks), trainings, 0.0)
    difference = 0.0
    if first.fitted is not None:
        difference = _regrouped(first.fitted, first.result, job, inputs)
        if difference > ROUNDING and not leaks:
            leaks.append(_transductive(first.fitted, difference))
    if not _is_oracle(job):
        trainings += 1
        fit_and_keep(_neighbour(job), inputs)  # what it keeps of the held-out clips must not show
    if train(pixels=True, labels=True).learned != first.learned:
        if train().learned != first.learned:
            leaks.append(_leak("memory"))
        elif _is_oracle(job):
            leaks.append(_leak("epoch"))
        else:
            changed = {"pixels": train(pixels=True), "labels": train(labels=True)}
            leaks += [_leak(name) for name, one in changed.items() if one.learned != first.learned]
    return FoldAudit(job.fold.id, tuple(leaks), trainings, min(difference, ROUNDING))


def _is_oracle(job: FoldJob) -> bool:
    """Whether the epoch is chosen on the held-out clips, on purpose."""
    return bool(job.spec["train"].get("selection") == "oracle")


def _neighbour(job: FoldJob) -> FoldJob:
    """Another fold of the same clips, as a run trains it before or after: the held-out clips train, with
    other labels, and the clips of a training subject are held out."""
    other = SubjectKey.of(job.fold.train[0])
    theirs = tuple(clip for clip in job.fold.train if SubjectKey.of(clip) == other)
    rest = tuple(clip for clip in job.fold.train if SubjectKey.of(clip) != other)
    fold = replace(job.fold, train=(*rest, *job.fold.test), test=theirs)
    return replace(_other_labels(job), fold=fold)


_LEAKS = {
    "memory": "the same training gives another model the second time, so the code keeps something from one"
    " training or answer to the next: held-out clips of one fold are training clips of another",
    "epoch": "the number of epochs is chosen on the held-out clips (train.selection: oracle), as it was asked"
    " for",
    "pixels": "other pixels in the held-out clips give another model, so the training has seen them",
    "labels": "other labels of the held-out clips give another model, so the training has seen them",
    "learns": "the model changes while it answers: the second answer for the same clips is another one",
}


def _leak(name: str) -> Leak:
    return Leak(name, _LEAKS[name])


def _transductive(fitted: Fitted, difference: float) -> Leak:
    told = (
        f"the answer for a held-out clip depends on the other held-out clips (by up to {difference:.2g} of a"
        " probability)."
    )
    if layers := list(_batch_statistics(fitted.model)):
        told += f" Its layers {', '.join(layers)} take their statistics from the batch they answer for."
    return Leak("transductive", told)


def _leaks_of_answers(trained: _Trained, job: FoldJob, inputs: Inputs) -> Iterator[Leak]:
    """The leaks that show when the same batch is answered again, and with other clips beside each clip."""
    fitted = trained.fitted
    if fitted is None:
        return
    x_NCHW = inputs.take(job.fold.test)
    prob_NK = trained.result.predictions.prob_NK
    again_NK = _answer(fitted, job, x_NCHW)
    same = _learned(trained.result, fitted, job, inputs) == trained.learned
    if not same or not np.array_equal(prob_NK, again_NK):
        yield _leak("learns")
        return
    changed_NCHW = _other_pixels(inputs, job).take(job.fold.test)
    for kept in (0, 1):
        mixed_NCHW = changed_NCHW.copy()
        mixed_NCHW[kept::2] = x_NCHW[kept::2]
        mixed_NK = _answer(fitted, job, mixed_NCHW)
        if not np.array_equal(mixed_NK[kept::2], prob_NK[kept::2]):
            yield _transductive(fitted, float(np.abs(mixed_NK[kept::2] - prob_NK[kept::2]).max()))
            return


def _regrouped(fitted: Fitted, result: FoldResult, job: FoldJob, inputs: Inputs) -> float:
    """The largest difference of a probability when the held-out clips are reordered, alone, or only half."""
    x_NCHW, prob_NK = inputs.take(job.fold.test), result.predictions.prob_NK
    half = (len(x_NCHW) + 1) // 2
    alone = [_answer(fitted, job, x_NCHW[i : i + 1]) for i in range(len(x_NCHW))]
    others = (_answer(fitted, job, x_NCHW[::-1])[::-1], np.concatenate(alone))
    differences = [np.abs(other_NK - prob_NK).max() for other_NK in others]
    return float(max(*differences, np.abs(_answer(fitted, job, x_NCHW[:half]) - prob_NK[:half]).max()))


def _train(job: FoldJob, changed: Inputs, original: Inputs) -> _Trained:
    result, fitted = fit_and_keep(job, changed)
    return _Trained(result, fitted, _learned(result, fitted, job, original))


def _learned(result: FoldResult, fitted: Fitted | None, job: FoldJob, inputs: Inputs) -> str:
    """A digest of what was learned: the curves, the weights, and the answers for all clips of the fold, the
    held-out ones as they are in ``inputs``.

    If the epoch was chosen on held-out clips there is no single model, and only curves and epochs count.
    """
    found = hashlib.sha256(repr((result.epochs, sorted(result.curves.items()))).encode())
    if fitted is not None:
        for name, value in sorted(_weights(fitted.model).items()):
            found.update(name.encode())
            found.update(np.ascontiguousarray(value).tobytes())
        for clips in (job.fold.train, job.fold.test):
            found.update(_answer(fitted, job, inputs.take(clips)).tobytes())
    return found.hexdigest()


def _answer(fitted: Fitted, job: FoldJob, x_NCHW: FloatArray) -> FloatArray:
    """prob_NK, computed as `fit_fold` computes it."""
    threads = TrainConfig.model_validate(job.spec["train"]).threads
    with repeatable(threads):
        # a copy: of one clip, NumPy calls a reversed view contiguous, and torch refuses its negative stride
        return np.array(fitted.predict(np.array(x_NCHW, order="C")))


def _weights(model: Any) -> Mapping[str, FloatArray]:
    """A network's weights and statistics; a classical model is known by its answers alone."""
    state = model.state_dict() if hasattr(model, "state_dict") else {}
    return {name: value.detach().cpu().numpy() for name, value in state.items()}


def _batch_statistics(model: Any) -> Iterator[str]:
    """The normalisation layers of a network that keep no statistics of the training clips."""
    for name, layer in model.named_modules() if hasattr(model, "named_modules") else ():
        if type(layer).__name__.startswith("BatchNorm") and getattr(layer, "running_mean", None) is None:
            yield name


def _other_pixels(inputs: Inputs, job: FoldJob) -> Inputs:
    """The same inputs with noise in place of the held-out clips, of the mean and spread that each had."""
    rng = np.random.default_rng(0)
    x_NCHW = inputs.x_NCHW.copy()
    held_out = set(job.fold.test)
    for i, clip in enumerate(inputs.clip_ids):
        if clip in held_out:
            mean_C11 = x_NCHW[i].mean(axis=(1, 2), keepdims=True)
            std_C11 = x_NCHW[i].std(axis=(1, 2), keepdims=True)
            x_NCHW[i] = mean_C11 + (std_C11 + 0.1) * rng.standard_normal(x_NCHW[i].shape, dtype=np.float32)
    return replace(inputs, x_NCHW=x_NCHW)


def _other_labels(job: FoldJob) -> FoldJob:
    """The same job with another class for every held-out clip."""
    classes = int(job.spec["classes"])
    labels = {clip: (label + 1) % classes for clip, label in job.labels.items() if clip in set(job.fold.test)}
    return replace(job, labels={**job.labels, **labels})
