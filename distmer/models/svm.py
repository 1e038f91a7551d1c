"""Support vector machine with a Gaussian kernel on small maps.

Its ``prob`` columns are the softmax of the one-against-rest decision values: scores that order the classes,
not calibrated probabilities. Platt's method would need a random inner cross-validation that mixes subjects,
and can disagree with the prediction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from distmer.models._classical import FlatClassifier
from distmer.models.base import Channel, Classical, ModelInfo, Options

if TYPE_CHECKING:
    from sklearn.svm import SVC


class SvmOptions(Options):
    """``c`` bounds the weight of a clip. The kernel's width is scikit-learn's ``scale``: 1 / (pixels × their
    variance)."""

    size: int = Field(default=16, ge=1, le=512)
    streams: tuple[Channel, ...] = Field(default=("u", "v", "strain"), min_length=1)
    c: float = Field(default=1.0, gt=0)
    balanced: bool = True  # weigh each class by the inverse of its frequency in the training clips


def _build(options: SvmOptions, classes: int) -> Classical:
    from sklearn.svm import SVC  # takes two seconds to load

    def make(seed: int) -> SVC:
        weight = "balanced" if options.balanced else None
        # Without probabilities, libsvm draws nothing at random.
        return SVC(C=options.c, kernel="rbf", gamma="scale", class_weight=weight, random_state=seed)

    return FlatClassifier(make, classes)


MODEL = ModelInfo(
    name="svm",
    title="Support vector machine on downsampled flow",
    citation="Cortes C., Vapnik V., Support-vector networks, Machine Learning 20:273-297, 1995",
    kind="classical",
    options=SvmOptions,
    inputs=lambda options: options.streams,
    build=_build,
    min_size=4,
    native_size=16,
)
