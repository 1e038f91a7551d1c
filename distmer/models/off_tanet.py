"""Off-TANet: two residual blocks and one with channel, spatial and self-attention over (u, v, strain).

Zhang et al. 2021 publish it at 112 px, where it has 59,403 parameters. The reference paper ran the same
network at 128 px, so there is one variant. The channel attention's MLP (28 → 1 → 28) has one hidden unit: its
ReLU may be 0 for all clips.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from distmer.models.base import ModelInfo, Options
from distmer.models.layers import (
    ChannelAttention,
    MapAttention,
    OpticalFlowStem,
    SpatialAttention,
    conv_norm_relu,
    dense,
    halved,
)


class OffTanetOptions(Options):
    """``dropout`` stands behind each of the two hidden layers of 64."""

    size: int = Field(default=112, ge=1, le=512)
    dropout: float = Field(default=0.5, ge=0, lt=1)


class Residual(nn.Module):
    """Two convolutions with batch norm and ReLU plus a 1×1 convolution of the input, then max-pool 2."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*conv_norm_relu(cin, cout), *conv_norm_relu(cout, cout))
        self.shortcut = nn.Conv2d(cin, cout, 1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.pool(self.body(x_BCHW) + self.shortcut(x_BCHW))


class EnhancedResidual(nn.Module):
    """The residual block with three attentions between its convolutions: x_BCHW → (B, out, H//2, W//2)."""

    def __init__(self, cin: int, cout: int, side: int) -> None:
        super().__init__()
        self.shortcut = nn.Conv2d(cin, cout, 1)
        self.body = nn.Sequential(
            *conv_norm_relu(cin, cin),
            ChannelAttention(cin, streams=1, reduction=cin),
            SpatialAttention(streams=1, kernel=3),
            MapAttention(cin, cin, side),
            *conv_norm_relu(cin, cout),
        )
        self.pool = nn.MaxPool2d(2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.pool(self.body(x_BCHW) + self.shortcut(x_BCHW))


class OffTANet(nn.Sequential):
    """x_BCHW (u, v, strain) → logits_BK."""

    def __init__(self, options: OffTanetOptions, classes: int) -> None:
        side = halved((options.size + 1) // 2, 2)  # the stem rounds up, the poolings down
        super().__init__(
            OpticalFlowStem(3),
            Residual(8, 18),
            Residual(18, 28),
            EnhancedResidual(28, 8, side),
            dense((8 * halved(side, 1) ** 2, 64, 64, classes), options.dropout),
        )


MODEL = ModelInfo(
    name="off_tanet",
    title="Off-TANet, lightweight network with integrated attention",
    citation=(
        "Zhang J., Liu F., Zhou A., Off-TANet: a lightweight neural micro-expression recognizer with "
        "optical flow features and integrated attention mechanism, PRICAI 2021"
    ),
    kind="torch",
    options=OffTanetOptions,
    inputs=lambda _: ("u", "v", "strain"),
    build=OffTANet,
    min_size=15,
    native_size=112,
)
