"""How a job's network is trained on any of its clips: on all of its training clips, or on inner folds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from distmer.config import InputConfig, TrainConfig
from distmer.functions import Function, of_training
from distmer.models import ResolvedModel
from distmer.training.augmentations import Augmentation, Clips, mirror
from distmer.training.averaging import Mirror, SymmetricNetwork
from distmer.training.fold_inputs import ChannelScale, Inputs
from distmer.training.network import Task
from distmer.types import BadInput, FloatArray, FoldJob, IntArray


@dataclass(frozen=True, eq=False)
class Recipe:
    """How a job's network is trained on any of its clips: on all of its training clips, or on inner folds."""

    job: FoldJob
    resolved: ResolvedModel
    train: TrainConfig
    inputs: InputConfig
    loss: Function
    augment: tuple[Augmentation, ...]
    channels: tuple[str, ...]
    zero_1C11: FloatArray

    @classmethod
    def of(cls, job: FoldJob, inputs: Inputs, resolved: ResolvedModel, train: TrainConfig) -> Recipe:
        config = InputConfig.model_validate(job.spec["inputs"])
        loss, *augment = of_training(train)
        chain = tuple(_checked(function) for function in augment)
        chain = (mirror, *chain) if config.symmetric else chain
        return cls(job, resolved, train, config, loss, chain, inputs.channels, inputs.no_motion)

    def task(self, x_NCHW: FloatArray, y_N: IntArray) -> tuple[Task, ChannelScale | None]:
        """What is trained on these clips, and the standardisation that they give."""
        classes = int(self.job.spec["classes"])
        scale = self.scale(x_NCHW)
        zero_1C11 = self.zero_1C11
        if scale is not None:
            x_NCHW, zero_1C11 = scale.apply(x_NCHW), scale.apply(zero_1C11)
        loss = self.loss.bound(count_K=np.bincount(y_N, minlength=classes))
        build = partial(self.resolved.build, classes)
        zero_C = zero_1C11.reshape(-1)
        return Task(build, x_NCHW, y_N, classes, loss, self.augment, self.channels, zero_C), scale

    def scale(self, x_NCHW: FloatArray) -> ChannelScale | None:
        """The standardisation that these clips give, if it is wanted."""
        return ChannelScale.of(x_NCHW) if self.inputs.standardise else None

    def mirror(self, scale: ChannelScale | None) -> Mirror | None:
        """What mirrors clips of that scale, if symmetry is wanted."""
        if not self.inputs.symmetric:
            return None
        zero_1C11 = self.zero_1C11 if scale is None else scale.apply(self.zero_1C11)
        return Mirror(self.channels, torch.from_numpy(zero_1C11.reshape(-1)))

    def symmetric(self, net: Any, scale: ChannelScale | None) -> Any:
        """The network as it answers: averaged over mirror images, if symmetry is wanted."""
        mirror = self.mirror(scale)
        return net if mirror is None else SymmetricNetwork(net, mirror).to(next(net.parameters()).device)


def _checked(function: Function) -> Augmentation:
    """The augmentation. BadInput where it changes labels without saying so."""
    augment, may = function.bound(), getattr(function.entry, "changes_labels", False)

    def checked(clips: Clips, rng: np.random.Generator) -> Clips:
        before = clips.target.clone()
        after = augment(clips, rng)
        kept = after.target.shape == before.shape and torch.equal(after.target, before)
        if not may and not (kept and torch.equal(clips.target, before)):
            raise BadInput(
                f"augmentation {function.name}: it changes labels without saying so; if that is meant, give"
                " it the attribute changes_labels = True."
            )
        return after

    return checked
