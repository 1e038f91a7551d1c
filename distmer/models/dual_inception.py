"""Dual-Inception: two unshared streams of two inception blocks, one over u and one over v, concatenated into
one hidden layer.

A block of width c: 1×1; 1×1 then 3×3; 1×1 then 5×5; max-pool 3×3 then 1×1; each to c channels, side by side,
then max-pool 2. The widths are 6 and 16, so that 28 px end as 64×7×7 a stream.

``paper``: Zhou et al. 2019, a ReLU behind every convolution. Their Keras release reads the maps of u and v as
images of three equal planes; a first 1×1 convolution on three equal planes is one on a single plane, which is
what is built here. ``reference``: what the reference paper ran, by its costs: the block's first branch has no
ReLU. The parameters are the same.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from distmer.models.base import ModelInfo, Options
from distmer.models.layers import ReluPool, dense, halved


class DualInceptionOptions(Options):
    """``variant`` decides whether the plain 1×1 branch of a block ends in a ReLU."""

    size: int = Field(default=28, ge=1, le=256)
    variant: Literal["paper", "reference"] = "paper"


class InceptionBlock(nn.Module):
    """x_BCHW → (B, 4·width, H//2, W//2)."""

    def __init__(self, cin: int, width: int, first_relu: bool) -> None:
        super().__init__()

        def narrow() -> nn.Conv2d:
            return nn.Conv2d(cin, width, 1)

        def wide(kernel: int) -> nn.Conv2d:
            return nn.Conv2d(width, width, kernel, padding=kernel // 2)

        self.branches = nn.ModuleList(
            [
                nn.Sequential(narrow(), ReluPool(2) if first_relu else nn.MaxPool2d(2)),
                nn.Sequential(narrow(), nn.ReLU(), wide(3), ReluPool(2)),
                nn.Sequential(narrow(), nn.ReLU(), wide(5), ReluPool(2)),
                nn.Sequential(nn.MaxPool2d(3, 1, padding=1), narrow(), ReluPool(2)),
            ]
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return torch.cat([branch(x_BCHW) for branch in self.branches], dim=1)


class DualInception(nn.Module):
    """x_BCHW (u, v) → logits_BK."""

    def __init__(self, options: DualInceptionOptions, classes: int) -> None:
        super().__init__()
        relu = options.variant == "paper"
        streams = (nn.Sequential(InceptionBlock(1, 6, relu), InceptionBlock(24, 16, relu)) for _ in range(2))
        self.streams = nn.ModuleList(streams)
        self.head = dense((2 * 64 * halved(options.size, 2) ** 2, 1024, classes), 0.0)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        u_B1HW, v_B1HW = x_BCHW.split(1, dim=1)
        return self.head(torch.cat([self.streams[0](u_B1HW), self.streams[1](v_B1HW)], dim=1))


MODEL = ModelInfo(
    name="dual_inception",
    title="Dual-Inception network",
    citation=(
        "Zhou L., Mao Q., Xue L., "  # their code is in Keras
        "Dual-Inception network for cross-database micro-expression recognition, IEEE FG 2019"
    ),
    kind="torch",
    options=DualInceptionOptions,
    inputs=lambda _: ("u", "v"),
    build=DualInception,
    min_size=4,
    native_size=28,
)
