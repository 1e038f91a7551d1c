"""The same numbers: `python -m benchmarks.same --maps FOLDER [--model ststnet] [--epochs 400] [--lr 5e-5]
[--batch 256] [--json FILE]`.

Every LOSO fold of the published flow maps twice, plainly and our way, from the same initial weights, with the
same batches and dropout: how many held-out clips are answered alike, and how far losses and probabilities
part.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import Row, keep, machine
from benchmarks.equal import ours_like
from benchmarks.plain.loso import load, step
from benchmarks.plain.nets import NETS
from distmer.config import TrainConfig
from distmer.training.network import Task, batch_bounds, predict, train_network
from distmer.training.runtime import SingleProcess, repeatable
from distmer.training.seeds import derive


def both(
    name: str, x_NCHW: torch.Tensor, y_N: torch.Tensor, held_N: torch.Tensor, asked: argparse.Namespace
) -> tuple[np.ndarray, ...]:
    """Losses and held-out probabilities of one fold, plain then ours."""
    x_train, y_train = x_NCHW[~held_N], y_N[~held_N]
    torch.manual_seed(0)
    plain = NETS[name](size=x_NCHW.shape[-1])
    ours = ours_like(copy.deepcopy(plain), name, x_NCHW.shape[-1])
    optimiser, curve = torch.optim.Adam(plain.parameters(), lr=asked.lr), list[float]()
    for epoch in range(asked.epochs):
        plain.train()
        torch.manual_seed(derive(0, "dropout", epoch, 0))
        order_N = torch.from_numpy(np.random.default_rng(derive(0, "order", epoch)).permutation(len(y_train)))
        batches = [order_N[a:b] for a, b in batch_bounds(len(y_train), asked.batch)]
        losses = [step(plain, optimiser, x_train[rows], y_train[rows]) * len(rows) for rows in batches]
        curve.append(sum(losses) / len(y_train))
    plain.eval()
    with torch.no_grad():
        prob_NK = plain(x_NCHW[held_N]).double().softmax(1).numpy()
    task = Task(lambda: ours, x_train.numpy(), y_train.numpy(), 3)
    net, our_curve = train_network(
        task, TrainConfig(batch_size=asked.batch, lr=asked.lr), asked.epochs, 0, SingleProcess()
    )
    return np.array(curve), prob_NK, np.array(our_curve), predict(net, x_NCHW[held_N].numpy())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--maps", type=Path, required=True)
    parser.add_argument("--model", default="ststnet", choices=NETS)
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--json")
    asked = parser.parse_args()
    with repeatable(1):
        _compare(asked)


def _compare(asked: argparse.Namespace) -> None:
    begun = machine()
    x_NCHW, y_N, subjects = load(asked.maps)
    alike = clips = 0
    loss_apart, prob_apart = [], []
    for subject in sorted(set(subjects)):
        held_N = torch.tensor([other == subject for other in subjects])
        curve, prob_NK, our_curve, our_prob_NK = both(asked.model, x_NCHW, y_N, held_N, asked)
        alike += int((prob_NK.argmax(1) == our_prob_NK.argmax(1)).sum())
        clips += len(prob_NK)
        loss_apart.append(float(abs(curve - our_curve).max()))
        prob_apart.append(float(abs(prob_NK - our_prob_NK).max()))
    row: Row = {
        "model": asked.model,
        "epochs": asked.epochs,
        "answered alike": f"{alike} of {clips}",
        "loss apart, at most": f"{max(loss_apart):.2g}",
        "median of folds": f"{np.median(loss_apart):.2g}",
        "probability apart, at most": f"{max(prob_apart):.2g}",
    }
    keep(asked.json, begun, [row])


if __name__ == "__main__":
    main()
