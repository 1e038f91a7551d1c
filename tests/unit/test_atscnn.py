"""ATSCNN against the printed costs, and against three networks written plainly: same outputs, same
gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from distmer.config import ModelConfig
from distmer.models import parameters, resolve
from distmer.models.layers import ACTIVATIONS, MONOTONE
from distmer.types import BadInput

COSTS = {"cbam": 4_214_103, "none": 4_213_665, "channel": 4_214_049, "spatial": 4_213_719}


def _resolve(**options: Any) -> Any:
    return resolve(ModelConfig.model_validate({"name": "atscnn", **options}))


@pytest.mark.parametrize(("attention", "expected"), COSTS.items())
def test_it_has_as_many_parameters_as_the_paper_prints(attention: str, expected: int) -> None:
    assert parameters(_resolve(attention=attention)) == expected


def test_without_strain_it_has_two_streams() -> None:
    resolved = _resolve(streams=["u", "v"])
    assert resolved.inputs == ("u", "v")
    assert parameters(resolved) == 2 * 4_892 + (2 * 1024 + 1) * 1024 + 1025 * 1024 + 1025 * 3


def test_its_operations_are_the_paper_s() -> None:
    """19,008,268 by torchstat 0.0.7: a convolution counts multiply-adds and bias, batch norm 2, ReLU 1, a
    max-pool its input, a linear layer in × out; SELU, sigmoid and global poolings nothing; a module that runs
    twice counts once."""
    widths, sides = (1, 3, 5, 8, 16), (128, 64, 32, 16)
    stream = 0
    for cin, cout, side in zip(widths, widths[1:], sides, strict=False):
        pixels = side * side
        stream += 25 * cin * cout * pixels + cout * pixels  # convolution
        stream += 2 * cout * pixels + cout * pixels  # batch norm, max-pool
    channel = 16 * 4 + 4 + 4 * 16
    spatial = 9 * 2 * 8 * 8
    head = 3072 * 1024 + 1024 * 1024 + 1024 * 3
    assert 3 * (stream + channel + spatial) + head == 19_008_268


class PlainAttention(nn.Module):
    """CBAM of one stream, as Woo et al. draw it."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Conv2d(16, 4, 1, bias=False), nn.ReLU(), nn.Conv2d(4, 16, 1, bias=False))
        self.conv = nn.Conv2d(2, 1, 3, padding=1, bias=False)
        self.average, self.maximum = nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        x = x * torch.sigmoid(self.mlp(self.average(x)) + self.mlp(self.maximum(x)))
        pooled = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True).values], 1)
        return x * torch.sigmoid(self.conv(pooled))


class Plain(nn.Module):
    """Three modules, one a stream: convolution, batch norm, activation, pooling, four times, then CBAM;
    concatenate; head."""

    def __init__(self, activation: str, size: int) -> None:
        super().__init__()
        act = ACTIVATIONS[activation]
        streams: list[nn.Module] = []
        for _ in range(3):
            layers: list[nn.Module] = []
            for cin, cout in ((1, 3), (3, 5), (5, 8), (8, 16)):
                layers += [nn.Conv2d(cin, cout, 5, padding=2), nn.BatchNorm2d(cout), act(), nn.MaxPool2d(2)]
            streams.append(nn.Sequential(*layers, PlainAttention()))
        self.streams = nn.ModuleList(streams)
        n = 48 * (size // 16) ** 2
        self.head = nn.Sequential(
            nn.Linear(n, 1024),
            act(),
            nn.Dropout(0.0),
            nn.Linear(1024, 1024),
            act(),
            nn.Dropout(0.0),
            nn.Linear(1024, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(
            torch.cat([stream(x[:, i : i + 1]) for i, stream in enumerate(self.streams)], 1).flatten(1)
        )


def _pairs(plain: Plain, fast: Any) -> list[tuple[list[Tensor], Tensor]]:
    """The plain network's tensors, one a stream (the head: one), beside the fast one's, which stacks them."""
    pairs: list[tuple[list[Tensor], Tensor]] = []
    for stage in range(4):
        for layer, name in ((4 * stage, "conv"), (4 * stage + 1, "norm")):
            for kind in ("weight", "bias"):
                parts = [getattr(stream.get_submodule(str(layer)), kind) for stream in plain.streams]
                pairs.append((parts, getattr(getattr(fast.stages[stage], name), kind)))
    for path, target in (
        ("mlp.0", fast.attention[0].mlp[0]),
        ("mlp.2", fast.attention[0].mlp[2]),
        ("conv", fast.attention[1].conv),
    ):
        pairs.append(([stream.get_submodule(f"16.{path}").weight for stream in plain.streams], target.weight))
    pairs += [([a], b) for a, b in zip(plain.head.parameters(), fast.head.parameters(), strict=True)]
    assert sum(p.numel() for parts, _ in pairs for p in parts) == sum(p.numel() for p in fast.parameters())
    return pairs


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("activation", ["selu", "relu", "tanh", "gelu"])
def test_it_equals_three_separate_networks(
    activation: str, dtype: torch.dtype, tolerance: float, train: bool
) -> None:
    # A draw without near-ties: in float32, where rounding decides which of two equal maxima wins, the
    # gradients may differ by more than noise, and rounding depends on the number of threads.
    torch.manual_seed(4)
    plain = Plain(activation, 48)
    fast = _resolve(activation=activation, size=48, dropout=0.0).build(3)
    for stream in plain.streams:
        for module in stream.modules():
            # a negative scale is what forbids pooling before the batch norm
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, -1.5, 1.5)
                nn.init.normal_(module.bias)
    plain, fast = plain.to(dtype).train(train), fast.to(dtype).train(train)
    pairs = _pairs(plain, fast)
    with torch.no_grad():
        for parts, whole in pairs:
            whole.copy_(torch.cat(parts))
    x_BCHW, y_B = torch.randn(12, 3, 48, 48, dtype=dtype), torch.arange(12) % 3
    expected_BK, got_BK = plain(x_BCHW), fast(x_BCHW)
    torch.testing.assert_close(got_BK, expected_BK, rtol=0, atol=tolerance)
    for logits_BK in (expected_BK, got_BK):
        nn.functional.cross_entropy(logits_BK, y_B).backward()
    for parts, whole in pairs:
        gradients = [part.grad for part in parts]
        assert all(g is not None for g in gradients) and whole.grad is not None
        torch.testing.assert_close(
            whole.grad, torch.cat([g for g in gradients if g is not None]), rtol=0, atol=tolerance
        )


def test_the_running_statistics_are_the_plain_ones() -> None:
    torch.manual_seed(0)
    plain, fast = Plain("selu", 32), _resolve(size=32).build(3)
    with torch.no_grad():
        for parts, whole in _pairs(plain, fast):
            whole.copy_(torch.cat(parts))
    x_BCHW = torch.randn(8, 3, 32, 32)
    plain(x_BCHW), fast(x_BCHW)
    for stage in range(4):
        for kind in ("running_mean", "running_var"):
            parts = torch.cat(
                [getattr(stream.get_submodule(str(4 * stage + 1)), kind) for stream in plain.streams]
            )
            torch.testing.assert_close(getattr(fast.stages[stage].norm, kind), parts, rtol=0, atol=1e-5)


def test_monotone_activations_are_those_that_never_fall() -> None:
    x = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    assert {name for name, make in ACTIVATIONS.items() if (make()(x).diff() >= 0).all()} == MONOTONE


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"streams": []}, "streams must be distinct"),
        ({"streams": ["u", "u"]}, "streams must be distinct"),
        ({"streams": ["u", "w"]}, "streams"),
        ({"channels": []}, "channels"),
        ({"channels": [3] * 8}, "size must be at least 256 px for 8 stages"),
        ({"reduction": 17}, "reduction must be at most"),
        ({"kernel": 4}, "kernel"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_what_does_not_fit_together_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        _resolve(**options)


def test_an_odd_size_and_other_depths_work() -> None:
    for options in (
        {"size": 37},
        {"channels": [4, 6], "kernel": 3},
        {"streams": ["onset", "apex"], "attention": "none"},
    ):
        resolved = _resolve(**{"size": 32, **options})
        x_BCHW = torch.randn(2, len(resolved.inputs), resolved.size, resolved.size)
        assert resolved.build(5)(x_BCHW).shape == (2, 5)
