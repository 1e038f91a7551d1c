"""ATSCNN: three unshared shallow streams over u, v and strain, CBAM on each, SELU throughout.

Zhao et al. 2024 print no layer table. This is the reconstruction that meets all three costs which they print
(`distmer/costs/paper.py`): 4,214,103 parameters, and 19,008,268 operations by torchstat's rules. From the
count of operations follows that CBAM's MLP has a ReLU inside, not a SELU. Assumed, because nothing printed
decides it: the dropout rate, max rather than average pooling, and batch norm before the activation.

Initial weights are PyTorch's defaults (Kaiming-uniform with a = √5), not the LeCun-normal that SELU's authors
ask for: the paper names no initialisation, and its code base is PyTorch.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from distmer.models.base import Channel, ModelInfo, Options
from distmer.models.layers import ACTIVATIONS, Activation, Dropout, StreamStage, cbam


class AtscnnOptions(Options):
    """The paper's ablations are single options: no attention, one half of CBAM, ReLU, no strain, gray frames
    for flow."""

    size: int = Field(default=128, ge=2, le=512)
    streams: tuple[Channel, ...] = ("u", "v", "strain")
    # Of one stream; each stage halves the side.
    channels: tuple[Annotated[int, Field(ge=1, le=512)], ...] = Field(default=(3, 5, 8, 16), min_length=1)
    kernel: Literal[1, 3, 5, 7, 9] = 5  # px
    activation: Activation = "selu"
    attention: Literal["cbam", "channel", "spatial", "none"] = "cbam"
    reduction: int = Field(default=4, ge=1)  # of the channel attention's MLP
    hidden: int = Field(default=1024, ge=1, le=8192)
    dropout: float = Field(default=0.5, ge=0, lt=1)

    @model_validator(mode="after")
    def _fits_together(self) -> AtscnnOptions:
        if not self.streams or len(set(self.streams)) != len(self.streams):
            raise ValueError(f"streams must be distinct and at least one, not {list(self.streams)}")
        if self.size < 2 ** len(self.channels):
            stages = len(self.channels)
            raise ValueError(f"size must be at least {2**stages} px for {stages} stages, not {self.size}")
        if self.attention in {"cbam", "channel"} and self.reduction > self.channels[-1]:
            most = f"the last stage's {self.channels[-1]} channels"
            raise ValueError(f"reduction must be at most {most}, not {self.reduction}")
        return self


class ATSCNN(nn.Module):
    """x_BCHW, one channel a stream → logits_BK.

    The head gets the features in the order stream, channel, row, column: as if the streams' maps were
    concatenated along the channels and flattened.
    """

    def __init__(self, options: AtscnnOptions, classes: int) -> None:
        super().__init__()
        streams, last = len(options.streams), options.channels[-1]
        widths = pairwise((1, *options.channels))
        stages = (StreamStage(a, b, streams, options.kernel, options.activation) for a, b in widths)
        self.stages = nn.Sequential(*stages)
        self.attention = cbam(options.attention, last, streams, options.reduction)
        side = options.size // 2 ** len(options.channels)
        self.head = nn.Sequential(
            nn.Linear(streams * last * side * side, options.hidden),
            ACTIVATIONS[options.activation](),
            Dropout(options.dropout),
            nn.Linear(options.hidden, options.hidden),
            ACTIVATIONS[options.activation](),
            Dropout(options.dropout),
            nn.Linear(options.hidden, classes),
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.head(self.attention(self.stages(x_BCHW)).flatten(1))


MODEL = ModelInfo(
    name="atscnn",
    title="ATSCNN, attention-guided three-stream convolutional neural network",
    citation=(
        "Zhao M., Dong S., Hu J., Du S., Shi C., Li P., Shi Z., Attention-guided three-stream convolutional "
        "neural network for microexpression recognition, Journal of Image and Graphics 29(1):111, 2024"
    ),
    kind="torch",
    options=AtscnnOptions,
    inputs=lambda options: options.streams,
    build=ATSCNN,
    min_size=16,
    native_size=128,
)
