# pyright: strict
"""How clips are split: no subject ever stands on both sides, and the order in which the clips come changes nothing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np

from distmer.config import EvaluationConfig
from distmer.types import BadInput, Clip, Fold, SubjectKey


def make_folds(clips: Sequence[Clip], cfg: EvaluationConfig) -> tuple[Fold, ...]:
    """The folds of an experiment; every clip is tested exactly once.

    ``loso``: one subject a fold, called by the subject's key, ``casme2/sub01``. ``group_kfold``: k folds of whole subjects, none
    with more than its share of them, with about as many clips each, ``group-1`` to ``group-k``. ``cross_dataset``: one data set
    tested, all others trained on, ``test=casme2``. Raises BadInput where there are too few subjects or data sets.
    """
    subjects = _by_subject(clip.id for clip in clips)
    if len(subjects) < 2:
        raise BadInput(f"the protocol has {len(subjects)} subject(s), but a subject-independent split needs at least 2; add data.")
    if cfg.folds == "loso":
        return _folds(subjects, {str(subject): (subject,) for subject in subjects})
    if cfg.folds == "group_kfold":
        if cfg.k > len(subjects):
            raise BadInput(f"evaluation.k is {cfg.k}, but there are {len(subjects)} subjects; lower it, or use evaluation.folds=loso.")
        persons = -(-len(subjects) // cfg.k)
        groups = _spread({subject: Counter({"clips": len(ids)}) for subject, ids in subjects.items()}, cfg.k, persons)
        return _folds(subjects, {f"group-{i}": group for i, group in enumerate(groups, start=1)})
    datasets = sorted({subject.dataset for subject in subjects})
    if len(datasets) < 2:
        raise BadInput(f"evaluation.folds=cross_dataset needs at least 2 data sets, but the protocol has only {datasets[0]}; use loso.")
    return _folds(subjects, {f"test={name}": tuple(s for s in subjects if s.dataset == name) for name in datasets})


def inner_folds(train_ids: Sequence[str], labels: Mapping[str, int], k: int) -> list[Fold]:
    """The training clips of a fold, split once more by subject, to choose an epoch or a setting without the held-out subject.

    About as many clips of each class in each of ``inner-1`` to ``inner-k``; with fewer subjects than k, one subject a fold.
    Raises BadInput for a single subject.
    """
    subjects = _by_subject(train_ids)
    if len(subjects) < 2:
        raise BadInput(f"an inner split needs at least 2 training subjects, not {len(subjects)}; use train.selection=fixed.")
    weights: dict[SubjectKey, Counter[Hashable]] = {}
    for subject, ids in subjects.items():
        weights[subject] = Counter([labels[clip] for clip in ids])
        weights[subject]["clips"] = len(ids)
    groups = _spread(weights, min(k, len(subjects)))
    return list(_folds(subjects, {f"inner-{i}": group for i, group in enumerate(groups, start=1)}))


def permute_within_subjects(labels: Mapping[str, int], seed: int) -> dict[str, int]:
    """The labels shuffled among each subject's own clips: what is learnt from them is chance, every class count is kept."""
    rng = np.random.default_rng(seed)
    permuted: dict[str, int] = {}
    for ids in _by_subject(labels).values():
        order = rng.permutation(len(ids))
        permuted |= {clip: labels[ids[int(source)]] for clip, source in zip(ids, order, strict=True)}
    return {clip: permuted[clip] for clip in labels}


def _by_subject(ids: Iterable[str]) -> dict[SubjectKey, tuple[str, ...]]:
    """The clip ids of each subject, all sorted."""
    groups: defaultdict[SubjectKey, list[str]] = defaultdict(list)
    for clip in ids:
        groups[SubjectKey.of(clip)].append(clip)
    return {subject: tuple(sorted(groups[subject])) for subject in sorted(groups)}


def _folds(subjects: Mapping[SubjectKey, tuple[str, ...]], tested: Mapping[str, tuple[SubjectKey, ...]]) -> tuple[Fold, ...]:
    folds: list[Fold] = []
    for fold_id, out in tested.items():
        held = set(out)
        train = tuple(clip for subject, ids in subjects.items() if subject not in held for clip in ids)
        test = tuple(clip for subject, ids in subjects.items() if subject in held for clip in ids)
        folds.append(Fold(fold_id, train, test))
    return tuple(folds)


def _spread(weights: Mapping[SubjectKey, Counter[Hashable]], k: int, most: int | None = None) -> list[tuple[SubjectKey, ...]]:
    """Subjects dealt to k groups of at most ``most``, the heaviest first, each where its counts add least to the squared imbalance.

    An empty group adds least of all, so with k subjects or more no group stays empty.
    """
    total: Counter[Hashable] = Counter()
    for counts in weights.values():
        total.update(counts)
    groups: list[list[SubjectKey]] = [[] for _ in range(k)]
    held: list[Counter[Hashable]] = [Counter() for _ in range(k)]

    def cost(group: int, counts: Counter[Hashable]) -> tuple[float, int, int]:
        # (h + n)² - h² = n² + 2hn; n² is the same in every group.
        return sum(held[group][key] * n / total[key] ** 2 for key, n in counts.items()), held[group]["clips"], group

    for subject, counts in sorted(weights.items(), key=lambda item: (-item[1]["clips"], item[0])):
        best = min((g for g in range(k) if most is None or len(groups[g]) < most), key=lambda group: cost(group, counts))
        groups[best].append(subject)
        held[best].update(counts)
    return [tuple(sorted(group)) for group in groups]
