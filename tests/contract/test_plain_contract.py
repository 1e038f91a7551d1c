"""Every network against the one that is written plainly (benchmarks/plain): same weights, same batches, same
loss curve."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from benchmarks.equal import ours_like
from benchmarks.plain.loso import step
from benchmarks.plain.nets import NETS
from distmer.config import TrainConfig
from distmer.models import models
from distmer.training.network import Task, batch_bounds, train_network
from distmer.training.runtime import SingleProcess
from distmer.training.seeds import derive

# A rate at which rounding is not amplified: at 1e-3, macnn's curves part by a hundredth in the fourth epoch.
EPOCHS, SEED, CLIPS, BATCH, RATE = 4, 3, 20, 8, 1e-4


def test_every_network_has_a_plain_one() -> None:
    assert set(NETS) == {name for name, info in models().items() if info.kind == "torch"}


@pytest.mark.parametrize("name", sorted(NETS))
def test_the_loss_curve_is_the_plain_loop_s(name: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    size = max(32, models()[name].min_size)
    plain = NETS[name](size=size)  # dropout included: both draw alike
    ours = ours_like(copy.deepcopy(plain), name, size)
    channels = {"dual_inception": 2, "off_apexnet": 2, "micro_attention": 1, "flow_gru": 14}.get(name, 3)
    x_NCHW, y_N = torch.randn(CLIPS, channels, size, size), torch.arange(CLIPS) % 3
    optimiser, curve = torch.optim.Adam(plain.parameters(), lr=RATE), list[float]()
    for epoch in range(EPOCHS):
        torch.manual_seed(derive(SEED, "dropout", epoch, 0))
        order_N = torch.from_numpy(np.random.default_rng(derive(SEED, "order", epoch)).permutation(CLIPS))
        batches = [order_N[a:b] for a, b in batch_bounds(CLIPS, BATCH)]
        curve.append(
            sum(step(plain, optimiser, x_NCHW[rows], y_N[rows]) * len(rows) for rows in batches) / CLIPS
        )
    config = TrainConfig(batch_size=BATCH, lr=RATE)
    _, losses = train_network(
        Task(lambda: ours, x_NCHW.numpy(), y_N.numpy(), 3), config, EPOCHS, SEED, SingleProcess()
    )
    assert losses == pytest.approx(curve, abs=1e-4)
    assert len(set(losses)) == EPOCHS
