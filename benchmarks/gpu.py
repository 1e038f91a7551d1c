"""Everything that one GPU can show, in one command: `python -m benchmarks.gpu [--json FILE]`.

It needs torch, NumPy, OpenCV, pyarrow, pydantic and PyYAML, and neither Ray nor MLflow. Each part runs in
a process of its own, so that one that fails costs its own rows alone:

``models``    every network trains on the GPU and on the CPU: the largest difference of a probability; two
              trainings on the GPU: equal to the bit or not
``audit``     the audit of a fold on the GPU
``steps``     training steps a second in fp32, TF32 and bf16, with CUDA graphs, with `torch.compile`
``together``  1 to 16 folds at once: as processes, as CUDA streams, as one batched model
``loso``      ATSCNN's whole LOSO (67 folds, 200 epochs, 442 clips of 128 px): seconds, worked out from some
              epochs, ours and a plain loop's; with ``--whole`` it is trained whole

Without a GPU the same parts run on the CPU, as a rehearsal of the command: the table says which it was.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks import gpu_together
from benchmarks.common import ROOT, Row, keep, machine
from benchmarks.gpu_steps import MODES, data_of, mode_seconds, peak_mib
from distmer.config import Config, ModelConfig
from distmer.evaluation.folds import make_folds
from distmer.models import models, resolve
from distmer.training.audit import audit_fold
from distmer.training.fit import fit_fold
from distmer.training.fold_inputs import Inputs
from distmer.training.runtime import keep_memory
from distmer.types import Clip, FoldJob, KeyFrames
from harness import toy

TOLERANCE = 1e-3  # of a probability after three epochs: another device takes sums in another order
PARTS = ("models", "audit", "steps", "together", "loso")
NETWORKS = tuple(
    name for name, info in models().items() if info.kind == "torch" and name not in ("torchvision", "timm")
)


def part_models(device: str) -> Iterator[Row]:
    """Each network, three epochs of 24 clips, on the device and on the CPU."""
    for name in NETWORKS:
        inputs, (job, *_) = fold_of(name, "cpu")
        _, (other, *_) = fold_of(name, device)
        here = fit_fold(job, inputs).predictions.prob_NK
        there = fit_fold(other, inputs).predictions.prob_NK
        again = fit_fold(other, inputs).predictions.prob_NK
        difference = float(np.abs(here - there).max())
        yield {
            "network": name,
            "device": device,
            "largest difference from the CPU": f"{difference:.1e}",
            f"within {TOLERANCE:g}": difference <= TOLERANCE,
            "twice equal to the bit": bool(np.array_equal(there, again)),
        }


def part_audit(device: str) -> Iterator[Row]:
    for name in ("atscnn", "ststnet", "flow_gru"):
        inputs, (job, *_) = fold_of(name, device)
        found = audit_fold(job, inputs)
        leaks = ", ".join(leak.name for leak in found.leaks) or "none"
        yield {"network": name, "device": device, "trainings": found.trainings, "leaks found": leaks}


def part_steps(device: str) -> Iterator[Row]:
    """Each network in each way, against the plain loop; a way that cannot be had says why."""
    for name in ("ststnet", "atscnn", "off_apexnet", "macnn") if device == "cuda" else ("ststnet",):
        plain = mode_seconds("plain", name, device)
        yield {"network": name, "way": "plain loop, fp32", "steps a second": f"{1 / plain:.1f}"}
        for mode in MODES:
            try:
                seconds = mode_seconds(mode, name, device)
            except (RuntimeError, NotImplementedError) as error:
                reason = str(error).strip().splitlines()[0][:80]
                yield {"network": name, "way": mode, "steps a second": f"not had: {reason}"}
                continue
            yield {
                "network": name,
                "way": mode,
                "steps a second": f"{1 / seconds:.1f}",
                "times the plain loop": f"{plain / seconds:.2f}",
                "peak MiB": f"{peak_mib(device):.0f}",
            }


def part_together(device: str) -> Iterator[Row]:
    counts = (1, 2, 4, 8, 16) if device == "cuda" else (1, 2)
    for name in ("atscnn", "ststnet"):
        yield from gpu_together.measure(name, device, counts)


def part_loso(device: str, whole: bool) -> Iterator[Row]:
    """ATSCNN's LOSO by several processes, and by a plain loop on the same device."""
    folds, epochs = 67, 200
    tried = epochs if whole else (3 if device == "cuda" else 1)
    trained = folds if whole else (16 if device == "cuda" else 1)
    plain = gpu_together.plain_epochs(device, tried if device == "cuda" else 1)
    total = plain * folds * epochs
    yield {"LOSO of ATSCNN": "plain loop", "minutes": f"{total / 60:.1f}", "measured": "1 fold"}
    counts = (1, 4, 8, 16) if device == "cuda" else (1,)
    for processes in counts[-1:] if whole else counts:
        seconds = gpu_together.folds_by_processes(device, processes, trained, tried)
        ours = seconds / (trained * tried) * folds * epochs
        yield {
            "LOSO of ATSCNN": f"distmer, {processes} folds at once",
            "minutes": f"{ours / 60:.1f}",
            "measured": f"{trained} folds, {tried} epochs",
            "times the plain loop": f"{total / ours:.2f}",
        }


def fold_of(
    name: str, device: str, epochs: int = 3, subjects: int = 4, batch_size: int = 8
) -> tuple[Inputs, list[FoldJob]]:
    """The jobs of a LOSO of ``subjects``, six clips each, at the network's own size."""
    cfg = Config.model_validate(
        {
            "model": {"name": name, "size": resolve(ModelConfig(name=name)).size},
            "train": {"epochs": epochs, "batch_size": batch_size, "lr": 1e-4},
            "cluster": {"gpus_per_fold": 1 if device == "cuda" else 0},
        }
    )
    keys = KeyFrames("onset", "apex")
    clips = [
        Clip("toy", f"s{s}", f"c{i}", (s + i) % 3, "toy", keys, "toy.csv row 1")
        for s in range(subjects)
        for i in range(6)
    ]
    resolved = resolve(cfg.model)
    x_NCHW, _ = data_of(resolved, len(clips), [clip.label for clip in clips])
    labels = {clip.id: clip.label for clip in clips}
    jobs = [toy.job_of(cfg, fold, labels) for fold in make_folds(clips, cfg.evaluation)]
    return Inputs(tuple(labels), tuple(resolved.inputs), "fixed", x_NCHW), jobs


def ask(part: str, device: str, whole: bool, seconds: float) -> Iterator[Row]:
    """The rows of a part, which runs in a process of its own; a last row says so if it failed or took too
    long."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", device, "--part", part]
    command += ["--whole"] if whole else []
    process = subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE)
    late = threading.Timer(seconds, process.kill)
    late.start()
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)
    late.cancel()
    if process.wait() == -signal.SIGKILL:
        yield {"part": part, "failed": f"it was not done after {seconds:.0f} s"}
    elif process.returncode:
        yield {"part": part, "failed": f"exit status {process.returncode}; its errors stand above"}


ALONE: dict[str, Callable[[str], Iterator[Row]]] = {
    "models": part_models,
    "audit": part_audit,
    "steps": part_steps,
    "together": part_together,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cpu", "cuda"])
    parser.add_argument("--parts", nargs="*", default=PARTS, choices=PARTS)
    parser.add_argument("--minutes", type=float, default=8.0, help="for all parts together")
    parser.add_argument("--whole", action="store_true", help="the LOSO is trained whole")
    parser.add_argument("--json")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    device = asked.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if asked.part:
        keep_memory()
        for row in part_loso(device, asked.whole) if asked.part == "loso" else ALONE[asked.part](device):
            print(json.dumps(row), flush=True)
        return
    begun = machine() | {
        "device": torch.cuda.get_device_name() if device == "cuda" else "the CPU: a rehearsal"
    }
    print(f"device: {begun['device']}; torch {torch.__version__}; {os.cpu_count()} cores", flush=True)
    end = time.monotonic() + 60 * asked.minutes
    found: dict[str, list[Row]] = {}
    for part in asked.parts:
        print(f"\n{part}", flush=True)
        found[part] = list(ask(part, device, asked.whole, max(end - time.monotonic(), 1.0)))
        keep(None, begun, found[part])
        if asked.json:
            Path(asked.json).write_text(json.dumps({"begun": begun, "parts": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
