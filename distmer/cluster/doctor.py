"""Asking every node of a Ray cluster how it is; a node that does not answer in time is an answer too."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import ray
from ray.autoscaler.sdk import request_resources
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from distmer.experiment.health import Answer, NodeReport, Probe, examine


def ask_nodes(probe: Probe, seconds: float) -> Iterator[Answer]:
    """One task a node, all at once, ``seconds`` for all of them."""
    # Without the override a task that asked for no GPU would see none, and here it is to see them all.
    task = ray.remote(
        num_cpus=0, max_retries=0, runtime_env={"env_vars": {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}}
    )(examine)
    waiting: dict[ray.ObjectRef, dict[str, Any]] = {}
    for node in ray.nodes():
        if node["Alive"]:
            here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            waiting[task.options(scheduling_strategy=here).remote(probe, node["NodeID"])] = node
    deadline = time.monotonic() + seconds
    while waiting:
        ready, _ = ray.wait(list(waiting), num_returns=1, timeout=max(0.0, deadline - time.monotonic()))
        if not ready:
            break
        yield _answer(waiting.pop(ready[0]), ready[0])
    for late, node in waiting.items():
        ray.cancel(late, force=True)
        yield Answer(_name(node), _gpus(node), None, why=f"no answer within {seconds:g} s")


def _answer(node: dict[str, Any], done: ray.ObjectRef) -> Answer:
    arrived = time.time()
    try:
        report: NodeReport = ray.get(done)
    except RayError as error:
        last = ["", *str(error).strip().splitlines()][-1].strip()
        return Answer(_name(node), _gpus(node), None, why=f"{type(error).__name__}: {last}")
    return Answer(_name(node), _gpus(node), report, skew=report.clock - arrived)


def _name(node: dict[str, Any]) -> str:
    return f"node {node['NodeManagerAddress']} {node['NodeID'][:6]}"


def _gpus(node: dict[str, Any]) -> float:
    return float(node["Resources"].get("GPU", 0))


def wait_for_gpus(wanted: int, seconds: float) -> float:
    """Ask the autoscaler for GPUs, and wait until the cluster has them. Returns how many it has then."""
    request_resources(bundles=[{"GPU": 1}] * wanted)
    try:
        deadline = time.monotonic() + seconds
        while True:
            there, left = float(ray.cluster_resources().get("GPU", 0)), deadline - time.monotonic()
            if there >= wanted or left <= 0:
                return there
            time.sleep(min(1.0, left))
    finally:
        request_resources(bundles=[])  # else they would be kept for ever
