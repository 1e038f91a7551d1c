"""Folds on a real Ray: the same bits as without it, whatever is in flight, and a killed worker costs its
fold's retry alone."""

from __future__ import annotations

import os
import platform
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from distmer.cluster.connect import session
from distmer.config import ClusterConfig
from distmer.experiment.local import LocalBackend, attempt
from distmer.experiment.run import Report
from distmer.training.fit import fit_fold
from distmer.training.fold_inputs import Inputs
from distmer.training.runtime import Runtime, repeatable
from distmer.training.weights import unpack_fold
from distmer.types import FloatArray, FoldBegun, FoldFailure, FoldJob, FoldResult
from harness import command, toy
from harness.scripts.declared import Gated, on_the_cpu

pytestmark = pytest.mark.slow

CLIPS = toy.clips()
INPUTS = toy.inputs(CLIPS)


@pytest.fixture(scope="module", autouse=True)
def ray_of_two_cpus_and_two_declared_gpus() -> Iterator[None]:
    with session(ClusterConfig(local_cpus=2, local_gpus=2, workers_per_fold=1)):
        yield


def ended(reports: Iterable[Report]) -> dict[str, FoldResult | FoldFailure]:
    return {r.fold_id: r for r in reports if not isinstance(r, FoldBegun)}


def on_ray(
    cluster: ClusterConfig, scratch: Path, model: str = "atscnn", body: Any = attempt, **sections: object
) -> dict[str, FoldResult | FoldFailure]:
    from distmer.cluster.folds import RayWorkers

    cfg = toy.config(model, cluster=cluster.model_dump(), **sections)
    return ended(RayWorkers(cluster, str(scratch), body).run(toy.jobs(cfg, CLIPS), INPUTS))


def here(model: str = "atscnn", **sections: object) -> dict[str, FoldResult | FoldFailure]:
    return ended(LocalBackend().train(toy.jobs(toy.config(model, **sections), CLIPS), INPUTS))


def same(a: dict[str, FoldResult | FoldFailure], b: dict[str, FoldResult | FoldFailure]) -> bool:
    return a.keys() == b.keys() and all(
        isinstance(a[f], FoldResult)
        and isinstance(b[f], FoldResult)
        and np.array_equal(a[f].predictions.prob_NK, b[f].predictions.prob_NK)
        and a[f].curves == b[f].curves
        for f in a
    )


@pytest.mark.parametrize(("model", "in_flight"), [("atscnn", 1), ("atscnn", 2), ("linear", 2)])
def test_ray_gives_the_bits_of_the_local_executor(model: str, in_flight: int, tmp_path: Path) -> None:
    assert same(here(model), on_ray(ClusterConfig(in_flight=in_flight), tmp_path, model))


@pytest.mark.parametrize(("model", "workers"), [("atscnn", 0), ("atscnn", "auto"), ("linear", 0)])
def test_weights_come_back_from_tasks_and_from_worker_groups(
    model: str, workers: int | Literal["auto"], tmp_path: Path
) -> None:
    """A group of one, which a long fold becomes: the same digest, so the same bits."""
    from distmer.cluster.folds import RayWorkers

    cluster = ClusterConfig(workers_per_fold=workers, cpus_per_fold=0.5, checkpoint_after=1e-6)
    jobs = toy.jobs(toy.config(model, cluster=cluster.model_dump(), train={"keep_weights": True}), CLIPS)
    jobs = jobs[:1] if workers == "auto" else jobs  # a group starts processes of its own
    found = ended(RayWorkers(cluster, str(tmp_path)).run(jobs, INPUTS))
    alone = here(model)
    assert same({job.fold.id: alone[job.fold.id] for job in jobs}, found)
    for job in jobs:
        result = found[job.fold.id]
        assert isinstance(result, FoldResult)
        assert result.digest == job.digest == alone[job.fold.id].digest
        with repeatable(1):
            again = unpack_fold(job, result.weights, result.epochs).predict(INPUTS.take(job.fold.test))
        assert np.array_equal(again, result.predictions.prob_NK)
    assert not list(tmp_path.iterdir())  # checkpoints of a group are gone with it


def test_four_folds_share_two_declared_gpus(tmp_path: Path) -> None:
    """As far as a machine without a GPU can show: four folds are granted a half each, and the numbers are the
    same. A gate holds the folds until all have begun."""
    import ray

    from distmer.cluster.folds import RayWorkers

    cluster = ClusterConfig(gpus_per_fold=0.5, cpus_per_fold=0.1, in_flight=8)
    jobs = toy.jobs(toy.config(cluster=cluster.model_dump()), CLIPS)
    gate = tmp_path / "gate"
    gate.touch()
    running = RayWorkers(cluster, str(tmp_path), Gated(str(gate))).run(jobs, INPUTS)
    begun = [next(running) for _ in range(4)]
    assert all(isinstance(report, FoldBegun) for report in begun)
    deadline = time.monotonic() + command.PATIENCE
    while ray.available_resources().get("GPU", 0.0) > 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert ray.available_resources().get("GPU", 0.0) == 0  # all four halves are taken
    gate.unlink()
    assert same(here(), ended(running))


def test_a_promised_gpu_that_is_not_there_is_a_failure_and_no_cpu_training(tmp_path: Path) -> None:
    from distmer.cluster.folds import RayWorkers

    cluster = ClusterConfig(gpus_per_fold=1, cpus_per_fold=0.1, retries=0)
    # one fold: each that fails costs its process
    jobs = toy.jobs(toy.config(cluster=cluster.model_dump()), CLIPS)[:1]
    (failure,) = ended(RayWorkers(cluster, str(tmp_path)).run(jobs, INPUTS)).values()
    assert isinstance(failure, FoldFailure)
    assert f"node {platform.node()}: the fold was promised a GPU" in failure.reason
    # it needs none, and takes none
    assert all(isinstance(r, FoldResult) for r in on_ray(cluster, tmp_path, "linear").values())


class Where:
    """A body that says which process had which GPU."""

    def __call__(self, job: FoldJob, inputs: Inputs, runtime: Runtime) -> FoldResult:
        time.sleep(0.2)
        on_a_cpu = replace(job, spec={**job.spec, "device": "cpu"})
        return replace(
            fit_fold(on_a_cpu, inputs), device=f"{os.getpid()} {os.environ['CUDA_VISIBLE_DEVICES']}"
        )


def test_a_process_on_a_gpu_is_kept_and_its_gpu_never_changes(tmp_path: Path) -> None:
    from distmer.cluster.folds import RayWorkers

    cluster = ClusterConfig(gpus_per_fold=1, cpus_per_fold=0.1, in_flight=2)
    jobs = toy.jobs(toy.config(cluster=cluster.model_dump()), CLIPS)
    many = [replace(job, digest=f"{n}{job.digest[1:]}", seed=n) for n in range(4) for job in jobs]
    results = [
        r
        for r in RayWorkers(cluster, str(tmp_path), Where()).run(many, INPUTS)
        if not isinstance(r, FoldBegun)
    ]
    assert len(results) == 16
    homes = [tuple(r.device.split()) for r in results if isinstance(r, FoldResult)]
    assert len(homes) == 16
    assert len(set(homes)) == 2  # 16 folds, two processes, and each of them with the one GPU it began with
    assert {gpu for _, gpu in homes} == {"0", "1"}


def test_a_group_whose_second_worker_raises_is_a_failure_in_the_codes_own_words(tmp_path: Path) -> None:
    """The first worker waits for the gradients of the second: it must not wait, nor be tried again."""
    from distmer.cluster.folds import RayWorkers

    cluster = ClusterConfig(workers_per_fold=2, cpus_per_fold=0.5, retries=2)
    jobs = toy.jobs(toy.config(cluster=cluster.model_dump()), CLIPS)[:1]
    broken = OfTheFirstOnly(
        INPUTS.clip_ids, INPUTS.channels, INPUTS.normalised_as, INPUTS.x_NCHW, str(tmp_path)
    )
    (failure,) = ended(RayWorkers(cluster, str(tmp_path)).run(jobs, broken)).values()
    assert isinstance(failure, FoldFailure)
    assert failure.reason == "ValueError: this worker has no clips"
    assert not failure.lost and "\x1b" not in failure.traceback
    # it was asked for its clips once: nothing was tried again
    assert (tmp_path / "taken").read_text() == "second\n"


@dataclass(frozen=True, slots=True, eq=False)
class OfTheFirstOnly(Inputs):
    """Inputs that the second worker of a group cannot read; each time that it tries leaves a line in
    ``folder``."""

    folder: str = ""

    def take(self, clip_ids: Sequence[str]) -> FloatArray:
        from ray import train

        if train.get_context().get_world_rank() == 1:
            with (Path(self.folder) / "taken").open("a") as file:
                file.write("second\n")
            raise ValueError("this worker has no clips")
        return Inputs.take(self, clip_ids)


def test_a_fold_as_a_group_of_two_learns_and_its_workers_agree_on_the_chosen_epoch(tmp_path: Path) -> None:
    """It promises to be resumable, and not the bits of one worker: another digest. Each worker has its own
    batch statistics, and so its own validation scores: were each to go by its own, one would wait for ever.
    """
    from distmer.cluster.folds import RayWorkers

    cluster = ClusterConfig(workers_per_fold=2, cpus_per_fold=0.5)
    noisy = toy.inputs(CLIPS, noise=3)
    chosen = {"selection": "inner", "inner_folds": 2}
    jobs = toy.jobs(toy.config(cluster=cluster.model_dump(), train=chosen), CLIPS)[:1]
    (result,) = ended(RayWorkers(cluster, str(tmp_path)).run(jobs, noisy)).values()
    assert isinstance(result, FoldResult), result
    assert result.digest == jobs[0].digest != toy.jobs(toy.config(train=chosen), CLIPS)[0].digest
    assert len(result.curves["train_loss"]) == result.epochs > 1
    assert result.curves["train_loss"][-1] < result.curves["train_loss"][0]
    assert not list(tmp_path.iterdir())  # its checkpoints are gone with it


def test_an_exception_in_a_model_is_a_failure_with_its_traceback(tmp_path: Path) -> None:
    from distmer.cluster.folds import RayWorkers

    jobs = toy.jobs(toy.config(), CLIPS)
    broken = replace(jobs[0], spec={**jobs[0].spec, "train": {**jobs[0].spec["train"], "epochs": "many"}})
    results = ended(RayWorkers(ClusterConfig(), str(tmp_path)).run([broken, *jobs[1:]], INPUTS))
    failure = results.pop(jobs[0].fold.id)
    assert isinstance(failure, FoldFailure)
    assert "ValidationError" in failure.reason
    assert "fit_and_keep" in failure.traceback
    assert all(isinstance(r, FoldResult) for r in results.values())


@pytest.mark.parametrize("share", [{}, {"gpus_per_fold": 1.0, "cpus_per_fold": 0.1}], ids=["CPU", "GPU"])
def test_a_killed_worker_costs_its_folds_retry(share: dict[str, float], tmp_path: Path) -> None:
    import psutil

    from distmer.cluster.folds import RayWorkers

    undisturbed = here(train={"epochs": 100})
    cluster = ClusterConfig(in_flight=2, **share)
    jobs = toy.jobs(toy.config(train={"epochs": 100}, cluster=cluster.model_dump()), CLIPS)
    running = RayWorkers(cluster, str(tmp_path), on_the_cpu).run(jobs, INPUTS)
    first = next(running)
    victims: list[int] = []
    deadline = time.monotonic() + command.PATIENCE
    while not victims and time.monotonic() < deadline:
        time.sleep(0.02)  # a look at all processes is work, too
        for process in psutil.Process().children(recursive=True):
            if process.name().startswith(("ray::fold", "ray::_Lane.train")) or any(
                "ray::fold" in part for part in process.cmdline()[:1]
            ):
                victims.append(process.pid)
    assert victims, "no fold worker was seen"
    os.kill(victims[0], signal.SIGKILL)
    assert same(undisturbed, ended([first, *running]))
