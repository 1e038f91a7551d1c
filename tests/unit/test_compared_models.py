"""The compared networks' forward passes against a few independent lines: attention maps, residuals,
dilations, term by term.

A right count of parameters does not make a right forward. Every check here computes the expectation from the
weights, by loops or `einsum`, without the module under test.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from distmer.config import ModelConfig
from distmer.models import dual_inception, macnn, micro_attention, mini_aorcnn, off_tanet, resolve
from distmer.models.layers import (
    ChannelAttention,
    MapAttention,
    MapAttentionHead,
    SpatialAttention,
    position_term,
)


def _net(name: str, size: int, **options: Any) -> Any:
    torch.manual_seed(1)
    return _lively(
        resolve(ModelConfig.model_validate({"name": name, "size": size, **options})).build(3).double().eval()
    )


def _lively(module: nn.Module) -> nn.Module:
    """Batch norms that do something in eval mode: other statistics than 0 and 1."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for values in (layer.running_mean, layer.bias):
                nn.init.normal_(values)  # type: ignore[arg-type]
            for values in (layer.running_var, layer.weight):
                nn.init.uniform_(values, 0.5, 1.5)  # type: ignore[arg-type]
    return module


def _random(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(7))


def _norm(x_BCHW: Tensor, norm: Any) -> Tensor:
    scale_C = norm.weight / (norm.running_var + 1e-5).sqrt()
    return (x_BCHW - norm.running_mean[:, None, None]) * scale_C[:, None, None] + norm.bias[:, None, None]


def _conv(x_BCHW: Tensor, conv: Any, dilation: int = 1, stride: int = 1, padding: int = 1) -> Tensor:
    """A convolution as the sum over the kernel's places of shifted maps."""
    k = conv.weight.shape[-1]
    padded = F.pad(x_BCHW, (padding,) * 4)
    side = (x_BCHW.shape[-1] + 2 * padding - dilation * (k - 1) - 1) // stride + 1
    total = torch.zeros(x_BCHW.shape[0], conv.weight.shape[0], side, side, dtype=x_BCHW.dtype)
    for i in range(k):
        for j in range(k):
            shifted = padded[:, :, i * dilation :, j * dilation :][
                :, :, : stride * side : stride, : stride * side : stride
            ]
            total += torch.einsum("bchw,oc->bohw", shifted, conv.weight[:, :, i, j])
    return total if conv.bias is None else total + conv.bias[:, None, None]


def _pool(x_BCHW: Tensor, reduce: str = "max") -> Tensor:
    blocks = (
        x_BCHW[..., : x_BCHW.shape[-2] // 2 * 2, : x_BCHW.shape[-1] // 2 * 2].unfold(2, 2, 2).unfold(3, 2, 2)
    )
    return blocks.amax((4, 5)) if reduce == "max" else blocks.mean((4, 5))


def _close(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-9)


def test_the_position_term_entry_by_entry() -> None:
    side = 7
    p = [
        math.cos(10000 ** -((i // 2) / side)) if i % 2 else math.sin(10000 ** -((i // 2) / side))
        for i in range(side)
    ]
    table_HH = position_term(side)
    for i in range(side):
        for j in range(side):
            assert table_HH[i, j].item() == pytest.approx(p[i] + p[j], abs=1e-6)


def test_a_head_of_the_map_attention_by_loops() -> None:
    torch.manual_seed(0)
    head = MapAttentionHead(5, 2, 4).double()
    x_BCHW = _random(2, 5, 4, 4)
    q, k, v = (
        torch.einsum("bchw,dc->bdhw", x_BCHW, c.weight[:, :, 0, 0]) + c.bias[:, None, None]
        for c in (head.query, head.key, head.value)
    )
    p_HH = position_term(4).double()
    expected = torch.zeros(2, 2, 4, 4, dtype=torch.float64)
    for b in range(2):
        for d in range(2):
            logits = torch.zeros(4, 4, dtype=torch.float64)
            for i in range(4):
                for j in range(4):
                    logits[i, j] = sum(
                        q[b, d, i, w] * k[b, d, j, w] + q[b, d, i, w] * p_HH[j, w] for w in range(4)
                    )
            exponent = logits.exp()
            expected[b, d] = exponent / exponent.sum() * v[b, d]
    _close(head(x_BCHW), expected)


def test_heads_share_nothing_and_stand_one_after_the_other() -> None:
    torch.manual_seed(0)
    attention = MapAttention(6, 8, 3).double()
    x_BCHW = _random(2, 6, 3, 3)
    out = attention(x_BCHW)
    for index, head in enumerate(attention.heads):
        _close(out[:, 2 * index : 2 * index + 2], head(x_BCHW))
    assert len({p.data_ptr() for p in attention.parameters()}) == 4 * 3 * 2


def test_cbam_of_one_stream_by_hand() -> None:
    torch.manual_seed(2)
    channel, spatial = ChannelAttention(6, 1, 2).double(), SpatialAttention(1).double()
    x_BCHW = _random(2, 6, 5, 5)
    first_RC, second_CR = channel.mlp[0].weight[:, :, 0, 0], channel.mlp[2].weight[:, :, 0, 0]
    score_BC = sum(
        (pooled_BC @ first_RC.T).clamp(min=0) @ second_CR.T
        for pooled_BC in (x_BCHW.mean((2, 3)), x_BCHW.amax((2, 3)))
    )
    weighed = x_BCHW / (1 + torch.exp(-score_BC))[:, :, None, None]  # type: ignore[arg-type]
    _close(channel(x_BCHW), weighed)
    maps = torch.stack([weighed.sum(1) / 6, weighed.amax(1)], dim=1)
    _close(spatial(weighed), weighed / (1 + torch.exp(-_conv(maps, spatial.conv))))


def test_off_tanet_s_last_block_step_by_step() -> None:
    torch.manual_seed(3)
    block: Any = _lively(off_tanet.EnhancedResidual(8, 4, 5).double().eval())
    x_BCHW = _random(2, 8, 5, 5)
    conv, norm, _, channel, spatial, attention, last, last_norm, _ = block.body
    y = _norm(_conv(x_BCHW, conv), norm).clamp(min=0)
    y = _norm(_conv(attention(spatial(channel(y))), last), last_norm).clamp(min=0)
    _close(block(x_BCHW), _pool(y + _conv(x_BCHW, block.shortcut, padding=0)))


@pytest.mark.parametrize("name", ["off_tanet", "mini_aorcnn"])
def test_the_stem_activates_before_it_normalises(name: str) -> None:
    stem = _net(name, 33)[0]
    x_BCHW = _random(2, 3, 33, 33)
    _close(stem(x_BCHW), _norm(_conv(x_BCHW, stem[0], stride=2, padding=3).clamp(min=0), stem[2]))


def test_the_residuals_of_off_tanet_and_mini_aorcnn() -> None:
    x_BCHW = _random(2, 8, 7, 7)
    for block, shortcut in (
        (_lively(off_tanet.Residual(8, 5).double().eval()), None),
        (_lively(mini_aorcnn.IdentityResidual(8, 5).double().eval()), x_BCHW),
    ):
        first, first_norm, _, second, second_norm, _ = block.body  # type: ignore[misc]
        y = _norm(_conv(x_BCHW, first), first_norm).clamp(min=0)
        y = _norm(_conv(y, second), second_norm).clamp(min=0)
        if shortcut is None:
            _close(block(x_BCHW), _pool(y + _conv(x_BCHW, block.shortcut, padding=0)))
        else:
            _close(block(x_BCHW), _pool(_conv(y + shortcut, block.widen, padding=0)))


def test_mini_aorcnn_stacks_two_attentions_beside_a_shortcut() -> None:
    torch.manual_seed(4)
    block = mini_aorcnn.BottleneckTransformer(6, 8, 5).double()
    x_BCHW = _random(2, 6, 5, 5)
    first, second = block.body
    _close(block(x_BCHW), _pool(second(first(x_BCHW)) + _conv(x_BCHW, block.shortcut, padding=0)))


def test_micro_attention_s_softmax_mask_by_loops() -> None:
    torch.manual_seed(5)
    unit: Any = _lively(micro_attention.SoftmaxUnit(3, 4).double().eval())
    x_BCHW = _random(2, 3, 5, 5)
    a = _norm(_conv(x_BCHW, unit.first[0]), unit.first[1]).clamp(min=0)
    b = _norm(_conv(a, unit.second[0]), unit.second[1]).clamp(min=0)
    m = _conv(x_BCHW, unit.shortcut, padding=0)
    mixed = _conv(torch.cat([a, b, m], 1), unit.mix.convs[0], padding=0).detach()
    expected = torch.empty_like(m)
    for clip in range(2):
        score_HW = sum(mixed[clip, c] for c in range(12)) / 12
        total = sum(math.exp(score_HW[i, j]) for i in range(5) for j in range(5))  # type: ignore[index]
        for i in range(5):
            for j in range(5):
                expected[clip, :, i, j] = (b + m)[clip, :, i, j] * (1 + math.exp(score_HW[i, j]) / total)  # type: ignore[index]
    _close(unit(x_BCHW), expected)


@pytest.mark.parametrize(("cin", "cout", "stride"), [(4, 4, 1), (4, 6, 2)])
def test_micro_attention_s_sigmoid_mask_and_preactivation(cin: int, cout: int, stride: int) -> None:
    torch.manual_seed(6)
    unit: Any = _lively(micro_attention.PreactivatedUnit(cin, cout, stride).double().eval())
    x_BCHW = _random(2, cin, 7, 7)
    active = _norm(x_BCHW, unit.activate[0]).clamp(min=0)
    a = _conv(active, unit.first, stride=stride)
    b = _conv(_norm(a, unit.second[0]).clamp(min=0), unit.second[2])
    m = x_BCHW if stride == 1 else _conv(active, unit.expand, stride=stride, padding=0)
    mask = 1 / (
        1
        + torch.exp(
            -_conv(
                _conv(torch.cat([a, b, m], 1), unit.mask.convs[0], padding=0), unit.mask.convs[1], padding=0
            )
        )
    )
    assert mask.shape[1] == 1
    _close(unit(x_BCHW), (b + m) * (1 + mask))


def test_macnn_s_blocks_and_dilations() -> None:
    net = _net("macnn", 32)
    x_BCHW = _random(1, 3, 32, 32)
    y = x_BCHW
    for block in net.blocks:
        inner = _conv(_conv(y, block.body[0]).clamp(min=0), block.body[2]).clamp(min=0)
        y = _pool(inner + _conv(y, block.shortcut, padding=0))
    y = _conv(y, net.atrous[0], dilation=4, padding=4).clamp(min=0)
    y = _conv(y, net.atrous[2], dilation=2, padding=2).clamp(min=0)
    _close(net(x_BCHW), _dense(y, net.head))


def test_a_dilated_convolution_reaches_as_far_as_it_should() -> None:
    """One bright pixel through the convolution of dilation 4 comes out at nine places, four pixels apart."""
    torch.manual_seed(0)
    conv = macnn.MACNN(macnn.MacnnOptions(size=16), 3).atrous[0]
    x_BCHW = torch.zeros(1, 256, 13, 13)
    x_BCHW[0, :, 6, 6] = 1
    lit = ((conv(x_BCHW) - conv(torch.zeros_like(x_BCHW))).abs().amax(1)[0] > 1e-6).nonzero().tolist()
    assert lit == [[i, j] for i in (2, 6, 10) for j in (2, 6, 10)]


def _dense(x_BCHW: Tensor, head: nn.Sequential) -> Tensor:
    y = x_BCHW.reshape(len(x_BCHW), -1)
    layers = [layer for layer in head if isinstance(layer, nn.Linear)]
    for layer in layers[:-1]:
        y = (y @ layer.weight.T + layer.bias).clamp(min=0)
    return y @ layers[-1].weight.T + layers[-1].bias


@pytest.mark.parametrize("variant", ["paper", "reference"])
def test_an_inception_block_branch_by_branch(variant: str) -> None:
    torch.manual_seed(8)
    block = dual_inception.InceptionBlock(3, 2, first_relu=variant == "paper").double()
    x_BCHW = _random(2, 3, 7, 7)
    convs = [
        [layer for layer in branch.modules() if isinstance(layer, nn.Conv2d)] for branch in block.branches
    ]
    a = _conv(x_BCHW, convs[0][0], padding=0)
    b = _conv(_conv(x_BCHW, convs[1][0], padding=0).clamp(min=0), convs[1][1]).clamp(min=0)
    c = _conv(_conv(x_BCHW, convs[2][0], padding=0).clamp(min=0), convs[2][1], padding=2).clamp(min=0)
    padded = F.pad(x_BCHW, (1, 1, 1, 1), value=-math.inf)
    d = _conv(padded.unfold(2, 3, 1).unfold(3, 3, 1).amax((4, 5)), convs[3][0], padding=0).clamp(min=0)
    _close(block(x_BCHW), _pool(torch.cat([a.clamp(min=0) if variant == "paper" else a, b, c, d], 1)))


def test_dual_inception_is_two_networks_until_the_head() -> None:
    net = _net("dual_inception", 12)
    x_BCHW = _random(2, 2, 12, 12)
    expected = _dense(torch.cat([net.streams[0](x_BCHW[:, :1]), net.streams[1](x_BCHW[:, 1:])], 1), net.head)
    _close(net(x_BCHW), expected)
    assert not torch.equal(net.streams[0](x_BCHW[:, :1]), net.streams[1](x_BCHW[:, :1]))


def test_off_apexnet_is_two_networks_until_the_head() -> None:
    net = _net("off_apexnet", 12)
    x_BCHW = _random(2, 2, 12, 12)
    streams = []
    for stream, y in enumerate(x_BCHW.split(1, dim=1)):
        for conv in (stage[0] for stage in net.streams):
            weight, bias = conv.weight.chunk(2)[stream], conv.bias.chunk(2)[stream]
            y = _pool(F.conv2d(y, weight, bias, padding=2).clamp(min=0))
        streams.append(y)
    _close(net(x_BCHW), _dense(torch.cat(streams, dim=1), net.head))


def test_ststnet_s_two_variants_from_its_weights() -> None:
    x_BCHW = _random(2, 3, 28, 28)
    for variant in ("paper", "reference"):
        net = _net("ststnet", 28, variant=variant)
        y = _conv(x_BCHW, net.streams.conv)
        y = _norm(y.clamp(min=0), net.streams.norm) if variant == "paper" else y
        joined = F.pad(y, (1, 1, 1, 1), value=-math.inf).unfold(2, 3, 3).unfold(3, 3, 3).amax((4, 5))
        assert joined.shape == (2, 16, 10, 10)
        _close(net(x_BCHW), _dense(_pool(joined, "mean" if variant == "paper" else "max"), net.head))


def test_dropout_is_the_variant_s_own_unless_given() -> None:
    def rates(name: str, **options: Any) -> set[float]:
        return {
            layer.p
            for layer in _net(name, 29, **options).modules()
            if isinstance(layer, nn.Dropout) and layer.p
        }

    assert rates("ststnet") == {0.5} and rates("ststnet", variant="reference") == set()
    assert rates("ststnet", dropout=0.2) == rates("ststnet", variant="reference", dropout=0.2) == {0.2}
    assert rates("micro_attention") == set() and rates("micro_attention", variant="reference") == {0.5}
    assert (
        rates("off_tanet", dropout=0.1)
        == rates("mini_aorcnn", dropout=0.1)
        == rates("macnn", dropout=0.1)
        == {0.1}
    )


def test_the_original_micro_attention_reads_the_apex_frame_and_the_other_the_flow() -> None:
    def inputs(**options: Any) -> tuple[str, ...]:
        return resolve(ModelConfig.model_validate({"name": "micro_attention", **options})).inputs

    assert inputs() == ("apex",)
    assert inputs(variant="reference") == ("u", "v", "strain")
