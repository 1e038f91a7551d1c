"""What a network costs: parameters, operations, memory traffic, multiply-adds, and time.

The reference paper does not say how it counted for its Table 3 (`distmer.costs.paper`). Of the rules that we
tried, only those of torchstat 0.0.7 (`CONVENTION`) give its digits. By these rules,

- operations outside a layer module cost nothing: the products of attention, sums, concatenations;
- SELU, sigmoid, softmax, dropout, adaptive pooling and recurrent layers cost nothing;
- the bias counts in a convolution and not in a linear layer;
- of a layer that is called several times, only the last call counts.

``macs`` is PyTorch's own counter. It sees every matrix product and every convolution, and nothing else.
"""

from __future__ import annotations

import statistics
import time
import weakref
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from distmer.models.base import ResolvedModel
from distmer.models.layers import ChannelAttention, Projection, ReluPool, StreamStage
from distmer.models.micro_attention import Stem
from distmer.models.ststnet import KERNELS, Streams

CONVENTION = "torchstat 0.0.7"
_BYTES = 4  # of a float32


@dataclass(frozen=True, slots=True)
class Cost:
    """One clip in eval mode. ``flops`` and ``memory_bytes`` (read and written) are by `CONVENTION`."""

    parameters: int
    flops: int
    memory_bytes: int
    macs: int


@dataclass(frozen=True, slots=True)
class Measured:
    """One clip on one CPU thread: the median time in ms, and the most bytes of tensors alive."""

    milliseconds: float
    peak_bytes: int


def count(resolved: ResolvedModel, classes: int = 3) -> Cost:
    """The costs of a network for maps of its size, from shapes alone: nothing is allocated."""
    with torch.device("meta"):
        net = resolved.build(classes).eval()
        x_1CHW = torch.empty(1, len(resolved.inputs), resolved.size, resolved.size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(x_1CHW)
    parameters = sum(p.numel() for p in net.parameters())
    flops, elements = torchstat(as_published(net), x_1CHW)
    return Cost(parameters, flops, elements * _BYTES, counter.get_total_flops() // 2)


def torchstat(net: nn.Module, x_1CHW: Tensor) -> tuple[int, int]:
    """Operations, and numbers read and written, by `CONVENTION`."""
    costs: dict[nn.Module, tuple[int, int]] = {}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        output = output[0] if isinstance(output, tuple) else output  # of a GRU: all times, and the last state
        costs[layer] = _layer_cost(layer, inputs[0].numel(), output)  # a second call overwrites the first

    hooks = [layer.register_forward_hook(note) for layer in net.modules() if not list(layer.children())]
    try:
        with torch.no_grad():
            net(x_1CHW)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(flops for flops, _ in costs.values()), sum(elements for _, elements in costs.values())


def as_published(net: nn.Module) -> nn.Module:
    """``net``, changed in place: each layer that distmer writes in a faster form gets its published form."""
    for name, child in net.named_children():
        published = _published_form(child)
        setattr(net, name, as_published(child) if published is None else published)
    return net


def _published_form(layer: nn.Module) -> nn.Module | None:
    match layer:
        case StreamStage():
            return nn.Sequential(layer.conv, layer.norm, layer.activation, nn.MaxPool2d(2))
        case ReluPool():
            pool = nn.MaxPool2d(layer.kernel_size, layer.stride, layer.padding)
            return nn.Sequential(nn.ReLU(), pool)
        case ChannelAttention():
            return _ChannelAttentionInTwoPasses(layer.mlp)
        case Projection():
            return _ConcatenatedAndProjected(layer.convs)
        case Stem():
            pool = nn.MaxPool2d(3, 2, padding=1)
            return nn.Sequential(layer.data_norm, layer.conv, layer.norm, nn.ReLU(), pool)
        case Streams():
            return _ThreeStreams(paper=layer.norm is not None).to(layer.conv.weight.device)
        case _:
            return None


class _ChannelAttentionInTwoPasses(nn.Module):
    """`ChannelAttention` as Woo et al. draw it: the MLP runs on the average, then on the maximum."""

    def __init__(self, mlp: nn.Module) -> None:
        super().__init__()
        self.mlp = mlp

    def forward(self, x_BCHW: Tensor) -> Tensor:
        average_BC11, maximum_BC11 = x_BCHW.mean((2, 3), keepdim=True), x_BCHW.amax((2, 3), keepdim=True)
        return x_BCHW * torch.sigmoid(self.mlp(average_BC11) + self.mlp(maximum_BC11))


class _ConcatenatedAndProjected(nn.Module):
    """`Projection` as it is described: each convolution runs on whole maps."""

    def __init__(self, convs: nn.Module) -> None:
        super().__init__()
        self.convs = convs

    def forward(self, *maps: Tensor) -> Tensor:
        return self.convs(torch.cat(maps, dim=1)).mean(1, keepdim=True)


class _ThreeStreams(nn.Module):
    """STSTNet's `Streams` as the paper draws them. The weights are fresh: only shapes are counted."""

    def __init__(self, paper: bool) -> None:
        super().__init__()
        self.streams = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(3, kernels, 3, padding=1),
                *([nn.ReLU(), nn.BatchNorm2d(kernels)] if paper else []),
                nn.MaxPool2d(3, 3, padding=1),
            )
            for kernels in KERNELS
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return torch.cat([stream(x_BCHW) for stream in self.streams], dim=1)


def measure(resolved: ResolvedModel, classes: int = 3, repeats: int = 9) -> Measured:
    """Time and memory of one clip. Meanwhile, torch uses one thread in this process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        net = resolved.build(classes).eval()
        layout = torch.channels_last  # as folds are trained
        net.to(memory_format=layout)  # type: ignore[call-overload]  # torch's stubs lack it
        x_1CHW = torch.rand(1, len(resolved.inputs), resolved.size, resolved.size)
        x_1CHW = x_1CHW.contiguous(memory_format=layout)
        with torch.no_grad():
            with _LiveBytes([*net.parameters(), *net.buffers(), x_1CHW]) as live:
                net(x_1CHW)  # the first call of a kernel is slow: it warms up
            seconds = [_timed(net, x_1CHW) for _ in range(repeats)]
    finally:
        torch.set_num_threads(threads)
    return Measured(1000 * statistics.median(seconds), live.peak)


def _timed(net: nn.Module, x_1CHW: Tensor) -> float:
    started = time.perf_counter()
    net(x_1CHW)
    return time.perf_counter() - started


def _layer_cost(layer: nn.Module, read: int, output: Tensor) -> tuple[int, int]:
    """Operations, and numbers moved, of one call of one layer on ``read`` numbers."""
    wrote = output.numel()
    weights = sum(p.numel() for p in layer.parameters())
    match layer:
        case nn.Conv2d():
            weights_used = prod(layer.kernel_size) * layer.in_channels // layer.groups
            return (weights_used + (layer.bias is not None)) * wrote, read + weights + wrote
        case nn.BatchNorm2d():
            return 2 * read, read + 2 * layer.num_features + read
        case nn.ReLU() | nn.ELU() | nn.LeakyReLU():
            return read, 2 * read
        case nn.MaxPool2d() | nn.AvgPool2d():
            return read, read + wrote
        case nn.Linear():
            return layer.in_features * layer.out_features, read + weights + wrote
        case _:
            return 0, 0


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors alive, and their peak. It does not see a kernel's own work space."""

    def __init__(self, present: list[Tensor]) -> None:
        super().__init__()
        self._known: set[int] = set()
        self._now = 0
        self.peak = 0
        for tensor in present:
            self._add(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._add(leaf)
        return out

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage.data_ptr(), storage.nbytes()
        if key in self._known or not size:  # a view, or seen before
            return
        self._known.add(key)
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size
