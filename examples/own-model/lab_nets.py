"""A laboratory's own network for distmer."""

from __future__ import annotations

from lab_layers import squeeze
from torch import Tensor, nn


class SmallNet(nn.Module):
    """Two convolutions on u, v and strain, with a gate on the channels between them.

    ``size`` is the side of the maps in px, and ``inputs`` are the channels that the network reads. The
    parameters of ``__init__`` after the first are its options: ``--set model.width=32`` changes one, and a
    sweep may search it.
    """

    size = 28
    inputs = ("u", "v", "strain")

    def __init__(self, classes: int, width: int = 16, dropout: float = 0.25) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(3, width, 5, padding=2), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(3))
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(9 * width, classes))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.head(self.second(squeeze(self.first(x_BCHW))))
