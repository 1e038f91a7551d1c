# pyright: strict
"""The metrics that a configuration names: distmer's own, and a user's in the same way
(`distmer.functions.METRIC`).

A metric maps confusion_xKK to score_x, where x stands for any leading axes. So pooled scores, intervals over
resampled subjects, floors and means over folds are made in one way for all of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from distmer.config import Named
from distmer.evaluation.metrics import recall_and_f1, scores_of
from distmer.functions import METRIC, Function, resolve
from distmer.plugins import raised
from distmer.types import BadInput, FloatArray, IntArray

HEADLINE = (Named(name="uar"), Named(name="uf1"))
PUBLISHED = (*HEADLINE, Named(name="accuracy"), Named(name="weighted_f1"), Named(name="mcc"))
_TITLES = {"uar": "UAR", "uf1": "UF1", "weighted_f1": "weighted F1", "mcc": "MCC"}
_ROUNDING = 1e-9  # how far beyond 1 a sum of shares may come


def uar(confusion_xKK: IntArray) -> FloatArray:
    """The mean recall of the classes (unweighted average recall)."""
    return scores_of(confusion_xKK)[0]


def uf1(confusion_xKK: IntArray) -> FloatArray:
    """The mean F1 of the classes (unweighted F1)."""
    return scores_of(confusion_xKK)[1]


# In a fold they average over the classes that occur there, as scikit-learn does.
uar.in_fold = lambda confusion_xKK: scores_of(confusion_xKK, occurring=True)[0]  # type: ignore[attr-defined]
uf1.in_fold = lambda confusion_xKK: scores_of(confusion_xKK, occurring=True)[1]  # type: ignore[attr-defined]


def accuracy(confusion_xKK: IntArray) -> FloatArray:
    """The share of right predictions, which is also the micro-averaged F1 and the micro-averaged recall."""
    hit_x = np.trace(confusion_xKK, axis1=-2, axis2=-1).astype(np.float64)
    return hit_x / np.maximum(confusion_xKK.sum((-2, -1)), 1)


def weighted_f1(confusion_xKK: IntArray) -> FloatArray:
    """The mean F1 of the classes, each weighted by how many clips it truly has."""
    true_xK = confusion_xKK.sum(-1)
    return (recall_and_f1(confusion_xKK)[1] * true_xK).sum(-1) / np.maximum(true_xK.sum(-1), 1)


def mcc(confusion_xKK: IntArray) -> FloatArray:
    """Matthews' correlation coefficient for several classes (Gorodkin 2004): 1 is perfect, and 0 is what a
    constant predictor gets."""
    c_xKK = confusion_xKK.astype(np.float64)
    n_x, hit_x = c_xKK.sum((-2, -1)), np.trace(c_xKK, axis1=-2, axis2=-1)
    true_xK, predicted_xK = c_xKK.sum(-1), c_xKK.sum(-2)
    covariance_x = hit_x * n_x - (true_xK * predicted_xK).sum(-1)
    spread_x = (n_x**2 - (true_xK**2).sum(-1)) * (n_x**2 - (predicted_xK**2).sum(-1))
    return np.where(spread_x > 0, covariance_x / np.sqrt(np.where(spread_x > 0, spread_x, 1)), 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """A score as a function of confusion matrices, with its options filled in.

    ``name`` is what ``results.json`` calls it: the name of the function, and the options that were given.
    ``title`` is what a table calls it. ``in_fold`` is what takes its place in the mean over folds.
    ``one_by_one``: the function takes one matrix at a time.
    """

    name: str
    title: str
    function: Callable[[Any], Any]
    in_fold: Callable[[Any], Any]
    one_by_one: bool = False

    def __call__(self, confusion_xKK: IntArray, *, in_fold: bool = False) -> FloatArray:
        """score_x; a matrix that holds no clip scores 0.

        Raises BadInput if the function raises, or if its value is no number from -1 to 1.
        """
        classes = confusion_xKK.shape[-1]
        flat_NKK = confusion_xKK.reshape(-1, classes, classes)
        filled_N = flat_NKK.any((1, 2))
        score_N = np.zeros(len(flat_NKK))
        if filled_N.any():
            score_N[filled_N] = self._checked(flat_NKK[filled_N], self.in_fold if in_fold else self.function)
        return score_N.reshape(confusion_xKK.shape[:-2])

    def _checked(self, confusion_NKK: IntArray, function: Callable[[Any], Any]) -> FloatArray:
        try:
            with np.errstate(all="ignore"):  # what comes of it is checked below
                score_N = _each(function, confusion_NKK) if self.one_by_one else function(confusion_NKK)
                score_N = np.asarray(score_N, dtype=np.float64)
        except Exception as error:  # whatever a user's function raises is the user's to read
            raise BadInput(raised(f"metric {self.name}: scoring a confusion matrix", error)) from error
        if score_N.shape != (len(confusion_NKK),):
            raise BadInput(
                f"metric {self.name}: for {len(confusion_NKK)} confusion matrices it answered with the shape"
                f" {score_N.shape}; return one number for each."
            )
        wrong_N = ~(np.abs(score_N) <= 1 + _ROUNDING)
        if wrong_N.any():
            first = int(wrong_N.argmax())
            raise BadInput(
                f"metric {self.name}: its value is {score_N[first]:.6g} for the confusion matrix"
                f" {confusion_NKK[first].tolist()}; return a number from -1 to 1 wherever there is a clip."
            )
        return score_N


def chosen(named: Sequence[Named], classes: int) -> tuple[Metric, ...]:
    """UAR and UF1, and then all others that are named, each tried on small confusion matrices.

    Raises
    ------
    BadInput
        For an unknown name or option, for two metrics of one name, and for a function that raises, that does
        not answer with one number a matrix, or whose value is no number from -1 to 1.
    """
    found = [_metric(resolve(METRIC, one), one, classes) for one in (*HEADLINE, *named)]
    own = [metric for metric, is_headline in found[len(HEADLINE) :] if not is_headline]
    metrics = [*(metric for metric, _ in found[: len(HEADLINE)]), *own]
    for place, metric in enumerate(metrics):
        if metric.name in {other.name for other in metrics[:place]}:
            raise BadInput(f"{METRIC.setting}: two metrics are called {metric.name!r}; keep or rename one.")
    return tuple(metrics)


def _metric(function: Function, named: Named, classes: int) -> tuple[Metric, bool]:
    """The metric, and whether it is one of the headline."""
    name = " ".join([function.name.rpartition(":")[2], *(f"{k}={v}" for k, v in named.options.items())])
    is_class = inspect.isclass(function.entry)
    in_fold = function.entry if is_class else getattr(function.entry, "in_fold", function.entry)
    title = _TITLES.get(name, name) if function.is_own else name
    metric = Metric(name, title, function.bound(), replace(function, entry=in_fold).bound())
    if not function.is_own:
        metric = _tried(metric, classes)
    return metric, function.is_own and function.name in {one.name for one in HEADLINE}


def _tried(metric: Metric, classes: int) -> Metric:
    """The metric, and whether it takes a stack of matrices, found out on small ones.

    Among them are those of a fold with one class: a rate whose divisor can be 0 is found here.
    """
    rng = np.random.default_rng(0)
    random_NKK = rng.integers(0, 6, (5, classes, classes))
    one_class_KKK = np.stack([np.diag(4 * (np.arange(classes) == k)) for k in range(classes)])
    missed_KKK = np.roll(one_class_KKK, 1, axis=2)
    constant_NKK = random_NKK * (np.arange(classes) == 0)
    confusion_NKK = np.concatenate(
        [random_NKK, one_class_KKK, missed_KKK, constant_NKK, np.eye(classes, dtype=np.int64)[None]]
    )
    confusion_NKK = confusion_NKK[confusion_NKK.any((1, 2))]
    if not _takes_a_stack(metric.function, confusion_NKK):
        metric = replace(metric, one_by_one=True)
    metric(confusion_NKK)
    metric(confusion_NKK, in_fold=True)
    return metric


def _takes_a_stack(function: Callable[[Any], Any], confusion_NKK: IntArray) -> bool:
    """Whether a stack is answered with one number a matrix, and each with the number that it has alone."""
    try:
        with np.errstate(all="ignore"):
            stacked_N = np.asarray(function(confusion_NKK.copy()), dtype=np.float64)
            single_N1 = [np.asarray(function(c_KK[None].copy()), dtype=np.float64) for c_KK in confusion_NKK]
    except Exception:  # noqa: BLE001 - then it is tried with one matrix at a time, and its error is told
        return False
    if stacked_N.shape != (len(confusion_NKK),) or any(single_1.shape != (1,) for single_1 in single_N1):
        return False
    return np.allclose(stacked_N, np.concatenate(single_N1), equal_nan=True)


def _each(function: Callable[[Any], Any], confusion_NKK: IntArray) -> FloatArray:
    """score_N of a function of one matrix; equal matrices, of which resamples have many, are scored once."""
    distinct_MKK, place_N = np.unique(confusion_NKK, axis=0, return_inverse=True)
    score_M = np.stack([np.asarray(function(c_KK), dtype=np.float64) for c_KK in distinct_MKK])
    return score_M[place_N.reshape(-1)]
