"""What several of the laboratory's networks share. distmer finds that `lab_nets` imports it."""

from __future__ import annotations

from torch import Tensor


def squeeze(x_BCHW: Tensor) -> Tensor:
    """Each channel weighted by how active it is over the face."""
    return x_BCHW * x_BCHW.mean(dim=(2, 3), keepdim=True).sigmoid()
