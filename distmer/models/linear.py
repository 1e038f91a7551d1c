"""Multinomial logistic regression on small maps: the floor that a network has to beat, and a run that takes
seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from distmer.models._classical import FlatClassifier
from distmer.models.base import Channel, Classical, ModelInfo, Options

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression


class LinearOptions(Options):
    """``c`` is the inverse of the L2 penalty. Its default was not tuned: it was fixed for 768 pixels and 130
    clips."""

    size: int = Field(default=16, ge=1, le=512)
    streams: tuple[Channel, ...] = Field(default=("u", "v", "strain"), min_length=1)
    c: float = Field(default=0.003, gt=0)
    balanced: bool = True  # weigh each class by the inverse of its frequency in the training clips
    iterations: int = Field(default=2000, ge=1)


def _build(options: LinearOptions, classes: int) -> Classical:
    from sklearn.linear_model import LogisticRegression  # takes two seconds to load

    def make(seed: int) -> LogisticRegression:
        weight = "balanced" if options.balanced else None
        # The solver, lbfgs, draws nothing at random.
        return LogisticRegression(
            C=options.c,
            class_weight=weight,
            max_iter=options.iterations,
            random_state=seed,
        )

    return FlatClassifier(make, classes)


MODEL = ModelInfo(
    name="linear",
    title="Logistic regression on downsampled flow",
    citation="McCullagh P., Nelder J. A., Generalized Linear Models, 2nd ed., Chapman & Hall, 1989",
    kind="classical",
    options=LinearOptions,
    inputs=lambda options: options.streams,
    build=_build,
    min_size=4,
    native_size=16,
)
