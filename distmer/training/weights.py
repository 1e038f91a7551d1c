"""What was trained, as bytes and back: a network's arrays as safetensors, a classical model's state as skops.

A classical model is built again from its settings, and gets the attributes that fitting has changed. skops
makes objects only of types that it knows to be harmless, and of those named here.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel

from distmer.config import ModelConfig, TrainConfig
from distmer.models import ResolvedModel, resolve
from distmer.plugins import own_modules
from distmer.training.averaging import Ensemble, Mirror, SymmetricClassical, SymmetricNetwork
from distmer.training.fit import Fitted
from distmer.training.fold_inputs import ChannelScale
from distmer.training.runtime import repeatable
from distmer.types import BadInput, FloatArray, FoldJob

ARRAYS, CLASSICAL = "arrays.safetensors", "classical.skops"

# Parts of scikit-learn's classifiers that skops does not trust by itself. They hold numbers alone.
TRUSTED = frozenset(
    {
        "sklearn.tree._tree.Tree",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        "sklearn.gaussian_process.kernels.ConstantKernel",
        "sklearn.gaussian_process.kernels.Matern",
        "sklearn.gaussian_process.kernels.Product",
        "sklearn.gaussian_process.kernels.RBF",
        "sklearn.gaussian_process.kernels.Sum",
        "sklearn.gaussian_process.kernels.WhiteKernel",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    }
)
_NET, _SCALE, _MIRROR = "net.", "scale.", "mirror."


def pack_fold(job: FoldJob, fitted: Fitted, x_NCHW: FloatArray, prob_NK: FloatArray) -> dict[str, bytes]:
    """The files of what a fold has trained, by name. ``x_NCHW`` are its held-out clips and ``prob_NK`` its
    answers. BadInput where the model cannot be saved, or would give other answers once it is loaded."""
    model = _model_of(job)
    contents = packed(fitted, model, int(job.spec["classes"]), modules_of(model), {})
    if job.spec["device"] == "cpu":  # a GPU has other last digits than the CPU, which loads them
        again = unpack_fold(job, contents, fitted.epochs)
        with repeatable(TrainConfig.model_validate(job.spec["train"]).threads):
            require_same_answers(model, prob_NK, again.predict(x_NCHW))
    return contents


def unpack_fold(job: FoldJob, contents: Mapping[str, bytes], epochs: int) -> Fitted:
    """What `pack_fold` has written, on the CPU. BadInput where it does not fit the model."""
    model, train = _model_of(job), TrainConfig.model_validate(job.spec["train"])
    averaged = {"members": train.ensemble, "symmetric": bool(job.spec["inputs"].get("symmetric"))}
    return unpacked(contents, model, int(job.spec["classes"]), epochs, modules_of(model), **averaged)[0]


def _model_of(job: FoldJob) -> ResolvedModel:
    model = job.spec["model"]
    return resolve(ModelConfig.model_validate({"name": model["name"], **model["options"]}))


def modules_of(resolved: ResolvedModel) -> list[str]:
    """The user's own modules that a model is made of; none for distmer's own models."""
    return [] if resolved.module.startswith("distmer.") else own_modules(resolved.module)


def require_same_answers(resolved: ResolvedModel, before_NK: FloatArray, after_NK: FloatArray) -> None:
    """BadInput unless a model gives the same probabilities, to the bit, after it was loaded again."""
    if np.array_equal(before_NK, after_NK):
        return
    where = "buffers or parameters" if resolved.info.kind == "torch" else "attributes"
    raise BadInput(
        f"model {resolved.info.name}: loaded again, it answers otherwise (by up to"
        f" {np.abs(before_NK - after_NK).max():.2g} of a probability), so it keeps something that is not"
        f" saved; keep all that training changes in its {where}."
    )


def packed(
    fitted: Fitted,
    resolved: ResolvedModel,
    classes: int,
    own: Collection[str],
    more: Mapping[str, FloatArray],
) -> dict[str, bytes]:
    """The files of what was trained, by name; ``more`` are arrays that are kept with it.

    ``own`` are the user's modules that the model is made of. BadInput where the model holds something that
    could not be loaded again.
    """
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(array) for name, array in more.items()}
    if fitted.scale is not None:
        arrays |= {f"{_SCALE}mean_C": fitted.scale.mean_C, f"{_SCALE}std_C": fitted.scale.std_C}
    if resolved.info.kind == "classical":
        model = fitted.model
        if isinstance(model, SymmetricClassical):
            mirror: Mirror = vars(model)["_mirror"]
            arrays[f"{_MIRROR}zero_C"] = mirror.zero_C.numpy()
            model = model.model
        state = _state(model, resolved.build(classes), resolved)
        return {CLASSICAL: _dumped(state, resolved, own), ARRAYS: save(arrays)}
    weights = {name: value.detach().cpu().numpy() for name, value in fitted.model.state_dict().items()}
    arrays |= {f"{_NET}{name}": np.ascontiguousarray(value) for name, value in weights.items()}
    return {ARRAYS: save(arrays)}


def unpacked(
    contents: Mapping[str, bytes],
    resolved: ResolvedModel,
    classes: int,
    epochs: int,
    own: Collection[str],
    *,
    members: int = 1,
    symmetric: bool = False,
) -> tuple[Fitted, dict[str, FloatArray]]:
    """What `packed` has written, on the CPU: the model, and the arrays that were kept with it. ``members``
    and ``symmetric`` are the settings ``train.ensemble`` and ``inputs.symmetric``."""
    from safetensors.numpy import load

    arrays = load(contents[ARRAYS])
    taken = {prefix: _below(arrays, prefix) for prefix in (_NET, _SCALE, _MIRROR)}
    rest = {name: x for name, x in arrays.items() if not name.startswith(tuple(taken))}
    scale = ChannelScale(taken[_SCALE]["mean_C"], taken[_SCALE]["std_C"]) if taken[_SCALE] else None
    if resolved.info.kind == "classical":
        model = resolved.build(classes)
        vars(model).update(_loaded(contents[CLASSICAL], resolved, own))
        if symmetric:
            zero_C = torch.from_numpy(taken[_MIRROR]["zero_C"])
            model = SymmetricClassical(model, Mirror(resolved.inputs, zero_C))
    else:
        nets = [resolved.build(classes) for _ in range(members)]
        model = nets[0] if members == 1 else Ensemble(nets)
        if symmetric:
            model = SymmetricNetwork(model, Mirror(resolved.inputs, torch.zeros(len(resolved.inputs))))
        model.load_state_dict({name: torch.from_numpy(x) for name, x in taken[_NET].items()})
        # as it was trained: another layout of the weights gives other last digits
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
        model.eval()
    return Fitted(model, scale, epochs, {}), rest


def _below(arrays: Mapping[str, FloatArray], prefix: str) -> dict[str, FloatArray]:
    return {name.removeprefix(prefix): x for name, x in arrays.items() if name.startswith(prefix)}


def _state(fitted: Any, fresh: Any, resolved: ResolvedModel) -> dict[str, Any]:
    """The attributes that fitting has changed, without those that a fresh model has by itself."""
    if not hasattr(fitted, "__dict__"):
        raise BadInput(
            f"model {resolved.info.name}: it keeps its state in no attributes; it cannot be saved."
        )
    return {
        name: value
        for name, value in vars(fitted).items()
        if not isinstance(value, BaseModel) and not (callable(value) and callable(vars(fresh).get(name)))
    }


def _dumped(state: dict[str, Any], resolved: ResolvedModel, own: Collection[str]) -> bytes:
    from skops.io import dumps
    from skops.io.exceptions import UnsupportedTypeException

    try:
        data = dumps(state)
    except (UnsupportedTypeException, TypeError, AttributeError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        raise BadInput(
            f"model {resolved.info.name}: it cannot be saved without pickle ({said}); keep numbers, arrays"
            " and scikit-learn's own objects in its attributes."
        ) from error
    _trusted(data, resolved, own)
    return data


def _loaded(data: bytes, resolved: ResolvedModel, own: Collection[str]) -> dict[str, Any]:
    from skops.io import loads

    trusted = _trusted(data, resolved, own)
    try:
        with warnings.catch_warnings(category=UserWarning, action="ignore"):  # the versions are told by us
            return loads(data, trusted=trusted)
    except (TypeError, ValueError, AttributeError, ImportError, KeyError) as error:
        said = " ".join(str(error).split())[:200]
        raise BadInput(
            f"model {resolved.info.name}: scikit-learn here cannot take its fitted state ({said}); install"
            " the version that the model's manifest.json names, or fit it again."
        ) from error


def _trusted(data: bytes, resolved: ResolvedModel, own: Collection[str]) -> list[str]:
    """The types in the data that skops does not know, if we know them all. BadInput for any other."""
    from skops.io import get_untrusted_types

    found = get_untrusted_types(data=data)
    foreign = [name for name in found if name not in TRUSTED and name.rpartition(".")[0] not in own]
    if foreign:
        raise BadInput(
            f"model {resolved.info.name}: its fitted state holds {foreign[0]}, which distmer does not"
            " load from a file; choose a classifier of scikit-learn whose parts"
            " are known (docs/models-to-keep.md)."
        )
    return found
