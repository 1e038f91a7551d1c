"""STSTNet: three parallel shallow streams of 3, 5 and 8 kernels over (u, v, strain), each one convolution
deep.

``paper``: Liong et al. 2019. Convolution 3×3 "same", max-pool 3/3, the streams concatenated to 16 channels,
average pool 2, one linear layer on the flattened 400 numbers (28 px). Their table's row "FC 400×1" is that
flattening: with it as a layer, the 1,670 parameters they print would be far exceeded. Not in their table:
ReLU and batch norm behind each convolution and a dropout of .5 behind each max-pool, which are those of the
authors' own PyTorch release. 448 (convolutions) + 32 (batch norm) + 1,203 (linear) = 1,683 parameters. That
release pads its convolutions by 2; the table's "same", by 1, is kept here. Both give 10×10 behind the
max-pool.

``reference``: what the reference paper ran, by its costs. No ReLU, batch norm or dropout in the streams, a
max-pool for the average pool, and a hidden layer as wide as the flattened map: 162,051 parameters at 28 px,
49.8 million at 128.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from distmer.models.base import ModelInfo, Options
from distmer.models.fused import norm_pool
from distmer.models.layers import StreamDropout, dense, joined_convolution

KERNELS = (3, 5, 8)


class StstnetOptions(Options):
    """``dropout``: None is the variant's own, .5 under ``paper`` and none under ``reference``."""

    size: int = Field(default=28, ge=1, le=256)
    variant: Literal["paper", "reference"] = "paper"
    dropout: float | None = Field(default=None, ge=0, lt=1)


class STSTNet(nn.Module):
    """x_BCHW (u, v, strain) → logits_BK."""

    def __init__(self, options: StstnetOptions, classes: int) -> None:
        super().__init__()
        paper = options.variant == "paper"
        dropout = (0.5 if paper else 0.0) if options.dropout is None else options.dropout
        self.streams = Streams(paper, dropout)
        self.pool = nn.AvgPool2d(2) if paper else nn.MaxPool2d(2)
        flat = sum(KERNELS) * (((options.size - 1) // 3 + 1) // 2) ** 2
        self.head = dense((flat, classes) if paper else (flat, flat, classes), 0.0)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.head(self.pool(self.streams(x_BCHW)))


class Streams(nn.Module):
    """The three streams as one convolution: they read the same maps, each with its own weights.

    x_BCHW → (B, 16, ⌈H/3⌉, ⌈W/3⌉).
    """

    def __init__(self, paper: bool, dropout: float) -> None:
        super().__init__()
        self.conv = joined_convolution([nn.Conv2d(3, kernels, 3, padding=1) for kernels in KERNELS])
        self.norm = nn.BatchNorm2d(sum(KERNELS)) if paper else None
        self.dropout = StreamDropout(dropout, KERNELS)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = self.conv(x_BCHW)
        if self.norm is None:
            return self.dropout(F.max_pool2d(y_BCHW, 3, padding=1))
        return self.dropout(norm_pool(y_BCHW, self.norm, 3, padding=1, relu=True))


MODEL = ModelInfo(
    name="ststnet",
    title="STSTNet, shallow triple stream three-dimensional CNN",
    citation=(
        "Liong S.-T., Gan Y. S., See J., Khor H.-Q., Huang Y.-C., Shallow triple stream three-dimensional "
        "CNN (STSTNet) for micro-expression recognition, IEEE FG 2019, arXiv 1902.03634"
    ),
    kind="torch",
    options=StstnetOptions,
    inputs=lambda _: ("u", "v", "strain"),
    build=STSTNet,
    min_size=4,
    native_size=28,
)
