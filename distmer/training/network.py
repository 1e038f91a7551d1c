"""The training loop of every network: one training of one network on clips in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import numpy as np
import torch
from torch import nn

from distmer.config import TrainConfig
from distmer.training.augmentations import Augmentation, Clips
from distmer.training.losses import Loss, batch_loss, ce
from distmer.training.runtime import Runtime, to_device
from distmer.training.seeds import derive
from distmer.types import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Task:
    """What is trained: a function that builds the network with fresh weights, and clips with their labels.

    ``x_NCHW`` are the N clips' inputs, float32, of the C ``channels``; ``y_N`` their classes from 0 on;
    ``zero_C`` the value of no motion in each channel. ``augment`` is applied to them at the start of every
    epoch.
    """

    build: Callable[[], nn.Module]
    x_NCHW: FloatArray
    y_N: IntArray
    classes: int
    loss: Loss = ce
    augment: tuple[Augmentation, ...] = ()
    channels: tuple[str, ...] = ()
    zero_C: FloatArray | None = None  # needed by augmentations alone


def train_network(
    task: Task,
    config: TrainConfig,
    epochs: int,
    seed: int,
    runtime: Runtime,
    after_epoch: Callable[[nn.Module], None] | None = None,
    extra_state: Mapping[str, Any] | None = None,
) -> tuple[nn.Module, tuple[float, ...]]:
    """Train a network from fresh weights.

    Weights, batch order, mirroring, dropout and learning rate are functions of the seed and the epoch's
    number. So an epoch that is repeated after a restart is the same epoch.

    Parameters
    ----------
    task : what is trained
    config : optimiser, learning rate, batch size, loss
    epochs : how many passes over the clips
    seed : of everything random
    runtime : the process, or the group of workers, that trains
    after_epoch : called with the network, in eval mode, after every epoch (inner validation, or the oracle)
    extra_state : what else must survive a restart; with it, the training goes on from the runtime's
        checkpoints

    Returns
    -------
    The network in eval mode, and the mean training loss of each epoch.
    """
    device = runtime.device
    torch.manual_seed(derive(seed, "weights"))
    net = built(task, device)
    optimiser = make_optimiser(net, config)
    saved = None if extra_state is None else runtime.restore()
    if (
        saved is not None
        and extra_state is not None
        and len(saved["extra"]["finished"]) != len(extra_state["finished"])
    ):
        saved = None  # of the network before, in an ensemble
    losses: list[torch.Tensor] = []
    start = 0
    if saved is not None:
        net.load_state_dict(saved["net"])
        load_optimiser(optimiser, saved["optimiser"])
        losses = [loss.to(device) for loss in saved["losses"]]
        start = int(saved["epoch"])
    wrapped = runtime.wrap(net)
    clips = _clips(task, device)
    loss = task.loss.to(device) if isinstance(task.loss, nn.Module) else task.loss
    for epoch in range(start, epochs):
        net.train()
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(config, epoch)
        torch.manual_seed(derive(seed, "dropout", epoch, runtime.rank))
        rng = np.random.default_rng(derive(seed, "order", epoch))
        batches = _batches(len(task.y_N), config.batch_size, rng, device)
        augmented = reduce(lambda before, change: change(before, rng), task.augment, clips)
        losses.append(train_epoch(wrapped, optimiser, augmented, batches, loss, runtime))
        if after_epoch is not None:
            net.eval()
            after_epoch(net)
        if extra_state is not None:
            runtime.save(epoch + 1, partial(_state, net, optimiser, losses, epoch + 1, extra_state))
    net.eval()
    return net, tuple(float(v) for v in torch.stack(losses).tolist()) if losses else ()


def built(task: Task, device: torch.device) -> nn.Module:
    """The task's network on the device, its weights drawn from torch's generator; in the layout of
    `to_device`."""
    net = task.build().to(device)
    if device.type == "cpu":
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
    return net


def predict(net: nn.Module, x_NCHW: FloatArray, batch: int = 256) -> FloatArray:
    """Class probabilities ``prob_NK`` (float64) of the clips ``x_NCHW``, computed ``batch`` clips at a
    time."""
    device = next(net.parameters()).device
    net.eval()
    with torch.inference_mode():
        batches = (to_device(x_NCHW[i : i + batch], device) for i in range(0, len(x_NCHW), batch))
        return torch.cat([net(x_BCHW).double().softmax(dim=1) for x_BCHW in batches]).cpu().numpy()


def make_optimiser(net: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimiser of the configuration, with fused kernels: the same update in fewer passes over memory."""
    settings: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay, "fused": True}
    if config.optimiser == "sgd":
        return torch.optim.SGD(net.parameters(), momentum=config.momentum, **settings)
    kind = torch.optim.Adam if config.optimiser == "adam" else torch.optim.AdamW
    return kind(net.parameters(), **settings)


def load_optimiser(optimiser: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Load the optimiser's state and give each tensor the memory layout of its parameter.

    A state that was saved on another kind of device has another layout, and fused kernels take both to be the
    same.
    """
    optimiser.load_state_dict(saved)
    for parameter, state in optimiser.state.items():
        for name, value in state.items():
            if torch.is_tensor(value) and value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter).copy_(value)


def learning_rate(config: TrainConfig, epoch: int) -> float:
    """The learning rate of an epoch, counted from 0. It depends on nothing that was trained before."""
    if config.schedule == "constant":
        return config.lr
    return config.lr * config.step_factor ** (epoch // config.step_epochs)


def batch_bounds(clips: int, batch_size: int) -> list[tuple[int, int]]:
    """The first row of each batch of an epoch, and the row after its last.

    A last batch of one clip joins the batch before it: batch normalisation needs the statistics of more than
    one.
    """
    starts = list(range(0, clips, batch_size))
    if len(starts) > 1 and clips - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], clips], strict=True))


def _clips(task: Task, device: torch.device) -> Clips:
    """The task's clips on the device, as augmentations take them."""
    zero_C = np.zeros(task.x_NCHW.shape[1], np.float32) if task.zero_C is None else task.zero_C
    return Clips(
        to_device(task.x_NCHW, device),
        torch.from_numpy(task.y_N.astype(np.int64)).to(device),
        task.channels,
        torch.from_numpy(zero_C.astype(np.float32)).to(device),
        task.classes,
    )


def _batches(
    clips: int, batch_size: int, rng: np.random.Generator, device: torch.device
) -> list[torch.Tensor]:
    """The row numbers of each batch of an epoch."""
    rows_N = torch.from_numpy(rng.permutation(clips)).to(device)
    return [rows_N[a:b] for a, b in batch_bounds(clips, batch_size)]


def train_epoch(
    net: nn.Module,
    optimiser: torch.optim.Optimizer,
    clips: Clips,
    batches: list[torch.Tensor],
    loss_of: Loss,
    runtime: Runtime,
) -> torch.Tensor:
    """Train one epoch. The mean loss of a clip stays on the device, so that no step waits for it."""
    total = torch.zeros((), device=clips.x_NCHW.device)
    seen = 0
    for rows_B in batches:
        # A batch too small to split (fewer than two clips a worker) is trained whole by every worker alike.
        own_B = rows_B[runtime.rank :: runtime.world] if len(rows_B) >= 2 * runtime.world else rows_B
        loss = batch_loss(loss_of, net(clips.x_NCHW[own_B]), clips.target[own_B])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        total += loss.detach() * len(own_B)
        seen += len(own_B)
    return total / seen


def _state(
    net: nn.Module,
    optimiser: torch.optim.Optimizer,
    losses: list[torch.Tensor],
    epoch: int,
    extra: Mapping[str, Any],
) -> dict[str, Any]:
    """What a checkpoint holds; ``epoch`` is the number of epochs done."""
    state = {"net": net.state_dict(), "optimiser": optimiser.state_dict(), "losses": losses, "epoch": epoch}
    return {**state, "extra": dict(extra)}
