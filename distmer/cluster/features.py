"""Features of many clips on Ray Data: actors map `extract` over clips, and rows stream back.

The driver writes the store, so no node needs its disk; the frames must be reachable from every node.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import pyarrow as pa
import ray
from ray.exceptions import RayError

from distmer.config import ClusterConfig, FeatureConfig
from distmer.features.methods import portable, require_same
from distmer.features.pipeline import FeatureRequest, extract, extraction
from distmer.features.row import FeatureRow, to_rows, to_table
from distmer.features.worker import packed, unpacked
from distmer.process import only_errors_of
from distmer.types import RunError


def extract_on_ray(
    requests: Sequence[FeatureRequest], config: FeatureConfig, cluster: ClusterConfig
) -> Generator[list[FeatureRow]]:
    """Features of clips in batches, as the actors finish them. A batch whose actor dies is extracted again by
    another. RunError when Ray gives up."""
    with _quiet():
        batches = max(1, -(-len(requests) // cluster.extract_batch))
        # all asked for at once: on a cluster they are what an autoscaler acts upon
        actors = min(cluster.extract_actors, batches)
        clips = ray.data.from_items(
            [{"request": packed(request, config)} for request in requests], override_num_blocks=batches
        )
        features = clips.map_batches(
            _extractor(portable(config)),
            batch_size=cluster.extract_batch,
            batch_format="pyarrow",
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=actors, initial_size=actors),
        )
        try:
            for batch in features.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                yield to_rows(cast(pa.Table, batch))
        except RayError as error:
            raise RunError(
                f"extraction on Ray broke off ({_said(error)}); what is extracted is kept. Run again."
            ) from error


def _extractor(config: FeatureConfig) -> type:
    """The actor class for these settings. They are part of the class, not arguments: Ray would put arguments
    into the object store, where a restarted actor could miss them."""
    planned = extraction(config)

    class Extractor:
        def __call__(self, batch: pa.Table) -> pa.Table:
            require_same(config, planned)
            rows = [extract(unpacked(text), config, planned) for text in batch.column("request").to_pylist()]
            return to_table(rows, config.size, config.size, config.frames)

    return Extractor


def _said(error: RayError) -> str:
    """Our own sentence, if the error holds one; else its last line."""
    lines = str(error).strip().splitlines()
    ours = [line.partition(": ")[2] for line in lines if line.startswith("distmer.types.")]
    return (ours or lines)[-1].rstrip(".")


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
