"""flow_gru: two convolutions on the flow between neighbouring frames, the same for every pair, and a GRU over
time; 76,763 parameters at 28 px.

distmer's own small baseline for sequences: nobody has published it. A convolutional network for each frame
and a recurrent one over time is also the plan of ELRCN (Khor et al. 2018, as its abstract says), with an
LSTM. This is another network, and its scores say nothing about ELRCN.
"""

from __future__ import annotations

from itertools import chain

from pydantic import Field
from torch import Tensor, nn

from distmer.models.base import ModelInfo, Options
from distmer.models.layers import StreamStage, halved


class FlowGruOptions(Options):
    """``frames`` of the sequence (``features.frames``), so one flow fewer.

    ``width`` numbers describe the flow of a moment, ``hidden`` the clip so far. ``dropout`` stands before the
    last layer.
    """

    size: int = Field(default=28, ge=1, le=512)
    frames: int = Field(default=8, ge=2, le=64)
    width: int = Field(default=64, ge=1)
    hidden: int = Field(default=64, ge=1)
    dropout: float = Field(default=0.5, ge=0, lt=1)


class FlowGru(nn.Module):
    """x_BCHW (u1, v1, u2, v2, …) → logits_BK. T is the number of flows, C = 2 · T."""

    def __init__(self, options: FlowGruOptions, classes: int) -> None:
        super().__init__()
        self.frame = nn.Sequential(
            StreamStage(2, 8, 1, 3, "relu"),
            StreamStage(8, 16, 1, 3, "relu"),
            nn.Flatten(),
            nn.Linear(16 * halved(options.size, 2) ** 2, options.width),
            nn.ReLU(),
        )
        self.over_time = nn.GRU(options.width, options.hidden, batch_first=True)
        self.head = nn.Sequential(nn.Dropout(options.dropout), nn.Linear(options.hidden, classes))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BT2HW = x_BCHW.unflatten(1, (-1, 2))
        moments_BTW = self.frame(x_BT2HW.flatten(0, 1)).unflatten(0, x_BT2HW.shape[:2])
        after_BTH, _ = self.over_time(moments_BTW)
        return self.head(after_BTH[:, -1])


MODEL = ModelInfo(
    name="flow_gru",
    title="Convolutions on the flow between neighbouring frames, and a GRU over time",
    citation=(
        "none: distmer's own baseline for sequences. Its plan is that of Khor H.-Q., See J., Phan R. C. W., "
        "Lin W., Enriched long-term recurrent convolutional network for facial micro-expression recognition, "
        "FG 2018, arXiv 1805.08417"
    ),
    kind="torch",
    options=FlowGruOptions,
    inputs=lambda options: tuple(chain(*((f"u{t}", f"v{t}") for t in range(1, options.frames)))),
    build=FlowGru,
    min_size=4,
    native_size=28,
)
