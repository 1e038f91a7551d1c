"""OFF-ApexNet: two unshared streams, u and v, of two convolutions each, then two hidden layers of 1024;
2,664,475 parameters.

Gan et al. 2019. The convolutions are 5×5 "same", each with max-pool 2 (28 px end as 16×7×7 a stream: 1568
numbers together). Assumed, for the description leaves it open: a ReLU behind every convolution and hidden
layer, max rather than average pooling, and the dropout behind both hidden layers.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from distmer.models.base import ModelInfo, Options
from distmer.models.layers import ReluPool, dense, halved, joined_convolution


class OffApexnetOptions(Options):
    """``dropout`` stands behind each of the two hidden layers of 1024."""

    size: int = Field(default=28, ge=1, le=512)
    dropout: float = Field(default=0.5, ge=0, lt=1)


class OffApexNet(nn.Module):
    """x_BCHW (u, v) → logits_BK."""

    def __init__(self, options: OffApexnetOptions, classes: int) -> None:
        super().__init__()
        u, v = ([_convolution(1, 6), _convolution(6, 16)] for _ in range(2))
        stages = (
            nn.Sequential(joined_convolution(pair, groups=2), ReluPool(2)) for pair in zip(u, v, strict=True)
        )
        self.streams = nn.Sequential(*stages)
        self.head = dense((2 * 16 * halved(options.size, 2) ** 2, 1024, 1024, classes), options.dropout)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.head(self.streams(x_BCHW))


def _convolution(cin: int, cout: int) -> nn.Conv2d:
    return nn.Conv2d(cin, cout, 5, padding=2)


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
