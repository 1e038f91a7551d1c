"""MACNN: four residual blocks, two atrous convolutions and two wide hidden layers over (u, v, strain).

``reference`` is its only variant: the network that the reference paper ran, known by its costs at 128 px. The
publication's full text (Lai et al. 2020) was not available, so how close this is to the authors' own network
is not known.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from distmer.models.base import ModelInfo, Options
from distmer.models.layers import dense, halved


class MacnnOptions(Options):
    """``dropout`` stands behind each of the two hidden layers of 4096."""

    size: int = Field(default=112, ge=1, le=256)
    variant: Literal["reference"] = "reference"
    dropout: float = Field(default=0.5, ge=0, lt=1)


class PooledResidual(nn.Module):
    """conv3-ReLU-conv3-ReLU plus a 1×1 convolution of the input, then max-pool 2: x_BCHW → (B, out, H//2,
    W//2)."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(cin, cout, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(cout, cout, 3, padding=1),
            nn.ReLU(),
        )
        self.shortcut = nn.Conv2d(cin, cout, 1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.pool(self.body(x_BCHW) + self.shortcut(x_BCHW))


class MACNN(nn.Module):
    """x_BCHW (u, v, strain) → logits_BK."""

    def __init__(self, options: MacnnOptions, classes: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(PooledResidual(a, b) for a, b in pairwise((3, 32, 64, 128, 256))))
        self.atrous = nn.Sequential(
            nn.Conv2d(256, 256, 3, padding=4, dilation=4),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=2, dilation=2),
            nn.ReLU(),
        )
        self.head = dense((256 * halved(options.size, 4) ** 2, 4096, 4096, classes), options.dropout)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.head(self.atrous(self.blocks(x_BCHW)))


MODEL = ModelInfo(
    name="macnn",
    title="MACNN, residual network with atrous convolutions",
    citation=(
        "Lai Z., Chen R., Jia J., Qian Y., Real-time micro-expression recognition based on ResNet and atrous "
        "convolutions, Journal of Ambient Intelligence and Humanized Computing, 2020, "
        "doi 10.1007/s12652-020-01779-5"
    ),
    kind="torch",
    options=MacnnOptions,
    inputs=lambda _: ("u", "v", "strain"),
    build=MACNN,
    min_size=16,
    native_size=112,
)
