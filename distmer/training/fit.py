"""`fit_fold`: one fold, from its job to its predictions. It knows torch, and neither Ray nor the disk.

The held-out clips are read in exactly one place, `predict` after training; under ``selection: oracle``, which must be
asked for by name, they are also predicted after every epoch.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from torch import nn

from distmer.code import SHARED, code_of, other_code, read_sources
from distmer.config import InputConfig, ModelConfig, TrainConfig
from distmer.evaluation.folds import inner_folds
from distmer.evaluation.metrics import scores
from distmer.features.inputs import mirrored
from distmer.models import ResolvedModel, resolve
from distmer.training.fold_inputs import Inputs, standardised
from distmer.training.network import Alone, Runtime, Task, predict, settled, train_network
from distmer.training.seeds import derive
from distmer.types import BadInput, FloatArray, FoldJob, FoldResult, IntArray, OtherCode, Predictions

read_sources(SHARED)  # now, before somebody edits a file


def fit_fold(job: FoldJob, inputs: Inputs, runtime: Runtime | None = None) -> FoldResult:
    """Train the job's model on its training clips and predict its held-out ones.

    Raises BadInput when the training clips show one class only, the model cannot be selected as asked, or this process
    is not what the job says (its number of workers, its kind of device); OtherCode when it has other code than the
    process that planned the job; RunError where a promised GPU is not there.
    """
    started = time.perf_counter()
    train = TrainConfig.model_validate(job.spec["train"])
    resolved = resolve(ModelConfig.model_validate({"name": job.spec["model"]["name"], **job.spec["model"]["options"]}))
    _require_same_code(job, resolved)
    y_train = np.array([job.labels[c] for c in job.fold.train])
    if len(set(y_train.tolist())) < 2:
        raise BadInput(f"fold {job.fold.id}: its training clips show one class only, so nothing can be learned; use more subjects.")
    runtime = runtime or Alone(gpu=job.spec["device"] == "cuda")
    classical = resolved.info.kind == "classical"
    workers, device = (1, "cpu") if classical else (runtime.world, runtime.device.type)
    _require_promised(job, workers, device)
    with settled(train.threads):
        if classical:
            fitted = _fit_classical(job, inputs, resolved, y_train)
        else:
            fitted = _fit_network(job, inputs, resolved, train, y_train, runtime)
    prob_NK, epochs, curves, epoch_prob_ENK = fitted
    _require_numbers(job, prob_NK)
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
    """The result is filed under the digests of the process that planned it: other code, other numbers."""
    planned: Mapping[str, str] = job.spec["code"]
    brought = [name for name in planned if not name.startswith("distmer.")]
    other = other_code(planned, code_of(resolved.module, resolved.info.kind, brought))
    if other:
        raise OtherCode(
            f"fold {job.fold.id}: {', '.join(other)} on {platform.node()} is not the version that this run was"
            " planned with; use one version of distmer on all nodes, and give the same command again if a file was"
            " edited."
        )


def _require_promised(job: FoldJob, workers: int, device: str) -> None:
    """What is filed under the job's digest must have been trained as the job says: it is part of the fold's identity."""
    if workers != job.spec["workers"]:
        raise BadInput(
            f"fold {job.fold.id}: its numbers are those of {job.spec['workers']} workers, and {workers} would train it here; leave --local"
            " out, or set cluster.workers_per_fold=1."
        )
    if device != job.spec["device"]:
        raise BadInput(
            f"fold {job.fold.id}: its numbers are those of a {job.spec['device']} device, and a {device} device would train it here; set"
            " cluster.gpus_per_fold to what the machine has."
        )


def _require_numbers(job: FoldJob, prob_xNK: FloatArray) -> None:
    """A diverged training must not pass for one that says "class 0" of everybody: the argmax of NaN is 0."""
    if not np.isfinite(prob_xNK).all():
        raise BadInput(f"fold {job.fold.id}: the training diverged (its probabilities are not numbers); lower train.lr.")


def as_predictions(clip_ids: tuple[str, ...], labels: Mapping[str, int], prob_NK: FloatArray, fold_id: str, seed: int) -> Predictions:
    """Probabilities of a fold's held-out clips as rows of the one result currency."""
    n = len(clip_ids)
    y_true_N = np.array([labels[c] for c in clip_ids])
    return Predictions(clip_ids, y_true_N, prob_NK.argmax(axis=1), prob_NK, (fold_id,) * n, np.full(n, seed))


_Arm = Callable[[FloatArray, IntArray, FloatArray], tuple[Task, FloatArray]]
_Fitted = tuple[FloatArray, int, dict[str, tuple[float, ...]], FloatArray | None]


def _fit_classical(job: FoldJob, inputs: Inputs, resolved: ResolvedModel, y_train: IntArray) -> _Fitted:
    x_train, x_test = standardised(inputs.take(job.fold.train), inputs.take(job.fold.test), wanted=_standardise(job))
    estimator = resolved.build(int(job.spec["classes"]))
    estimator.fit(x_train, y_train, derive(job.seed, job.fold.id) % 2**32)
    return estimator.predict_proba(x_test), 0, {}, None


def _fit_network(job: FoldJob, inputs: Inputs, resolved: ResolvedModel, train: TrainConfig, y_train: IntArray, runtime: Runtime) -> _Fitted:
    seed = derive(job.seed, job.fold.id)
    classes = int(job.spec["classes"])

    def arm(x_NCHW: FloatArray, y_N: IntArray, x_held_NCHW: FloatArray) -> tuple[Task, FloatArray]:
        flipped = mirrored(x_NCHW, inputs.channels, inputs.normalised_as) if train.mirror else x_NCHW[:0]
        x_fit, x_flip, x_held = standardised(x_NCHW, flipped, x_held_NCHW, wanted=_standardise(job))
        build = partial(resolved.build, classes)
        return Task(build, x_fit, x_flip if train.mirror else None, y_N, classes), x_held

    x_train = inputs.take(job.fold.train)
    saved = runtime.restore()
    epochs, curves = train.epochs, {}
    if saved is not None:
        epochs, curves = int(saved["carry"]["epochs"]), dict(saved["carry"]["curves"])
    elif train.selection == "inner":
        epochs, curves = runtime.agreed(_choose_epochs(job, x_train, y_train, arm, train, seed, runtime))
    task, x_test = arm(x_train, y_train, inputs.take(job.fold.test))
    seen: list[FloatArray] = []
    watch = (lambda net: seen.append(predict(net, x_test))) if train.selection == "oracle" else None
    carry = None if watch else {"epochs": epochs, "curves": curves}  # what the oracle saw is in memory alone: start over
    net, losses = train_network(task, train, epochs, seed, runtime, watch, carry)
    curves = {"train_loss": losses, **curves}
    if watch is None:
        return predict(net, x_test), epochs, curves, None
    return _oracle(job, train, np.stack(seen), curves)


def _oracle(job: FoldJob, train: TrainConfig, prob_ENK: FloatArray, curves: dict[str, tuple[float, ...]]) -> _Fitted:
    """The leak, on purpose: `per_subject` keeps the epoch of best held-out accuracy (as HTNet's script does; earliest of
    equals); `global_epoch` is chosen over all folds at once, later."""
    y_test = np.array([job.labels[c] for c in job.fold.test])
    accuracy_E = (prob_ENK.argmax(axis=2) == y_test).mean(axis=1)
    curves = {**curves, "test_accuracy": tuple(accuracy_E.tolist())}
    if train.oracle == "global_epoch":
        return prob_ENK[-1], len(prob_ENK), curves, prob_ENK
    best = int(accuracy_E.argmax())
    return prob_ENK[best], best + 1, curves, None


def _choose_epochs(
    job: FoldJob, x_train: FloatArray, y_train: IntArray, arm: _Arm, train: TrainConfig, seed: int, runtime: Runtime
) -> tuple[int, dict[str, tuple[float, ...]]]:
    """The epoch of best UAR over subject-grouped inner folds of the training clips (their validation clips pooled).

    Equal UARs: the lower cross-entropy, then the earlier epoch.
    """
    from sklearn.metrics import log_loss  # two seconds, which a fold with a fixed number of epochs need not wait

    row = {clip: i for i, clip in enumerate(job.fold.train)}
    prob_ENK = np.zeros((train.epochs, len(y_train), int(job.spec["classes"])))
    for inner in inner_folds(job.fold.train, job.labels, train.inner_folds):
        fit_rows, held_rows = [row[c] for c in inner.train], [row[c] for c in inner.test]
        task, x_held = arm(x_train[fit_rows], y_train[fit_rows], x_train[held_rows])
        seen: list[FloatArray] = []

        def watch(net: nn.Module, x_held: FloatArray = x_held, seen: list[FloatArray] = seen) -> None:
            seen.append(predict(net, x_held))

        train_network(task, train, train.epochs, derive(seed, "inner", inner.id), runtime, watch)
        prob_ENK[:, held_rows] = np.stack(seen)
    _require_numbers(job, prob_ENK)
    labels = list(range(prob_ENK.shape[2]))
    uar_E = [scores(y_train, prob_NK.argmax(axis=1), len(labels)).uar for prob_NK in prob_ENK]
    loss_E = [float(log_loss(y_train, p / p.sum(axis=1, keepdims=True), labels=labels)) for p in prob_ENK]
    best = min(range(train.epochs), key=lambda e: (-uar_E[e], loss_E[e], e))
    return best + 1, {"inner_uar": tuple(uar_E), "inner_loss": tuple(loss_E)}


def _standardise(job: FoldJob) -> bool:
    return InputConfig.model_validate(job.spec["inputs"]).standardise
