"""What a user brings as a model, made into the `ModelInfo` that distmer works with.

Accepted are a `ModelInfo`; a ``torch.nn.Module`` class or a function that builds one, called as
``build(classes, **options)``; and a scikit-learn classifier or pipeline, as a class or as an instance.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pydantic import Field, create_model

from distmer.functions import options_of
from distmer.models._classical import FlatClassifier, seeded
from distmer.models.base import ModelInfo, Options
from distmer.types import BadInput

_CHANNELS = ("u", "v", "strain")
_SIZE = 28  # px, unless the entry has an attribute ``size``


def as_model(entry: Any, name: str) -> ModelInfo:
    """A user's entry as a model that is called ``name``.

    A class or function may have the attributes ``inputs`` (the channels it reads, u, v, strain by default)
    and ``size`` (the side of its maps in px, 28 by default). The further parameters of its constructor are
    its options.

    Raises BadInput for an entry of another type, or for an option that has no default.
    """
    if isinstance(entry, ModelInfo):
        return replace(entry, name=name)
    if not callable(entry) and not _is_estimator(entry):
        raise BadInput(
            f"{name}: a model is a ModelInfo, a torch.nn.Module class, a function that builds one, or a"
            f" scikit-learn classifier, not a {type(entry).__name__}."
        )
    if hasattr(entry, "forward") and not inspect.isclass(entry):
        raise BadInput(
            f"{name}: it is a network that is built already; give its class, for each fold needs a fresh one."
        )
    channels = tuple(getattr(entry, "inputs", _CHANNELS))
    size = int(getattr(entry, "size", _SIZE))
    if _is_estimator(entry):
        kind, options, build = "classical", _options(name, size, {}), _of_estimator(entry)
    else:
        kinds = {parameter.kind for parameter in inspect.signature(entry).parameters.values()}
        if kinds <= {inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD}:
            raise BadInput(f"{name}: its first argument must be the number of classes, without a name.")
        kind, options = "torch", _options(name, size, options_of(entry, name, skip=1))
        build = _of_class(entry)
    return ModelInfo(
        name=name,
        title=(inspect.getdoc(entry) or name).splitlines()[0],
        citation="made by the user",
        kind=kind,  # type: ignore[arg-type]
        options=options,
        inputs=lambda _: channels,
        build=build,
        min_size=1,
        native_size=size,
    )


def _is_estimator(entry: Any) -> bool:
    return hasattr(entry, "fit") and hasattr(entry, "predict")


def _options(name: str, size: int, more: Mapping[str, tuple[Any, Any]]) -> type[Options]:
    sizes = (int, Field(default=size, ge=1, le=1024))
    fields: dict[str, Any] = {"size": sizes, **{key: value for key, value in more.items() if key != "size"}}
    return create_model(f"Options of {name}", __base__=Options, **fields)


def _of_class(entry: Callable[..., Any]) -> Callable[[Any, int], Any]:
    takes_size = "size" in inspect.signature(entry).parameters

    def build(options: Options, classes: int) -> Any:
        given = {name: getattr(options, name) for name in type(options).model_fields}
        if not takes_size:
            del given["size"]
        return entry(classes, **given)

    return build


def _of_estimator(entry: Any) -> Callable[[Any, int], Any]:
    def build(options: Options, classes: int) -> Any:
        return FlatClassifier(
            lambda seed: seeded(entry() if inspect.isclass(entry) else copy.deepcopy(entry), seed), classes
        )

    return build
