# pyright: strict
"""How clips are split into training and test. No subject is on both sides, and the order of the clips changes
nothing."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np

from distmer.config import EvaluationConfig
from distmer.types import BadInput, Clip, Fold, SubjectKey


def make_folds(clips: Sequence[Clip], cfg: EvaluationConfig) -> tuple[Fold, ...]:
    """The folds of an experiment; every clip is tested exactly once.

    What ``cfg.folds`` may be:

    - ``loso``: one subject a fold. The fold is called by the subject's key, ``casme2/sub01``.
    - ``group_kfold``: ``cfg.k`` folds of whole subjects, ``group-1`` to ``group-k``. Each has about as many
      clips, and none has more than its share of the subjects.
    - ``cross_dataset``: one data set is tested, and all others are trained on. The fold is called
      ``test=casme2``.

    Raises BadInput where there are too few subjects or data sets.
    """
    subjects = _by_subject(clip.id for clip in clips)
    if len(subjects) < 2:
        found = f"the protocol has {len(subjects)} subject(s)"
        raise BadInput(f"{found}, but a subject-independent split needs at least 2; add data.")
    if cfg.folds == "loso":
        return _folds(subjects, {str(subject): (subject,) for subject in subjects})
    if cfg.folds == "group_kfold":
        if cfg.k > len(subjects):
            found = f"evaluation.k is {cfg.k}, but there are {len(subjects)} subjects"
            raise BadInput(f"{found}; lower it, or use evaluation.folds=loso.")
        counts = {subject: Counter[Hashable]({"clips": len(ids)}) for subject, ids in subjects.items()}
        groups = _balanced_groups(counts, cfg.k, most=math.ceil(len(subjects) / cfg.k))
        return _folds(subjects, {f"group-{i}": group for i, group in enumerate(groups, start=1)})
    datasets = sorted({subject.dataset for subject in subjects})
    if len(datasets) < 2:
        found = f"the protocol has only {datasets[0]}"
        raise BadInput(f"evaluation.folds=cross_dataset needs at least 2 data sets, but {found}; use loso.")
    tested = {f"test={name}": tuple(s for s in subjects if s.dataset == name) for name in datasets}
    return _folds(subjects, tested)


def inner_folds(train_ids: Sequence[str], labels: Mapping[str, int], k: int) -> list[Fold]:
    """The training clips of a fold, split once more by subject: for choices made without the held-out
    subject.

    Each of the folds ``inner-1`` to ``inner-k`` tests about as many clips of each class. With fewer subjects
    than ``k``, each subject is a fold.

    Parameters
    ----------
    train_ids : the ids of the training clips
    labels : clip id → class
    k : how many inner folds

    Raises BadInput for a single subject.
    """
    subjects = _by_subject(train_ids)
    if len(subjects) < 2:
        found = f"an inner split needs at least 2 training subjects, not {len(subjects)}"
        raise BadInput(f"{found}; use train.selection=fixed.")
    counts: dict[SubjectKey, Counter[Hashable]] = {}
    for subject, ids in subjects.items():
        counts[subject] = Counter([labels[clip] for clip in ids])
        counts[subject]["clips"] = len(ids)
    groups = _balanced_groups(counts, min(k, len(subjects)))
    return list(_folds(subjects, {f"inner-{i}": group for i, group in enumerate(groups, start=1)}))


def permute_within_subjects(labels: Mapping[str, int], seed: int) -> dict[str, int]:
    """The labels, clip id → class, shuffled within each subject: what a model learns from them is chance.

    Each subject keeps how many clips of each class they have.
    """
    rng = np.random.default_rng(seed)
    permuted: dict[str, int] = {}
    for ids in _by_subject(labels).values():
        order = rng.permutation(len(ids))
        permuted |= {clip: labels[ids[int(source)]] for clip, source in zip(ids, order, strict=True)}
    return {clip: permuted[clip] for clip in labels}


def _by_subject(ids: Iterable[str]) -> dict[SubjectKey, tuple[str, ...]]:
    """Subject → the ids of their clips, both sorted."""
    groups: defaultdict[SubjectKey, list[str]] = defaultdict(list)
    for clip in ids:
        groups[SubjectKey.of(clip)].append(clip)
    return {subject: tuple(sorted(groups[subject])) for subject in sorted(groups)}


def _folds(
    subjects: Mapping[SubjectKey, tuple[str, ...]],
    tested: Mapping[str, tuple[SubjectKey, ...]],
) -> tuple[Fold, ...]:
    """A fold for each entry of ``tested``: the fold's name → its test subjects."""
    folds: list[Fold] = []
    for fold_id, held_out in tested.items():
        train = tuple(clip for subject, ids in subjects.items() if subject not in held_out for clip in ids)
        test = tuple(clip for subject, ids in subjects.items() if subject in held_out for clip in ids)
        folds.append(Fold(fold_id, train, test))
    return tuple(folds)


def _balanced_groups(
    counts: Mapping[SubjectKey, Counter[Hashable]],
    k: int,
    most: int | None = None,
) -> list[tuple[SubjectKey, ...]]:
    """Subjects dealt to ``k`` groups of at most ``most`` each, so that the groups are alike in each of the
    counts.

    The subject with most clips is dealt first. Each goes to the group where it adds least to the sum of the
    squared shares. An empty group adds least of all, so with k subjects or more no group stays empty.
    """
    total: Counter[Hashable] = Counter()
    for own in counts.values():
        total.update(own)
    groups: list[list[SubjectKey]] = [[] for _ in range(k)]
    group_counts: list[Counter[Hashable]] = [Counter() for _ in range(k)]

    def added(group: int, own: Counter[Hashable]) -> tuple[float, int, int]:
        # (h + n)² - h² = n² + 2hn; n² is the same in every group.
        cost = sum(group_counts[group][key] * n / total[key] ** 2 for key, n in own.items())
        return cost, group_counts[group]["clips"], group

    for subject, own in sorted(counts.items(), key=lambda item: (-item[1]["clips"], item[0])):
        free = (group for group in range(k) if most is None or len(groups[group]) < most)
        best = min(free, key=lambda group: added(group, own))
        groups[best].append(subject)
        group_counts[best].update(own)
    return [tuple(sorted(group)) for group in groups]
