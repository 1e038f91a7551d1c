"""A laboratory's own loss and augmentation for distmer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor
from torch.nn.functional import cross_entropy

from distmer.training.augmentations import Clips


def smoothed(logits_BK: Tensor, target: Tensor, smoothing: float = 0.1) -> Tensor:
    """Cross-entropy with smoothed labels, one number for each of the B clips."""
    return cross_entropy(logits_BK, target, label_smoothing=smoothing, reduction="none")


def erase(clips: Clips, rng: np.random.Generator, px: int = 6) -> Clips:
    """A square of ``px`` px without motion, at another place in each clip."""
    x_NCHW = clips.x_NCHW.clone()
    n, _, height, width = x_NCHW.shape
    for i, (y, x) in enumerate(rng.integers(0, (height - px + 1, width - px + 1), size=(n, 2))):
        x_NCHW[i, :, y : y + px, x : x + px] = clips.zero_C[:, None, None]
    return replace(clips, x_NCHW=x_NCHW)
