"""Features of many clips on Ray Data: a pool of actors maps `extract` over clips; rows stream back to whoever writes them.

The driver writes the store, so no node needs its disk; the frames must be reachable from every node. What travels are
plain Arrow columns: text, and the arrays as bytes beside their side lengths.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, cast

import numpy as np
import pyarrow as pa
import ray
from ray.exceptions import RayError

from distmer.config import ClusterConfig, FeatureConfig
from distmer.features.pipeline import FeatureRequest, FeatureRow, extract
from distmer.process import only_errors_of
from distmer.types import ApexSearch, FlowMap, KeyFrames, RunError, Source

_ARRAYS = {"onset_HW": np.uint8, "apex_HW": np.uint8, "flow_HW2": np.float32, "strain_HW": np.float32}
_PLAIN = tuple(f.name for f in fields(FeatureRow) if f.name not in _ARRAYS)


def extract_on_ray(requests: Sequence[FeatureRequest], config: FeatureConfig, cluster: ClusterConfig) -> Iterator[list[FeatureRow]]:
    """Features of clips in batches, as the actors finish them. A batch whose actor dies is extracted again by another.

    Raises RunError when Ray gives up; what came before has been handed over.
    """
    with _quiet():
        batches = max(1, -(-len(requests) // cluster.extract_batch))
        actors = min(cluster.extract_actors, batches)  # all asked for at once: on a cluster they are what an autoscaler acts upon
        clips = ray.data.from_items(
            [_pack_request(request) for request in requests],
            override_num_blocks=batches,
        )
        features = clips.map_batches(
            _extractor(config),
            batch_size=cluster.extract_batch,
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=actors, initial_size=actors),
        )
        try:
            for batch in features.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                yield [_unpack_row(record) for record in cast(pa.Table, batch).to_pylist()]
        except RayError as error:
            first = str(error).strip().splitlines()[-1]
            raise RunError(f"extraction on Ray broke off ({first}); what is extracted is kept: give the same command again.") from error


def _extractor(config: FeatureConfig) -> type:
    """The actor class for these settings. A process keeps its face detector and landmark model from batch to batch.

    The settings are part of the class, not arguments: Ray would put arguments into the object store, where a restarted
    actor could miss them.
    """

    class Extractor:
        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            requests = [_unpack_request(*values) for values in zip(batch["clip_id"], batch["kind"], batch["paths"], strict=True)]
            records = [_pack_row(extract(request, config)) for request in requests]
            return {name: [record[name] for record in records] for name in records[0]}

    return Extractor


@contextmanager
def _quiet() -> Iterator[None]:
    """distmer shows its own progress; Ray Data's errors still come through."""
    context = ray.data.DataContext.get_current()
    before = context.enable_progress_bars, context.print_on_execution_start
    context.enable_progress_bars, context.print_on_execution_start = False, False
    try:
        with only_errors_of("ray.data"):
            yield
    finally:
        context.enable_progress_bars, context.print_on_execution_start = before


def _pack_request(request: FeatureRequest) -> dict[str, Any]:
    match request.source:
        case KeyFrames(onset, apex):
            paths = [onset, apex]
        case ApexSearch(onset, candidates):
            paths = [onset, *candidates]
        case FlowMap(image):
            paths = [image]
    return {"clip_id": request.clip_id, "kind": type(request.source).__name__, "paths": "\0".join(paths)}


def _unpack_request(clip_id: str, kind: str, joined: str) -> FeatureRequest:
    paths = str(joined).split("\0")
    sources: dict[str, Source] = {
        "KeyFrames": KeyFrames(paths[0], paths[-1]),
        "ApexSearch": ApexSearch(paths[0], tuple(paths[1:])),
        "FlowMap": FlowMap(paths[0]),
    }
    return FeatureRequest(str(clip_id), sources[str(kind)])


def _pack_row(row: FeatureRow) -> dict[str, Any]:
    arrays = {name: getattr(row, name) for name in _ARRAYS}
    height, width = (0, 0) if row.strain_HW is None else row.strain_HW.shape
    packed = {name: b"" if array is None else np.ascontiguousarray(array).tobytes() for name, array in arrays.items()}
    return {**{name: getattr(row, name) for name in _PLAIN}, **packed, "height": height, "width": width}


def _unpack_row(record: dict[str, Any]) -> FeatureRow:
    shape = (record["height"], record["width"])
    arrays: dict[str, Any] = {
        name: np.frombuffer(record[name], kind).reshape((*shape, 2) if name.endswith("2") else shape) if record[name] else None
        for name, kind in _ARRAYS.items()
    }
    return FeatureRow(**{name: record[name] for name in _PLAIN}, **arrays)
