"""OFF-ApexNet: two unshared streams, u and v, of two convolutions each, then two hidden layers of 1024;
2,664,475 parameters.

Gan et al. 2019. The convolutions are 5×5 "same", each with max-pool 2 (28 px end as 16×7×7 a stream: 1568
numbers together). Assumed, for the description leaves it open: a ReLU behind every convolution and hidden
layer, max rather than average pooling, and the dropout behind both hidden layers.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from distmer.models.base import ModelInfo, Options
from distmer.models.layers import dense, halved


class OffApexnetOptions(Options):
    """``dropout`` stands behind each of the two hidden layers of 1024."""

    size: int = Field(default=28, ge=1, le=512)
    dropout: float = Field(default=0.5, ge=0, lt=1)


class OffApexNet(nn.Module):
    """x_BCHW (u, v) → logits_BK."""

    def __init__(self, options: OffApexnetOptions, classes: int) -> None:
        super().__init__()
        self.streams = nn.ModuleList(nn.Sequential(*_conv_pool(1, 6), *_conv_pool(6, 16)) for _ in range(2))
        self.head = dense((2 * 16 * halved(options.size, 2) ** 2, 1024, 1024, classes), options.dropout)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        u_B1HW, v_B1HW = x_BCHW.split(1, dim=1)
        return self.head(torch.cat([self.streams[0](u_B1HW), self.streams[1](v_B1HW)], dim=1))


def _conv_pool(cin: int, cout: int) -> list[nn.Module]:
    return [nn.Conv2d(cin, cout, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]


MODEL = ModelInfo(
    name="off_apexnet",
    title="OFF-ApexNet, optical flow features from the apex frame",
    citation=(
        "Gan Y. S., Liong S.-T., Yau W.-C., Huang Y.-C., Tan L.-K., OFF-ApexNet on micro-expression "
        "recognition system, Signal Processing: Image Communication 74:129, 2019, arXiv 1805.08699"
    ),
    kind="torch",
    options=OffApexnetOptions,
    inputs=lambda _: ("u", "v"),
    build=OffApexNet,
    min_size=4,
    native_size=28,
)
