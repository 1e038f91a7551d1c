# pyright: strict
"""UAR (mean recall of the classes) and UF1 (mean F1 of the classes), pooled over all folds and averaged over
folds.

The pooled scores are the primary ones: from one confusion matrix over every prediction, as in MEGC 2019. The
divisor is always the number of classes: a class that does not occur in the truth has recall 0 and F1 0, and
counts. So no score rises because a class is missing.

The mean over folds is printed for comparison with work that reports it. In each fold it averages over the
classes that occur there, in the truth or in a prediction. A constant predictor scores far more by it than
pooled, so the two must never be compared.
"""

from __future__ import annotations

import numpy as np

from distmer.types import FloatArray, IntArray, Predictions, Scores


def scores(y_true_N: IntArray, y_pred_N: IntArray, classes: int) -> Scores:
    """The pooled scores of N predictions over the classes 0 to ``classes`` - 1.

    Raises ValueError for a label outside the classes, and where there are no predictions.
    """
    if not len(y_true_N):
        raise ValueError("there are no predictions to score")
    for what, y_N in (("truth", y_true_N), ("prediction", y_pred_N)):
        if y_N.min() < 0 or y_N.max() >= classes:
            found = f"{int(y_N.min())} to {int(y_N.max())}"
            raise ValueError(f"a {what} lies outside the {classes} classes: {found}")
    confusion_KK = confusions(y_true_N, y_pred_N, np.zeros_like(y_true_N), 1, classes)[0]
    recall_K, f1_K = recall_and_f1(confusion_KK)
    return Scores(float(recall_K.mean()), float(f1_K.mean()), recall_K, f1_K, confusion_KK)


def fold_mean(predictions: Predictions, classes: int) -> tuple[float, float]:
    """(UAR, UF1) of each fold, averaged over folds, and then over seeds.

    In a fold they are scikit-learn's macro averages: over the classes that occur in its truth or its
    predictions. Raises ValueError where there are no predictions.
    """
    if not len(predictions):
        raise ValueError("there are no predictions to score")
    _, fold_N = np.unique(np.array(predictions.fold_ids), return_inverse=True)
    _, seed_N = np.unique(predictions.seed_N, return_inverse=True)
    seeds, folds = int(seed_N.max()) + 1, int(fold_N.max()) + 1
    group_N = seed_N * folds + fold_N
    confusion_GKK = confusions(predictions.y_true_N, predictions.y_pred_N, group_N, seeds * folds, classes)
    # A fold that has not finished with a seed is left out of that seed's mean.
    done_SF = (confusion_GKK.sum((1, 2)) > 0).reshape(seeds, folds)
    uar_G, uf1_G = scores_of(confusion_GKK, occurring=True)
    uar_S, uf1_S = (np.average(x_G.reshape(seeds, folds), axis=1, weights=done_SF) for x_G in (uar_G, uf1_G))
    return float(uar_S.mean()), float(uf1_S.mean())


def confusions(
    y_true_N: IntArray,
    y_pred_N: IntArray,
    group_N: IntArray,
    groups: int,
    classes: int,
) -> IntArray:
    """confusion_GKK: a confusion matrix for each group (a subject, a fold, a draw).

    ``group_N`` is the group of each prediction, from 0 on. Rows are the truth, columns the prediction.
    """
    flat_N = (group_N * classes + y_true_N) * classes + y_pred_N
    return np.bincount(flat_N, minlength=groups * classes * classes).reshape(groups, classes, classes)


def recall_and_f1(confusion_xKK: IntArray) -> tuple[FloatArray, FloatArray]:
    """(recall_xK, f1_xK) of each class; 0 where the truth has none of it. x stands for any leading axes."""
    hit_xK = np.diagonal(confusion_xKK, axis1=-2, axis2=-1).astype(np.float64)
    true_xK = confusion_xKK.sum(-1, dtype=np.float64)
    both_xK = true_xK + confusion_xKK.sum(-2, dtype=np.float64)
    return hit_xK / np.maximum(true_xK, 1), 2 * hit_xK / np.maximum(both_xK, 1)


def scores_of(confusion_xKK: IntArray, *, occurring: bool = False) -> tuple[FloatArray, FloatArray]:
    """(UAR_x, UF1_x) of many confusion matrices at once; x stands for any leading axes.

    The divisor is K, as in `scores`. With ``occurring`` it is the number of classes that occur in the truth
    or in a prediction, as in `fold_mean`.
    """
    recall_xK, f1_xK = recall_and_f1(confusion_xKK)
    occurs_xK = (confusion_xKK.sum(-1) + confusion_xKK.sum(-2)) > 0
    divisor_x = np.maximum(occurs_xK.sum(-1), 1) if occurring else confusion_xKK.shape[-1]
    return recall_xK.sum(-1) / divisor_x, f1_xK.sum(-1) / divisor_x
