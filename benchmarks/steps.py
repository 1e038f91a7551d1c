"""One training step, ours against the plain one: `python -m benchmarks.steps [--models atscnn ststnet …]
[--threads 1 2]`.

A step is forward, backward and update on tensors in memory: `benchmarks.plain.loso.step`, and distmer's own
epoch of one batch. Each side lives in a process of its own, as distmer's settles how its process keeps
memory; they are asked in turn. Sizes are the networks' own (ATSCNN: 128 px).
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from types import TracebackType
from typing import Any, Self

import torch

from benchmarks.common import ROOT, Row, keep, machine, paired
from benchmarks.equal import ours_like
from benchmarks.plain.loso import step
from benchmarks.plain.nets import NETS
from distmer.config import ModelConfig, TrainConfig
from distmer.models import resolve
from distmer.training.augmentations import Clips
from distmer.training.losses import ce
from distmer.training.network import make_optimiser, train_epoch
from distmer.training.runtime import SingleProcess, keep_memory, repeatable, to_device

# of the others 64
BATCH = {"ststnet": 221, "off_tanet": 32, "mini_aorcnn": 32, "macnn": 8, "micro_attention": 8}


class Side:
    """A process that trains one network, plainly or our way."""

    def __init__(self, side: str, model: str, threads: int) -> None:
        self._command = [
            sys.executable,
            "-m",
            "benchmarks.steps",
            "--side",
            side,
            "--models",
            model,
            "--threads",
            str(threads),
        ]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._answer()  # it has loaded, and done a first step
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=60)

    def seconds(self) -> float:
        """The median of some steps, now."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        seconds, self.mib = self._answer()
        return seconds

    def _answer(self) -> tuple[float, float]:
        assert self._process.stdout is not None
        seconds, mib = json.loads(self._process.stdout.readline())
        return seconds, mib


def serve(side: str, model: str, threads: int) -> None:
    """Answer each line of standard input with the seconds of a step."""
    with repeatable(threads):
        _serve(side, model)


def _serve(side: str, model: str) -> None:
    torch.manual_seed(0)
    resolved = resolve(ModelConfig(name=model))
    batch = BATCH.get(model, 64)
    x_BCHW = torch.rand(batch, len(resolved.inputs), resolved.size, resolved.size)
    y_B, plain = torch.arange(batch) % 3, NETS[model](size=resolved.size)
    if side == "plain":
        optimiser = torch.optim.Adam(plain.parameters(), lr=1e-4)

        def run() -> None:
            step(plain, optimiser, x_BCHW, y_B)
    else:
        keep_memory()
        net = ours_like(plain, model, resolved.size)
        net.to(memory_format=torch.channels_last)
        ours, x_BCHW = make_optimiser(net, TrainConfig()), to_device(x_BCHW.numpy(), torch.device("cpu"))
        batches = [torch.arange(batch)]
        clips = Clips(x_BCHW, y_B, resolved.inputs, torch.zeros(x_BCHW.shape[1]), 3)

        def run() -> None:
            train_epoch(net, ours, clips, batches, ce, SingleProcess())

    run()
    print(json.dumps([0.0, 0.0]), flush=True)
    for _ in sys.stdin:
        seconds: list[float] = []
        while len(seconds) < 3 or sum(seconds) < 1.5:
            begun = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - begun)
        print(
            json.dumps(
                [statistics.median(seconds), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]
            ),
            flush=True,
        )


def measure(models: list[str], threads: list[int], rounds: int) -> list[Row]:
    rows: list[Row] = []
    for name in models:
        for count in threads:
            with Side("plain", name, count) as plain, Side("ours", name, count) as ours:
                figures: dict[str, Any] = paired(rounds, plain.seconds, ours.seconds)
                figures |= {"plain peak MiB": f"{plain.mib:.0f}", "ours": f"{ours.mib:.0f}"}
            size = resolve(ModelConfig(name=name)).size
            rows.append(
                {
                    "a training step": name,
                    "px": size,
                    "batch": BATCH.get(name, 64),
                    "threads": count,
                    **figures,
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="*", default=list(NETS), choices=NETS)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json")
    parser.add_argument("--side", choices=["plain", "ours"], help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side:
        serve(asked.side, asked.models[0], asked.threads[0])
        return
    begun = machine()
    keep(asked.json, begun, measure(asked.models, asked.threads, asked.rounds))


if __name__ == "__main__":
    main()
