"""The augmentations of distmer. A user's own are named in the same way (`distmer.functions.AUGMENTATION`).

An augmentation maps `Clips` and a random generator to `Clips`. It is called once an epoch with all training
clips of the fold, and never with a held-out clip. Several of them are a chain. One that changes labels says
so by an attribute ``changes_labels = True``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch.nn.functional import one_hot

from distmer.training.averaging import Mirror


@dataclass(frozen=True, slots=True, eq=False)
class Clips:
    """The training clips of a fold, as the network is given them.

    ``x_NCHW`` float32 holds the C ``channels``; ``zero_C`` is the value that no motion has in each of them
    (in a crop: black). ``target`` holds the classes y_N, or the probabilities y_NK of ``classes`` classes.
    """

    x_NCHW: torch.Tensor
    target: torch.Tensor
    channels: tuple[str, ...]
    zero_C: torch.Tensor
    classes: int


Augmentation = Callable[[Clips, np.random.Generator], Clips]


def mirror(clips: Clips, rng: np.random.Generator) -> Clips:
    """Half of the clips as if their faces had been filmed in a mirror."""
    flip_N = torch.from_numpy(rng.random(len(clips.x_NCHW)) < 0.5).to(clips.x_NCHW.device)
    x_NCHW = torch.where(flip_N[:, None, None, None], mirrored(clips), clips.x_NCHW)
    return replace(clips, x_NCHW=x_NCHW)


def mirrored(clips: Clips) -> torch.Tensor:
    """The mirror images of all clips."""
    return Mirror(clips.channels, clips.zero_C)(clips.x_NCHW)


def shift(clips: Clips, rng: np.random.Generator, px: Annotated[int, Field(ge=1, le=64)] = 2) -> Clips:
    """Each clip moved by up to ``px`` px along x and y; what comes in at the edge shows no motion."""
    n, _, height, width = clips.x_NCHW.shape
    x_NCHW = torch.empty_like(clips.x_NCHW)
    x_NCHW[:] = clips.zero_C[:, None, None]
    for i, (dy, dx) in enumerate(rng.integers(-px, px + 1, size=(n, 2)).tolist()):
        to_y, to_x = slice(max(dy, 0), height + min(dy, 0)), slice(max(dx, 0), width + min(dx, 0))
        from_y, from_x = slice(max(-dy, 0), height - max(dy, 0)), slice(max(-dx, 0), width - max(dx, 0))
        x_NCHW[i, :, to_y, to_x] = clips.x_NCHW[i, :, from_y, from_x]
    return replace(clips, x_NCHW=x_NCHW)


def noise(clips: Clips, rng: np.random.Generator, sd: Annotated[float, Field(gt=0)] = 0.02) -> Clips:
    """Gaussian noise of standard deviation ``sd`` on every pixel, in the unit of the network's inputs."""
    noise_NCHW = torch.from_numpy(rng.standard_normal(clips.x_NCHW.shape, dtype=np.float32))
    return replace(clips, x_NCHW=clips.x_NCHW + sd * noise_NCHW.to(clips.x_NCHW.device))


def mixup(clips: Clips, rng: np.random.Generator, alpha: Annotated[float, Field(gt=0)] = 0.2) -> Clips:
    """Each clip mixed with another one, and their labels in the same shares (Zhang et al. 2018).

    The share of the other clip is drawn from Beta(``alpha``, ``alpha``), for each clip anew.
    """
    n = len(clips.x_NCHW)
    device = clips.x_NCHW.device
    other_N = torch.from_numpy(rng.permutation(n)).to(device)
    share_N1 = torch.from_numpy(rng.beta(alpha, alpha, size=(n, 1)).astype(np.float32)).to(device)
    y_NK = clips.target
    if y_NK.ndim == 1:
        y_NK = one_hot(y_NK, clips.classes).float()
    share_N111 = share_N1[:, :, None, None]
    return replace(
        clips,
        x_NCHW=torch.lerp(clips.x_NCHW, clips.x_NCHW[other_N], share_N111),
        target=torch.lerp(y_NK, y_NK[other_N], share_N1),
    )


mixup.changes_labels = True  # type: ignore[attr-defined]
