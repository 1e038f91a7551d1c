"""Who trains a fold must be what the fold's identity says, and waiting for machines ends."""

from __future__ import annotations

import platform
from dataclasses import replace
from typing import Any

import pytest

from distmer.config import ClusterConfig
from distmer.experiment.local import LocalBackend, attempt
from distmer.experiment.result import mixed_devices
from distmer.training.estimate import describe_executor, folds_at_once, uses_worker_group
from distmer.training.runtime import SingleProcess
from distmer.types import BadInput, FoldFailure, FoldJob, FoldResult
from harness import toy

CLIPS = toy.clips()


def job(model: str = "atscnn", **cluster: Any) -> FoldJob:
    return toy.jobs(toy.config(model, cluster=cluster), CLIPS)[0]


def local(job: FoldJob) -> FoldResult | FoldFailure:
    *_, last = LocalBackend().train([job], toy.inputs(CLIPS))
    assert isinstance(last, FoldResult | FoldFailure)
    return last


def test_one_process_does_not_file_the_work_of_two() -> None:
    assert job(workers_per_fold=2).digest != job().digest
    failure = local(job(workers_per_fold=2))
    assert (
        isinstance(failure, FoldFailure) and "those of 2 workers, and 1 would train it here" in failure.reason
    )
    with pytest.raises(BadInput, match="leave --local out"):
        LocalBackend().require(ClusterConfig(workers_per_fold=2))


@pytest.mark.parametrize("workers", ["auto", 0, 1])
def test_one_worker_is_one_worker_however_it_is_said(workers: Any) -> None:
    assert job(workers_per_fold=workers).digest == job().digest
    LocalBackend().require(ClusterConfig(workers_per_fold=workers))


def test_a_gpu_is_another_identity_for_networks_alone() -> None:
    assert job(gpus_per_fold=0.5).digest == job(gpus_per_fold=2).digest != job().digest
    assert job("linear", gpus_per_fold=1).digest == job("linear").digest


def test_a_promised_gpu_that_is_absent_is_a_failure_that_names_the_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for failure in (
        local(job(gpus_per_fold=1)),
        attempt(job(gpus_per_fold=1), toy.inputs(CLIPS), SingleProcess(gpu=True)),
    ):
        assert isinstance(failure, FoldFailure)
        assert (
            f"node {platform.node()}: the fold was promised a GPU, and torch sees none there"
            in failure.reason
        )
        assert not failure.traceback


def test_a_device_that_the_identity_does_not_name_is_refused() -> None:
    failure = attempt(job(gpus_per_fold=1), toy.inputs(CLIPS), SingleProcess())
    assert (
        isinstance(failure, FoldFailure)
        and "those of a cuda device, and a cpu device would train it here" in failure.reason
    )


def test_a_score_of_several_kinds_of_device_is_stamped() -> None:
    one = local(job("linear"))
    assert isinstance(one, FoldResult)
    assert mixed_devices([one, one]) == ()
    assert mixed_devices([one, replace(one, device="cuda")]) == ("mixed-devices",)


def test_a_long_fold_is_a_worker_group_and_a_short_one_a_task() -> None:
    here = ClusterConfig(address="local", checkpoint_after=1e-6)
    assert uses_worker_group(job(), here, "/scratch")
    assert "a worker group of one with checkpoints" in describe_executor(job(), here, "/scratch")
    assert not uses_worker_group(job(), ClusterConfig(address="local"), "/scratch")
    assert not uses_worker_group(job("linear"), here, "/scratch")
    assert not uses_worker_group(job(), here.model_copy(update={"workers_per_fold": 0}), "/scratch")
    assert uses_worker_group(job(), ClusterConfig(workers_per_fold=1), "/scratch")
    # Of a GPU this machine tells nothing; and checkpoints must be where every node reaches them.
    assert not uses_worker_group(job(gpus_per_fold=1), here, "/scratch")
    elsewhere = here.model_copy(update={"address": "head:6379"})
    assert not uses_worker_group(job(), elsewhere, "/scratch")
    assert uses_worker_group(job(), elsewhere, "s3://bucket/scratch")


def test_the_folds_at_once_are_those_that_ray_has_room_for() -> None:
    eight = ClusterConfig(local_cpus=8)
    assert folds_at_once(eight) == 8
    for changes, folds in (
        ({"cpus_per_fold": 2}, 4),
        ({"in_flight": 3}, 3),
        ({"workers_per_fold": 2}, 4),
        ({"cpus_per_fold": 9}, 1),
    ):
        assert folds_at_once(eight.model_copy(update=changes)) == folds
