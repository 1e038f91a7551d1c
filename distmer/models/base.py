"""What a model is to the rest of distmer: a name, its options, the channels it reads, and how it is built.

A torch model maps x_BCHW to logits_BK, where C is the number of ``inputs``. A classical model is a
`Classical`. To add a model, add one file to this folder that holds ``MODEL = ModelInfo(...)``, or a tuple of
them. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

from pydantic import Field

from distmer.config import Section
from distmer.types import FloatArray, IntArray, JsonValue

Channel = Literal["u", "v", "strain", "onset", "apex"]
"""A map that the feature store can give: the flow's two components, the strain's magnitude, the two gray key
frames."""


class Options(Section):
    """The settings of a model, all JSON; unknown keys are refused. A model gives every field a default."""

    size: int = Field(ge=1, le=1024)  # px, side of the square maps that the model is given


class Classical(Protocol):
    """A model without epochs. Both calls give the same bits for the same arguments, on any number of
    threads."""

    def fit(self, x_NCHW: FloatArray, y_N: IntArray, seed: int) -> Classical:
        """Fit to maps of the options' size, and return itself. Classes may be missing from ``y_N``."""
        ...

    def predict_proba(self, x_NCHW: FloatArray) -> FloatArray:
        """prob_NK over all K classes. Rows sum to 1, and a class that is not in the training set gets 0."""
        ...


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A registered model. ``build(options, classes)`` makes a fresh one: weights come from the global torch
    generator.

    Where a publication and the network that the reference paper ran under its name differ, the options have a
    field ``variant: Literal["paper", "reference"]``. A model without the field has one variant, ``paper``.
    """

    name: str
    title: str
    citation: str
    kind: Literal["torch", "classical"]
    options: type[Options]
    inputs: Callable[[Any], tuple[str, ...]]
    build: Callable[[Any, int], Any]
    min_size: int  # px, the smallest `size` that still leaves a map after the last pooling
    native_size: int  # px, the size that the citation reports

    @property
    def variants(self) -> tuple[str, ...]:
        """The names of its variants, the default first."""
        field = self.options.model_fields.get("variant")
        if field is None:
            return ("paper",)
        return (field.default, *(name for name in get_args(field.annotation) if name != field.default))


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model with every option filled in: what a fold needs to build it, and ``spec`` to identify it."""

    info: ModelInfo
    options: Options
    inputs: tuple[str, ...]
    module: str  # the module that defines it: its source is part of a fold's identity, see `distmer.code`
    spec: Mapping[str, JsonValue]

    @property
    def size(self) -> int:
        return self.options.size

    @property
    def variant(self) -> str:
        """What the options say, else the only one there is."""
        return getattr(self.options, "variant", self.info.variants[0])

    def build(self, classes: int) -> Any:
        """A fresh ``torch.nn.Module`` (kind ``torch``) or `Classical` (kind ``classical``) for that many
        classes."""
        return self.info.build(self.options, classes)
