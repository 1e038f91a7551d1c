"""The nine networks, layer after layer as their papers draw them: a module a stream, NCHW, pooling behind
the activation."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn


def dense(widths: tuple[int, ...], dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for a, b in pairwise(widths[:-1]):
        layers += [nn.Linear(a, b), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))


def conv_norm_relu(a: int, b: int) -> list[nn.Module]:
    return [nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU()]


class ChannelAttention(nn.Module):
    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        narrow = channels // reduction
        self.mlp = nn.Sequential(
            nn.Conv2d(channels, narrow, 1, bias=False), nn.ReLU(), nn.Conv2d(narrow, channels, 1, bias=False)
        )
        self.average, self.maximum = nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.mlp(self.average(x)) + self.mlp(self.maximum(x)))


class SpatialAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True).values], 1)
        return x * torch.sigmoid(self.conv(pooled))


class MapAttentionHead(nn.Module):
    def __init__(self, channels: int, width: int, side: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (
            nn.Conv2d(channels, width, 1),
            nn.Conv2d(channels, width, 1),
            nn.Conv2d(channels, width, 1),
        )
        angle = [10000 ** (-(i // 2) / side) for i in range(side)]
        p = torch.tensor([math.cos(a) if i % 2 else math.sin(a) for i, a in enumerate(angle)])
        self.register_buffer("position", p[:, None] + p[None, :])

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.query(x), self.key(x), self.value(x)
        logits = q @ k.transpose(2, 3) + q @ self.position.transpose(0, 1)
        return torch.softmax(logits.flatten(2), dim=2).view_as(v) * v


class MapAttention(nn.Module):
    def __init__(self, channels: int, out: int, side: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(MapAttentionHead(channels, out // 4, side) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([head(x) for head in self.heads], 1)


class Atscnn(nn.Module):
    def __init__(self, size: int = 128, classes: int = 3, dropout: float = 0.5) -> None:
        super().__init__()
        self.streams = nn.ModuleList(self._stream() for _ in range(3))
        self.head = nn.Sequential(
            nn.Linear(48 * (size // 16) ** 2, 1024),
            nn.SELU(),
            nn.Dropout(dropout),
            nn.Linear(1024, 1024),
            nn.SELU(),
            nn.Dropout(dropout),
            nn.Linear(1024, classes),
        )

    def _stream(self) -> nn.Sequential:
        layers: list[nn.Module] = []
        for a, b in ((1, 3), (3, 5), (5, 8), (8, 16)):
            layers += [nn.Conv2d(a, b, 5, padding=2), nn.BatchNorm2d(b), nn.SELU(), nn.MaxPool2d(2)]
        return nn.Sequential(*layers, ChannelAttention(16, 4), SpatialAttention())

    def forward(self, x: Tensor) -> Tensor:
        return self.head(
            torch.cat([stream(x[:, i : i + 1]) for i, stream in enumerate(self.streams)], 1).flatten(1)
        )


class Ststnet(nn.Module):
    def __init__(self, size: int = 28, classes: int = 3, dropout: float = 0.5) -> None:
        super().__init__()
        self.streams = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(3, k, 3, padding=1),
                nn.ReLU(),
                nn.BatchNorm2d(k),
                nn.MaxPool2d(3, 3, padding=1),
                nn.Dropout(dropout),
            )
            for k in (3, 5, 8)
        )
        self.pool = nn.AvgPool2d(2)
        self.head = dense((16 * (((size - 1) // 3 + 1) // 2) ** 2, classes), 0.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(torch.cat([stream(x) for stream in self.streams], 1)))


class InceptionBlock(nn.Module):
    def __init__(self, a: int, width: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(a, width, 1), nn.ReLU()),
                nn.Sequential(
                    nn.Conv2d(a, width, 1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU()
                ),
                nn.Sequential(
                    nn.Conv2d(a, width, 1), nn.ReLU(), nn.Conv2d(width, width, 5, padding=2), nn.ReLU()
                ),
                nn.Sequential(nn.MaxPool2d(3, 1, padding=1), nn.Conv2d(a, width, 1), nn.ReLU()),
            ]
        )
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(torch.cat([branch(x) for branch in self.branches], 1))


class DualInception(nn.Module):
    def __init__(self, size: int = 28, classes: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        self.streams = nn.ModuleList(
            nn.Sequential(InceptionBlock(1, 6), InceptionBlock(24, 16)) for _ in range(2)
        )
        self.head = dense((128 * (size // 4) ** 2, 1024, classes), dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([stream(x[:, i : i + 1]) for i, stream in enumerate(self.streams)], 1))


class OffApexnet(nn.Module):
    def __init__(self, size: int = 28, classes: int = 3, dropout: float = 0.5) -> None:
        super().__init__()
        self.streams = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(1, 6, 5, padding=2),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Conv2d(6, 16, 5, padding=2),
                nn.ReLU(),
                nn.MaxPool2d(2),
            )
            for _ in range(2)
        )
        self.head = dense((32 * (size // 4) ** 2, 1024, 1024, classes), dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.cat([stream(x[:, i : i + 1]) for i, stream in enumerate(self.streams)], 1))


class PooledResidual(nn.Module):
    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.Conv2d(b, b, 3, padding=1), nn.ReLU()
        )
        self.shortcut = nn.Conv2d(a, b, 1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.body(x) + self.shortcut(x))


class Macnn(nn.Module):
    def __init__(self, size: int = 112, classes: int = 3, dropout: float = 0.5) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            PooledResidual(3, 32), PooledResidual(32, 64), PooledResidual(64, 128), PooledResidual(128, 256)
        )
        atrous: list[nn.Module] = []
        for d in (4, 2):
            atrous += [nn.Conv2d(256, 256, 3, padding=d, dilation=d), nn.ReLU()]
        self.atrous = nn.Sequential(*atrous)
        self.head = dense((256 * (size // 16) ** 2, 4096, 4096, classes), dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.atrous(self.blocks(x)))


class PreactivatedUnit(nn.Module):
    def __init__(self, a: int, b: int, stride: int) -> None:
        super().__init__()
        self.activate = nn.Sequential(nn.BatchNorm2d(a), nn.ReLU())
        self.first = nn.Conv2d(a, b, 3, stride, padding=1)
        self.second = nn.Sequential(nn.BatchNorm2d(b), nn.ReLU(), nn.Conv2d(b, b, 3, padding=1))
        self.expand = None if (a, stride) == (b, 1) else nn.Conv2d(a, b, 1, stride)
        self.mask = nn.Sequential(nn.Conv2d(3 * b, b, 1), nn.Conv2d(b, 1, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        active = self.activate(x)
        first = self.first(active)
        second = self.second(first)
        shortcut = x if self.expand is None else self.expand(active)
        total = second + shortcut
        return total + total * self.mask(torch.cat([first, second, shortcut], 1))


class MicroAttention(nn.Sequential):
    def __init__(self, size: int = 224, classes: int = 3, dropout: float = 0.0) -> None:
        units = [
            PreactivatedUnit(64, 64, 1),
            PreactivatedUnit(64, 128, 2),
            PreactivatedUnit(128, 256, 2),
            PreactivatedUnit(256, 512, 2),
        ]
        stem = [
            nn.BatchNorm2d(1),
            nn.Conv2d(1, 64, 7, 2, padding=3),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, padding=1),
        ]
        end = [
            nn.BatchNorm2d(512),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Dropout(dropout),
            dense((512, classes), 0.0),
        ]
        super().__init__(*stem, *units, *end)


class IdentityResidual(nn.Module):
    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*conv_norm_relu(a, a), *conv_norm_relu(a, a))
        self.widen = nn.Conv2d(a, b, 1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.widen(self.body(x) + x))


class BottleneckTransformer(nn.Module):
    def __init__(self, a: int, b: int, side: int) -> None:
        super().__init__()
        self.shortcut = nn.Conv2d(a, b, 1)
        self.body = nn.Sequential(MapAttention(a, b, side), MapAttention(b, b, side))
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.body(x) + self.shortcut(x))


class MiniAorcnn(nn.Sequential):
    def __init__(self, size: int = 112, classes: int = 3, dropout: float = 0.5) -> None:
        side = (size + 1) // 2 // 4
        super().__init__(
            nn.Sequential(nn.Conv2d(3, 8, 7, stride=2, padding=3), nn.ReLU(), nn.BatchNorm2d(8)),
            IdentityResidual(8, 18),
            IdentityResidual(18, 28),
            BottleneckTransformer(28, 8, side),
            dense((8 * (side // 2) ** 2, 64, 64, classes), dropout),
        )


class Residual(nn.Module):
    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*conv_norm_relu(a, b), *conv_norm_relu(b, b))
        self.shortcut = nn.Conv2d(a, b, 1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.body(x) + self.shortcut(x))


class EnhancedResidual(nn.Module):
    def __init__(self, a: int, b: int, side: int) -> None:
        super().__init__()
        self.shortcut = nn.Conv2d(a, b, 1)
        attentions = (ChannelAttention(a, a), SpatialAttention(), MapAttention(a, a, side))
        self.body = nn.Sequential(*conv_norm_relu(a, a), *attentions, *conv_norm_relu(a, b))
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.body(x) + self.shortcut(x))


class OffTanet(nn.Sequential):
    def __init__(self, size: int = 112, classes: int = 3, dropout: float = 0.5) -> None:
        side = (size + 1) // 2 // 4
        super().__init__(
            nn.Sequential(nn.Conv2d(3, 8, 7, stride=2, padding=3), nn.ReLU(), nn.BatchNorm2d(8)),
            Residual(8, 18),
            Residual(18, 28),
            EnhancedResidual(28, 8, side),
            dense((8 * (side // 2) ** 2, 64, 64, classes), dropout),
        )


class FlowGru(nn.Module):
    def __init__(self, size: int = 28, classes: int = 3, dropout: float = 0.5) -> None:
        super().__init__()
        self.frame = nn.Sequential(
            *conv_norm_relu(2, 8),
            nn.MaxPool2d(2),
            *conv_norm_relu(8, 16),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(16 * (size // 4) ** 2, 64),
            nn.ReLU(),
        )
        self.cell = nn.GRUCell(64, 64)
        self.drop, self.last = nn.Dropout(dropout), nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        clips, channels, height, width = x.shape
        times = channels // 2
        moments = self.frame(x.reshape(clips * times, 2, height, width)).reshape(clips, times, 64)
        state = x.new_zeros(clips, 64)
        for t in range(times):
            state = self.cell(moments[:, t], state)
        return self.last(self.drop(state))


NETS = {
    "atscnn": Atscnn,
    "dual_inception": DualInception,
    "flow_gru": FlowGru,
    "macnn": Macnn,
    "micro_attention": MicroAttention,
    "mini_aorcnn": MiniAorcnn,
    "off_apexnet": OffApexnet,
    "off_tanet": OffTanet,
    "ststnet": Ststnet,
}
