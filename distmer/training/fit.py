"""`fit_fold`: one fold, from its job to its predictions. It knows torch, and neither Ray nor the disk.

`train_fold` is given the training clips alone, and the held-out clips are predicted by what it returns. Only
under ``selection: oracle``, which must be asked for by name, they are also predicted after every epoch.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from distmer.code import SHARED, code_of, other_code, read_sources
from distmer.config import ModelConfig, TrainConfig
from distmer.evaluation.folds import inner_folds
from distmer.evaluation.metrics import scores
from distmer.functions import of_training
from distmer.models import ResolvedModel, resolve
from distmer.training.averaging import Ensemble, SymmetricClassical
from distmer.training.fold_inputs import ChannelScale, Inputs
from distmer.training.network import Task, built, predict, train_network
from distmer.training.recipe import Recipe
from distmer.training.runtime import Runtime, SingleProcess, repeatable
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
    return fit_and_keep(job, inputs, runtime)[0]


def fit_and_keep(
    job: FoldJob, inputs: Inputs, runtime: Runtime | None = None
) -> tuple[FoldResult, Fitted | None]:
    """As `fit_fold`, and what was trained; None where it was chosen on the held-out clips."""
    started = time.perf_counter()
    train = TrainConfig.model_validate(job.spec["train"])
    model = job.spec["model"]
    resolved = resolve(ModelConfig.model_validate({"name": model["name"], **model["options"]}))
    _require_same_code(job, resolved, train)
    if len(set(_labels(job, job.fold.train).tolist())) < 2:
        reason = "its training clips show one class only, so nothing can be learned; use more subjects."
        raise BadInput(f"fold {job.fold.id}: {reason}")
    runtime = runtime or SingleProcess(gpu=job.spec["device"] == "cuda")
    classical = resolved.info.kind == "classical"
    workers, device = (1, "cpu") if classical else (runtime.world, runtime.device.type)
    _require_same_runtime(job, workers, device)
    fitted, epoch_prob_ENK = None, None
    with repeatable(train.threads):
        if train.selection == "oracle" and not classical:
            prob_NK, epochs, curves, epoch_prob_ENK = _oracle(job, inputs, resolved, train, runtime)
        else:
            fitted = train_fold(job, inputs, resolved, train, runtime)
            prob_NK = fitted.predict(inputs.take(job.fold.test))
            epochs, curves = fitted.epochs, fitted.curves
    _require_finite(job, prob_NK)
    result = FoldResult(
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
    return result, fitted


def _require_same_code(job: FoldJob, resolved: ResolvedModel, train: TrainConfig) -> None:
    """The result is stored under the digests of the process that planned it: other code gives other
    numbers."""
    planned: Mapping[str, str] = job.spec["code"]
    brought = [name for name in planned if not name.startswith("distmer.")]
    functions = of_training(train) if resolved.info.kind == "torch" else ()
    modules = [function.module for function in functions]
    other = other_code(planned, code_of(resolved.module, resolved.info.kind, modules, brought))
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


@dataclass(frozen=True, eq=False)
class Fitted:
    """A model that a fold's training clips have made.

    ``model`` is the network in eval mode, or the fitted `Classical`; ``scale`` the standardisation of its
    inputs, None without one; ``epochs`` how many were trained (0 for a classical model).
    """

    model: Any
    scale: ChannelScale | None
    epochs: int
    curves: Curves

    def predict(self, x_NCHW: FloatArray) -> FloatArray:
        """prob_NK of clips, whose inputs are not yet standardised."""
        x_NCHW = x_NCHW if self.scale is None else self.scale.apply(x_NCHW)
        if hasattr(self.model, "predict_proba"):
            return self.model.predict_proba(x_NCHW)
        return predict(self.model, x_NCHW)


def train_fold(
    job: FoldJob, inputs: Inputs, resolved: ResolvedModel, train: TrainConfig, runtime: Runtime
) -> Fitted:
    """Train the job's model on its training clips. Of ``inputs`` it takes these alone.

    Raises BadInput where the epoch cannot be selected as asked, or the training diverged.
    """
    x_NCHW, y_N = inputs.take(job.fold.train), _labels(job, job.fold.train)
    seed = derive(job.seed, job.fold.id)
    recipe = Recipe.of(job, inputs, resolved, train)
    if resolved.info.kind == "classical":
        scale = recipe.scale(x_NCHW)
        mirror = recipe.mirror(scale)
        classifier = resolved.build(int(job.spec["classes"]))
        classifier = classifier if mirror is None else SymmetricClassical(classifier, mirror)
        classifier.fit(x_NCHW if scale is None else scale.apply(x_NCHW), y_N, seed % 2**32)
        return Fitted(classifier, scale, 0, {})
    saved = runtime.restore()
    epochs, curves = train.epochs, {}
    finished: list[dict[str, Any]] = []  # the networks of an ensemble that are trained
    if saved is not None:
        epochs, curves = int(saved["extra"]["epochs"]), dict(saved["extra"]["curves"])
        finished = list(saved["extra"]["finished"])
    elif train.selection == "inner":
        epochs, curves = runtime.broadcast(_choose_epochs(job, x_NCHW, y_N, recipe, seed, runtime))
    task, scale = recipe.task(x_NCHW, y_N)
    nets = [_rebuilt(task, one["net"], runtime) for one in finished]
    for member in range(len(finished), train.ensemble):
        extra = {"epochs": epochs, "curves": curves, "finished": list(finished)}
        net, losses = train_network(task, train, epochs, _seed_of(seed, member), runtime, extra_state=extra)
        nets.append(net)
        finished.append({"net": net.state_dict(), "losses": losses})
    mean_losses = tuple(np.mean([one["losses"] for one in finished], axis=0).tolist())
    net = nets[0] if len(nets) == 1 else Ensemble(nets).eval()
    return Fitted(recipe.symmetric(net, scale), scale, epochs, {"train_loss": mean_losses, **curves})


def _seed_of(seed: int, member: int) -> int:
    """The seed of a network of an ensemble; of the first, that of a network alone."""
    return derive(seed, "member", member) if member else seed


def _rebuilt(task: Task, state: Mapping[str, Any], runtime: Runtime) -> Any:
    net = built(task, runtime.device)
    net.load_state_dict(state)
    return net.eval()


def _labels(job: FoldJob, clip_ids: tuple[str, ...]) -> IntArray:
    return np.array([job.labels[c] for c in clip_ids])


def _oracle(
    job: FoldJob, inputs: Inputs, resolved: ResolvedModel, train: TrainConfig, runtime: Runtime
) -> tuple[FloatArray, int, Curves, FloatArray | None]:
    """The leak, on purpose: the epoch is chosen on the held-out clips.

    ``per_subject`` keeps the epoch of best held-out accuracy (as HTNet's script does; the earliest of equal
    ones). ``global_epoch`` is one epoch for all folds, which is chosen when all of them are trained: then the
    probabilities after each epoch come too. There are no checkpoints.
    """
    x_NCHW, y_N = inputs.take(job.fold.train), _labels(job, job.fold.train)
    recipe = Recipe.of(job, inputs, resolved, train)
    x_test, y_test = inputs.take(job.fold.test), _labels(job, job.fold.test)
    seed = derive(job.seed, job.fold.id)
    prob_ENK, losses = _train_and_predict_each_epoch(recipe, x_NCHW, y_N, x_test, seed, runtime)
    accuracy_E = (prob_ENK.argmax(axis=2) == y_test).mean(axis=1)
    curves = {"train_loss": losses, "test_accuracy": tuple(accuracy_E.tolist())}
    if train.oracle == "global_epoch":
        return prob_ENK[-1], len(prob_ENK), curves, prob_ENK
    best = int(accuracy_E.argmax())
    return prob_ENK[best], best + 1, curves, None


def _choose_epochs(
    job: FoldJob, x_NCHW: FloatArray, y_N: IntArray, recipe: Recipe, seed: int, runtime: Runtime
) -> tuple[int, Curves]:
    """The epoch of best UAR over inner folds of the training clips, split by subject, their validation clips
    pooled.

    Of epochs with equal UAR, the one of lower cross-entropy; of those, the earliest.
    """
    from sklearn.metrics import log_loss  # two seconds, which a fold of fixed epochs need not wait

    train = recipe.train
    row = {clip: i for i, clip in enumerate(job.fold.train)}
    prob_ENK = np.zeros((train.epochs, len(y_N), int(job.spec["classes"])))
    for inner in inner_folds(job.fold.train, job.labels, train.inner_folds):
        fit_rows, held_rows = [row[c] for c in inner.train], [row[c] for c in inner.test]
        inner_seed = derive(seed, "inner", inner.id)
        prob_ENK[:, held_rows], _ = _train_and_predict_each_epoch(
            recipe, x_NCHW[fit_rows], y_N[fit_rows], x_NCHW[held_rows], inner_seed, runtime
        )
    _require_finite(job, prob_ENK)
    labels = list(range(prob_ENK.shape[2]))
    uar_E = [scores(y_N, prob_NK.argmax(axis=1), len(labels)).uar for prob_NK in prob_ENK]
    loss_E = [float(log_loss(y_N, p / p.sum(axis=1, keepdims=True), labels=labels)) for p in prob_ENK]
    best = min(range(train.epochs), key=lambda e: (-uar_E[e], loss_E[e], e))
    return best + 1, {"inner_uar": tuple(uar_E), "inner_loss": tuple(loss_E)}


def _train_and_predict_each_epoch(
    recipe: Recipe, x_NCHW: FloatArray, y_N: IntArray, x_held_NCHW: FloatArray, seed: int, runtime: Runtime
) -> tuple[FloatArray, tuple[float, ...]]:
    """prob_ENK, the held clips' class probabilities after each epoch of training on x_NCHW, and the training
    loss of each epoch; of an ensemble, their means."""
    train = recipe.train
    task, scale = recipe.task(x_NCHW, y_N)
    held_NCHW = x_held_NCHW if scale is None else scale.apply(x_held_NCHW)
    probs_M, losses_M = [], []
    for member in range(train.ensemble):
        probs: list[FloatArray] = []

        def keep(net: Any, probs: list[FloatArray] = probs) -> None:
            probs.append(predict(recipe.symmetric(net, scale), held_NCHW))

        _, losses = train_network(
            task, train, train.epochs, _seed_of(seed, member), runtime, after_epoch=keep
        )
        probs_M.append(np.stack(probs))
        losses_M.append(losses)
    if len(probs_M) == 1:
        return probs_M[0], losses_M[0]
    return np.mean(probs_M, axis=0), tuple(np.mean(losses_M, axis=0).tolist())
