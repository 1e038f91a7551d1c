"""The folds that the habits need: honest ones, and those that a habit splits or scales in its own way.

Every function gives jobs for `fit_fold`, which knows nothing of habits. A clip-wise split cannot be a `Fold`,
which refuses a subject on both sides. So the habit does here what it does in papers: it takes every clip for
a person of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from distmer.config import Config
from distmer.evaluation.folds import inner_folds, make_folds
from distmer.experiment.plan import Plan, fold_jobs
from distmer.models import resolve
from distmer.training.fold_inputs import ChannelScale, Inputs
from distmer.training.seeds import derive
from distmer.types import Clip, Fold, FoldJob, FoldResult, Predictions


@dataclass(frozen=True, slots=True, eq=False)
class Trainings:
    """Folds of one configuration that are trained one way.

    ``real`` has the own id of a clip for each id that it has in these folds, where these are others.
    ``over_all``: the inputs are standardised by mean and deviation of all clips, the held-out ones among
    them.
    """

    config: Config
    jobs: tuple[FoldJob, ...]
    real: Mapping[str, str] = field(default_factory=dict[str, str])
    over_all: bool = False

    def inputs(self, own: Inputs) -> Inputs:
        """The inputs of these folds, from those of all clips."""
        x_NCHW = ChannelScale.of(own.x_NCHW).apply(own.x_NCHW) if self.over_all else own.x_NCHW
        own = Inputs(own.clip_ids, own.channels, own.normalised_as, x_NCHW)
        if not self.real:
            return own
        x_NCHW = own.take(list(self.real.values()))
        return Inputs(tuple(self.real), own.channels, own.normalised_as, x_NCHW)

    def predictions(self, folds: Sequence[FoldResult]) -> Predictions:
        """What these folds predicted, under the clips' own ids; a copy of a clip is one more row of it."""
        whole = Predictions.concat([fold.predictions for fold in folds])
        return replace(whole, clip_ids=tuple(self.real.get(clip, clip) for clip in whole.clip_ids))


def loso(plan: Plan, keys: Mapping[str, str], config: Config, seeds: Sequence[int]) -> Trainings:
    """Honest: leave one subject out."""
    return Trainings(config, _jobs(plan, keys, config, plan.folds, plan.labels, seeds))


def inner(plan: Plan, keys: Mapping[str, str], config: Config, k: int, seed: int) -> Trainings:
    """Honest: for each fold, ``k`` inner folds of its training subjects, called after both."""
    folds = [
        Fold(f"{outer.id} {one.id}", one.train, one.test)
        for outer in plan.folds
        for one in inner_folds(outer.train, plan.labels, k)
    ]
    return Trainings(config, _jobs(plan, keys, config, folds, plan.labels, (seed,)))


def every_epoch(plan: Plan, keys: Mapping[str, str], config: Config, seeds: Sequence[int]) -> Trainings:
    """The habit of looking: leave one subject out, and its clips are predicted after every epoch."""
    looking = config.train.model_copy(update={"selection": "oracle", "oracle": "global_epoch"})
    return loso(plan, keys, config.model_copy(update={"train": looking}), seeds)


def standardised(plan: Plan, keys: Mapping[str, str], config: Config, seeds: Sequence[int]) -> Trainings:
    """Honest: inputs standardised by the training clips alone."""
    inputs = config.inputs.model_copy(update={"standardise": True})
    return loso(plan, keys, config.model_copy(update={"inputs": inputs}), seeds)


def over_all_clips(plan: Plan, keys: Mapping[str, str], config: Config, seeds: Sequence[int]) -> Trainings:
    """The habit: inputs standardised by all clips, before anything is split."""
    marked = _marked(keys, "standardised over all clips")
    return replace(loso(plan, marked, config, seeds), over_all=True)


def clip_wise(
    plan: Plan, keys: Mapping[str, str], config: Config, seeds: Sequence[int], k: int, seed: int
) -> Trainings:
    """The habit: ``k`` folds of clips drawn at random, so that a person is in training and in test."""
    return _apart(plan, keys, config, seeds, k, seed, plan.clips, "clip-wise")


def oversampled(
    plan: Plan, keys: Mapping[str, str], config: Config, seeds: Sequence[int], k: int, seed: int
) -> Trainings:
    """The habit: clips of rare classes are copied until all classes are as frequent, and then the clips are
    split, so that a copy is in training and in test."""
    rng = np.random.default_rng(derive(seed, "habits", "copies"))
    count = Counter(plan.labels.values())
    clips = list(plan.clips)
    for label in sorted(count):
        own = [clip for clip in plan.clips if plan.labels[clip.id] == label]
        copies = max(count.values()) - len(own)
        clips += [own[int(i)] for i in rng.choice(len(own), size=copies)]
    return _apart(plan, keys, config, seeds, k, seed, clips, "oversampled")


def _apart(
    plan: Plan,
    keys: Mapping[str, str],
    config: Config,
    seeds: Sequence[int],
    k: int,
    seed: int,
    clips: Sequence[Clip],
    habit: str,
) -> Trainings:
    """``k`` folds in which every one of ``clips``, some of them copies, is a person of its own."""
    place = np.random.default_rng(derive(seed, "habits", habit)).permutation(len(clips))
    people = [
        replace(clip, subject=f"{habit}-{rank:05d}", name=f"{clip.subject}~{clip.name}")
        for clip, rank in zip(clips, place.tolist(), strict=True)
    ]
    real = {person.id: clip.id for person, clip in zip(people, clips, strict=True)}
    labels = {person: plan.labels[clip] for person, clip in real.items()}
    marked = _marked({person: keys[clip] for person, clip in real.items()}, habit)
    evaluation = config.evaluation.model_copy(update={"folds": "group_kfold", "k": k})
    folds = make_folds(people, evaluation)
    return Trainings(config, _jobs(plan, marked, config, folds, labels, seeds), real)


def _jobs(
    plan: Plan,
    keys: Mapping[str, str],
    config: Config,
    folds: Sequence[Fold],
    labels: Mapping[str, int],
    seeds: Sequence[int],
) -> tuple[FoldJob, ...]:
    return fold_jobs(config, resolve(config.model), folds, labels, keys, seeds, len(plan.classes))


def _marked(keys: Mapping[str, str], habit: str) -> dict[str, str]:
    """Content keys that say which habit made the inputs: such a fold never answers for an honest one."""
    return {clip: f"{key} habit:{habit}" for clip, key in keys.items()}
