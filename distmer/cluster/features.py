"""Features of many clips on Ray Data: a pool of actors maps `extract` over clips; rows stream back to whoever writes them.

The driver writes the store, so no node needs its disk; the frames must be reachable from every node.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayError

from distmer.config import ClusterConfig, FeatureConfig
from distmer.features.pipeline import FeatureRequest, FeatureRow, extract
from distmer.types import RunError


class Extractor:
    """An actor: the face detector and the landmark model are loaded once, then serve batch after batch."""

    def __init__(self, config: FeatureConfig) -> None:
        self.config = config

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        rows = np.empty(len(batch["request"]), dtype=object)
        for i, request in enumerate(batch["request"]):
            rows[i] = extract(request, self.config)
        return {"row": rows}


def extract_on_ray(requests: Sequence[FeatureRequest], config: FeatureConfig, cluster: ClusterConfig) -> Iterator[list[FeatureRow]]:
    """Features of clips in batches, as the actors finish them. A batch whose actor dies is extracted again by another.

    Raises RunError when Ray gives up; what came before has been handed over.
    """
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    blocks = max(1, -(-len(requests) // cluster.extract_batch))
    clips = ray.data.from_items([{"request": request} for request in requests], override_num_blocks=blocks)
    features = clips.map_batches(
        Extractor,
        fn_constructor_args=(config,),
        batch_size=cluster.extract_batch,
        num_cpus=1,
        concurrency=(1, cluster.extract_actors),
    )
    try:
        for batch in features.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
            yield list(batch["row"])
    except RayError as error:
        first = str(error).strip().splitlines()[-1]
        raise RunError(f"extraction on Ray broke off ({first}); what is extracted is kept: give the same command again.") from error
