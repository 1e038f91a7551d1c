"""Predictions that other code made: the numbers are scikit-learn's, and what makes them doubtful is said."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.naive_bayes import GaussianNB

from distmer.config import EvaluationConfig
from distmer.evaluation.every import FOLD_MEAN, MetricRow, every_score
from distmer.evaluation.imported import Imported, import_predictions
from distmer.evaluation.named import PUBLISHED, chosen
from distmer.evaluation.summary import summarise
from distmer.types import BadInput
from harness import toy
from tests.saying import Say


def table(n: int = 60, subjects: int = 12, **columns: object) -> pd.DataFrame:
    rng = np.random.default_rng(n)
    y_true = rng.choice(["negative", "positive", "surprise"], n)
    y_pred = np.where(rng.random(n) < 0.5, y_true, rng.choice(["negative", "positive", "surprise"], n))
    rows = {"clip": [f"c{i}" for i in range(n)], "subject": [f"s{i % subjects:02d}" for i in range(n)]}
    return pd.DataFrame({**rows, "y_true": y_true, "y_pred": y_pred, **columns})


def rows_of(found: Imported, *options: int) -> tuple[MetricRow, ...]:
    k = len(found.classes)
    return every_score(found.predictions, found.folds, found.labels, chosen(PUBLISHED, k), k, *options)


def scored(found: Imported) -> dict[tuple[str, str], float]:
    return {(row.metric, row.over): row.value for row in rows_of(found, 5)}


@pytest.mark.filterwarnings("ignore:A single label")
@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60))
def test_every_metric_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    true, pred = zip(*pairs, strict=True)
    confusion_KK = sk.confusion_matrix(true, pred, labels=range(4))
    oracle = {
        "UAR": sk.recall_score(true, pred, labels=range(4), average="macro", zero_division=0),
        "UF1": sk.f1_score(true, pred, labels=range(4), average="macro", zero_division=0),
        "accuracy": sk.accuracy_score(true, pred),
        "weighted F1": sk.f1_score(true, pred, labels=range(4), average="weighted", zero_division=0),
        "MCC": sk.matthews_corrcoef(true, pred),
    }
    metrics = {metric.title: metric for metric in chosen(PUBLISHED, 4)}
    assert oracle.keys() == metrics.keys()
    stacked_2KK = np.stack([confusion_KK, confusion_KK.T])
    for name, metric in metrics.items():
        assert float(metric(confusion_KK)) == pytest.approx(oracle[name], abs=1e-12)
        assert metric(stacked_2KK)[0] == pytest.approx(oracle[name], abs=1e-12)


def test_a_table_is_scored_as_ours_are() -> None:
    """The same numbers, floors and intervals as a run prints, and the mean over folds as scikit-learn has
    it."""
    frame = table()
    found = import_predictions(frame, "mine.csv")
    assert (found.classes, found.warnings, len(found.folds)) == (("negative", "positive", "surprise"), (), 12)
    draws = EvaluationConfig().bootstrap
    ours = summarise(found.predictions, found.folds, found.labels, found.classes, EvaluationConfig())
    rows = {(r.metric, r.over): r for r in rows_of(found, draws)}
    assert rows["UAR", "pooled"].value == pytest.approx(ours.uar) and rows[
        "UF1", "pooled"
    ].value == pytest.approx(ours.uf1)
    assert ours.interval is not None
    assert (
        rows["UAR", "pooled"].interval == ours.interval.uar
        and rows["UF1", "pooled"].interval == ours.interval.uf1
    )
    assert rows["UAR", FOLD_MEAN].value == pytest.approx(ours.uar_foldmean)
    for which, floor in ours.floors.items():
        assert rows["UF1", "pooled"].floors[which] == pytest.approx(floor["uf1"])
        assert rows["UF1", FOLD_MEAN].floors[which] == pytest.approx(floor["uf1_foldmean"])
    each = [sk.f1_score(g.y_true, g.y_pred, average="macro") for _, g in frame.groupby("subject")]
    assert rows["UF1", FOLD_MEAN].value == pytest.approx(np.mean(each))


def test_seeds_are_averaged_and_their_spread_is_told() -> None:
    two = pd.concat([table(seed=0), table(seed=1).assign(y_pred="negative")])
    found = import_predictions(two, "mine.csv")
    rows = rows_of(found)
    first = sk.balanced_accuracy_score(table().y_true, table().y_pred)
    assert rows[0].value == pytest.approx((first + 1 / 3) / 2)
    assert rows[0].sd == pytest.approx(np.std([first, 1 / 3], ddof=1))


@pytest.mark.parametrize(
    "names", [("Clip ID", "Subject_ID", "true", "Pred"), ("video", "sub", "label", "prediction")]
)
def test_usual_column_names_are_known(names: tuple[str, ...]) -> None:
    frame = table()
    assert scored(import_predictions(frame.set_axis(names, axis=1), "x")) == scored(
        import_predictions(frame, "x")
    )


def test_probabilities_are_enough_and_numbers_are_sorted_as_numbers() -> None:
    frame = table(y_true=np.arange(60) % 11).drop(columns="y_pred")
    for k in range(11):
        frame[f"prob_{k}"] = np.where(frame.y_true == k, 0.9, 0.01)
    found = import_predictions(frame, "x")
    assert found.classes == tuple(str(k) for k in range(11))
    assert scored(found)["UAR", "pooled"] == 1
    frame["y_pred"] = 3
    assert "y_pred counts" in import_predictions(frame, "x").warnings[0]


def test_what_makes_a_score_doubtful_is_said() -> None:
    found = import_predictions(table(fold=[f"f{i % 5}" for i in range(60)]), "x")
    assert "12 of 12 subjects are tested in several folds" in found.warnings[0]
    frame = table()
    found = import_predictions(pd.concat([frame, frame[:2]]), "x")
    assert "2 clips are predicted more than once" in found.warnings[0] and len(found.predictions) == 62
    frame = table()
    frame.loc[frame.y_true == "surprise", "y_true"] = "negative"
    (said,) = import_predictions(frame, "x").warnings
    assert "no clip is truly of class 'surprise'" in said
    found = import_predictions(table(fold="test"), "x")  # one test set: what was trained on is not known
    rows = rows_of(found)
    assert all(row.floors == {} for row in rows)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.drop(columns="subject"), "the column subject is missing"),
        (lambda t: t.drop(columns="y_pred"), "the column y_pred is missing"),
        (lambda t: t.assign(subjekt="a"), "unknown column 'subjekt' (did you mean 'subject'?)"),
        (lambda t: t.assign(truth=t.y_true), "columns 'y_true' and 'truth' both say y_true"),
        (lambda t: t.assign(subject=[None, *t.subject[1:]]), "row 2: the cell in column 'subject' is empty"),
        (lambda t: t.assign(prob_negative=2.0), "row 2: 2.0 in column 'prob_negative' is no probability"),
        (lambda t: t.assign(prob_negative="high"), "holds something that is no number"),
        (lambda t: t.assign(prob_negative=0.5), "class 'positive' has no column prob_positive"),
        (lambda t: t.assign(y_true="a", y_pred="a"), "only one class occurs"),
        (lambda t: t.assign(seed="first"), "column seed must hold whole numbers"),
        (lambda t: t.assign(clip="c", subject="s"), "has another y_true above"),
        (lambda t: t[:0], "the table has no rows"),
        (lambda t: t.assign(subject="a/b/c"), "has a slash in it"),
    ],
)
def test_what_cannot_be_scored_is_one_sentence(change: object, said: str) -> None:
    with pytest.raises(BadInput) as raised:
        import_predictions(change(table()), "mine.csv")  # type: ignore[operator]
    assert said in str(raised.value) and str(raised.value).startswith("mine.csv")


def test_the_command_agrees_with_scikit_learn(say: Say, tmp_path: Path) -> None:
    """Leave-one-subject-out predictions of another tool, as its users would write them to a file."""
    frame = table(120)
    x_ND = np.random.default_rng(0).normal(size=(120, 8)) + pd.factorize(frame.y_true)[0][:, None]
    frame["y_pred"] = cross_val_predict(
        GaussianNB(), x_ND, frame.y_true, groups=frame.subject, cv=LeaveOneGroupOut()
    )
    frame.to_csv(tmp_path / "a.csv")  # with pandas' row numbers
    frame.to_csv(tmp_path / "b.csv", sep=";", index=False, encoding="utf-8-sig")
    frame.to_csv(tmp_path / "c.tsv", sep="\t", index=False)
    frame.to_parquet(tmp_path / "d.parquet")
    paths = [str(path) for path in sorted(tmp_path.glob("?.*"))]
    ended = say("score", *paths, "--json", "--resamples", "100")
    found = [json.loads(line)["scores"] for line in ended.out.splitlines()]
    assert (ended.code, len(found)) == (0, 4) and all(scores == found[0] for scores in found)
    value = {(row["metric"], row["over"]): row["value"] for row in found[0]}
    true, pred = frame.y_true, frame.y_pred
    assert value["UAR", "pooled"] == pytest.approx(sk.balanced_accuracy_score(true, pred), abs=1e-12)
    assert value["UF1", "pooled"] == pytest.approx(sk.f1_score(true, pred, average="macro"), abs=1e-12)
    assert value["weighted F1", "pooled"] == pytest.approx(
        sk.f1_score(true, pred, average="weighted"), abs=1e-12
    )
    assert "UAR, mean over folds" in say("score", paths[0]).out


def test_a_file_that_cannot_be_read_is_one_sentence(say: Say, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "broken.parquet").write_text("nothing")
    for name in ("none.csv", "empty.csv", "broken.parquet", "."):
        ended = say("score", str(tmp_path / name))
        assert (
            ended.code == 2
            and ended.err.startswith(f"bad input: {tmp_path / name}: ")
            and ended.err.count("\n") == 1
        )


@pytest.mark.parametrize("written", [("negative", "positive", "surprise"), ("0", "1", "2")])
def test_a_file_stands_beside_our_runs(
    say: Say, maps: Path, tmp_path: Path, written: tuple[str, ...]
) -> None:
    settings = toy.settings(maps, "model.name=linear", "model.size=8", "tracking.enabled=false")
    ran = json.loads(say("run", *settings, "--local", "--json").out.splitlines()[-1])
    ours = pd.read_parquet(Path(ran["run_dir"]) / "predictions.parquet")
    theirs = ours.assign(**{name: [written[k] for k in ours[name]] for name in ("y_true", "y_pred")})[
        ["dataset", "subject", "clip_id", "y_true", "y_pred"]
    ]
    theirs.to_csv(tmp_path / "mine.csv", index=False)
    off = ("--set", "tracking.enabled=false")
    ended = say("compare", ran["run_dir"], str(tmp_path / "mine.csv"), *off)
    assert ended.code == 0, ended.err
    assert "made by other code" in ended.out and "no difference shown" in ended.out and "+0.0000" in ended.out

    # of two files with one name, "pred.csv is better" would be no answer
    for name in ("a/mine.csv", "b/mine.csv"):
        (tmp_path / name).parent.mkdir()
        theirs.to_csv(tmp_path / name, index=False)
    named = say("compare", *(str(tmp_path / name) for name in ("a/mine.csv", "b/mine.csv")), *off)
    assert "a/mine.csv" in named.out and "b/mine.csv" in named.out
    # files lie in no workspace, so their tables are in the user's
    assert f"tables: {os.environ['DISTMER_HOME']}/comparisons/" in named.out
    copy = shutil.copytree(ran["run_dir"], tmp_path / "copy")
    twice = say("compare", ran["run_dir"], str(copy), *off)
    assert "(copy)" in twice.out and f"({Path(ran['run_dir']).name})" in twice.out
    assert "it is given twice" in say("compare", ran["run_dir"], f"{ran['run_dir']}/.", *off).sentence
