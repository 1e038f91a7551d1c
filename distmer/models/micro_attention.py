"""Micro-Attention: a residual network whose every unit weighs its sum, s + s·mask, by a mask from the unit's
own maps.

``paper``: Wang et al. 2020, a ResNet-10 of pre-activated units (64, 128, 256, 512) on the gray apex frame,
the mask a sigmoid. The authors pre-train it on macro-expressions; that is not part of this, so it starts from
random weights. Inferred, for the description leaves it open: a unit's maps are its two convolutions' outputs
and its shortcut; every unit, the first too, begins with batch norm and ReLU, and its 1×1 expansion reads what
these give.

``reference``: what the reference paper ran, by its costs: blocks of 64, 128 and 256 on (u, v, strain), the
mask a softmax over all places, and a hidden layer of 4096 on the flattened map.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from distmer.models.base import ModelInfo, Options
from distmer.models.fused import norm_pool
from distmer.models.layers import Projection, ReluPool, conv_norm_relu, dense, halved


class MicroAttentionOptions(Options):
    """``dropout`` stands before the last layer: None is the variant's own, none under ``paper``, .5 under
    ``reference``."""

    size: int = Field(default=224, ge=1, le=512)
    variant: Literal["paper", "reference"] = "paper"
    dropout: float | None = Field(default=None, ge=0, lt=1)


class PreactivatedUnit(nn.Module):
    """x_BCHW → (B, out, H/stride, W/stride), rounded up.

    The mask: the unit's three maps concatenated, 1×1 to ``out`` channels, 1×1 to one, sigmoid.
    """

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.activate = nn.Sequential(nn.BatchNorm2d(cin), nn.ReLU())
        self.first = nn.Conv2d(cin, cout, 3, stride, padding=1)
        self.second = nn.Sequential(nn.BatchNorm2d(cout), nn.ReLU(), nn.Conv2d(cout, cout, 3, padding=1))
        self.expand = None if (cin, stride) == (cout, 1) else nn.Conv2d(cin, cout, 1, stride)
        self.mask = Projection(nn.Conv2d(3 * cout, cout, 1), nn.Conv2d(cout, 1, 1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        active_BCHW = self.activate(x_BCHW)
        a_BCHW = self.first(active_BCHW)
        b_BCHW = self.second(a_BCHW)
        shortcut_BCHW = x_BCHW if self.expand is None else self.expand(active_BCHW)
        sum_BCHW = b_BCHW + shortcut_BCHW
        return sum_BCHW + sum_BCHW * torch.sigmoid(self.mask(a_BCHW, b_BCHW, shortcut_BCHW))


class SoftmaxUnit(nn.Module):
    """x_BCHW → (B, out, H, W).

    The mask: the unit's three maps concatenated, 1×1 to as many channels, mean over channels, softmax over
    all pixels.
    """

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.first = nn.Sequential(*conv_norm_relu(cin, cout))
        self.second = nn.Sequential(*conv_norm_relu(cout, cout))
        self.shortcut = nn.Conv2d(cin, cout, 1)
        self.mix = Projection(nn.Conv2d(3 * cout, 3 * cout, 1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        a_BCHW = self.first(x_BCHW)
        b_BCHW = self.second(a_BCHW)
        shortcut_BCHW = self.shortcut(x_BCHW)
        sum_BCHW = b_BCHW + shortcut_BCHW
        score_B1HW = self.mix(a_BCHW, b_BCHW, shortcut_BCHW)
        return sum_BCHW + sum_BCHW * score_B1HW.flatten(1).softmax(1).view_as(score_B1HW)


class Stem(nn.Module):
    """Batch norm of the data, convolution, batch norm, ReLU and max-pool: x_B1HW → (B, out, ⌈H/4⌉, ⌈W/4⌉).

    In training, the scale and shift of the data's norm are part of the convolution's weights, with a second
    channel of ones for the shift. So the input has no gradient, which would take longer than all the rest.
    """

    def __init__(self, cout: int) -> None:
        super().__init__()
        self.data_norm = nn.BatchNorm2d(1)
        self.conv = nn.Conv2d(1, cout, 7, 2, padding=3)
        self.norm = nn.BatchNorm2d(cout)

    def forward(self, x_B1HW: Tensor) -> Tensor:
        norm, conv, weight = self.data_norm, self.conv, self.conv.weight
        if not norm.training:
            x_BCHW = norm(x_B1HW)
        else:
            assert norm.num_batches_tracked is not None and norm.momentum is not None
            norm.num_batches_tracked.add_(1)
            running = norm.running_mean, norm.running_var
            x_B1HW = F.batch_norm(x_B1HW, *running, None, None, True, norm.momentum, norm.eps)
            x_BCHW = torch.cat([x_B1HW, torch.ones_like(x_B1HW)], dim=1)
            weight = torch.cat([weight * norm.weight, weight * norm.bias], dim=1)
        y_BCHW = F.conv2d(x_BCHW, weight, None, conv.stride, conv.padding)
        return F.relu(norm_pool(y_BCHW, self.norm, 3, padding=1, stride=2, shift_C=conv.bias))


def paper_network(options: MicroAttentionOptions, classes: int) -> nn.Sequential:
    """x_B1HW (the gray apex frame) → logits_BK. Batch norm of the data itself comes first."""
    # A list, built before the stem: the order in which the weights are drawn is part of the network.
    units = [PreactivatedUnit(a, b, stride=1 if a == b else 2) for a, b in pairwise((64, 64, 128, 256, 512))]
    return nn.Sequential(
        Stem(64),
        *units,
        nn.BatchNorm2d(512),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Dropout(options.dropout or 0.0),
        dense((512, classes), 0.0),
    )


def reference_network(options: MicroAttentionOptions, classes: int) -> nn.Sequential:
    """x_BCHW (u, v, strain) → logits_BK."""
    units = [layer for a, b in pairwise((32, 64, 128, 256)) for layer in (SoftmaxUnit(a, b), nn.MaxPool2d(2))]
    side = halved((options.size + 3) // 4, 3)  # the stem's convolution and pooling round up
    dropout = 0.5 if options.dropout is None else options.dropout
    stem = (nn.Conv2d(3, 32, 7, 2, padding=3), ReluPool(3, 2, padding=1))
    return nn.Sequential(*stem, *units, dense((256 * side**2, 4096, classes), dropout))


def _inputs(options: MicroAttentionOptions) -> tuple[str, ...]:
    return ("apex",) if options.variant == "paper" else ("u", "v", "strain")


def _build(options: MicroAttentionOptions, classes: int) -> nn.Module:
    return (paper_network if options.variant == "paper" else reference_network)(options, classes)


MODEL = ModelInfo(
    name="micro_attention",
    title="Micro-Attention, residual network with attention in every unit",
    citation=(
        "Wang C., Peng M., Bi T., Chen T., "  # on arXiv first
        "Micro-attention for micro-expression recognition, Neurocomputing 410:354, 2020, arXiv 1811.02360"
    ),
    kind="torch",
    options=MicroAttentionOptions,
    inputs=_inputs,
    build=_build,
    min_size=29,  # of `reference`; `paper` keeps a map at any size
    native_size=224,
)
