"""Ways to take a training step, for `benchmarks.gpu`: the plain loop, distmer's own epoch, and what might be
faster on a GPU."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.plain.loso import step
from benchmarks.plain.nets import NETS
from benchmarks.steps import BATCH
from distmer.config import ModelConfig, TrainConfig
from distmer.models import ResolvedModel, resolve
from distmer.training.augmentations import Clips
from distmer.training.losses import ce
from distmer.training.network import make_optimiser, train_epoch
from distmer.training.runtime import SingleProcess, repeatable, to_device
from distmer.types import FloatArray, IntArray

MODES = (
    "distmer, fp32",
    "fp32, kernels chosen freely",
    "tf32",
    "bf16",
    "fp32, CUDA graph",
    "bf16, CUDA graph",
    "fp32, compiled",
    "bf16, compiled",
)


@dataclass
class Trained:
    """A network, its optimiser and a batch on the device."""

    net: nn.Module
    optimiser: torch.optim.Optimizer
    x_BCHW: torch.Tensor
    y_B: torch.Tensor

    @classmethod
    def of(cls, name: str, device: str, graph: bool = False) -> Trained:
        torch.manual_seed(0)
        resolved = resolve(ModelConfig(name=name))
        batch = BATCH.get(name, 64)
        x_NCHW, y_N = data_of(resolved, batch)
        net = resolved.build(3).to(device)
        if device == "cpu":
            net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimiser: torch.optim.Optimizer = (
            torch.optim.Adam(net.parameters(), lr=1e-4, capturable=True, fused=True)
            if graph
            else make_optimiser(net, TrainConfig())
        )
        x_BCHW = to_device(x_NCHW, torch.device(device))
        return cls(net.train(), optimiser, x_BCHW, torch.from_numpy(y_N).to(device))


def data_of(
    resolved: ResolvedModel, clips: int, labels: Sequence[int] | None = None
) -> tuple[FloatArray, IntArray]:
    """Random maps x_NCHW, into which the class y_N is written as a bright band."""
    y_N = np.arange(clips) % 3 if labels is None else np.array(labels)
    size = resolved.size
    x_NCHW = np.random.default_rng(7).normal(scale=0.5, size=(clips, len(resolved.inputs), size, size))
    for i, label in enumerate(y_N):
        x_NCHW[i, :, label * size // 3 : (label + 1) * size // 3] += 1
    return x_NCHW.astype(np.float32), y_N


def mode_seconds(mode: str, name: str, device: str) -> float:
    """The median seconds of a step. RuntimeError or NotImplementedError where this way cannot be had."""
    if "graph" in mode and device != "cuda":
        raise NotImplementedError("CUDA graphs need a GPU")
    if mode == "tf32" and device != "cuda":
        raise NotImplementedError("TF32 needs a GPU")
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with repeatable(1) if mode == "distmer, fp32" else _free(mode):
        return timed(_plain(name, device) if mode == "plain" else _ours(mode, name, device), device)


def timed(run: Callable[[], object], device: str, least: float = 1.0) -> float:
    """The median seconds of a call, after three to warm up."""
    for _ in range(3):
        run()
    seconds: list[float] = []
    while len(seconds) < 5 or sum(seconds) < least:
        _wait(device)
        begun = time.perf_counter()
        for _ in range(4):
            run()
        _wait(device)
        seconds.append((time.perf_counter() - begun) / 4)
    return statistics.median(seconds)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def peak_mib(device: str) -> float:
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@contextmanager
def _free(mode: str) -> Iterator[None]:
    """Arithmetic as a mode has it: kernels chosen by trial, TF32 where it is named."""
    torch.set_num_threads(1)
    torch.backends.cudnn.benchmark = mode != "plain"
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = mode == "tf32"
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = False


def _plain(name: str, device: str) -> Callable[[], object]:
    one = Trained.of(name, device)
    net = NETS[name](size=resolve(ModelConfig(name=name)).size).to(device)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-4)
    x_BCHW = one.x_BCHW.contiguous()
    return lambda: step(net, optimiser, x_BCHW, one.y_B)


def _ours(mode: str, name: str, device: str) -> Callable[[], object]:
    one = Trained.of(name, device, graph="graph" in mode)
    if mode == "distmer, fp32":
        rows_B = torch.arange(len(one.y_B), device=device)
        zero_C = torch.zeros(one.x_BCHW.shape[1], device=device)
        channels = resolve(ModelConfig(name=name)).inputs
        clips = Clips(one.x_BCHW, one.y_B, channels, zero_C, 3)
        process = SingleProcess(gpu=device == "cuda")
        return lambda: train_epoch(one.net, one.optimiser, clips, [rows_B], ce, process)
    run = _step_of(one, device, bf16="bf16" in mode, compiled="compiled" in mode)
    return _captured(run) if "graph" in mode else run


def _step_of(one: Trained, device: str, *, bf16: bool, compiled: bool) -> Callable[[], object]:
    torch._dynamo.reset()  # what was compiled for another way counts against this one
    net: Any = torch.compile(one.net) if compiled else one.net

    def run() -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16) if bf16 else nullcontext():
            loss = nn.functional.cross_entropy(net(one.x_BCHW).float(), one.y_B)
        one.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        one.optimiser.step()
        return loss.detach()

    return run


def _captured(run: Callable[[], object]) -> Callable[[], object]:
    """The step as a CUDA graph: recorded once, replayed without a word of Python."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay
