"""Layers that are written otherwise than described, for speed: the same values, gradients, statistics and
random draws."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from distmer.models.fused import norm_pool
from distmer.models.layers import Dropout, ReluPool, StreamDropout, joined_convolution


def _norm(channels: int, *, train: bool) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels).double().train(train)
    nn.init.uniform_(norm.weight, -1.5, 1.5)  # a negative scale turns maxima into minima
    nn.init.normal_(norm.bias)
    return norm


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "side"),
    [(2, None, 0, 8), (2, None, 0, 7), (3, None, 1, 10), (3, 2, 1, 9)],
)
def test_norm_pool_is_a_batch_norm_and_a_max_pool(
    kernel: int, stride: int | None, padding: int, side: int, train: bool, relu: bool
) -> None:
    torch.manual_seed(0)
    fast, plain = _norm(5, train=train), nn.BatchNorm2d(5).double().train(train)
    plain.load_state_dict(fast.state_dict())
    x_BCHW = torch.randn(3, 5, side, side, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    shift_C, seen = torch.randn(5, dtype=torch.float64), []
    for layer, pool in ((plain, False), (fast, True)):
        x, shift = x_BCHW.clone().requires_grad_(), shift_C.clone().requires_grad_()
        before = x.mul(1) if relu else x  # a copy to overwrite, as a convolution's output is
        fused = (
            norm_pool(
                before, layer, kernel, padding, stride=stride, relu=relu, shift_C=None if relu else shift
            )
            if pool
            else None
        )
        y = (
            F.max_pool2d(layer(F.relu(x) if relu else x + shift[:, None, None]), kernel, stride, padding)
            if fused is None
            else fused
        )
        (y * torch.arange(y.numel(), dtype=y.dtype).view_as(y).cos()).sum().backward()
        seen.append(
            [
                y,
                x.grad,
                torch.zeros(5) if relu else shift.grad,
                layer.weight.grad,
                layer.bias.grad,
                *layer.buffers(),
            ]
        )
    for ours, theirs in zip(seen[1], seen[0], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_statistics_of_a_million_pixels_are_those_of_double_precision() -> None:
    """One sum over all pixels, in single precision, is wrong in the fourth digit."""
    torch.manual_seed(0)
    x_BCHW = (torch.randn(64, 9, 128, 128) * 2 + 1).contiguous(memory_format=torch.channels_last)
    norm = nn.BatchNorm2d(9, momentum=1.0)
    norm_pool(x_BCHW, norm, 2)
    var_C, mean_C = torch.var_mean(x_BCHW.double(), (0, 2, 3))
    for ours_C, exact_C in zip(norm.buffers(), (mean_C, var_C), strict=False):
        torch.testing.assert_close(ours_C.double(), exact_C, rtol=2e-6, atol=0)


@pytest.mark.parametrize(
    ("widths", "kernel", "groups"), [((3, 5), 3, 1), ((4, 4), 5, 2)], ids=["of one input", "of its own each"]
)
def test_convolutions_side_by_side_draw_and_compute_as_each_alone(
    widths: tuple[int, int], kernel: int, groups: int
) -> None:
    def drawn() -> list[nn.Conv2d]:
        torch.manual_seed(0)
        return [nn.Conv2d(3, width, kernel, padding=kernel // 2) for width in widths]

    alone, state = drawn(), torch.random.get_rng_state()
    wide = joined_convolution(drawn(), groups)
    assert torch.equal(torch.random.get_rng_state(), state)
    x_BCHW = torch.randn(2, 3 * groups, 9, 9)
    parts = x_BCHW.split(3, dim=1) if groups > 1 else [x_BCHW, x_BCHW]
    expected = torch.cat([conv(part) for conv, part in zip(alone, parts, strict=True)], dim=1)
    torch.testing.assert_close(wide(x_BCHW), expected)


@pytest.mark.parametrize("pooling", [(2, 2, 0), (3, 2, 1)], ids=["2", "3 of stride 2"])
def test_a_relu_behind_its_pooling_is_the_relu_before_it_to_the_bit(pooling: tuple[int, int, int]) -> None:
    """Small whole numbers, so that there are ties, at zero and elsewhere."""
    torch.manual_seed(0)
    numbers_BCHW, seen = torch.randint(-2, 3, (4, 3, 9, 9)).float(), []
    for layer in (ReluPool(*pooling), nn.Sequential(nn.ReLU(), nn.MaxPool2d(*pooling))):
        x_BCHW = numbers_BCHW.clone().requires_grad_()
        y_BCHW = layer(x_BCHW)
        (y_BCHW * torch.arange(1.0, y_BCHW.numel() + 1).view_as(y_BCHW)).sum().backward()
        seen.append((y_BCHW, x_BCHW.grad))
    assert all(map(torch.equal, *seen))


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_a_dropout_draws_as_pytorch_s(p: float) -> None:
    seen = []
    for layer in (Dropout(p), nn.Dropout(p)):
        torch.manual_seed(0)
        x_BC = torch.linspace(-1, 1, 64 * 1001).view(64, 1001).requires_grad_()
        y_BC = layer(x_BC)
        y_BC.sin().sum().backward()
        seen.append((y_BC, x_BC.grad, torch.random.get_rng_state()))
        assert torch.equal(layer.eval()(x_BC), x_BC)
    assert all(map(torch.equal, *seen))


def test_a_dropout_of_streams_draws_as_each_alone() -> None:
    x_BCHW = torch.randn(4, 8, 5, 5)
    torch.manual_seed(0)
    expected = torch.cat([F.dropout(part, 0.3) for part in x_BCHW.split((3, 5), dim=1)], dim=1)
    torch.manual_seed(0)
    torch.testing.assert_close(
        StreamDropout(0.3, (3, 5))(x_BCHW.contiguous(memory_format=torch.channels_last)), expected
    )
    assert torch.equal(StreamDropout(0.3, (3, 5)).eval()(x_BCHW), x_BCHW)
