"""One training of one network on clips in memory: the loop every deep model goes through."""

from __future__ import annotations

import ctypes
import functools
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import nn

from distmer.config import TrainConfig
from distmer.process import environment
from distmer.training.losses import batch_loss, class_weights
from distmer.training.seeds import derive
from distmer.types import FloatArray, IntArray, RunError

Epoch = tuple[torch.Tensor, list[torch.Tensor]]  # inputs of the epoch, row numbers of its batches

T = TypeVar("T")

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


class Runtime(Protocol):
    """How a training meets its process: alone, or one of a group of data-parallel workers with checkpoints."""

    rank: int
    world: int

    @property
    def device(self) -> torch.device:
        """Where it trains. RunError where a GPU was promised and there is none."""
        ...

    def wrap(self, net: nn.Module) -> nn.Module:
        """The network whose backward pass averages gradients over the workers."""
        ...

    def agreed(self, value: T) -> T:
        """The first worker's value, for all: workers may differ in the last digits, but not in what they do next."""
        ...

    def restore(self) -> dict[str, Any] | None:
        """The state last saved, or None at the start."""
        ...

    def save(self, epoch: int, state: Callable[[], dict[str, Any]]) -> None:
        """Called after every epoch; may keep the state, from which `restore` goes on."""
        ...


class Alone:
    """One process, no checkpoint: what must survive goes to the ledger."""

    rank = 0
    world = 1

    def __init__(self, *, gpu: bool = False) -> None:
        """``gpu``: whether the fold was promised one; on a machine that has a GPU, a fold that was not stays off it."""
        self._gpu = gpu

    @property
    def device(self) -> torch.device:
        return device_of(self._gpu)

    def wrap(self, net: nn.Module) -> nn.Module:
        return net

    def agreed(self, value: T) -> T:
        return value

    def restore(self) -> dict[str, Any] | None:
        return None

    def save(self, epoch: int, state: Callable[[], dict[str, Any]]) -> None:
        return None


@dataclass(frozen=True, eq=False)
class Task:
    """What is trained: a builder of fresh weights, clips with their labels, and their mirror images if these take part."""

    build: Callable[[], nn.Module]
    x_NCHW: FloatArray
    mirror_NCHW: FloatArray | None
    y_N: IntArray
    classes: int


def device_of(gpu: bool) -> torch.device:
    """The GPU that the scheduler gave this process (Ray narrows CUDA_VISIBLE_DEVICES) if it promised one, else the CPU.

    Raises RunError where one was promised and torch sees none: numbers of a CPU must not be filed as those of a GPU.
    """
    if gpu and not torch.cuda.is_available():
        raise RunError(
            f"node {platform.node()}: the fold was promised a GPU, and torch sees none there; look at the node's driver and its build"
            " of torch (`distmer doctor`), or set cluster.gpus_per_fold=0."
        )
    return torch.device("cuda" if gpu else "cpu")


@contextmanager
def settled(threads: int) -> Iterator[None]:
    """Repeatable arithmetic within the block: thread count, deterministic kernels, no TF32. After it, and for torch's
    random numbers too, the process is as it was: it may be a notebook's."""
    before = torch.get_num_threads()
    cuda = torch.cuda.is_available()
    torch.set_num_threads(threads)
    try:
        # Asking a GPU for its random numbers takes memory on it, which a fold on the CPU has no claim to.
        devices = range(torch.cuda.device_count()) if cuda and torch.cuda.is_initialized() else ()
        with torch.random.fork_rng(devices=devices), _deterministic_kernels() if cuda else nullcontext():
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _deterministic_kernels() -> Iterator[None]:
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    before = (matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark)
    asked, warned = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    with environment({"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}):
        torch.use_deterministic_algorithms(True, warn_only=True)
        matmul.allow_tf32 = cudnn.allow_tf32 = cudnn.benchmark = False
        try:
            yield
        finally:
            matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before
            torch.use_deterministic_algorithms(asked, warn_only=warned)


@functools.cache
def keep_memory() -> None:
    """Keep freed memory for the next step, as long as this process lives: for a process of ours alone. By default
    glibc gives every large block back to the system
    at once, and a step that asks for it again waits for the system to clear it: up to a fifth of its time, measured."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # another C library has none
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def laid_out(x_NCHW: FloatArray, device: torch.device) -> torch.Tensor:
    """Inputs where they are trained on; on CPUs channels last, which oneDNN's convolutions of few channels want."""
    layout = torch.channels_last if device.type == "cpu" else torch.contiguous_format
    return torch.from_numpy(x_NCHW).to(device, memory_format=layout)


def train_network(
    task: Task,
    config: TrainConfig,
    epochs: int,
    seed: int,
    runtime: Runtime,
    each_epoch: Callable[[nn.Module], None] | None = None,
    carry: Mapping[str, Any] | None = None,
) -> tuple[nn.Module, tuple[float, ...]]:
    """Train from fresh weights for ``epochs``; the network and the mean training loss of each epoch.

    Weights, batch order, mirroring, dropout and rate are functions of (seed, epoch): an epoch resumed is the epoch itself.
    ``each_epoch`` sees the network after every epoch (inner validation, or the oracle); by default nobody looks.
    With ``carry`` (what else must survive a restart) the training is resumable through the runtime's checkpoints.
    """
    device = runtime.device
    torch.manual_seed(derive(seed, "weights"))
    net = task.build().to(device)
    if device.type == "cpu":
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
    optimiser = make_optimiser(net, config)
    saved = None if carry is None else runtime.restore()
    losses: list[torch.Tensor] = []
    start = 0
    if saved is not None:
        net.load_state_dict(saved["net"])
        load_optimiser(optimiser, saved["optimiser"])
        losses = [loss.to(device) for loss in saved["losses"]]
        start = int(saved["epoch"])
    wrapped = runtime.wrap(net)
    x_NCHW = laid_out(task.x_NCHW, device)
    mirror_NCHW = None if task.mirror_NCHW is None else laid_out(task.mirror_NCHW, device)
    y_N = torch.from_numpy(task.y_N.astype(np.int64)).to(device)
    weight_K = class_weights(config.loss, task.y_N, task.classes)
    weight_K = None if weight_K is None else weight_K.to(device)
    for epoch in range(start, epochs):
        net.train()
        for group in optimiser.param_groups:
            group["lr"] = rate(config, epoch)
        torch.manual_seed(derive(seed, "dropout", epoch, runtime.rank))
        x_epoch_NCHW, batches = _epoch_order(task, x_NCHW, mirror_NCHW, config, derive(seed, "order", epoch))
        losses.append(_one_epoch(wrapped, optimiser, x_epoch_NCHW, y_N, batches, weight_K, runtime))
        if each_epoch is not None:
            net.eval()
            each_epoch(net)
        if carry is not None:
            runtime.save(epoch + 1, partial(_state, net, optimiser, losses, epoch + 1, carry))
    net.eval()
    return net, tuple(float(v) for v in torch.stack(losses).tolist()) if losses else ()


def predict(net: nn.Module, x_NCHW: FloatArray, batch: int = 256) -> FloatArray:
    """Class probabilities ``prob_NK`` (float64) of clips; dropout and batch statistics are off."""
    device = next(net.parameters()).device
    net.eval()
    with torch.inference_mode():
        parts = [net(laid_out(x_NCHW[i : i + batch], device)).double().softmax(dim=1) for i in range(0, len(x_NCHW), batch)]
    return torch.cat(parts).cpu().numpy()


def make_optimiser(net: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimiser of the configuration; fused kernels where torch has them (same update, fewer passes over memory)."""
    parameters = net.parameters()
    if config.optimiser == "sgd":
        return torch.optim.SGD(parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=True)
    kind = torch.optim.Adam if config.optimiser == "adam" else torch.optim.AdamW
    return kind(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True)


def load_optimiser(optimiser: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """The optimiser's state, in the layout of its parameters: one that was saved on another kind of device has another, and fused
    kernels walk through both as if they lay alike."""
    optimiser.load_state_dict(saved)
    for parameter, state in optimiser.state.items():
        for name, value in state.items():
            if torch.is_tensor(value) and value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter).copy_(value)


def rate(config: TrainConfig, epoch: int) -> float:
    """The learning rate of an epoch, counted from 0. A function of its number alone, whatever was trained before."""
    if config.schedule == "constant":
        return config.lr
    return config.lr * config.step_factor ** (epoch // config.step_epochs)


def batch_bounds(clips: int, batch_size: int) -> list[tuple[int, int]]:
    """Where the batches of an epoch begin and end. A last batch of one clip joins the one before it: batch
    normalisation cannot take the statistics of one clip."""
    starts = list(range(0, clips, batch_size))
    if len(starts) > 1 and clips - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], clips], strict=True))


def _epoch_order(task: Task, x_NCHW: torch.Tensor, mirror_NCHW: torch.Tensor | None, config: TrainConfig, seed: int) -> Epoch:
    """This epoch's inputs (half of them mirrored, if asked for) and its batches of row numbers."""
    rng = np.random.default_rng(seed)
    rows_N = torch.from_numpy(rng.permutation(len(task.y_N))).to(x_NCHW.device)
    if mirror_NCHW is not None:
        flip_N = torch.from_numpy(rng.random(len(task.y_N)) < 0.5).to(x_NCHW.device)
        x_NCHW = torch.where(flip_N[:, None, None, None], mirror_NCHW, x_NCHW)
    return x_NCHW, [rows_N[a:b] for a, b in batch_bounds(len(rows_N), config.batch_size)]


def _one_epoch(
    net: nn.Module,
    optimiser: torch.optim.Optimizer,
    x_NCHW: torch.Tensor,
    y_N: torch.Tensor,
    batches: list[torch.Tensor],
    weight_K: torch.Tensor | None,
    runtime: Runtime,
) -> torch.Tensor:
    """One pass; the mean loss a clip, left on the device so that no step waits for it."""
    total = torch.zeros((), device=x_NCHW.device)
    clips = 0
    for rows_B in batches:
        # A batch too small to split (fewer than two clips a worker) is trained whole by every worker alike.
        mine_B = rows_B[runtime.rank :: runtime.world] if len(rows_B) >= 2 * runtime.world else rows_B
        loss = batch_loss(net(x_NCHW[mine_B]), y_N[mine_B], weight_K)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        total += loss.detach() * len(mine_B)
        clips += len(mine_B)
    return total / clips


def _state(
    net: nn.Module, optimiser: torch.optim.Optimizer, losses: list[torch.Tensor], epoch: int, carry: Mapping[str, Any]
) -> dict[str, Any]:
    return {"net": net.state_dict(), "optimiser": optimiser.state_dict(), "losses": losses, "epoch": epoch, "carry": dict(carry)}
