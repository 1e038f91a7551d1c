"""The losses of distmer. A user's own are named in the same way (`distmer.functions.LOSS`).

A loss maps logits_BK and a target to one number for each of the batch's B clips. The target is what torch's
``cross_entropy`` takes: the classes y_B, or, after an augmentation that mixes clips, the probabilities of the
classes y_BK. A loss that answers with a single number is taken to have averaged over the batch itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import nn
from torch.nn.functional import cross_entropy, log_softmax, one_hot

from distmer.types import IntArray

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def ce(logits_BK: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross-entropy."""
    return cross_entropy(logits_BK, target, reduction="none")


class Balanced(nn.Module):
    """Cross-entropy in which a class weighs clips / (classes that occur × clips of the class).

    ``count_K`` is how many training clips each class has; a class without any weighs 0.
    """

    weight_K: torch.Tensor

    def __init__(self, count_K: IntArray) -> None:
        super().__init__()
        occurring = int((count_K > 0).sum())
        weight_K = np.where(count_K > 0, count_K.sum() / (occurring * np.maximum(count_K, 1)), 0.0)
        self.register_buffer("weight_K", torch.tensor(weight_K, dtype=torch.float32))

    def forward(self, logits_BK: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return cross_entropy(logits_BK, target, weight=self.weight_K, reduction="none")


def focal(
    logits_BK: torch.Tensor, target: torch.Tensor, gamma: Annotated[float, Field(ge=0)] = 2.0
) -> torch.Tensor:
    """Focal loss (Lin et al. 2017): cross-entropy times (1 − p)^gamma, so that clear clips count for less.

    With ``gamma`` 0 it is the cross-entropy.
    """
    log_prob_BK = log_softmax(logits_BK, dim=1)
    truth_BK = one_hot(target, logits_BK.shape[1]).to(logits_BK) if target.ndim == 1 else target
    return -(truth_BK * (1 - log_prob_BK.exp()).pow(gamma) * log_prob_BK).sum(1)


def batch_loss(loss: Loss, logits_BK: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The mean loss of the batch's B clips.

    The divisor is the number of clips, not the sum of their weights. So a batch that is split between workers
    has the same sum as the whole batch, and a rare class keeps its weight in a batch that holds no other
    class.
    """
    value = loss(logits_BK, target)
    return value if value.ndim == 0 else value.sum() / len(target)
