"""Everything on an object store: clips, features, ledger, runs and checkpoints on a real S3 server, on Ray
and without. The folds are those of a run on disk to the bit, and a second run trains nothing."""

from __future__ import annotations

import io
import json
import re
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from distmer.storage import files, place
from harness import command, objects, toy
from tests.within import loso, within

pytestmark = pytest.mark.slow
PLACES = ("data", "features", "ledger", "runs", "scratch")


@pytest.fixture(scope="module")
def server() -> Iterator[objects.Server]:
    with objects.serving() as server:
        yield server


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.write_flowmaps(tmp_path_factory.mktemp("maps"), subjects=5)


@pytest.fixture(scope="module")
def far_maps(maps: Path, server: objects.Server) -> str:
    return objects.upload(maps, objects.fresh())


@pytest.fixture(scope="module")
def on_disk(maps: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on disk alone, without Ray: the yardstick."""
    home = tmp_path_factory.mktemp("disk")
    assert loso(*settings(maps), "--local", home=home).code == 0
    return home


def settings(root: object, *more: str, epochs: int = 12) -> list[str]:
    return toy.settings(Path("."), f"data.root={root}", "tracking.enabled=false", *more, epochs=epochs)


def predictions(home: str) -> Sequence[dict[str, Any]]:
    runs = place(f"{home}/runs")
    (name,) = files(runs, "predictions.parquet")
    return pq.read_table(io.BytesIO((runs / name).read_bytes())).to_pylist()


def ledger(home: str) -> dict[str, bytes]:
    """The finished folds: digest → the bytes of the entry, which hold the seconds it took."""
    folder = place(f"{home}/ledger")
    return {Path(name).stem: (folder / name).read_bytes() for name in files(folder)}


def events(home: str) -> list[dict[str, Any]]:
    runs = place(f"{home}/runs")
    (name,) = files(runs, "events.jsonl")
    return [json.loads(line) for line in (runs / name).read_text().splitlines()]


@pytest.mark.parametrize("how", ["ray", "local"])
def test_a_run_on_s3_is_the_run_on_disk_and_goes_on(
    how: str, far_maps: str, on_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = objects.fresh()
    words = [*settings(far_maps), "--workspace", home, "--json", *(["--local"] if how == "local" else [])]
    monkeypatch.chdir(tmp_path)
    ended = loso(*words, home=tmp_path / "unused")
    assert (ended.code, ended.json["status"]) == (0, "complete"), ended.err
    assert ended.json["run_dir"].startswith(f"{home}/runs/")
    assert predictions(home) == command.predictions(on_disk)
    before = ledger(home)
    assert before.keys() == command.ledger(on_disk).keys()
    assert {name.split("/")[0] for name in files(place(home))} == {"features", "ledger", "runs"}
    assert not (tmp_path / "unused").exists() and not list(tmp_path.glob("**/*.parquet"))

    again = loso(*words, home=tmp_path / "unused")
    assert again.code == 0 and "(5 in the ledger already)" in again.err and "30 cached" in again.err
    assert ledger(home) == before
    told = events(home)
    assert [e["event"] for e in told].count("run_ended") == 2
    assert sorted(e["digest"] for e in told if e["event"] == "fold_finished" and not e["cached"]) == sorted(
        before
    )


def test_a_run_on_s3_that_was_killed_goes_on(far_maps: str, on_disk: Path, tmp_path: Path) -> None:
    home = objects.fresh()
    words = [*settings(far_maps), "--workspace", home, "--json"]
    killed = command.stopped("run", *words, at="SIGKILL 2", home=tmp_path)
    assert killed.code == -signal.SIGKILL, killed.err
    before = ledger(home)
    assert len(before) == 2
    ended = loso(*words, "--local", home=tmp_path)
    assert (ended.code, ended.json["status"]) == (0, "complete"), ended.err
    after = ledger(home)
    assert len(after) == 5 and {digest: after[digest] for digest in before} == before
    assert predictions(home) == command.predictions(on_disk)


def test_a_worker_group_keeps_its_checkpoints_on_s3(
    far_maps: str, tmp_path: Path, server: objects.Server
) -> None:
    """Its worker is killed when a checkpoint lies on S3; Train starts another, and the fold is that of one
    left alone."""
    home = objects.fresh()
    words = ["cluster.workers_per_fold=1", f"storage.scratch={home}/elsewhere"]
    long = 400  # epochs, so that it is still at work when its first checkpoint has been seen
    process = command.start(
        *settings(far_maps, *words, epochs=long),
        "--fold",
        "flowmaps/sub02",
        "--workspace",
        home,
        "--json",
        home=tmp_path / "unused",
    )
    checkpoints = place(f"{home}/elsewhere")
    command.wait_for(lambda: bool(files(checkpoints, "state.pt")), process)
    family = psutil.Process(process.pid).children(recursive=True)
    (victim,) = [p for p in family if any("RayTrainWorker" in part for part in p.cmdline()[:1])]
    victim.kill()
    ended = command.finish(process)
    assert (ended.code, ended.json["status"]) == (0, "some-folds"), ended.err  # one fold of five
    assert len(ledger(home)) == 1
    assert files(checkpoints) == {}  # they have done their work
    alone = loso(
        *settings(far_maps, epochs=long),
        "--fold",
        "flowmaps/sub02",
        "--local",
        "--workspace",
        f"{home}/alone",
        home=tmp_path,
    )
    assert alone.code == 0
    assert predictions(home) == predictions(f"{home}/alone")


def test_the_embedded_set_is_generated_onto_s3(tmp_path: Path, server: objects.Server) -> None:
    """The whole path from pixels: frames and sheets on S3, read by the loaders of the official layouts."""
    chosen = [
        "data.synthetic={subjects: 3, clips_per_subject: 2}",
        "model.name=linear",
        "features.size=32",
        "features.flow=farneback",
    ]
    words = [
        part for s in (*chosen, "tracking.enabled=false", "evaluation.bootstrap=100") for part in ("--set", s)
    ]
    home = objects.fresh()
    far = loso(*words, "--local", "--workspace", home, "--json", home=tmp_path / "unused")
    near = loso(*words, "--local", "--json", home=tmp_path / "near")
    assert (far.code, near.code) == (0, 0), far.err + near.err
    assert predictions(home) == command.predictions(tmp_path / "near")
    clips = list(files(place(f"{home}/data")))
    here = sorted(
        p.relative_to(tmp_path / "near/data").as_posix()
        for p in (tmp_path / "near/data").rglob("*")
        if p.is_file()
    )
    assert clips == here and clips[-1].endswith("SAMM_Micro_FACS_Codes_v2.xlsx")
    assert not (tmp_path / "unused").exists()


def test_a_run_on_s3_is_compared_and_tracked_by_its_address(
    far_maps: str, tmp_path: Path, server: objects.Server
) -> None:
    home, data_base = objects.fresh(), f"sqlite:///{tmp_path}/tracking/mlflow.db"
    (tmp_path / "tracking").mkdir()
    run_dirs = []
    for scale in ("1.0", "0.1"):
        words = settings(
            far_maps, "model.name=linear", "model.size=16", f"model.c={scale}", "tracking.enabled=true"
        )
        words += ["--local", "--workspace", home, "--json"]
        ended = loso(*words, home=tmp_path, MLFLOW_TRACKING_URI="http://127.0.0.1:9")  # away: the run goes on
        assert (ended.code, ended.json["mlflow_run_id"]) == (0, None), ended.err
        run_dirs.append(ended.json["run_dir"])
    refused = within("compare", *run_dirs, home=tmp_path)
    assert (refused.code, "MLflow's SQLite cannot live on an object store" in refused.err) == (2, True)
    compared = within("compare", *run_dirs, "--set", "tracking.enabled=false", home=tmp_path)
    assert compared.code == 0, compared.err
    (folder,) = re.findall(rf"tables: ({home}/comparisons/\w+)", compared.out)
    assert "comparison.md" in files(place(folder))
    tracked = within("track", run_dirs[0], home=tmp_path, MLFLOW_TRACKING_URI=data_base)
    assert (
        tracked.code == 0 and "5 of 5 folds; MLflow run " in tracked.out and "not written" not in tracked.out
    ), tracked.err
    assert list((tmp_path / "tracking").glob("mlartifacts/*/artifacts/results.json"))  # beside the data base
    wrong = within("track", f"{home}/runs/none", home=tmp_path)
    assert (wrong.code, "there is no such folder; give one below <workspace>/runs." in wrong.err) == (2, True)
