"""Any scikit-learn classifier, by its name in the configuration: the model ``sklearn``."""

from __future__ import annotations

import importlib
from typing import Any

from pydantic import Field, field_validator, model_validator

from distmer.models._classical import FlatClassifier, seeded
from distmer.models.base import Channel, Classical, ModelInfo, Options
from distmer.types import JsonValue


class EstimatorOptions(Options):
    """``estimator`` is a class with ``fit`` and ``predict``; ``params`` are its arguments. A ``random_state``
    that is not among them is the fold's seed."""

    size: int = Field(default=14, ge=1, le=512)
    streams: tuple[Channel, ...] = Field(default=("u", "v", "strain"), min_length=1)
    estimator: str = "sklearn.ensemble.ExtraTreesClassifier"
    params: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])
    standardise: bool = True  # each pixel to zero mean and unit variance, statistics of the training clips

    @field_validator("estimator")
    @classmethod
    def _is_there(cls, path: str) -> str:
        estimator_class(path)
        return path

    @model_validator(mode="after")
    def _takes_its_params(self) -> EstimatorOptions:
        try:
            estimator_class(self.estimator)().set_params(**self.params)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{self.estimator} does not take these params ({error})") from error
        return self


def estimator_class(path: str) -> Any:
    """The class at ``package.module.Name``. Raises ValueError where there is none, or it is no classifier."""
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"there is no {path} ({error}); install its package, or correct the name") from error
    if not (isinstance(found, type) and hasattr(found, "fit") and hasattr(found, "predict")):
        raise ValueError(f"{path} is no classifier: it has no fit and predict")
    return found


def _inputs(options: EstimatorOptions) -> tuple[str, ...]:
    return options.streams


def _build(options: EstimatorOptions, classes: int) -> Classical:
    def make(seed: int) -> Any:
        return seeded(estimator_class(options.estimator)(**options.params), seed)

    return FlatClassifier(make, classes, standardise=options.standardise)


MODEL = ModelInfo(
    name="sklearn",
    title="Any scikit-learn classifier on small maps",
    citation="Pedregosa F. et al., Scikit-learn: machine learning in Python, JMLR 12:2825-2830, 2011",
    kind="classical",
    options=EstimatorOptions,
    inputs=_inputs,
    build=_build,
    min_size=1,
    native_size=14,
)
