"""A kept model in MLflow, for real: logged beside its run, served, and asked over HTTP."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient

from distmer.saved.model import load_model
from harness import command, toy
from tests.within import within

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.write_flowmaps(tmp_path_factory.mktemp("maps"), subjects=4, each=3)


def test_it_is_logged_beside_its_run_and_mlflow_serves_it(maps: Path, tmp_path: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "model"
    settings = toy.settings(maps, "evaluation.bootstrap=100")
    ran = within("run", "--local", "--json", *settings, home=home)
    fitted = within("fit", "--local", *settings, "--out", str(out), home=home)
    assert (ran.code, fitted.code) == (0, 0), ran.err + fitted.err
    again = within("fit", "--local", *settings, "--out", str(out), home=home)
    client = MlflowClient(tracking_uri=f"sqlite:///{home}/mlflow.db")
    experiment = client.get_experiment_by_name("distmer")
    assert experiment is not None
    (model,) = client.search_logged_models([experiment.experiment_id])  # the second took the first's place
    assert f"models:/{model.model_id}" in again.out and model.source_run_id == ran.json["mlflow_run_id"]
    assert model.status == "READY" and model.tags["distmer.uar"] == f"{ran.json['uar']:.4f}"
    assert json.loads(model.tags["distmer.classes"]) == list(load_model(out).classes)
    folder = Path(model.artifact_location.removeprefix("file://"))
    kept = {path.name for path in folder.rglob("*") if path.is_file()}
    # no frame and no pickle
    assert not {name for name in kept if name.endswith((".png", ".jpg", ".pkl", ".pickle", ".pth", ".bin"))}
    assert (folder / "artifacts" / "model" / "manifest.json").read_bytes() == (
        out / "manifest.json"
    ).read_bytes()
    image = sorted(maps.rglob("*.png"))[0]
    expected = load_model(out).predict(image)[0]
    answered = asked_of_a_server(folder, image, tmp_path)
    assert answered["label"] == expected.label and answered["reason"] is None
    assert {name: answered[f"prob_{name}"] for name in expected.probabilities} == pytest.approx(
        expected.probabilities, abs=1e-12
    )


@pytest.mark.parametrize("where", ["sqlite", "server"])
def test_it_is_registered_on_request_and_a_registered_version_stays(
    where: str, maps: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    home, out = tmp_path / "home", tmp_path / "model"
    uri = request.getfixturevalue("server") if where == "server" else f"sqlite:///{home}/mlflow.db"
    settings = toy.settings(maps, "model.name=linear", "evaluation.bootstrap=100", f"tracking.uri={uri}")
    asked = ["fit", "--local", *settings, "--out", str(out)]
    elsewhere = f"sqlite:///{tmp_path}/another.db"  # what the environment names is not where it goes
    first = within(*asked, "--register", "faces", home=home, MLFLOW_TRACKING_URI=elsewhere)
    assert first.code == 0 and "models:/faces/1" in first.out, first.err
    ran = within("run", "--local", "--json", *settings, home=home)  # now there is a score, and a run
    again = within(*asked, home=home)
    last = within(*asked, "--register", "faces", home=home)
    assert (ran.code, again.code, last.code) == (0, 0, 0) and "models:/faces/2" in last.out, last.err
    client = MlflowClient(tracking_uri=uri)
    versions = {v.version: v for v in client.search_model_versions("name = 'faces'")}
    assert {str(version) for version in versions} == {"1", "2"}
    assert versions[max(versions)].run_id == ran.json["mlflow_run_id"]
    experiment = client.get_experiment_by_name("distmer")
    assert experiment is not None
    logged = client.search_logged_models([experiment.experiment_id])
    assert len(logged) == 2  # that of the fit between them, which nobody registered, is deleted
    image = sorted(maps.rglob("*.png"))[0]
    expected = load_model(out).predict(image)[0]
    mlflow.set_tracking_uri(uri)
    try:
        for version in ("1", "2"):
            loaded = mlflow.pyfunc.load_model(f"models:/faces/{version}")
            (row,) = loaded.predict(pd.DataFrame({"map": [image.read_bytes()]})).to_dict("records")
            assert row["label"] == expected.label
    finally:
        mlflow.set_tracking_uri(None)
    assert not (tmp_path / "another.db").exists()


def test_a_registry_that_is_away_is_an_error_after_the_model_is_kept(maps: Path, tmp_path: Path) -> None:
    away = f"http://127.0.0.1:{command.free_port()}"
    settings = toy.settings(maps, "model.name=linear", f"tracking.uri={away}")
    asked = ["fit", "--local", *settings, "--out", str(tmp_path / "model"), "--register", "faces"]
    ended = within(*asked, home=tmp_path / "home")
    assert ended.code == 1 and "is not registered as faces" in ended.err and "Traceback" not in ended.err
    assert load_model(tmp_path / "model").classes


def asked_of_a_server(folder: Path, image: Path, tmp_path: Path) -> dict[str, Any]:
    """The answer of `mlflow models serve` for a map, and for the example that was logged."""
    port = command.free_port()
    serve = ["models", "serve", "-m", str(folder), "--env-manager", "local"]
    with (tmp_path / "served.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *serve, "--host", "127.0.0.1", "--port", str(port)],
            env=command.environment(tmp_path / "server", PYTHONPATH=str(command.ROOT)),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + command.PATIENCE
        while not _answers(f"http://127.0.0.1:{port}/ping"):
            assert server.poll() is None and time.monotonic() < deadline, (
                tmp_path / "served.log"
            ).read_text()
            time.sleep(0.5)
        url = f"http://127.0.0.1:{port}/invocations"
        example = (folder / "serving_input_example.json").read_text()
        assert len(_posted(url, example)) == 1
        map_ = base64.b64encode(image.read_bytes()).decode()
        return _posted(url, json.dumps({"dataframe_split": {"columns": ["map"], "data": [[map_]]}}))[0]
    finally:
        os.killpg(server.pid, signal.SIGTERM)  # the group has the pid of its leader, which is ours
        server.wait(command.PATIENCE)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.status == 200
    except OSError:
        return False


def _posted(url: str, body: str) -> list[dict[str, Any]]:
    curl = ["curl", "-sS", "--fail-with-body", "-H", "Content-Type: application/json", "-d", "@-", url]
    done = subprocess.run(curl, input=body, capture_output=True, text=True, timeout=command.PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)["predictions"]
