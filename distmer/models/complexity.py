"""What a network costs: parameters, operations and memory traffic by the reference paper's convention, multiply-adds, and time.

The convention of its Table 3 is torchstat 0.0.7's (`CONVENTION`), which that paper does not name: its printed digits follow
from these rules and from no other that was tried. They leave out what runs outside a layer module (attention's products,
sums, concatenations), SELU, sigmoid, softmax, dropout and adaptive pooling; they count a bias in a convolution and none in
a linear layer, and of a layer called several times the last call alone. ``macs`` is PyTorch's own counter, which sees every
matrix product and convolution, and nothing else.
"""

from __future__ import annotations

import statistics
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from distmer.models.base import ResolvedModel

CONVENTION = "torchstat 0.0.7"
_BYTES = 4  # of a float32


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one clip through a network in eval mode. ``flops`` and ``memory_bytes`` (MemR+W) are by `CONVENTION`."""

    parameters: int
    flops: int
    memory_bytes: int
    macs: int


@dataclass(frozen=True, slots=True)
class Measured:
    """Of one clip on one thread of this machine: the median time, and the most bytes of tensors alive at once, weights included."""

    milliseconds: float
    peak_bytes: int


def count(resolved: ResolvedModel, classes: int = 3) -> Cost:
    """The costs of a network at its size, from shapes alone: nothing is allocated."""
    with torch.device("meta"):
        net = resolved.build(classes).eval()
        x_1CHW = torch.empty(1, len(resolved.inputs), resolved.size, resolved.size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(x_1CHW)
    parameters = sum(p.numel() for p in net.parameters())
    flops, elements = torchstat(as_described(net), x_1CHW)
    return Cost(parameters, flops, elements * _BYTES, counter.get_total_flops() // 2)


def torchstat(net: nn.Module, x_1CHW: Tensor) -> tuple[int, int]:
    """Operations, and elements read and written, by `CONVENTION`."""
    costs: dict[nn.Module, tuple[int, int]] = {}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        costs[layer] = _layer_cost(layer, inputs[0].numel(), output)  # a second call overwrites the first

    hooks = [layer.register_forward_hook(note) for layer in net.modules() if not list(layer.children())]
    try:
        with torch.no_grad():
            net(x_1CHW)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(flops for flops, _ in costs.values()), sum(elements for _, elements in costs.values())


def as_described(net: nn.Module) -> nn.Module:
    """``net``, changed in place, with every layer that is written otherwise for speed in its published form."""
    for name, child in net.named_children():
        described: Callable[[], nn.Module] | None = getattr(child, "described", None)
        setattr(net, name, as_described(child) if described is None else described())
    return net


def measure(resolved: ResolvedModel, classes: int = 3, repeats: int = 9) -> Measured:
    """Time and memory of one clip. The process's number of threads is 1 meanwhile."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        net = resolved.build(classes).eval()
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # as folds are trained; torch's stubs lack it
        x_1CHW = torch.rand(1, len(resolved.inputs), resolved.size, resolved.size).contiguous(memory_format=torch.channels_last)
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
    """Operations, and elements moved, of one call of one layer on ``read`` elements."""
    wrote = output.numel()
    weights = sum(p.numel() for p in layer.parameters())
    match layer:
        case nn.Conv2d():
            per_output = prod(layer.kernel_size) * layer.in_channels // layer.groups + (layer.bias is not None)
            return per_output * wrote, read + weights + wrote
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
    """The bytes of all tensors alive, and their peak. What a kernel takes as a work space of its own is not seen."""

    def __init__(self, present: list[Tensor]) -> None:
        super().__init__()
        self._known: set[int] = set()
        self._now = 0
        self.peak = 0
        for tensor in present:
            self._meet(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._meet(leaf)
        return out

    def _meet(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage.data_ptr(), storage.nbytes()
        if key in self._known or not size:  # a view, or seen before
            return
        self._known.add(key)
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size
