"""Answers that are means: over a clip and its mirror image, and over networks of several seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from distmer.features.featureset import quantity
from distmer.models import Classical
from distmer.types import FloatArray


class Mirror(nn.Module):
    """Clips as if their faces had been filmed in a mirror: flipped, and u (of a sequence, each
    u) turned round about no motion.

    ``zero_C`` is the value of no motion in each of the ``channels``, as the clips are scaled.
    """

    zero_C: torch.Tensor

    def __init__(self, channels: Sequence[str], zero_C: torch.Tensor) -> None:
        super().__init__()
        self.turned = [c for c, channel in enumerate(channels) if quantity(channel) == "u"]
        self.register_buffer("zero_C", zero_C)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        flipped_NCHW = x_NCHW.flip(3)
        for c in self.turned:
            flipped_NCHW[:, c] = 2 * self.zero_C[c] - flipped_NCHW[:, c]
        return flipped_NCHW


class SymmetricNetwork(nn.Module):
    """A network whose probabilities are the mean over a clip and its mirror image."""

    def __init__(self, net: nn.Module, mirror: Mirror) -> None:
        super().__init__()
        self.net, self.mirror = net, mirror

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        return _log_mean([self.net(x_NCHW), self.net(self.mirror(x_NCHW))])


class Ensemble(nn.Module):
    """Networks whose probabilities are averaged."""

    def __init__(self, nets: Sequence[nn.Module]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        return _log_mean([net(x_NCHW) for net in self.nets])


def _log_mean(logits: Sequence[torch.Tensor]) -> torch.Tensor:
    """Logits whose softmax is the mean of the softmaxes of these."""
    return torch.stack([one_NK.double().softmax(1) for one_NK in logits]).mean(0).log()


class SymmetricClassical:
    """A classical model, fitted to clips and their mirror images, whose answers are the mean over both."""

    def __init__(self, model: Classical, mirror: Mirror) -> None:
        self.model, self._mirror = model, mirror

    def fit(self, x_NCHW: FloatArray, y_N: np.ndarray, seed: int) -> SymmetricClassical:
        self.model.fit(np.concatenate([x_NCHW, self._mirrored(x_NCHW)]), np.concatenate([y_N, y_N]), seed)
        return self

    def predict_proba(self, x_NCHW: FloatArray) -> FloatArray:
        both = self.model.predict_proba(x_NCHW), self.model.predict_proba(self._mirrored(x_NCHW))
        return (both[0] + both[1]) / 2

    def _mirrored(self, x_NCHW: FloatArray) -> FloatArray:
        return self._mirror(torch.from_numpy(np.ascontiguousarray(x_NCHW))).numpy()
