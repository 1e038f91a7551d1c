"""Paired comparison: symmetric, calibrated where nothing differs, sure where everything does."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distmer.evaluation.metrics import scores
from distmer.evaluation.paired import compare, holm
from distmer.types import BadInput, Predictions


def predictions(
    y_true: np.ndarray, y_pred: np.ndarray, people: int = 12, seeds: int = 1, each: int | None = None
) -> Predictions:
    n = len(y_true)
    clips = tuple(f"toy/s{i % people}/c{i}" for i in range(n)) * seeds
    truth, said = np.tile(y_true, seeds), y_pred if len(y_pred) == n * seeds else np.tile(y_pred, seeds)
    return Predictions(
        clips,
        truth,
        said,
        np.eye(3)[said],
        tuple(c.split("/")[1] for c in clips),
        np.repeat(np.arange(seeds), n),
    )


def guesses(accuracy: float, y_true: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random(len(y_true)) < accuracy, y_true, rng.integers(0, 3, len(y_true)))


TRUTH = np.arange(120) % 3


def test_the_difference_is_that_of_the_scores_and_turns_with_the_order() -> None:
    a, b = (predictions(TRUTH, guesses(acc, TRUTH, i)) for i, acc in enumerate((0.8, 0.5)))
    ab, ba = compare(a, b, 3, 500), compare(b, a, 3, 500)
    own = scores(a.y_true_N, a.y_pred_N, 3).uar - scores(b.y_true_N, b.y_pred_N, 3).uar
    assert ab.uar == pytest.approx(own) == pytest.approx(-ba.uar)
    assert ab.uar_p == ba.uar_p
    assert ab.uar_ci.lo < own < ab.uar_ci.hi


def test_a_model_against_itself_is_no_difference() -> None:
    a = predictions(TRUTH, guesses(0.6, TRUTH, 0))
    same = compare(a, a, 3, 200)
    assert (same.uar, same.uf1, same.uar_p, same.uf1_p) == (0, 0, 1, 1)


def test_better_everywhere_is_seen_and_one_person_is_not_enough() -> None:
    wrong = (TRUTH + 1) % 3
    assert compare(predictions(TRUTH, TRUTH), predictions(TRUTH, wrong), 3, 2000).uar_p < 0.002
    with pytest.raises(BadInput, match="at least two subjects"):
        compare(predictions(TRUTH, TRUTH, people=1), predictions(TRUTH, wrong, people=1), 3)


def test_p_values_of_exchangeable_models_are_uniform() -> None:
    """200 pairs of equally good guessers: about one in ten below .1, one in two below .5."""
    p = [
        compare(
            predictions(TRUTH, guesses(0.5, TRUTH, 2 * i)),
            predictions(TRUTH, guesses(0.5, TRUTH, 2 * i + 1)),
            3,
            300,
        ).uar_p
        for i in range(200)
    ]
    assert 0.04 < np.mean(np.array(p) < 0.1) < 0.17
    assert 0.4 < np.mean(np.array(p) < 0.5) < 0.6


def test_small_cases_by_every_swap() -> None:
    """Four people, all sixteen swaps written out: the random ones must find the same share."""
    truth = np.array([0, 1, 2] * 4)
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 3, 12), rng.integers(0, 3, 12)
    person = np.arange(12) % 4
    observed = abs(scores(truth, a, 3).uar - scores(truth, b, 3).uar)
    hits = 0
    for bits in range(16):
        swap = np.array([bits >> p & 1 for p in range(4)], dtype=bool)[person]
        hits += (
            abs(scores(truth, np.where(swap, b, a), 3).uar - scores(truth, np.where(swap, a, b), 3).uar)
            >= observed - 1e-12
        )
    found = compare(predictions(truth, a, people=4), predictions(truth, b, people=4), 3, 20_000).uar_p
    assert found == pytest.approx(hits / 16, abs=0.015)


def test_seeds_are_averaged_and_only_shared_clips_count() -> None:
    said = np.concatenate([TRUTH, guesses(0.5, TRUTH, 1)])
    two = predictions(TRUTH, said, seeds=2)
    one = predictions(TRUTH, TRUTH)
    expected = (1 + scores(TRUTH, said[120:], 3).uar) / 2 - 1
    assert compare(two, one, 3, 100).uar == pytest.approx(expected)
    part = one.take(np.arange(120) < 60)
    assert compare(part, two, 3, 100).uar == pytest.approx(
        1 - (1 + scores(TRUTH[:60], said[120:180], 3).uar) / 2
    )


def test_a_clip_that_a_seed_lacks_does_not_count() -> None:
    """A run that was stopped in its second seed differed from itself: the few clips of that seed were scored
    beside all clips of the other."""
    said = guesses(0.7, TRUTH, 0)
    whole, two = predictions(TRUTH, said), predictions(TRUTH, said, seeds=2)
    stopped = two.take(
        np.array([seed == 0 or "/s3/" in c or "/s5/" in c for c, seed in _clips_and_seeds(two)])
    )
    found = compare(stopped, whole, 3, 100)
    assert (found.uar, found.uf1, found.clips, found.unpaired, found.subjects) == (0, 0, 20, 100, 2)
    with pytest.raises(BadInput, match="that both have predicted with every seed"):
        compare(two.take(np.array([seed == 0 or "/s3/" in c for c, seed in _clips_and_seeds(two)])), whole, 3)


def _clips_and_seeds(p: Predictions) -> list[tuple[str, int]]:
    return list(zip(p.clip_ids, p.seed_N.tolist(), strict=True))


def test_other_labels_for_the_same_clips_are_refused() -> None:
    """Runs on permuted and on real labels were "compared", each against its own truth."""
    permuted = TRUTH.copy()
    permuted[[3, 5]] = permuted[[5, 3]]
    words = r"real and chance were scored against other labels: clip toy/s3/c3 is of class 0 in one"
    with pytest.raises(BadInput, match=words + r" and of class 2 in the other \(2 of 120 clips differ\)"):
        compare(predictions(TRUTH, TRUTH), predictions(permuted, TRUTH), 3, 100, names=("real", "chance"))
    elsewhere = predictions(permuted, TRUTH).take(np.arange(120) > 5)  # the clips that both have agree
    found = compare(predictions(TRUTH, TRUTH), elsewhere, 3, 100)
    assert (found.clips, found.unpaired) == (114, 6)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_between_the_raw_values_and_bonferroni_and_keeps_their_order(p: list[float]) -> None:
    adjusted = holm(p)
    for raw, new in zip(p, adjusted, strict=True):
        assert raw <= new + 1e-12
        assert new <= min(1.0, raw * len(p)) + 1e-9
    ranks = np.argsort(p, kind="stable")
    assert all(adjusted[i] <= adjusted[j] for i, j in itertools.pairwise(ranks))
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])  # by hand
