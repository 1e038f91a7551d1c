"""`make demo`, as a newcomer runs it: raw clips to tracked scores; and what its embedded data are worth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness import command
from tests.within import loso

pytestmark = pytest.mark.slow

DEMO = "configs/demo.yaml"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def demo(home: Path) -> command.Ended:
    return command.loso(DEMO, "--json", home=home)


def test_the_demo_learns_and_says_where_to_look(demo: command.Ended, home: Path) -> None:
    assert demo.code == 0, demo.err
    result = demo.json
    assert (result["status"], result["folds"], result["clips_used"], result["clips_expected"]) == (
        "complete",
        12,
        96,
        96,
    )
    assert result["uar"] >= result["floors"]["constant"]["uar"] + 0.15
    assert result["uar_ci"][0] < result["uar"] < result["uar_ci"][1]
    assert result["failed"] == []
    assert result["stamps"] == []
    run_dir = Path(result["run_dir"])
    assert run_dir.parent == home / "runs"
    assert {p.name for p in run_dir.iterdir()} >= {
        "results.json",
        "predictions.parquet",
        "config.yaml",
        "report.md",
        "report.html",
        "curves.json",
        "environment.json",
        "figures",
    }
    assert str(run_dir) in demo.out


def test_the_demo_is_in_mlflow_as_one_run_with_its_page(demo: command.Ended, home: Path) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    parent = client.get_run(demo.json["mlflow_run_id"])
    assert parent.data.metrics["uar"] == pytest.approx(demo.json["uar"])
    where = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    assert not client.search_runs([parent.info.experiment_id], where)
    assert len(client.get_metric_history(parent.info.run_id, "fold.clips")) == 12
    kept = Path(demo.json["run_dir"]) / "report.html"
    logged = client.download_artifacts(parent.info.run_id, "report.html", str(home / "logged"))
    assert Path(logged).read_bytes() == kept.read_bytes()


def test_a_second_demo_extracts_and_trains_nothing(demo: command.Ended, home: Path) -> None:
    folds, parts = command.ledger(home), {p: p.stat().st_mtime_ns for p in home.glob("features/*/parts/*")}
    again = loso(DEMO, "--json", home=home)
    assert again.code == 0
    assert command.ledger(home) == folds
    assert {p: p.stat().st_mtime_ns for p in home.glob("features/*/parts/*")} == parts
    assert "12 in the ledger already" in again.err
    moving = {"seconds"}
    assert {k: v for k, v in again.json.items() if k not in moving} == {
        k: v for k, v in demo.json.items() if k not in moving
    }


def test_the_embedded_data_are_neither_easy_nor_impossible_and_permuted_labels_are_chance(
    demo: command.Ended, home: Path
) -> None:
    plain = ["--set", "model.name=linear", "--set", "tracking.enabled=false", "--local", "--json"]
    uar = loso(DEMO, *plain, home=home).json["uar"]
    assert 0.60 <= uar <= 0.85
    permuted = [
        loso(DEMO, *plain, "--set", f"evaluation.permute_labels={i}", home=home).json for i in range(5)
    ]
    assert all(result["stamps"] == ["labels-permuted"] for result in permuted)
    # Five runs of some hundred clips scatter by about .05 each: their mean by about .025.
    assert abs(np.mean([result["uar"] for result in permuted]) - 1 / 3) < 0.075
