"""Our network with the weights of a plain one, whatever way it stacks its streams."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from distmer.config import ModelConfig
from distmer.models import models, resolve


def ours_like(
    plain: nn.Module, name: str, size: int, classes: int = 3, dropout: float | None = None
) -> nn.Module:
    """distmer's network of this name with the very weights of the plain one."""
    options = {"size": size} | (
        {"dropout": dropout}
        if dropout is not None and "dropout" in models()[name].options.model_fields
        else {}
    )
    ours = resolve(ModelConfig.model_validate({"name": name, **options})).build(classes)
    with torch.no_grad():
        for target, weights in zip(ours.parameters(), stacked(plain, ours), strict=True):
            target.copy_(weights)
    return ours


def stacked(plain: nn.Module, ours: nn.Module) -> list[Tensor]:
    """The plain network's weights in the order and shapes of ours: as they are, or each with its like in the
    other streams, along the output channels."""
    named = list(plain.named_parameters())
    if len(named) == len(list(ours.parameters())):
        return [weights for _, weights in named]
    streams: dict[str, list[Tensor]] = {}
    rest: list[Tensor] = []
    for name, weights in named:
        if name.startswith("streams."):
            streams.setdefault(name.split(".", 2)[2], []).append(weights)
        else:
            rest.append(weights)
    return [torch.cat(like) for like in streams.values()] + rest
