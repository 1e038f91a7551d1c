"""What holds of folds and scores whatever the clips are."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, recall_score

from distmer.config import EvaluationConfig
from distmer.evaluation.folds import inner_folds, make_folds, permute_within_subjects
from distmer.evaluation.metrics import confusions, fold_mean, scores, scores_of
from distmer.evaluation.stats import bootstrap, floors
from distmer.evaluation.summary import summarise
from distmer.types import Clip, KeyFrames, Predictions, SubjectKey

K = 3

unhurried = settings(deadline=None)  # a loaded machine is no failure


@st.composite
def clip_lists(draw: st.DrawFn) -> list[Clip]:
    """Two to nine people in up to three data sets that share subject names, in any order."""
    keys = st.tuples(
        st.sampled_from(["casme", "casme2", "samm"]), st.sampled_from(["sub01", "sub02", "sub03", "sub04"])
    )
    people = draw(st.lists(keys, min_size=2, max_size=9, unique=True))
    clips: list[Clip] = []
    for dataset, subject in people:
        labels = draw(st.lists(st.integers(0, K - 1), min_size=1, max_size=6))
        clips += [
            Clip(dataset, subject, f"c{i}", y, "x", KeyFrames("/a", "/b"), "test")
            for i, y in enumerate(labels)
        ]
    return draw(st.permutations(clips))


@st.composite
def predictions(draw: st.DrawFn) -> Predictions:
    clips = draw(clip_lists())
    seeds = draw(st.integers(1, 3))
    n = len(clips) * seeds
    y_pred_N = np.array(draw(st.lists(st.integers(0, K - 1), min_size=n, max_size=n)), dtype=np.int64)
    return Predictions(
        clip_ids=tuple(c.id for c in clips) * seeds,
        y_true_N=np.array([c.label for c in clips] * seeds, dtype=np.int64),
        y_pred_N=y_pred_N,
        prob_NK=np.eye(K)[y_pred_N],
        fold_ids=tuple(str(c.subject_key) for c in clips) * seeds,
        seed_N=np.repeat(np.arange(seeds), len(clips)),
    )


def _config(clips: list[Clip], mode: str, k: int) -> EvaluationConfig:
    people = {c.subject_key for c in clips}
    assume(mode != "group_kfold" or k <= len(people))
    assume(mode != "cross_dataset" or len({p.dataset for p in people}) > 1)
    return EvaluationConfig.model_validate({"folds": mode, "k": k, "bootstrap": 100})


@unhurried
@given(
    clip_lists(), st.sampled_from(["loso", "group_kfold", "cross_dataset"]), st.integers(2, 5), st.randoms()
)
def test_folds_partition_the_clips_by_subject(clips: list[Clip], mode: str, k: int, random: Any) -> None:
    cfg = _config(clips, mode, k)
    folds = make_folds(clips, cfg)
    everything = {c.id for c in clips}
    assert Counter(clip for fold in folds for clip in fold.test) == Counter(everything)
    for fold in folds:
        assert set(fold.train) | set(fold.test) == everything
        assert not {SubjectKey.of(c) for c in fold.train} & {SubjectKey.of(c) for c in fold.test}
        assert list(fold.train) == sorted(fold.train, key=lambda c: (SubjectKey.of(c), c)) and len(
            set(fold.train)
        ) == len(fold.train)
    assert len({fold.id for fold in folds}) == len(folds)
    random.shuffle(clips)
    assert make_folds(clips, cfg) == folds


@unhurried
@given(clip_lists(), st.integers(2, 5), st.randoms())
def test_inner_folds_partition_the_training_clips(clips: list[Clip], k: int, random: Any) -> None:
    labels = {c.id: c.label for c in clips}
    people = {c.subject_key for c in clips}
    folds = inner_folds(list(labels), labels, k)
    assert len(folds) == min(k, len(people))
    assert Counter(clip for fold in folds for clip in fold.test) == Counter(list(labels))
    order = list(labels)
    random.shuffle(order)
    assert inner_folds(order, labels, k) == folds


@unhurried
@given(st.lists(st.integers(1, 40), min_size=3, max_size=30), st.integers(2, 3))
def test_groups_are_about_as_large(sizes: list[int], k: int) -> None:
    clips = [
        Clip("d", f"s{s}", f"c{i}", 0, "x", KeyFrames("/a", "/b"), "t")
        for s, n in enumerate(sizes)
        for i in range(n)
    ]
    counts = [len(fold.test) for fold in make_folds(clips, EvaluationConfig(folds="group_kfold", k=k))]
    assert max(counts) - min(counts) <= max(sizes)  # each person went to the smallest group


@unhurried
@given(predictions())
def test_scores_equal_scikit_learn_and_the_formula(p: Predictions) -> None:
    got = scores(p.y_true_N, p.y_pred_N, K)
    pinned: dict[str, Any] = {"labels": list(range(K)), "average": "macro", "zero_division": 0}
    assert got.uar == pytest.approx(recall_score(p.y_true_N, p.y_pred_N, **pinned))
    assert got.uf1 == pytest.approx(f1_score(p.y_true_N, p.y_pred_N, **pinned))
    hits = [int(((p.y_true_N == k) & (p.y_pred_N == k)).sum()) for k in range(K)]
    truths, answers = (
        [int((p.y_true_N == k).sum()) for k in range(K)],
        [int((p.y_pred_N == k).sum()) for k in range(K)],
    )
    assert got.uar == pytest.approx(sum(h / t if t else 0 for h, t in zip(hits, truths, strict=True)) / K)
    assert got.uf1 == pytest.approx(
        sum(2 * h / (t + a) if t + a else 0 for h, t, a in zip(hits, truths, answers, strict=True)) / K
    )
    uar, uf1 = scores_of(got.confusion_KK)
    assert (float(uar), float(uf1)) == (pytest.approx(got.uar), pytest.approx(got.uf1))


@unhurried
@given(predictions())
def test_the_fold_mean_equals_scikit_learn_in_each_fold(p: Predictions) -> None:
    folds = np.array(p.fold_ids)
    masks = [(folds == f) & (p.seed_N == s) for s in np.unique(p.seed_N) for f in np.unique(folds)]
    macro: dict[str, Any] = {"average": "macro", "zero_division": 0}
    uar, uf1 = fold_mean(p, K)
    assert uar == pytest.approx(np.mean([recall_score(p.y_true_N[m], p.y_pred_N[m], **macro) for m in masks]))
    assert uf1 == pytest.approx(np.mean([f1_score(p.y_true_N[m], p.y_pred_N[m], **macro) for m in masks]))


@unhurried
@given(predictions(), st.randoms())
def test_the_order_of_rows_changes_nothing(p: Predictions, random: Any) -> None:
    order = list(range(len(p)))
    random.shuffle(order)
    labels = dict(zip(p.clip_ids, p.y_true_N.tolist(), strict=True))
    people = {clip: SubjectKey.of(clip) for clip in labels}
    clips = [
        Clip(s.dataset, s.subject, c.split("/")[2], labels[c], "x", KeyFrames("/a", "/b"), "t")
        for c, s in people.items()
    ]
    cfg = EvaluationConfig(bootstrap=100)
    folds = make_folds(clips, cfg)
    names = ("negative", "positive", "surprise")
    straight = summarise(p, folds, labels, names, cfg).to_json()
    assert summarise(p.take(np.array(order)), folds[::-1], labels, names, cfg).to_json() == straight


@settings(deadline=None, max_examples=25)
@given(predictions(), st.integers(0, 5))
def test_the_bootstrap_equals_resampling_rows(p: Predictions, seed: int) -> None:
    n = 20
    people = sorted(set(p.subjects))
    subject_N = np.array([people.index(s) for s in p.subjects])
    drawn = np.random.default_rng(seed).multinomial(
        len(people), np.full(len(people), 1 / len(people)), size=n
    )
    uars: list[float] = []
    for times in drawn:
        per_seed: list[float] = []
        for s in np.unique(p.seed_N):
            rows = np.concatenate(
                [
                    np.repeat(np.flatnonzero((subject_N == i) & (p.seed_N == s)), t)
                    for i, t in enumerate(times)
                ]
            )
            per_seed.append(scores(p.y_true_N[rows], p.y_pred_N[rows], K).uar)
        uars.append(float(np.mean(per_seed)))
    got = bootstrap(p, K, n, 0.8, seed)
    assert (got.uar.lo, got.uar.hi) == (
        pytest.approx(np.quantile(uars, 0.1)),
        pytest.approx(np.quantile(uars, 0.9)),
    )
    assert got == bootstrap(p, K, n, 0.8, seed)


@unhurried
@given(clip_lists())
def test_the_constant_floor_is_the_score_of_the_majority_answer(clips: list[Clip]) -> None:
    labels = {c.id: c.label for c in clips}
    folds = make_folds(clips, EvaluationConfig())
    table = [
        (clip, labels[clip], int(np.bincount([labels[c] for c in fold.train], minlength=K).argmax()), fold.id)
        for fold in folds
        for clip in fold.test
    ]
    y_true_N, y_pred_N = np.array([row[1] for row in table]), np.array([row[2] for row in table])
    answers = Predictions(
        tuple(r[0] for r in table),
        y_true_N,
        y_pred_N,
        np.eye(K)[y_pred_N],
        tuple(r[3] for r in table),
        np.zeros(len(table), dtype=np.int64),
    )
    got = floors(folds, labels, K)["constant"]
    pooled = scores(y_true_N, y_pred_N, K)
    assert (got["uar"], got["uf1"]) == (pytest.approx(pooled.uar), pytest.approx(pooled.uf1))
    assert (got["uar_foldmean"], got["uf1_foldmean"]) == pytest.approx(fold_mean(answers, K))


@unhurried
@given(clip_lists(), st.integers(0, 100))
def test_permuted_labels_stay_with_their_person(clips: list[Clip], seed: int) -> None:
    labels = {c.id: c.label for c in clips}
    permuted = permute_within_subjects(labels, seed)
    count = Counter((SubjectKey.of(c), y) for c, y in labels.items())
    assert Counter((SubjectKey.of(c), y) for c, y in permuted.items()) == count


@unhurried
@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2), st.integers(0, 2)), max_size=40),
)
def test_confusions_count_each_row_once(groups: int, table: list[tuple[int, int, int]]) -> None:
    table = [(g % groups, t, a) for g, t, a in table]
    group_N, true_N, pred_N = (np.array([row[i] for row in table], dtype=np.int64) for i in range(3))
    got = confusions(true_N, pred_N, group_N, groups, K)
    expected = Counter(table)
    assert all(got[g, t, a] == expected[g, t, a] for g in range(groups) for t in range(K) for a in range(K))
