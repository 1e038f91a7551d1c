"""Where the work is done: features of many clips and many folds, behind one interface.

`distmer.experiment.local` does it in this process, `distmer.cluster.backend` on Ray.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Protocol

from distmer.config import ClusterConfig, FeatureConfig
from distmer.experiment.run import Report
from distmer.features.pipeline import FeatureRequest
from distmer.features.row import FeatureRow
from distmer.training.fold_inputs import Inputs
from distmer.types import FoldJob


class Backend(Protocol):
    """Something that extracts features and trains folds. It starts nothing before that is needed."""

    def starting(self, clips: int) -> str:
        """What the first of so many clips of frames still has to wait for, in words; "" if for nothing."""
        ...

    def require(self, config: ClusterConfig) -> None:
        """BadInput where it cannot train folds as these settings say."""
        ...

    def start(self, clips: int, *, folds: bool) -> None:
        """Start now what will be needed: for a caller who knows that so many ``clips`` will be extracted, and
        whether ``folds`` will be trained after them."""
        ...

    def extract(
        self, requests: Sequence[FeatureRequest], config: FeatureConfig
    ) -> Generator[list[FeatureRow]]:
        """Features of clips, in batches as they come, in any order. Closing the generator stops what is under
        way."""
        ...

    def train(self, jobs: Sequence[FoldJob], inputs: Inputs) -> Generator[Report]:
        """Folds as they begin and as they end, in any order. Closing the generator stops what is under
        way."""
        ...

    def close(self) -> None:
        """End what was started."""
        ...
