"""scikit-learn classifiers behind the `Classical` protocol: flattened maps in, probabilities over all K
classes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from distmer.types import FloatArray, IntArray

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


class StandardisedClassifier:
    """A scikit-learn classifier on standardised pixels: zero mean and unit variance over the training clips.

    ``make(seed)`` gives the classifier. It needs two or more classes. After a training set of a single class,
    that class is the answer for every clip.
    """

    def __init__(self, make: Callable[[int], Any], classes: int) -> None:
        self._make = make
        self._classes = classes
        self._seen_S: IntArray = np.empty(0, dtype=np.int64)  # the S classes of the training set
        self._pipeline: Pipeline | None = None

    def fit(self, x_NCHW: FloatArray, y_N: IntArray, seed: int) -> StandardisedClassifier:
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self._seen_S = np.unique(y_N)
        self._pipeline = None
        if len(self._seen_S) > 1:
            self._pipeline = make_pipeline(StandardScaler(), self._make(seed))
            # One thread: with another number, sums are taken in another order, and the last digits differ.
            with threadpool_limits(limits=1):
                self._pipeline.fit(_rows(x_NCHW), y_N)
        return self

    def predict_proba(self, x_NCHW: FloatArray) -> FloatArray:
        if not len(self._seen_S):
            raise ValueError("predict_proba was called before fit")
        prob_NK = np.zeros((len(x_NCHW), self._classes), dtype=np.float64)
        if self._pipeline is None:
            prob_NK[:, self._seen_S] = 1.0
        elif len(x_NCHW):
            with threadpool_limits(limits=1):
                prob_NK[:, self._seen_S] = _probabilities(self._pipeline, _rows(x_NCHW))
        return prob_NK


def _rows(x_NCHW: FloatArray) -> FloatArray:
    return np.asarray(x_NCHW, dtype=np.float64).reshape(len(x_NCHW), -1)


def _probabilities(pipeline: Pipeline, x_ND: FloatArray) -> FloatArray:
    """The classifier's probabilities. If it has none, the softmax of its decision values: scores, not
    calibrated."""
    if hasattr(pipeline, "predict_proba"):
        return np.asarray(pipeline.predict_proba(x_ND))
    decision = np.asarray(pipeline.decision_function(x_ND))
    if decision.ndim == 1:  # two classes: one value d, positive for the second; softmax(0, d) is logistic(d)
        decision = np.stack([np.zeros_like(decision), decision], axis=1)
    from scipy.special import softmax

    return softmax(decision, axis=1)
