"""Layers that several torch models share. Maps are x_BCHW: B clips, C channels, H×W px.

A multi-stream network of S streams is written as one network on grouped channels: each stream owns C/S
consecutive channels, convolutions and attention are grouped by stream, and no weight is shared. That equals S
separate networks (tests/unit/test_atscnn.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from distmer.models.fused import fusible, norm_pool

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
    """Convolution, batch norm, activation, max-pool 2, for S unshared streams: x_BCHW → (B, S·out, H//2,
    W//2).

    The pooling runs before a monotone activation: that gives the same values and gradients on a quarter of
    the pixels. In training on CPUs it also runs before the batch norm (`distmer.models.fused`), which then
    adds the convolution's bias.
    """

    def __init__(self, cin: int, cout: int, streams: int, kernel: int, activation: Activation) -> None:
        super().__init__()
        self.conv = nn.Conv2d(streams * cin, streams * cout, kernel, padding=kernel // 2, groups=streams)
        self.norm = nn.BatchNorm2d(streams * cout)
        self.activation = ACTIVATIONS[activation]()
        self.pool_first = activation in MONOTONE

    def forward(self, x_BCHW: Tensor) -> Tensor:
        conv = self.conv
        if not self.pool_first:
            return F.max_pool2d(self.activation(self.norm(conv(x_BCHW))), 2)
        if not fusible(x_BCHW, self.norm):
            return self.activation(F.max_pool2d(self.norm(conv(x_BCHW)), 2))
        y_BCHW = F.conv2d(x_BCHW, conv.weight, None, padding=conv.padding, groups=conv.groups)
        return self.activation(norm_pool(y_BCHW, self.norm, 2, shift_C=conv.bias))


class ReluPool(nn.MaxPool2d):
    """A ReLU and the max-pooling behind it. Pooling first gives the same values and gradients, and the ReLU a
    quarter of the pixels."""

    def forward(self, input: Tensor) -> Tensor:
        return F.relu(F.max_pool2d(input, self.kernel_size, self.stride, self.padding))


class ChannelAttention(nn.Module):
    """CBAM's channel attention in each stream: sigmoid(MLP(average) + MLP(maximum)) scales the channels.

    Each stream has its own MLP, C → C/reduction → C without biases, which both poolings share. Woo et al.,
    ECCV 2018, arXiv 1807.06521.
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
        # Average and maximum lie side by side as two pixels, so that the MLP runs once. `max` rather than
        # `amax`: the gradient goes to one of several equal maxima, as it does in a max-pooling.
        pooled_BC12 = torch.stack([flat_BCP.mean(2), flat_BCP.max(2).values], dim=2).unsqueeze(2)
        return x_BCHW * torch.sigmoid(self.mlp(pooled_BC12).sum(3, keepdim=True))


class SpatialAttention(nn.Module):
    """CBAM's spatial attention in each stream: sigmoid(conv(mean and maximum over channels)) scales the
    pixels."""

    def __init__(self, streams: int, kernel: int = 3) -> None:
        super().__init__()
        self.streams = streams
        self.conv = nn.Conv2d(2 * streams, streams, kernel, padding=kernel // 2, groups=streams, bias=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BSCHW = x_BCHW.unflatten(1, (self.streams, -1))
        # T = 2·S: mean, maximum, mean, maximum, …
        pooled_BTHW = torch.stack([x_BSCHW.mean(2), x_BSCHW.max(2).values], dim=2).flatten(1, 2)
        weight_BSHW = torch.sigmoid(self.conv(pooled_BTHW))
        return (x_BSCHW * weight_BSHW.unsqueeze(2)).flatten(1, 2)


def cbam(
    kind: Literal["cbam", "channel", "spatial", "none"],
    channels: int,
    streams: int,
    reduction: int,
) -> nn.Sequential:
    """The convolutional block attention module in each stream: channel then spatial, or one of the two, or
    nothing."""
    parts: list[nn.Module] = []
    if kind in {"cbam", "channel"}:
        parts.append(ChannelAttention(channels, streams, reduction))
    if kind in {"cbam", "spatial"}:
        parts.append(SpatialAttention(streams))
    return nn.Sequential(*parts)


def joined_convolution(convs: Sequence[nn.Conv2d], groups: int = 1) -> nn.Conv2d:
    """One convolution with the weights of several like ones, for one pass over their input.

    Their output channels follow one another. With one group they all read the same maps. With a group for
    each of them, each reads maps of its own, whose channels follow one another too.
    """
    first = convs[0]
    cin, cout = groups * first.in_channels, sum(conv.out_channels for conv in convs)
    kernel, padding = first.kernel_size[0], first.padding[0]
    # On meta it draws no weights.
    wide = nn.Conv2d(cin, cout, kernel, padding=padding, groups=groups, device="meta")
    for name, shape in [(name, weights.shape) for name, weights in wide.named_parameters()]:
        joined, begin = torch.empty(shape, device=first.weight.device), 0
        for part in (conv.get_parameter(name).detach() for conv in convs):
            joined[begin : begin + len(part)] = part  # on meta, `torch.cat` would load torch's compiler
            begin += len(part)
        setattr(wide, name, nn.Parameter(joined))
    return wide


class Projection(nn.Module):
    """Concatenated maps to one channel: 1×1 convolutions in a row, and the mean over the last one's channels.

    Maps of (B, C, H, W) each → (B, 1, H, W). With nothing between them, the convolutions are one linear map.
    So their weights are multiplied first, and each channel has one number.
    """

    def __init__(self, *convs: nn.Conv2d) -> None:
        super().__init__()
        self.convs = nn.Sequential(*convs)

    def forward(self, *maps: Tensor) -> Tensor:
        *inner, last = self.convs
        weight_C, bias = last.get_parameter("weight").flatten(1).mean(0), last.get_parameter("bias").mean()
        for conv in reversed(inner):
            bias = bias + weight_C @ conv.get_parameter("bias")
            weight_C = weight_C @ conv.get_parameter("weight").flatten(1)
        parts = weight_C.split([x_BCHW.shape[1] for x_BCHW in maps])
        pairs = zip(maps, parts, strict=True)
        score_BHW = sum((x_BCHW.movedim(1, 3) @ part_C for x_BCHW, part_C in pairs), start=bias)
        return score_BHW.unsqueeze(1)


class Dropout(nn.Dropout):
    """PyTorch's dropout of a contiguous input, with the same random numbers in a third of the time on a CPU.

    PyTorch's ``bernoulli_`` compares each uniform number as it is drawn; here all are drawn first.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.p == 0 or input.device.type != "cpu":
            return super().forward(input)
        return input * self._kept(input.shape, input)

    def _kept(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """What each number is multiplied by: 0, or 1/(1 - p)."""
        keep = 1 - self.p
        return (torch.rand(*shape, dtype=torch.float64, device=like.device) < keep).to(like.dtype).div_(keep)


class StreamDropout(Dropout):
    """Dropout on concatenated streams of ``widths`` channels each.

    It is drawn stream by stream, so that the random numbers are those of a dropout in each stream.
    """

    def __init__(self, p: float, widths: Sequence[int]) -> None:
        super().__init__(p)
        self.widths = tuple(widths)

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return input
        batch, _, height, width = input.shape
        shapes = [(batch, channels, height, width) for channels in self.widths]
        return input * torch.cat([self._kept(shape, input) for shape in shapes], dim=1)


def conv_norm_relu(cin: int, cout: int) -> list[nn.Module]:
    """Convolution 3×3, batch norm, ReLU; the map keeps its side."""
    return [nn.Conv2d(cin, cout, 3, padding=1), nn.BatchNorm2d(cout), nn.ReLU()]


def dense(widths: tuple[int, ...], dropout: float) -> nn.Sequential:
    """Linear layers from maps to logits: ReLU and dropout between them, none after the last. x_BCHW →
    logits_BK."""
    layers: list[nn.Module] = [nn.Flatten()]
    for cin, cout in pairwise(widths):
        layers += [nn.Linear(cin, cout), nn.ReLU(), Dropout(dropout)]
    return nn.Sequential(*layers[:-2])


def halved(side: int, times: int) -> int:
    """The side of a map after so many poolings or convolutions of stride 2 that round down."""
    return side // 2**times


def position_term(side: int) -> Tensor:
    """P_HH, the fixed position term of Off-TANet's attention, for a map of ``side`` H px.

    P_ij = p_i + p_j, where p_i is the sine (i even) or cosine (i odd) of 10000^(−⌊i/2⌋/H).
    """
    angle_H = [10000 ** (-(i // 2) / side) for i in range(side)]
    p_H = torch.tensor([math.cos(a) if i % 2 else math.sin(a) for i, a in enumerate(angle_H)])
    return p_H[:, None] + p_H[None, :]


class MapAttentionHead(nn.Module):
    """One head of Off-TANet's self-attention, x_BCHW → (B, D, H, H), with the H×H map of a channel as the
    matrix.

    q, k and v are 1×1 convolutions. In each channel the logits are q·kᵀ + q·Pᵀ, products of the map's two
    spatial axes (not of tokens). Their softmax over all H² pixels multiplies v pixel by pixel. Zhang et al.,
    PRICAI 2021.
    """

    position_HH: Tensor

    def __init__(self, channels: int, width: int, side: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Conv2d(channels, width, 1) for _ in range(3))
        # Not in the saved state: it is a function of the side.
        self.register_buffer("position_HH", position_term(side), persistent=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        q_BDHH, k_BDHH, v_BDHH = self.query(x_BCHW), self.key(x_BCHW), self.value(x_BCHW)
        # q·kᵀ + q·Pᵀ in one product.
        logits_BDHH = q_BDHH @ (k_BDHH + self.position_HH).transpose(2, 3)
        return logits_BDHH.flatten(2).softmax(2).view_as(v_BDHH) * v_BDHH


class MapAttention(nn.Module):
    """Several heads without shared weights: x_BCHW → (B, out, H, H), the heads' channels one after
    another."""

    def __init__(self, channels: int, out: int, side: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = nn.ModuleList(MapAttentionHead(channels, out // heads, side) for _ in range(heads))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return torch.cat([head(x_BCHW) for head in self.heads], dim=1)


class OpticalFlowStem(nn.Sequential):
    """What Off-TANet and mini-AORCNN begin with: 7×7 convolution of stride 2 to 8 channels, ReLU, batch
    norm."""

    def __init__(self, channels: int) -> None:
        super().__init__(nn.Conv2d(channels, 8, 7, stride=2, padding=3), nn.ReLU(), nn.BatchNorm2d(8))
