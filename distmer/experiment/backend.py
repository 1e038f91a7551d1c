"""Who extracts features and trains folds: `distmer.experiment.local` in this process, or
`distmer.cluster.backend` on Ray."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence

from distmer.config import ClusterConfig, FeatureConfig
from distmer.experiment.run import Report
from distmer.features.pipeline import FeatureRequest
from distmer.features.row import FeatureRow
from distmer.training.fold_inputs import Inputs
from distmer.types import FoldJob


class Backend(ABC):
    """Something that extracts features and trains folds. It starts nothing before that is needed."""

    def starting(self, clips: int) -> str:
        """What must start before the first of so many clips of frames is extracted, in words; else ""."""
        return ""

    def require(self, config: ClusterConfig) -> None:  # noqa: B027
        """BadInput where it cannot train folds as these settings say."""

    def start(self, clips: int, *, folds: bool) -> None:  # noqa: B027
        """Start now what is needed to extract so many ``clips``, and, if ``folds``, to train after that."""

    @abstractmethod
    def extract(
        self, requests: Sequence[FeatureRequest], config: FeatureConfig
    ) -> Generator[list[FeatureRow]]:
        """Features of clips, in batches and in any order. Closing the generator stops the extraction."""

    @abstractmethod
    def train(self, jobs: Sequence[FoldJob], inputs: Inputs) -> Generator[Report]:
        """Folds as they begin and as they end, in any order. Closing the generator stops the training."""

    def close(self) -> None:  # noqa: B027
        """End what was started."""
