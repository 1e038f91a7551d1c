"""mini-AORCNN: two residual blocks and a bottleneck transformer over (u, v, strain).

``paper``: the channels 8-18-28 of the authors' own released network (39,685 parameters at 112 px; its notes
say 39,185, the publication's text was not seen). ``reference``: 8-16-32, which alone meets the reference
paper's number of parameters at 128 px (`distmer/costs/paper.py`).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from distmer.models.base import ModelInfo, Options
from distmer.models.layers import MapAttention, OpticalFlowStem, conv_norm_relu, dense, halved

CHANNELS = {"paper": (18, 28), "reference": (16, 32)}


class MiniAorcnnOptions(Options):
    """``dropout`` stands behind each of the two hidden layers of 64."""

    size: int = Field(default=112, ge=1, le=512)
    variant: Literal["paper", "reference"] = "paper"
    dropout: float = Field(default=0.5, ge=0, lt=1)


class IdentityResidual(nn.Module):
    """Two convolutions with batch norm and ReLU plus the input itself, 1×1 to the new channels, max-pool
    2."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*conv_norm_relu(cin, cin), *conv_norm_relu(cin, cin))
        self.widen = nn.Conv2d(cin, cout, 1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.pool(self.widen(self.body(x_BCHW) + x_BCHW))


class BottleneckTransformer(nn.Module):
    """Two attentions of four heads, one after the other, plus a 1×1 convolution of the input, then max-pool
    2."""

    def __init__(self, cin: int, cout: int, side: int) -> None:
        super().__init__()
        self.shortcut = nn.Conv2d(cin, cout, 1)
        self.body = nn.Sequential(MapAttention(cin, cout, side), MapAttention(cout, cout, side))
        self.pool = nn.MaxPool2d(2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.pool(self.body(x_BCHW) + self.shortcut(x_BCHW))


class MiniAORCNN(nn.Sequential):
    """x_BCHW (u, v, strain) → logits_BK."""

    def __init__(self, options: MiniAorcnnOptions, classes: int) -> None:
        middle, last = CHANNELS[options.variant]
        side = halved((options.size + 1) // 2, 2)  # the stem rounds up, the poolings down
        super().__init__(
            OpticalFlowStem(3),
            IdentityResidual(8, middle),
            IdentityResidual(middle, last),
            BottleneckTransformer(last, 8, side),
            dense((8 * halved(side, 1) ** 2, 64, 64, classes), options.dropout),
        )


MODEL = ModelInfo(
    name="mini_aorcnn",
    title="mini-AORCNN, residual network with a bottleneck transformer",
    citation=(
        "Zhang J., Liu F., Qi J., Lightweight micro-expression recognition architecture based on Bottleneck "
        "Transformer, Computer Science 49(6A):370, 2022, doi 10.11896/jsjkx.210500023"
    ),
    kind="torch",
    options=MiniAorcnnOptions,
    inputs=lambda _: ("u", "v", "strain"),
    build=MiniAORCNN,
    min_size=15,
    native_size=112,
)
