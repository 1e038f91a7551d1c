"""Layers shared by the torch models. Shapes: B clips, S streams, C channels a stream, H×W px; maps are x_BCHW with C = S·C.

A multi-stream network is written as one network on grouped channels: stream s owns the channels s·C to (s+1)·C, convolutions
and attention are grouped by stream, and no weight is shared. That equals S separate networks (tests/unit/test_atscnn.py).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

Activation = Literal["selu", "relu", "elu", "leaky_relu", "tanh", "gelu", "silu"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "selu": nn.SELU,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}

# max(f(a), f(b)) = f(max(a, b)) holds for a non-decreasing f alone; GELU and SiLU dip below zero.
MONOTONE = frozenset({"selu", "relu", "elu", "leaky_relu", "tanh"})


class StreamStage(nn.Module):
    """Convolution, batch norm, activation, max-pool 2, for S unshared streams: x_BCHW → (B, S·out, H//2, W//2).

    The pooling runs before a monotone activation: the same values and gradients on a quarter of the pixels. It cannot run
    before the batch norm, whose learnt scale may be negative.
    """

    def __init__(self, cin: int, cout: int, streams: int, kernel: int, activation: Activation) -> None:
        super().__init__()
        self.conv = nn.Conv2d(streams * cin, streams * cout, kernel, padding=kernel // 2, groups=streams)
        self.norm = nn.BatchNorm2d(streams * cout)
        self.activation = ACTIVATIONS[activation]()
        self.pool_first = activation in MONOTONE

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = self.norm(self.conv(x_BCHW))
        if self.pool_first:
            return self.activation(F.max_pool2d(y_BCHW, 2))
        return F.max_pool2d(self.activation(y_BCHW), 2)


class ChannelAttention(nn.Module):
    """CBAM's channel attention in each stream: sigmoid(MLP(average) + MLP(maximum)) scales the channels.

    The MLP is C → C/reduction → C without biases, one for both poolings, one a stream. Woo et al., ECCV 2018, arXiv 1807.06521.
    """

    def __init__(self, channels: int, streams: int, reduction: int) -> None:
        super().__init__()
        wide, narrow = streams * channels, streams * (channels // reduction)
        self.mlp = nn.Sequential(
            nn.Conv2d(wide, narrow, 1, groups=streams, bias=False),
            nn.ReLU(),
            nn.Conv2d(narrow, wide, 1, groups=streams, bias=False),
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        flat_BCP = x_BCHW.flatten(2)
        # Average and maximum lie side by side as two pixels, so that the MLP runs once. `max` rather than `amax`: the
        # gradient goes to one of several equal maxima, as it does in a max-pooling.
        pooled_BC12 = torch.stack([flat_BCP.mean(2), flat_BCP.max(2).values], dim=2).unsqueeze(2)
        return x_BCHW * torch.sigmoid(self.mlp(pooled_BC12).sum(3, keepdim=True))


class SpatialAttention(nn.Module):
    """CBAM's spatial attention in each stream: sigmoid(conv(mean and maximum over the stream's channels)) scales the pixels."""

    def __init__(self, streams: int, kernel: int = 3) -> None:
        super().__init__()
        self.streams = streams
        self.conv = nn.Conv2d(2 * streams, streams, kernel, padding=kernel // 2, groups=streams, bias=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BSCHW = x_BCHW.unflatten(1, (self.streams, -1))
        pooled_BTHW = torch.stack([x_BSCHW.mean(2), x_BSCHW.max(2).values], dim=2).flatten(1, 2)  # T = 2·S: mean, max, mean, max, …
        weight_BSHW = torch.sigmoid(self.conv(pooled_BTHW))
        return (x_BSCHW * weight_BSHW.unsqueeze(2)).flatten(1, 2)


def cbam(kind: Literal["cbam", "channel", "spatial", "none"], channels: int, streams: int, reduction: int) -> nn.Sequential:
    """The convolutional block attention module in each stream, channel then spatial, or one half of it, or nothing."""
    parts: list[nn.Module] = []
    if kind in {"cbam", "channel"}:
        parts.append(ChannelAttention(channels, streams, reduction))
    if kind in {"cbam", "spatial"}:
        parts.append(SpatialAttention(streams))
    return nn.Sequential(*parts)
