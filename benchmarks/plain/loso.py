"""The plain fold loop, and a script around it: `python -m benchmarks.plain.loso FOLDER --epochs 400`.

FOLDER holds published flow maps, <subject>/u_test/<0|1|2>/*.png. Every core that PyTorch takes by itself; one
fold after the other.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from sklearn.metrics import f1_score, recall_score
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.plain.nets import NETS


def step(net: nn.Module, optimiser: torch.optim.Optimizer, x: Tensor, y: Tensor) -> float:
    """Forward, backward, update; the loss as a number."""
    optimiser.zero_grad()
    loss = nn.functional.cross_entropy(net(x), y)
    loss.backward()
    optimiser.step()
    return loss.item()


def train(
    net: nn.Module, train_set: TensorDataset, test_set: TensorDataset, epochs: int, batch: int, lr: float
) -> np.ndarray:
    """One fold; the held-out person's predictions after the last epoch."""
    optimiser = torch.optim.Adam(net.parameters(), lr=lr)
    train_loader = DataLoader(train_set, batch_size=batch, shuffle=True)
    test_loader = DataLoader(test_set, batch_size=batch)
    predicted = np.array([], dtype=np.int64)
    for _ in range(epochs):
        net.train()
        running = 0.0
        for x, y in train_loader:
            running += step(net, optimiser, x, y) * len(y)
        net.eval()
        with torch.no_grad():
            predicted = np.concatenate([net(x).argmax(1).numpy() for x, _ in test_loader])
    return predicted


def load(root: Path) -> tuple[Tensor, Tensor, list[str]]:
    paths = sorted(root.glob("*/u_test/*/*.png"))
    maps = np.stack([cv2.imread(str(path))[:, :, ::-1] for path in paths]).astype(np.float32) / 255
    labels = [int(path.parent.name) for path in paths]
    return (
        torch.from_numpy(maps.transpose(0, 3, 1, 2).copy()),
        torch.tensor(labels),
        [path.parts[-4] for path in paths],
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path)
    parser.add_argument("--model", default="ststnet", choices=NETS)
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--lr", type=float, default=5e-5)
    asked = parser.parse_args()
    begun = time.perf_counter()
    x, y, subjects = load(asked.root)
    predicted = torch.zeros_like(y)
    for subject in sorted(set(subjects)):
        torch.manual_seed(0)
        held = torch.tensor([s == subject for s in subjects])
        train_set, test_set = TensorDataset(x[~held], y[~held]), TensorDataset(x[held], y[held])
        predicted[held] = torch.from_numpy(
            train(NETS[asked.model](), train_set, test_set, asked.epochs, asked.batch, asked.lr)
        )
    scores = {
        "uar": recall_score(y, predicted, average="macro", labels=[0, 1, 2]),
        "uf1": f1_score(y, predicted, average="macro", labels=[0, 1, 2]),
        "seconds": time.perf_counter() - begun,
    }
    print(json.dumps(scores))


if __name__ == "__main__":
    main()
