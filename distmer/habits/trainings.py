"""The folds that the habits need: honest ones, and those that a habit splits or scales in its own way.

`Splits` gives jobs for `fit_fold`, which knows nothing of habits. A clip-wise split cannot be a `Fold`, which
refuses a subject on both sides. So the habit takes every clip for a person of its own, as it does in papers.
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

    ``real``: id of a clip in these folds → its true id; empty where the ids are the true ones. ``over_all``:
    the inputs are standardised by mean and deviation of all clips, also of the held-out ones.
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
        """What these folds predicted, under the true ids of the clips. A copy of a clip is one more row."""
        whole = Predictions.concat([fold.predictions for fold in folds])
        return replace(whole, clip_ids=tuple(self.real.get(clip, clip) for clip in whole.clip_ids))


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """The folds on the clips of one plan. ``keys``: clip id → feature key."""

    plan: Plan
    keys: Mapping[str, str]

    def loso(self, config: Config, seeds: Sequence[int]) -> Trainings:
        """Honest: leave one subject out."""
        return self._of(config, self.plan.folds, seeds)

    def inner(self, config: Config, k: int, seed: int) -> Trainings:
        """Honest: for each fold, ``k`` inner folds of its training subjects, named after both."""
        folds = [
            Fold(f"{outer.id} {one.id}", one.train, one.test)
            for outer in self.plan.folds
            for one in inner_folds(outer.train, self.plan.labels, k)
        ]
        return self._of(config, folds, (seed,))

    def every_epoch(self, config: Config, seeds: Sequence[int]) -> Trainings:
        """The habit of looking: leave one subject out, and its clips are predicted after every epoch."""
        looking = config.train.model_copy(update={"selection": "oracle", "oracle": "global_epoch"})
        return self.loso(config.model_copy(update={"train": looking}), seeds)

    def standardised(self, config: Config, seeds: Sequence[int]) -> Trainings:
        """Honest: inputs standardised by the training clips only."""
        inputs = config.inputs.model_copy(update={"standardise": True})
        return self.loso(config.model_copy(update={"inputs": inputs}), seeds)

    def over_all_clips(self, config: Config, seeds: Sequence[int]) -> Trainings:
        """The habit: inputs standardised by all clips, before anything is split."""
        marked = Splits(self.plan, _marked(self.keys, "standardised over all clips"))
        return replace(marked.loso(config, seeds), over_all=True)

    def clip_wise(self, config: Config, seeds: Sequence[int], k: int, seed: int) -> Trainings:
        """The habit: ``k`` folds of clips drawn at random, so that a person is in training and in test."""
        return self._apart(config, seeds, k, seed, self.plan.clips, "clip-wise")

    def oversampled(self, config: Config, seeds: Sequence[int], k: int, seed: int) -> Trainings:
        """The habit: clips of rare classes are copied until all classes are equally frequent. Then the clips
        are split, so that copies of one clip are in training and in test."""
        rng = np.random.default_rng(derive(seed, "habits", "copies"))
        count = Counter(self.plan.labels.values())
        clips = list(self.plan.clips)
        for label in sorted(count):
            own = [clip for clip in self.plan.clips if self.plan.labels[clip.id] == label]
            copies = max(count.values()) - len(own)
            clips += [own[int(i)] for i in rng.choice(len(own), size=copies)]
        return self._apart(config, seeds, k, seed, clips, "oversampled")

    def _apart(
        self, config: Config, seeds: Sequence[int], k: int, seed: int, clips: Sequence[Clip], habit: str
    ) -> Trainings:
        """``k`` folds in which each of ``clips``, some of them copies, is a person of its own."""
        place = np.random.default_rng(derive(seed, "habits", habit)).permutation(len(clips))
        people = [
            replace(clip, subject=f"{habit}-{rank:05d}", name=f"{clip.subject}~{clip.name}")
            for clip, rank in zip(clips, place.tolist(), strict=True)
        ]
        real = {person.id: clip.id for person, clip in zip(people, clips, strict=True)}
        keys = _marked({person: self.keys[clip] for person, clip in real.items()}, habit)
        labels = {person: self.plan.labels[clip] for person, clip in real.items()}
        folds = make_folds(people, config.evaluation.model_copy(update={"folds": "group_kfold", "k": k}))
        jobs = fold_jobs(config, resolve(config.model), folds, labels, keys, seeds, len(self.plan.classes))
        return Trainings(config, jobs, real)

    def _of(self, config: Config, folds: Sequence[Fold], seeds: Sequence[int]) -> Trainings:
        model, labels = resolve(config.model), self.plan.labels
        jobs = fold_jobs(config, model, folds, labels, self.keys, seeds, len(self.plan.classes))
        return Trainings(config, jobs)


def _marked(keys: Mapping[str, str], habit: str) -> dict[str, str]:
    """Content keys that name the habit that made the inputs, so that such a fold is never an honest one."""
    return {clip: f"{key} habit:{habit}" for clip, key in keys.items()}
