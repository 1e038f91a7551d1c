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


class FlatClassifier:
    """A scikit-learn classifier on the pixels of all channels as one row.

    ``make(seed)`` gives the classifier. With ``standardise``, each pixel is brought to zero mean and unit
    variance before it, with statistics of the training clips alone. Two or more classes are needed to fit a
    classifier, so a training set of a single class is answered with that class.
    """

    def __init__(self, make: Callable[[int], Any], classes: int, *, standardise: bool = True) -> None:
        self._make = make
        self._standardise = standardise
        self._classes = classes
        self._seen_S: IntArray = np.empty(0, dtype=np.int64)  # the S classes of the training set
        self._pipeline: Pipeline | None = None

    def fit(self, x_NCHW: FloatArray, y_N: IntArray, seed: int) -> FlatClassifier:
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self._seen_S = np.unique(y_N)
        self._pipeline = None
        if len(self._seen_S) > 1:
            before = [StandardScaler()] if self._standardise else []
            self._pipeline = make_pipeline(*before, self._make(seed))
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


def seeded(estimator: Any, seed: int) -> Any:
    """The estimator, with every ``random_state`` that its user left open set to the fold's seed."""
    open_states = {
        name: seed % 2**32
        for name, value in estimator.get_params().items()
        if name.rpartition("__")[2] == "random_state" and value is None
    }
    return estimator.set_params(**open_states) if open_states else estimator


def _rows(x_NCHW: FloatArray) -> FloatArray:
    return np.asarray(x_NCHW, dtype=np.float64).reshape(len(x_NCHW), -1)


def _probabilities(pipeline: Pipeline, x_ND: FloatArray) -> FloatArray:
    """The classifier's own probabilities. Where it has none, the softmax of its decision values, which are
    scores and not calibrated; where it has neither, 1 for its answer."""
    if hasattr(pipeline, "predict_proba"):
        return np.asarray(pipeline.predict_proba(x_ND))
    if not hasattr(pipeline, "decision_function"):
        return (np.asarray(pipeline.predict(x_ND))[:, None] == pipeline.classes_).astype(np.float64)
    decision = np.asarray(pipeline.decision_function(x_ND))
    if decision.ndim == 1:  # two classes: one value d, positive for the second; softmax(0, d) is logistic(d)
        decision = np.stack([np.zeros_like(decision), decision], axis=1)
    from scipy.special import softmax

    return softmax(decision, axis=1)
