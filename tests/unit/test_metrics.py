"""Scores by hand, and the fixtures of the field: what a constant predictor gets on the published class
counts."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest

from distmer.config import EvaluationConfig
from distmer.evaluation.every import every_score
from distmer.evaluation.folds import inner_folds, make_folds, permute_within_subjects
from distmer.evaluation.metrics import fold_mean, scores
from distmer.evaluation.named import PUBLISHED, chosen
from distmer.evaluation.stats import bootstrap, floors
from distmer.evaluation.summary import Summary, summarise
from distmer.types import BadInput, Clip, Fold, KeyFrames, Predictions


def rows(table: Sequence[tuple[str, int, int]], seed: int = 0) -> Predictions:
    """Predictions of (clip id, truth, prediction), one fold a person, as LOSO gives them."""
    return Predictions(
        clip_ids=tuple(clip for clip, _, _ in table),
        y_true_N=np.array([truth for _, truth, _ in table], dtype=np.int64),
        y_pred_N=np.array([predicted for _, _, predicted in table], dtype=np.int64),
        prob_NK=np.eye(3)[[predicted for _, _, predicted in table]],
        fold_ids=tuple(clip.rsplit("/", 1)[0] for clip, _, _ in table),
        seed_N=np.full(len(table), seed),
    )


def clip(clip_id: str, label: int = 0) -> Clip:
    dataset, subject, name = clip_id.split("/")
    return Clip(dataset, subject, name, label, "x", KeyFrames("/a", "/b"), "test")


@pytest.mark.parametrize(
    ("counts", "uf1"),
    [
        ((88, 32, 25), 0.2518),  # CASME II of MEGC 2019
        ((92, 26, 15), 0.2726),  # SAMM
        ((70, 51, 43), 0.1994),  # SMIC-HS
        ((250, 109, 83), 0.2408),  # all three
        ((262, 65, 55), 0.2712),  # CASME + CASME II + SAMM of Zhao et al. 2024
    ],
)
def test_a_constant_predictor_on_the_published_counts(counts: tuple[int, ...], uf1: float) -> None:
    truth_N = np.repeat(np.arange(3), counts)
    got = scores(truth_N, np.zeros_like(truth_N), 3)
    assert got.uar == pytest.approx(1 / 3)
    assert round(got.uf1, 4) == uf1
    assert got.n == sum(counts)
    folds = [Fold("test=b", ("a/1/n", "a/1/m", "a/2/p"), tuple(f"b/1/{i}" for i in range(sum(counts))))]
    labels = {"a/1/n": 0, "a/1/m": 0, "a/2/p": 1} | {f"b/1/{i}": int(y) for i, y in enumerate(truth_N)}
    assert round(floors(folds, labels, 3)["constant"]["uf1"], 4) == uf1


def test_scores_by_hand() -> None:
    got = scores(np.array([0, 0, 0, 0, 1, 1, 2]), np.array([0, 0, 0, 1, 1, 0, 1]), 3)
    np.testing.assert_allclose(got.recall_K, [3 / 4, 1 / 2, 0])
    np.testing.assert_allclose(got.f1_K, [6 / 8, 2 / 5, 0])
    assert got.uar == pytest.approx((3 / 4 + 1 / 2) / 3)
    assert got.uf1 == pytest.approx((6 / 8 + 2 / 5) / 3)
    np.testing.assert_array_equal(got.confusion_KK, [[3, 1, 0], [1, 1, 0], [0, 1, 0]])


def test_a_class_that_the_truth_lacks_counts_as_zero() -> None:
    truth_N = np.array([0, 0, 1, 1])
    assert scores(truth_N, truth_N, 3).uar == pytest.approx(2 / 3)
    assert scores(truth_N, truth_N, 3).uf1 == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("truth", "predicted"), [([0, 3], [0, 0]), ([0, 0], [0, 3]), ([0, -1], [0, 0]), ([], [])]
)
def test_what_cannot_be_scored_is_refused(truth: list[int], predicted: list[int]) -> None:
    with pytest.raises(ValueError, match=r"outside the 3 classes|no predictions"):
        scores(np.array(truth, dtype=np.int64), np.array(predicted, dtype=np.int64), 3)


def test_the_mean_over_folds_by_hand() -> None:
    table = [
        ("d/1/a", 0, 0),  # person 1: class 0 alone, all right: recall 1, F1 1
        ("d/1/b", 0, 0),
        ("d/2/a", 0, 0),  # person 2: class 0 right, class 1 missed: recall (1 + 0) / 2, F1 (2/3 + 0) / 2
        ("d/2/b", 1, 0),
        ("d/3/a", 2, 0),  # person 3: class 2 missed, class 0 predicted: 0 over the two classes that occur
    ]
    uar, uf1 = fold_mean(rows(table), 3)
    assert uar == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert uf1 == pytest.approx((1 + 1 / 3 + 0) / 3)
    pooled = scores(rows(table).y_true_N, rows(table).y_pred_N, 3)
    assert pooled.uar == pytest.approx(1 / 3) and pooled.uf1 == pytest.approx(6 / 8 / 3)


def test_seeds_are_averaged_and_their_spread_is_told() -> None:
    right = [("d/1/a", 0, 0), ("d/1/b", 1, 1), ("d/2/a", 2, 2), ("d/2/b", 0, 0)]
    wrong = [(clip_id, truth, (truth + 1) % 3) for clip_id, truth, _ in right]
    both = Predictions.concat([rows(right, seed=4), rows(wrong, seed=9)])
    summary = _summary(both)
    assert (summary.uar, summary.uf1) == (0.5, 0.5)
    assert summary.uar_sd == pytest.approx(np.sqrt(0.5)) and summary.seeds == (4, 9)
    assert fold_mean(both, 3) == (0.5, 0.5)
    assert summary.n == 4 and summary.confusion_KK.sum() == 8
    assert [(r.subject, r.n, r.correct, r.recall) for r in summary.per_subject] == [
        ("d/1", 2, 1.0, 0.5),
        ("d/2", 2, 1.0, 0.5),
    ]
    assert _summary(rows(right)).uar_sd is None  # one seed tells nothing of the spread


def test_a_seed_that_lacks_a_fold_is_averaged_over_the_folds_it_has() -> None:
    full = [("d/1/a", 0, 0), ("d/2/a", 1, 0)]
    uar, _ = fold_mean(Predictions.concat([rows(full, seed=0), rows(full[:1], seed=1)]), 3)
    assert uar == pytest.approx((0.5 + 1.0) / 2)


def _summary(predictions: Predictions) -> Summary:
    clips = [
        clip(c, int(y)) for c, y in dict(zip(predictions.clip_ids, predictions.y_true_N, strict=True)).items()
    ]
    cfg = EvaluationConfig(bootstrap=2000)
    return summarise(
        predictions,
        make_folds(clips, cfg),
        {c.id: c.label for c in clips},
        ("negative", "positive", "surprise"),
        cfg,
    )


def test_the_summary_is_json_with_the_promised_keys() -> None:
    table = [
        (f"{d}/{s}/{i}", i % 3, (i + (s == "2")) % 3)
        for d in ("a", "b")
        for s in ("1", "2")
        for i in range(6)
    ]
    result = json.loads(json.dumps(_summary(rows(table)).to_json(), allow_nan=False))
    assert {"uar", "uar_ci", "uf1", "uf1_ci", "uar_sd", "uf1_sd", "uar_foldmean", "uf1_foldmean"} <= set(
        result
    )
    assert result["uar"] == pytest.approx(0.5) and result["uar_ci"] == [0.0, 1.0]
    assert set(result["floors"]) == {"constant", "stratified"}
    assert all(set(f) == {"uar", "uf1", "uar_foldmean", "uf1_foldmean"} for f in result["floors"].values())
    assert result["per_dataset"]["a"] == {"uar": pytest.approx(0.5), "uf1": pytest.approx(0.5), "n": 12}
    assert result["per_class"]["positive"]["n"] == 8
    assert np.sum(result["confusion"]) == 24 and result["n"] == 24


def test_a_summary_refuses_nothing_and_repeats() -> None:
    table = [("d/1/a", 0, 0), ("d/2/a", 1, 1)]
    with pytest.raises(BadInput, match="no fold has finished"):
        summarise(rows(table).take(np.zeros(2, dtype=bool)), (), {}, ("n", "p", "s"), EvaluationConfig())
    with pytest.raises(ValueError, match="d/1/a is predicted 2 times"):
        _summary(Predictions.concat([rows(table), rows(table[:1])]))


def test_a_partial_result_stands_beside_its_own_floor() -> None:
    clips = [clip(f"d/{s}/{i}", (s + i) % 3) for s in range(4) for i in range(5)]
    cfg = EvaluationConfig(bootstrap=100)
    folds = make_folds(clips, cfg)
    labels = {c.id: c.label for c in clips}
    done = rows([(c.id, c.label, c.label) for c in clips if c.subject == "1"])
    summary = summarise(done, folds, labels, ("n", "p", "s"), cfg)
    # of one person there is no interval
    assert summary.interval is None and summary.to_json()["uar_ci"] is None
    assert summary.floors == floors([f for f in folds if f.id == "d/1"], labels, 3)


def test_the_bootstrap_draws_persons() -> None:
    # One clip a class in each of two persons, one person all right, one all wrong: a resample scores 0, .5 or
    # 1.
    table = [(f"d/{s}/{k}", k, k if s == 1 else (k + 1) % 3) for s in (1, 2) for k in range(3)]
    got = bootstrap(rows(table), 3, 4000, 0.4, 0)
    assert (got.uar.lo, got.uar.hi) == (0.5, 0.5)  # the quantiles .3 and .7 of 0 (1/4), .5 (1/2) and 1 (1/4)
    wide = bootstrap(rows(table), 3, 4000, 0.95, 0)
    assert (wide.uar.lo, wide.uar.hi, wide.lacking) == (0.0, 1.0, 0.0)
    with pytest.raises(ValueError, match="at least 2"):
        bootstrap(rows(table[:3]), 3, 100, 0.95, 0)


def test_a_resample_without_a_clip_of_a_seed_leaves_that_seed_out() -> None:
    """Of a run that was stopped in its second seed, such resamples counted that seed as 0: the interval of a
    run without one wrong answer began at .5."""
    table = [(f"d/{s}/{k}", k, k) for s in range(4) for k in range(3)]
    stopped = Predictions.concat([rows(table, seed=0), rows(table[:3], seed=1)])
    got = bootstrap(stopped, 3, 400, 0.95, 0)
    assert (got.uar.lo, got.uf1.lo, got.lacking) == (1.0, 1.0, 0.0)
    folds = make_folds([clip(c, y) for c, y, _ in table], EvaluationConfig())
    scored = every_score(stopped, folds, {c: y for c, y, _ in table}, chosen(PUBLISHED, 3), 3, 400)
    assert {(row.interval.lo, row.interval.hi) for row in scored if row.interval} == {(1.0, 1.0)}


def test_the_bootstrap_tells_how_often_a_class_is_missing() -> None:
    table = [("d/1/a", 0, 0), ("d/2/a", 1, 1)]  # half of the resamples hold one person twice
    got = bootstrap(rows(table), 3, 4000, 0.95, 0)
    # class 2, which the data lack, is not counted as missing
    assert got.lacking == pytest.approx(0.5, abs=0.03)
    assert got.uar.lo == pytest.approx(1 / 3) and got.uar.hi == pytest.approx(2 / 3)


def test_the_stratified_floor_draws_the_training_frequencies() -> None:
    train = tuple(f"d/1/{i}" for i in range(4))
    test = tuple(f"d/2/{i}" for i in range(300))
    labels = dict.fromkeys(train[:3], 0) | {train[3]: 2} | {c: i % 3 for i, c in enumerate(test)}
    got = floors([Fold("d/2", train, test)], labels, 3)
    assert got["constant"]["uar"] == pytest.approx(1 / 3)
    # A class is drawn regardless of the truth: the recalls are the frequencies, .75, 0 and .25, and their
    # mean 1/3.
    assert got["stratified"]["uar"] == pytest.approx(1 / 3, abs=0.01)
    f1 = (2 * 0.75 / (0.75 * 3 + 1) + 2 * 0.25 / (0.25 * 3 + 1)) / 3
    assert got["stratified"]["uf1"] == pytest.approx(f1, abs=0.01)
    assert got == floors([Fold("d/2", train, test)], labels, 3)


def test_too_few_people_or_sets_are_refused() -> None:
    one = [clip("a/1/x"), clip("a/1/y")]
    two = [*one, clip("a/2/x")]
    for mode in ("loso", "group_kfold", "cross_dataset"):
        with pytest.raises(BadInput, match="at least 2"):
            make_folds(one, EvaluationConfig(folds=mode))
    with pytest.raises(BadInput, match="k is 5, but there are 2 subjects"):
        make_folds(two, EvaluationConfig(folds="group_kfold"))
    with pytest.raises(BadInput, match="at least 2 data sets"):
        make_folds(two, EvaluationConfig(folds="cross_dataset"))
    with pytest.raises(BadInput, match="at least 2 training subjects"):
        inner_folds(["a/1/x", "a/1/y"], {"a/1/x": 0, "a/1/y": 0}, 3)


def test_fold_names() -> None:
    clips = [clip(f"{d}/{s}/x") for d in ("b", "a") for s in ("02", "01")]
    assert [f.id for f in make_folds(clips, EvaluationConfig())] == ["a/01", "a/02", "b/01", "b/02"]
    assert [f.id for f in make_folds(clips, EvaluationConfig(folds="group_kfold", k=3))] == [
        "group-1",
        "group-2",
        "group-3",
    ]
    crossed = make_folds(clips, EvaluationConfig(folds="cross_dataset"))
    assert [f.id for f in crossed] == ["test=a", "test=b"]
    assert crossed[0].test == ("a/01/x", "a/02/x") and crossed[0].train == ("b/01/x", "b/02/x")


def test_permuting_keeps_each_person_s_labels() -> None:
    labels = {f"d/{s}/{i}": i % 3 for s in range(6) for i in range(7)}
    permuted = permute_within_subjects(labels, 1)
    assert permuted != labels and list(permuted) == list(labels)
    for s in range(6):
        mine = [c for c in labels if c.startswith(f"d/{s}/")]
        assert sorted(permuted[c] for c in mine) == sorted(labels[c] for c in mine)
    assert permute_within_subjects(dict(reversed(labels.items())), 1) == permuted
    assert permute_within_subjects(labels, 2) != permuted
