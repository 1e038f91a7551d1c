"""`fit_fold`: one fold, from its job to its predictions. It knows torch, and neither Ray nor the disk.

The held-out clips are used in exactly one place, the prediction after training. Only under ``selection:
oracle``, which must be asked for by name, they are also predicted after every epoch.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from distmer.code import SHARED, code_of, other_code, read_sources
from distmer.config import InputConfig, ModelConfig, TrainConfig
from distmer.evaluation.folds import inner_folds
from distmer.evaluation.metrics import scores
from distmer.features.inputs import mirrored
from distmer.models import ResolvedModel, resolve
from distmer.training.fold_inputs import Inputs, standardised
from distmer.training.network import Runtime, SingleProcess, Task, predict, repeatable, train_network
from distmer.training.seeds import derive
from distmer.types import BadInput, FloatArray, FoldJob, FoldResult, IntArray, OtherCode, Predictions

read_sources(SHARED)  # now, before somebody edits a file


def fit_fold(job: FoldJob, inputs: Inputs, runtime: Runtime | None = None) -> FoldResult:
    """Train the job's model on its training clips and predict its held-out clips.

    Parameters
    ----------
    job : the fold, its labels, and every setting that its result depends on
    inputs : the model inputs of all clips, of which the fold takes its own
    runtime : the process that trains; None is this process alone, on the device that the job names

    Returns
    -------
    The held-out clips' predictions, with the number of epochs, the curves over epochs, and the seconds it
    took.

    Raises
    ------
    BadInput
        The training clips show one class only; the epoch cannot be selected as asked; the training diverged;
        or this process is not what the job says (its number of workers, its kind of device).
    OtherCode
        This process has other code than the one that planned the job.
    RunError
        A GPU was promised and there is none.
    """
    started = time.perf_counter()
    train = TrainConfig.model_validate(job.spec["train"])
    model = job.spec["model"]
    resolved = resolve(ModelConfig.model_validate({"name": model["name"], **model["options"]}))
    _require_same_code(job, resolved)
    y_train = np.array([job.labels[c] for c in job.fold.train])
    if len(set(y_train.tolist())) < 2:
        reason = "its training clips show one class only, so nothing can be learned; use more subjects."
        raise BadInput(f"fold {job.fold.id}: {reason}")
    runtime = runtime or SingleProcess(gpu=job.spec["device"] == "cuda")
    classical = resolved.info.kind == "classical"
    workers, device = (1, "cpu") if classical else (runtime.world, runtime.device.type)
    _require_same_runtime(job, workers, device)
    with repeatable(train.threads):
        if classical:
            fitted = _fit_classical(job, inputs, resolved, y_train)
        else:
            fitted = _fit_network(job, inputs, resolved, train, y_train, runtime)
    prob_NK, epochs, curves, epoch_prob_ENK = fitted
    _require_finite(job, prob_NK)
    return FoldResult(
        digest=job.digest,
        fold_id=job.fold.id,
        seed=job.seed,
        predictions=as_predictions(job.fold.test, job.labels, prob_NK, job.fold.id, job.seed),
        epochs=epochs,
        curves=curves,
        seconds=time.perf_counter() - started,
        device=device,
        epoch_prob_ENK=epoch_prob_ENK,
    )


def _require_same_code(job: FoldJob, resolved: ResolvedModel) -> None:
    """The result is stored under the digests of the process that planned it: other code gives other
    numbers."""
    planned: Mapping[str, str] = job.spec["code"]
    brought = [name for name in planned if not name.startswith("distmer.")]
    other = other_code(planned, code_of(resolved.module, resolved.info.kind, brought))
    if other:
        raise OtherCode(
            f"fold {job.fold.id}: {', '.join(other)} on {platform.node()} is not the version that this run"
            " was planned with. Use one version of distmer on all nodes; if a file was edited, run again."
        )


def _require_same_runtime(job: FoldJob, workers: int, device: str) -> None:
    """How many workers train the fold, and on which kind of device, is part of its identity."""
    if workers != job.spec["workers"]:
        raise BadInput(
            f"fold {job.fold.id}: its numbers are those of {job.spec['workers']} workers, and {workers} would"
            " train it here; leave --local out, or set cluster.workers_per_fold=1."
        )
    if device != job.spec["device"]:
        raise BadInput(
            f"fold {job.fold.id}: its numbers are those of a {job.spec['device']} device, and a {device}"
            " device would train it here; set cluster.gpus_per_fold to what the machine has."
        )


def _require_finite(job: FoldJob, prob_xNK: FloatArray) -> None:
    """Without this check a diverged training would predict class 0 for every clip: the argmax of NaN is 0."""
    if not np.isfinite(prob_xNK).all():
        reason = "the training diverged (its probabilities are not numbers); lower train.lr."
        raise BadInput(f"fold {job.fold.id}: {reason}")


def as_predictions(
    clip_ids: tuple[str, ...],
    labels: Mapping[str, int],
    prob_NK: FloatArray,
    fold_id: str,
    seed: int,
) -> Predictions:
    """The class probabilities of a fold's held-out clips as predictions, one row a clip."""
    n = len(clip_ids)
    y_true_N = np.array([labels[c] for c in clip_ids])
    return Predictions(clip_ids, y_true_N, prob_NK.argmax(axis=1), prob_NK, (fold_id,) * n, np.full(n, seed))


Curves = dict[str, tuple[float, ...]]  # a value for each epoch
# Held-out probabilities, epochs trained, curves; under `oracle: global_epoch` the probabilities after each
# epoch too.
_Fitted = tuple[FloatArray, int, Curves, FloatArray | None]
# Training clips, their labels, held-out clips → the task, and the held-out clips on the same scale.
_Prepare = Callable[[FloatArray, IntArray, FloatArray], tuple[Task, FloatArray]]


def _fit_classical(job: FoldJob, inputs: Inputs, resolved: ResolvedModel, y_train: IntArray) -> _Fitted:
    x_train, x_test = inputs.take(job.fold.train), inputs.take(job.fold.test)
    x_train, x_test = standardised(x_train, x_test, wanted=_standardise(job))
    estimator = resolved.build(int(job.spec["classes"]))
    estimator.fit(x_train, y_train, derive(job.seed, job.fold.id) % 2**32)
    return estimator.predict_proba(x_test), 0, {}, None


def _fit_network(
    job: FoldJob,
    inputs: Inputs,
    resolved: ResolvedModel,
    train: TrainConfig,
    y_train: IntArray,
    runtime: Runtime,
) -> _Fitted:
    seed = derive(job.seed, job.fold.id)
    classes = int(job.spec["classes"])

    def prepare(x_NCHW: FloatArray, y_N: IntArray, x_held_NCHW: FloatArray) -> tuple[Task, FloatArray]:
        mirror_NCHW = mirrored(x_NCHW, inputs.channels, inputs.normalised_as) if train.mirror else x_NCHW[:0]
        x_NCHW, mirror_NCHW, x_held_NCHW = standardised(
            x_NCHW,
            mirror_NCHW,
            x_held_NCHW,
            wanted=_standardise(job),
        )
        build = partial(resolved.build, classes)
        return Task(build, x_NCHW, mirror_NCHW if train.mirror else None, y_N, classes), x_held_NCHW

    x_train = inputs.take(job.fold.train)
    saved = runtime.restore()
    epochs, curves = train.epochs, {}
    if saved is not None:
        epochs, curves = int(saved["extra"]["epochs"]), dict(saved["extra"]["curves"])
    elif train.selection == "inner":
        chosen = _choose_epochs(job, x_train, y_train, prepare, train, seed, runtime)
        epochs, curves = runtime.broadcast(chosen)
    task, x_test = prepare(x_train, y_train, inputs.take(job.fold.test))
    if train.selection == "oracle":  # no checkpoints: the predictions after each epoch are in memory alone
        prob_ENK, losses = _train_and_predict_each_epoch(task, x_test, train, seed, runtime)
        return _oracle(job, train, prob_ENK, {"train_loss": losses})
    net, losses = train_network(
        task,
        train,
        epochs,
        seed,
        runtime,
        extra_state={"epochs": epochs, "curves": curves},
    )
    return predict(net, x_test), epochs, {"train_loss": losses, **curves}, None


def _oracle(job: FoldJob, train: TrainConfig, prob_ENK: FloatArray, curves: Curves) -> _Fitted:
    """The leak, on purpose: the epoch is chosen on the held-out clips.

    ``per_subject`` keeps the epoch of best held-out accuracy (as HTNet's script does; the earliest of equal
    ones). ``global_epoch`` is one epoch for all folds, which is chosen when all of them are trained.
    """
    y_test = np.array([job.labels[c] for c in job.fold.test])
    accuracy_E = (prob_ENK.argmax(axis=2) == y_test).mean(axis=1)
    curves = {**curves, "test_accuracy": tuple(accuracy_E.tolist())}
    if train.oracle == "global_epoch":
        return prob_ENK[-1], len(prob_ENK), curves, prob_ENK
    best = int(accuracy_E.argmax())
    return prob_ENK[best], best + 1, curves, None


def _choose_epochs(
    job: FoldJob,
    x_train: FloatArray,
    y_train: IntArray,
    prepare: _Prepare,
    train: TrainConfig,
    seed: int,
    runtime: Runtime,
) -> tuple[int, Curves]:
    """The epoch of best UAR over inner folds of the training clips, split by subject, their validation clips
    pooled.

    Of epochs with equal UAR, the one of lower cross-entropy; of those, the earliest.
    """
    from sklearn.metrics import (
        log_loss,
    )  # two seconds, which a fold with a fixed number of epochs need not wait

    row = {clip: i for i, clip in enumerate(job.fold.train)}
    prob_ENK = np.zeros((train.epochs, len(y_train), int(job.spec["classes"])))
    for inner in inner_folds(job.fold.train, job.labels, train.inner_folds):
        fit_rows, held_rows = [row[c] for c in inner.train], [row[c] for c in inner.test]
        task, x_held = prepare(x_train[fit_rows], y_train[fit_rows], x_train[held_rows])
        inner_seed = derive(seed, "inner", inner.id)
        prob_ENK[:, held_rows] = _train_and_predict_each_epoch(task, x_held, train, inner_seed, runtime)[0]
    _require_finite(job, prob_ENK)
    labels = list(range(prob_ENK.shape[2]))
    uar_E = [scores(y_train, prob_NK.argmax(axis=1), len(labels)).uar for prob_NK in prob_ENK]
    loss_E = [float(log_loss(y_train, p / p.sum(axis=1, keepdims=True), labels=labels)) for p in prob_ENK]
    best = min(range(train.epochs), key=lambda e: (-uar_E[e], loss_E[e], e))
    return best + 1, {"inner_uar": tuple(uar_E), "inner_loss": tuple(loss_E)}


def _train_and_predict_each_epoch(
    task: Task,
    x_NCHW: FloatArray,
    train: TrainConfig,
    seed: int,
    runtime: Runtime,
) -> tuple[FloatArray, tuple[float, ...]]:
    """prob_ENK, the clips' class probabilities after each epoch, and the training loss of each epoch."""
    probs: list[FloatArray] = []
    _, losses = train_network(
        task,
        train,
        train.epochs,
        seed,
        runtime,
        after_epoch=lambda net: probs.append(predict(net, x_NCHW)),
    )
    return np.stack(probs), losses


def _standardise(job: FoldJob) -> bool:
    return InputConfig.model_validate(job.spec["inputs"]).standardise
