"""Cross-entropy, plain or weighted against class imbalance."""

from __future__ import annotations

import numpy as np
import torch

from distmer.types import IntArray


def class_weights(loss: str, y_N: IntArray, classes: int) -> torch.Tensor | None:
    """Weights of the cross-entropy: none for ``ce``; for ``balanced`` n / (present classes × clips of the class).

    A class without a training clip weighs 0: no clip could ever use the weight.
    """
    if loss == "ce":
        return None
    count_K = np.bincount(y_N, minlength=classes)
    present = int((count_K > 0).sum())
    weight_K = np.where(count_K > 0, len(y_N) / (present * np.maximum(count_K, 1)), 0.0)
    return torch.tensor(weight_K, dtype=torch.float32)


def batch_loss(logits_BK: torch.Tensor, y_B: torch.Tensor, weight_K: torch.Tensor | None) -> torch.Tensor:
    """The mean over the batch of the clips' (weighted) cross-entropies.

    Divided by the number of clips, not by the sum of their weights: the sum over workers of a split batch is then the
    same as over the whole one, and a rare class keeps its weight in a batch of its own.
    """
    return torch.nn.functional.cross_entropy(logits_BK, y_B, weight=weight_K, reduction="sum") / len(y_B)
