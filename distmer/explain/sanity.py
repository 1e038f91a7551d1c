"""Models that have learned nothing, for comparison: what their maps also show is no finding.

Adebayo et al., Sanity checks for saliency maps, NeurIPS 2018: a network with random weights in place of the
trained ones; for a model without epochs, the same training on shuffled labels.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from distmer.config import TrainConfig
from distmer.explain.maps import views
from distmer.models import ResolvedModel
from distmer.training.fit import Fitted, train_fold
from distmer.training.fold_inputs import Inputs
from distmer.training.runtime import SingleProcess, to_device
from distmer.training.seeds import derive
from distmer.types import FloatArray, FoldJob

_CLIPS = 256  # whose statistics are taken, at most
_SPREAD = 0.02  # standard deviation of weights for which torch has no rule, such as a token of a transformer


def random_network(fitted: Fitted, x_NCHW: FloatArray, seed: int) -> Fitted:
    """The same network with random weights, drawn as torch draws fresh ones.

    Its batch norms are given the statistics of ``x_NCHW`` (clips, not yet standardised), which they would
    have in the first step of a training: without them, the scale of a deep network's maps would mean nothing.
    Torch's random numbers are drawn: call it within `distmer.training.runtime.repeatable`.
    """
    model = copy.deepcopy(fitted.model)
    torch.manual_seed(seed)
    for module in model.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
            continue
        for weights in module.parameters(recurse=False):
            nn.init.normal_(weights, std=_SPREAD)
    x_NCHW = x_NCHW[:: -(-len(x_NCHW) // _CLIPS)]
    x_NCHW = x_NCHW if fitted.scale is None else fitted.scale.apply(x_NCHW)
    x = to_device(np.ascontiguousarray(x_NCHW), next(model.parameters()).device)
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0  # only the last batch counts
        norm.train()
    with torch.no_grad():
        for net, mirror in views(model):
            if mirror is None:
                net(x)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    model.eval()
    return replace(fitted, model=model)


def shuffled_fit(job: FoldJob, inputs: Inputs, resolved: ResolvedModel, seed: int) -> Fitted:
    """The fold's model, trained on its clips with their labels shuffled among them."""
    clips = job.fold.train
    order_N = np.random.default_rng(seed).permutation(len(clips))
    labels = {**job.labels, **{clips[to]: job.labels[clips[n]] for to, n in enumerate(order_N)}}
    train = TrainConfig.model_validate(job.spec["train"])
    return train_fold(replace(job, labels=labels), inputs, resolved, train, SingleProcess())


def seed_of(job: FoldJob) -> int:
    """The seed of a fold's untrained counterpart."""
    return derive(job.seed, job.fold.id, "untrained")
