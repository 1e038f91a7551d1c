"""Several folds on one device at once, for `benchmarks.gpu`: as processes, as streams of one process, as one
batched model; and ATSCNN's LOSO by processes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from benchmarks.common import ROOT, Row
from benchmarks.gpu_steps import Trained, data_of, peak_mib, timed
from benchmarks.plain.loso import step
from benchmarks.plain.nets import NETS
from distmer.config import ModelConfig
from distmer.models import resolve
from distmer.training.runtime import keep_memory, repeatable

SECONDS = 3.0  # of each measurement of processes and streams


def measure(name: str, device: str, counts: tuple[int, ...]) -> Iterator[Row]:
    """Steps a second of all folds together, and the memory that they take."""
    for way, run in (("processes", _processes), ("streams", _streams), ("one batched model", _batched)):
        alone = 0.0
        for count in counts:
            try:
                rate, mib = run(name, device, count)
            except (RuntimeError, NotImplementedError) as error:
                reason = str(error).strip().splitlines()[0][:90]
                yield {"network": name, "folds as": way, "at once": count, "steps a second": reason}
                break
            alone = alone or rate
            yield {
                "network": name,
                "folds as": way,
                "at once": count,
                "steps a second": f"{rate:.1f}",
                "times one alone": f"{rate / alone:.2f}",
                "peak MiB, all": f"{mib:.0f}",
            }


def _processes(name: str, device: str, count: int) -> tuple[float, float]:
    with _children("steps", name, device, count) as children:
        answers = [json.loads(_line(child)) for child in children]
    return sum(a["steps"] / a["seconds"] for a in answers), sum(a["mib"] for a in answers)


def _streams(name: str, device: str, count: int) -> tuple[float, float]:
    """One thread and one CUDA stream a fold; on a CPU the threads alone."""
    torch.set_num_threads(1)
    done = [0] * count
    end = threading.Event()

    def train(number: int) -> None:
        with _stream(device):
            run = _plain_step(Trained.of(name, device))
            run()
            ready.wait()
            while not end.is_set():
                run()
                done[number] += 1
            if device == "cuda":
                torch.cuda.current_stream().synchronize()

    ready = threading.Barrier(count + 1)
    threads = [threading.Thread(target=train, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    ready.wait()
    begun = time.perf_counter()
    time.sleep(SECONDS)
    end.set()
    for thread in threads:
        thread.join()
    return sum(done) / (time.perf_counter() - begun), peak_mib(device)


@contextmanager
def _stream(device: str) -> Iterator[None]:
    if device == "cuda":
        with torch.cuda.stream(torch.cuda.Stream()):
            yield
    else:
        yield


def _batched(name: str, device: str, count: int) -> tuple[float, float]:
    """The networks of all folds as one function of stacked weights (`torch.func`), each on its own batch.

    These are the plain networks: distmer's own gradients of `models/fused.py` cannot be batched so.
    """
    torch.set_num_threads(1)
    ones = [Trained.of(name, device) for _ in range(count)]
    size = resolve(ModelConfig(name=name)).size
    nets: list[Any] = [NETS[name](size=size).to(device).train() for _ in range(count)]
    weights, buffers = torch.func.stack_module_state(nets)
    base = nets[0]
    leaves = {name: value.detach().requires_grad_() for name, value in weights.items()}
    optimiser = torch.optim.Adam(leaves.values(), lr=1e-4, fused=True)
    x_FBCHW = torch.stack([one.x_BCHW for one in ones])
    y_FB = torch.stack([one.y_B for one in ones])

    def loss_of(weights: Any, buffers: Any, x_BCHW: torch.Tensor, y_B: torch.Tensor) -> torch.Tensor:
        out_NK = torch.func.functional_call(base, (weights, buffers), (x_BCHW,))
        return nn.functional.cross_entropy(out_NK, y_B)

    losses = torch.func.vmap(loss_of, randomness="different")

    def run() -> None:
        optimiser.zero_grad(set_to_none=True)
        losses(leaves, buffers, x_FBCHW, y_FB).sum().backward()
        optimiser.step()

    return count / timed(run, device), peak_mib(device)


def _plain_step(one: Trained) -> Callable[[], object]:
    def run() -> None:
        loss = nn.functional.cross_entropy(one.net(one.x_BCHW), one.y_B)
        one.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        one.optimiser.step()

    return run


def plain_epochs(device: str, epochs: int) -> float:
    """Seconds of an epoch of a fold by a plain loop: 435 clips of 128 px, each batch moved to the device,
    each loss read."""
    net, x_NCHW, y_N = _fold()
    net = net.to(device)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-4)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(x_NCHW, y_N), batch_size=64, shuffle=True
    )

    def epoch() -> None:
        for x_BCHW, y_B in loader:
            step(net, optimiser, x_BCHW.to(device), y_B.to(device))

    if device == "cuda":
        epoch()
    begun = time.perf_counter()
    for _ in range(epochs):
        epoch()
    return (time.perf_counter() - begun) / epochs


def _fold() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    resolved = resolve(ModelConfig(name="atscnn"))
    x_NCHW, y_N = data_of(resolved, 435)
    return NETS["atscnn"](size=resolved.size), torch.from_numpy(x_NCHW), torch.from_numpy(y_N)


def folds_by_processes(device: str, processes: int, folds: int, epochs: int) -> float:
    """Seconds from the first fold's begin to the last one's end, as a run trains them: `fit_fold`,
    ``processes`` at once."""
    shares = [len(range(number, folds, processes)) for number in range(processes)]
    with _children("folds", "atscnn", device, processes, [f"{n}x{epochs}" for n in shares]) as children:
        begun = time.perf_counter()
        for child in children:
            _line(child)
        return time.perf_counter() - begun


@contextmanager
def _children(
    what: str, name: str, device: str, count: int, more: list[str] | None = None
) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that are ready, and begin when all of them are."""
    command = [sys.executable, "-m", "benchmarks.gpu_together", what, name, device]
    children = [
        subprocess.Popen(
            [*command, *(more[number : number + 1] if more else [])],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for number in range(count)
    ]
    try:
        for child in children:
            _line(child)
        for child in children:
            assert child.stdin is not None
            child.stdin.write("\n")
            child.stdin.flush()
        yield children
    finally:
        for child in children:
            child.kill()
            child.wait()


def _line(child: subprocess.Popen[str]) -> str:
    """Its next line. RuntimeError if it has ended."""
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line:
        raise RuntimeError("a process ended before it answered; its error stands above")
    return line


def _steps(name: str, device: str) -> dict[str, float]:
    with repeatable(1):
        one = Trained.of(name, device)
        run = _plain_step(one)
        for _ in range(2):
            run()
        print("ready", flush=True)
        sys.stdin.readline()
        begun, steps = time.perf_counter(), 0
        while time.perf_counter() - begun < SECONDS:
            run()
            steps += 1
            if device == "cuda" and steps % 8 == 0:
                torch.cuda.synchronize()
        if device == "cuda":
            torch.cuda.synchronize()
    return {"steps": steps, "seconds": time.perf_counter() - begun, "mib": peak_mib(device)}


def _folds(device: str, folds: int, epochs: int) -> dict[str, float]:
    from benchmarks.gpu import fold_of
    from distmer.training.fit import fit_fold

    inputs, jobs = fold_of("atscnn", device, epochs, subjects=74, batch_size=64)  # 444 clips
    warm_inputs, (warm, *_) = fold_of("atscnn", device, 1)
    fit_fold(warm, warm_inputs)
    print("ready", flush=True)
    sys.stdin.readline()
    for job in jobs[:folds]:
        fit_fold(job, inputs)
    return {"folds": folds}


def main() -> None:
    what, name, device, *more = sys.argv[1:]
    keep_memory()
    if what == "steps":
        print(json.dumps(_steps(name, device)), flush=True)
    else:
        folds, epochs = (int(part) for part in more[0].split("x"))
        print(json.dumps(_folds(device, folds, epochs)), flush=True)


if __name__ == "__main__":
    main()
