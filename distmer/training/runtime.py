"""The process that trains: its device, its arithmetic, its memory, and what a group of workers shares."""

from __future__ import annotations

import ctypes
import functools
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from distmer.process import environment
from distmer.types import FloatArray, RunError

T = TypeVar("T")

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


class Runtime(Protocol):
    """The process that trains: a single one, or one of a group of data-parallel workers with checkpoints.

    ``rank`` is the worker's number from 0 on, ``world`` is how many workers there are.
    """

    rank: int
    world: int

    @property
    def device(self) -> torch.device:
        """Where it trains. RunError where a GPU was promised and there is none."""
        ...

    def wrap(self, net: nn.Module) -> nn.Module:
        """The same network, whose backward pass averages the gradients of all workers."""
        ...

    def broadcast(self, value: T) -> T:
        """The first worker's value, for all: workers may differ in the last digits, but must do the same
        next."""
        ...

    def restore(self) -> dict[str, Any] | None:
        """The state that was last saved, or None at the start."""
        ...

    def save(self, epoch: int, state: Callable[[], dict[str, Any]]) -> None:
        """Called after every epoch. It may keep the state, which `restore` then gives back."""
        ...


class SingleProcess:
    """One process without checkpoints: if it ends, the fold is trained again from its start."""

    rank = 0
    world = 1

    def __init__(self, *, gpu: bool = False) -> None:
        """``gpu``: whether the fold was promised a GPU. Without a promise it does not use one that is
        there."""
        self._gpu = gpu

    @property
    def device(self) -> torch.device:
        return training_device(self._gpu)

    def wrap(self, net: nn.Module) -> nn.Module:
        return net

    def broadcast(self, value: T) -> T:
        return value

    def restore(self) -> dict[str, Any] | None:
        return None

    def save(self, epoch: int, state: Callable[[], dict[str, Any]]) -> None:
        return None


def training_device(gpu: bool) -> torch.device:
    """The GPU that the scheduler gave this process, if it promised one, else the CPU.

    Ray narrows CUDA_VISIBLE_DEVICES to that GPU. Raises RunError where a GPU was promised and torch sees
    none: the results of a CPU must not be stored as those of a GPU.
    """
    if gpu and not torch.cuda.is_available():
        raise RunError(
            f"node {platform.node()}: the fold was promised a GPU, and torch sees none there; look at the"
            " node's driver and its build of torch (`distmer doctor`), or set cluster.gpus_per_fold=0."
        )
    return torch.device("cuda" if gpu else "cpu")


@contextmanager
def repeatable(threads: int) -> Iterator[None]:
    """Repeatable arithmetic within the block: ``threads`` CPU threads, deterministic kernels, no TF32.

    After the block the process is as it was, also its random numbers: it may be a notebook's.
    """
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
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    with environment({"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}):
        torch.use_deterministic_algorithms(True, warn_only=True)
        matmul.allow_tf32 = cudnn.allow_tf32 = cudnn.benchmark = False
        try:
            yield
        finally:
            matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)


@functools.cache
def keep_memory() -> None:
    """Keep freed memory for the next step, until this process ends. Call it only in a process that distmer
    started.

    By default glibc gives every large block back to the system at once. A step that asks for it again waits
    until the system has cleared it: up to a fifth of a step's time, as measured.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # another C library has none
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def to_device(x_NCHW: FloatArray, device: torch.device) -> torch.Tensor:
    """The inputs on the device. On CPUs the channels are last: convolutions of few channels are faster so
    (oneDNN)."""
    layout = torch.channels_last if device.type == "cpu" else torch.contiguous_format
    return torch.from_numpy(x_NCHW).to(device, memory_format=layout)
