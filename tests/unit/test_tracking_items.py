"""What a tracker is told: complete, searchable on the folds too, honest about stamps, and never a frame."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest

from distmer.tracking.environment import Environment, capture
from distmer.tracking.items import (
    Child,
    Figure,
    LogItem,
    Metric,
    Params,
    Tag,
    Text,
    flatten,
    fold_items,
    fold_metrics,
    plan_items,
    result_items,
)
from distmer.tracking.view import COLUMNS, experiment_tags, side_by_side
from tests import factories

T = TypeVar("T")
HERE = Environment("abc123", True, None, {"numpy": "2"}, "3.11", "Linux", 2, "cpu")


def of(kind: type[T], items: list[LogItem]) -> list[T]:
    return [item for item in items if isinstance(item, kind)]


def tags(items: list[LogItem]) -> dict[str, str]:
    return {tag.name: tag.value for tag in of(Tag, items)}


def test_a_plan_tells_every_option_that_acts_and_none_that_does_not() -> None:
    network, linear = (
        of(Params, list(plan_items(factories.plan(model={"name": name}), HERE)))[0].values
        for name in ("atscnn", "linear")
    )
    assert (
        network["model"] == "atscnn" and network["dataset"] == "hand-made" and network["selection"] == "fixed"
    )
    assert network["train.lr"] == "0.0001" and "train.momentum" not in network
    assert linear["model.c"] == "0.003"
    assert [name for name in linear if name.startswith("train.")] == []


def test_a_fold_repeats_the_settings_so_that_a_search_finds_it() -> None:
    plan = factories.plan(model={"name": "atscnn"}, seeds=(3, 4))
    job = plan.jobs[-1]
    (child,) = of(Child, list(fold_items(factories.fold(plan, job, epochs=5), plan)))
    params = of(Params, list(child.items))[0].values
    assert child.key == job.digest
    assert {name: params[name] for name in ("model", "dataset", "seed", "fold", "selection", "train.lr")} == {
        "model": "atscnn",
        "dataset": "hand-made",
        "seed": "4",
        "fold": job.fold.id,
        "selection": "fixed",
        "train.lr": "0.0001",
    }
    metrics = of(Metric, list(child.items))
    epochs = [metric.step for metric in metrics if metric.name == "train_loss"]
    assert epochs == [1, 2, 3, 4, 5]
    assert all(metric.name.startswith("fold.") for metric in metrics if metric.name != "train_loss")


@pytest.mark.parametrize(
    ("sections", "stamps", "headline"),
    [
        ({}, "none", "yes"),
        ({"model": {"name": "atscnn"}, "train": {"selection": "oracle"}}, "oracle:per_subject", "no"),
        ({"evaluation": {"permute_labels": 1}}, "labels-permuted", "no"),
        ({"expected": {"ones": {"negative": 99}}}, "counts-mismatch", "no"),
    ],
)
def test_stamps_stand_on_the_run_and_on_every_fold(
    sections: dict[str, Any], stamps: str, headline: str
) -> None:
    plan = factories.plan(**sections)
    child = of(Child, list(fold_items(factories.fold(plan, plan.jobs[0]), plan)))[0]
    for told in (tags(list(plan_items(plan, HERE))), tags(list(child.items))):
        assert (told["distmer.stamps"], told["distmer.headline"]) == (stamps, headline)


def test_a_global_oracle_gives_a_fold_no_score_before_the_end() -> None:
    plan = factories.plan(model={"name": "atscnn"}, train={"selection": "oracle", "oracle": "global_epoch"})
    assert {metric.name for metric in fold_metrics(factories.fold(plan, plan.jobs[0]), plan, 0)} == {
        "fold.clips",
        "fold.seconds",
    }


def test_a_result_tells_scores_floors_and_all_that_is_missing() -> None:
    result = factories.result(factories.plan(), failed=1, unreached=1)
    items = list(result_items(result))
    metrics = {metric.name: metric.value for metric in of(Metric, items)}
    tree = result.to_json()
    assert (
        metrics["uar"] == tree["uar"]
        and metrics["uar.low"] == tree["uar_ci"][0]
        and metrics["uf1.high"] == tree["uf1_ci"][1]
    )
    assert metrics["floors.constant.uar_foldmean"] == tree["floors"]["constant"]["uar_foldmean"]
    assert metrics["per_dataset.twos.uf1"] == tree["per_dataset"]["twos"]["uf1"]
    assert (metrics["folds_done"], metrics["folds_failed"], metrics["folds_missing"]) == (4, 1, 1)
    assert (metrics["clips_used"], metrics["clips_expected"]) == (tree["clips_used"], 30)
    texts = {text.path: text.text for text in of(Text, items)}
    tables = {path: pd.read_csv(io.StringIO(text)) for path, text in texts.items() if path.endswith(".csv")}
    assert list(tables["failures.csv"]["what"]) == ["clip", "fold", "fold"]
    assert "Traceback" in tables["failures.csv"]["traceback"][1]
    assert len(tables["predictions.csv"]["clip_id"]) == tree["clips_used"]
    assert {figure.path for figure in of(Figure, items)} == {"figures/confusion.png", "figures/subjects.png"}
    assert json.loads(texts["results.json"]) == json.loads(json.dumps(tree))


def test_a_result_without_a_fold_is_told_too() -> None:
    plan = factories.plan()
    items = list(result_items(factories.result(plan, failed=len(plan.jobs))))
    assert "uar" not in {metric.name for metric in of(Metric, items)}
    assert not of(Figure, items)


def test_settings_become_dotted_words() -> None:
    tree = {"a": {"b": 1e-4, "c": [1, 2]}, "d": None, "e": "word", "f": True}
    assert flatten(tree) == {"a.b": "0.0001", "a.c": "[1, 2]", "d": "null", "e": "word", "f": "true"}


def test_the_environment_names_no_commit_that_is_not_the_packages_own(tmp_path: Path) -> None:
    (tmp_path / "requirements.lock").write_text("numpy==2\n")
    here = capture(tmp_path)
    assert here.commit is None and here.dirty is None
    assert here.requirements is not None and len(here.requirements) == 64
    assert here.libraries["distmer"] and here.device
    json.dumps(here.to_json())


def test_a_comparison_has_an_address_only_on_a_server_and_never_a_password() -> None:
    told = side_by_side("https://me:secret@host/ml/", "7", ["a", "b"])
    assert told is not None and told.startswith("https://host/ml/#/compare-runs?") and "secret" not in told
    query = parse_qs(urlsplit(told).fragment.partition("?")[2])
    assert (json.loads(query["runs"][0]), json.loads(query["experiments"][0])) == (["a", "b"], ["7"])
    assert side_by_side("sqlite:////x/mlflow.db", "7", ["a", "b"]) is None
    assert side_by_side("https://host", "7", ["a"]) is None


def test_the_saved_view_shows_what_a_run_has() -> None:
    result = factories.result(factories.plan())
    written = [*plan_items(result.plan, HERE), *result_items(result)]
    names = {"metrics": set[str](), "params": set[str](), "tags": set[str](), "attributes": {"Dataset"}}
    for item in written:
        names["metrics"] |= {item.name} if isinstance(item, Metric) else set()
        names["tags"] |= {item.name} if isinstance(item, Tag) else set()
        names["params"] |= set(item.values) if isinstance(item, Params) else set()
    for column in COLUMNS:
        kind, _, name = column.partition(".")
        assert name.strip("`") in names[kind], column
    view = json.loads(experiment_tags(5.0)["mlflow.sharedViewState.distmer"])
    assert view["createdAt"] == 5000 and json.loads(view["state"])["selectedColumns"] == list(COLUMNS)
