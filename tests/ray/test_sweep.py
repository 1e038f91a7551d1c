"""Sweeps on a real Ray: what they find follows from the configuration alone, whatever dies and however many
cores there are."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from harness import command, toy
from tests.within import loso, within

pytestmark = pytest.mark.slow

Tune = Callable[..., command.Ended]

ALONE: dict[str, Any] = {"cluster": {"in_flight": 1}}  # one process that trains: each takes seconds to start


@pytest.fixture(scope="module")
def tune(one_ray: str) -> Tune:
    """A sweep in this process, on the Ray that tests share: (file, workspace, more arguments)."""
    return lambda path, home, *more: within(
        "sweep", str(path), "--json", *more, home=home, RAY_ADDRESS=one_ray
    )


def found(ended: command.Ended) -> dict[str, Any]:
    """What a sweep found, without where and how fast."""
    assert ended.code == 0, ended.err
    return {
        name: value
        for name, value in ended.json.items()
        if name not in {"seconds", "fold_seconds", "run_dir", "trained", "mlflow_run_id"}
    }


def trials(home: Path) -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text()) for path in home.glob("sweeps/*/searches/*.json")}


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.write_flowmaps(tmp_path_factory.mktemp("maps"), subjects=6)


@pytest.fixture(scope="module")
def undisturbed(
    tune: Tune, maps: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, command.Ended]:
    home = tmp_path_factory.mktemp("undisturbed")
    # both searches at once
    ended = tune(toy.sweep_file(home, maps, tracking={"enabled": True}, cluster={"in_flight": 8}), home)
    assert ended.code == 0, ended.err
    return home, ended


def test_a_sweep_killed_twice_goes_on_and_chooses_the_same(
    one_ray: str, tune: Tune, maps: Path, undisturbed: tuple[Path, command.Ended], tmp_path: Path
) -> None:
    path = toy.sweep_file(tmp_path, maps)
    words = ["sweep", str(path), "--json"]
    kept: dict[str, int] = {}
    for more in (3, 8):
        killed = command.stopped(*words, at=f"SIGKILL {more}", home=tmp_path, RAY_ADDRESS=one_ray)
        assert killed.code == -signal.SIGKILL, killed.err
        now = command.ledger(tmp_path)
        assert len(now) == len(kept) + more
        assert {digest: now[digest] for digest in kept} == kept
        kept = now
    ended = tune(path, tmp_path)
    home, whole = undisturbed
    assert found(ended) == found(whole)
    after = command.ledger(tmp_path)
    assert {digest: after[digest] for digest in kept} == kept  # not one was trained again
    assert ended.json["trained"] == len(after) - len(kept)
    assert after.keys() == command.ledger(home).keys()
    assert trials(tmp_path) == trials(home)


def test_the_machine_changes_nothing(
    maps: Path, undisturbed: tuple[Path, command.Ended], tmp_path: Path
) -> None:
    """A Ray of its own, of one CPU, and one fold at a time."""
    alone = ["--set", "cluster.local_cpus=1", "--set", "cluster.in_flight=1"]
    ended = within("sweep", str(toy.sweep_file(tmp_path, maps)), "--json", *alone, home=tmp_path)
    assert found(ended) == found(undisturbed[1])
    assert trials(tmp_path) == trials(undisturbed[0])


def test_a_finished_sweep_is_read_not_run(tune: Tune, undisturbed: tuple[Path, command.Ended]) -> None:
    home, whole = undisturbed
    before = command.ledger(home)
    ended = tune(home / "sweep.yaml", home)
    assert found(ended) == found(whole)
    assert ended.json["trained"] == 0
    assert command.ledger(home) == before


def test_the_chosen_settings_run_as_they_stand(
    undisturbed: tuple[Path, command.Ended], tmp_path: Path
) -> None:
    import pyarrow.parquet as pq

    home, _ = undisturbed
    (folder,) = (home / "sweeps").iterdir()
    rows = {row["clip_id"]: row for row in pq.read_table(folder / "predictions.parquet").to_pylist()}
    assert len(rows) == 36
    for group in ("group-1", "group-2"):
        alone = tmp_path / group
        ran = loso(str(folder / "chosen" / f"{group}.yaml"), "--fold", group, "--local", "--json", home=alone)
        assert ran.json["clips_used"] == 18
        for row in command.predictions(alone):
            assert row == rows[row["clip_id"]]


def test_the_outer_subjects_have_no_say_in_the_search(
    tune: Tune, maps: Path, undisturbed: tuple[Path, command.Ended], tmp_path: Path
) -> None:
    """Every clip of a group altered, pixels and labels: its own search finds what it found, to the digit; the
    other's does not."""
    home, _ = undisturbed
    altered = tmp_path / "maps"
    shutil.copytree(maps, altered)
    before = trials(home)
    (results,) = home.glob("sweeps/*/predictions.parquet")
    import pyarrow.parquet as pq

    held = {row["subject"] for row in pq.read_table(results).to_pylist() if row["fold"] == "group-1"}
    rng = np.random.default_rng(0)
    for subject in held:
        for image in sorted((altered / subject / "u_test").glob("*/*.png")):
            label = (int(image.parent.name) + 1) % 3
            target = altered / subject / "u_moved" / str(label) / image.name
            target.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(target), rng.integers(0, 255, size=(28, 28, 3), dtype=np.uint8))
        shutil.rmtree(altered / subject / "u_test")
        (altered / subject / "u_moved").rename(altered / subject / "u_test")
    ended = tune(toy.sweep_file(tmp_path, altered, **ALONE), tmp_path)
    assert ended.code == 0, ended.err
    after = trials(tmp_path)
    assert scored(after["group-1"]) == scored(before["group-1"])
    assert scored(after["group-2"]) != scored(before["group-2"])


def scored(search: dict[str, Any]) -> list[Any]:
    return [search["chosen"], *((t["index"], t["setting"], t["state"], t["rungs"]) for t in search["trials"])]


def test_what_is_chosen_on_its_subjects_is_stamped(
    tune: Tune, maps: Path, undisturbed: tuple[Path, Any], tmp_path: Path
) -> None:
    # the same inner folds and settings: mostly there
    shutil.copytree(undisturbed[0] / "ledger", tmp_path / "ledger")
    random = {"mode": "oracle", "searcher": "random", "trials": 3}
    ended = tune(toy.sweep_file(tmp_path, maps, **random, **ALONE), tmp_path)
    stamped(ended, "oracle:setting", tmp_path)
    assert ended.json["optimism"]["uar"] == pytest.approx(0)  # what it believes is what it was chosen by


def test_a_choice_for_all_subjects_is_stamped_and_a_setting_that_cannot_be_fails_alone(
    tune: Tune, maps: Path, tmp_path: Path
) -> None:
    space = {"model.size": {"choice": [16, 32]}, "model.channels": {"choice": [[4, 8], [4, 8, 8, 8, 16]]}}
    grid: dict[str, Any] = {"searcher": "grid", "scheduler": "none", "trials": None}
    ended = tune(toy.sweep_file(tmp_path, maps, mode="flat", space=space, **grid, **ALONE), tmp_path)
    stamped(ended, "selection-optimistic", tmp_path)
    assert (ended.json["counts"]["complete"], ended.json["counts"]["failed"]) == (3, 1)
    assert "size must be at least 32 px for 5 stages" in ended.err


def stamped(ended: command.Ended, stamp: str, home: Path) -> None:
    """The sweep says what it is not, and its choice gives the sweep's score when it runs as it stands."""
    assert ended.code == 0, ended.err
    assert ended.json["stamps"] == [stamp]
    assert f"NOT A HEADLINE: {stamp}" in ended.out
    assert ended.json["optimism"]["uar"] == pytest.approx(ended.json["inner"]["uar"] - ended.json["uar"])
    (chosen,) = home.glob("sweeps/*/chosen/all.yaml")
    ran = loso(str(chosen), "--json", "--local", home=home)
    assert (ran.code, ran.json["uar"], ran.json["uf1"]) == (0, ended.json["uar"], ended.json["uf1"])


def test_rungs_of_epochs_and_features_among_the_settings(tune: Tune, maps: Path, tmp_path: Path) -> None:
    space = {"train.lr": {"choice": [1e-7, 1e-2]}, "inputs.standardise": {"choice": [True, False]}}
    rungs = {"rungs": "epochs", "grace": 3, "space": space, "searcher": "random", "trials": 5}
    ended = tune(toy.sweep_file(tmp_path, maps, **rungs, **ALONE), tmp_path)
    assert ended.code == 0, ended.err
    searches = trials(tmp_path).values()
    assert {rung["budget"] for s in searches for t in s["trials"] for rung in t["rungs"]} == {3, 6, 12}
    counts = ended.json["counts"]
    assert counts["stopped"] > 0
    assert counts["epochs_without_stopping"] == 2 * 5 * 3 * 12
    done = [sum(rung["budget"] for rung in t["rungs"]) * 3 for s in searches for t in s["trials"]]
    assert counts["epochs"] == sum(done)


def test_the_tracker_has_the_sweep_and_its_trials(undisturbed: tuple[Path, command.Ended]) -> None:
    home, ended = undisturbed
    again = within("track", str(next((home / "sweeps").iterdir())), home=home)  # writes nothing twice
    assert again.code == 0, again.err
    base = sqlite3.connect(home / "mlflow.db")
    kinds = base.execute(
        "select value, count(*) from tags where key = 'distmer.kind' group by value"
    ).fetchall()
    assert dict(kinds) == {"sweep": 1, "trial": 8}
    parent = ended.json["mlflow_run_id"]
    children = base.execute(
        "select run_uuid from tags where key = 'mlflow.parentRunId' and value = ?", (parent,)
    ).fetchall()
    assert len(children) == 8
    uar = base.execute(
        "select value from latest_metrics where run_uuid = ? and key = 'uar'", (parent,)
    ).fetchone()
    assert uar == (ended.json["uar"],)
    params = base.execute("select distinct key from params where run_uuid = ?", children[0]).fetchall()
    assert {"train.lr", "model.activation", "search", "trial"} <= {name for (name,) in params}
    states = base.execute(
        "select value, count(*) from tags where key = 'distmer.trial' group by value"
    ).fetchall()
    assert {name: n for name, n in states if n} == {
        name: n for name in ("complete", "stopped") if (n := ended.json["counts"][name])
    }
    (artifacts,) = (home / "mlartifacts").glob(f"{parent}/artifacts")
    assert {"figures", "chosen", "trials.csv", "sweep.yaml", "results.json"} <= {
        p.name for p in artifacts.iterdir()
    }


def test_plan_tells_what_is_there_and_what_it_costs(undisturbed: tuple[Path, command.Ended]) -> None:
    home, ended = undisturbed
    told = within("plan", str(home / "sweep.yaml"), "--gpus", "2", "--price", "3", home=home)
    assert told.code == 0, told.err
    assert "2 (tpe, asha), 2 finished already" in told.out
    assert "8 trainings whatever is learnt; the ledger has 8 of them" in told.out
    assert ended.json["run_dir"] in told.out


def test_the_wrong_command_names_the_right_one(tune: Tune, maps: Path, tmp_path: Path) -> None:
    ended = loso(str(toy.sweep_file(tmp_path, maps)), home=tmp_path)
    assert (ended.code, "give it to `distmer sweep` or jobs/tune.py" in ended.err) == (2, True)
    ended = tune(command.ROOT / "configs" / "demo.yaml", tmp_path)
    assert (ended.code, "has no sweep section" in ended.err) == (2, True)
