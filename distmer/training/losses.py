"""Cross-entropy, plain or weighted against class imbalance."""

from __future__ import annotations

import numpy as np
import torch

from distmer.types import IntArray


def class_weights(loss: str, y_N: IntArray, classes: int) -> torch.Tensor | None:
    """The class weights of the cross-entropy, float32, or None for the plain loss.

    Parameters
    ----------
    loss : ``ce`` (no weights), or ``balanced``: clips / (classes that occur × clips of the class)
    y_N : the classes of the N training clips, from 0 on
    classes : how many classes there are; one without a training clip weighs 0
    """
    if loss == "ce":
        return None
    count_K = np.bincount(y_N, minlength=classes)
    occurring = int((count_K > 0).sum())
    weight_K = np.where(count_K > 0, len(y_N) / (occurring * np.maximum(count_K, 1)), 0.0)
    return torch.tensor(weight_K, dtype=torch.float32)


def batch_loss(logits_BK: torch.Tensor, y_B: torch.Tensor, weight_K: torch.Tensor | None) -> torch.Tensor:
    """The mean (weighted) cross-entropy of the batch's B clips.

    The divisor is the number of clips, not the sum of their weights. So a batch that is split between workers
    has the same sum as the whole batch, and a rare class keeps its weight in a batch that holds no other
    class.
    """
    return torch.nn.functional.cross_entropy(logits_BK, y_B, weight=weight_K, reduction="sum") / len(y_B)
