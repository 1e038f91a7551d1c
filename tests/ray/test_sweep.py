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
import yaml

from harness import command, toy
from tests.within import loso, within

pytestmark = pytest.mark.slow

TUNE = command.ROOT / "jobs" / "tune.py"


Tune = Callable[..., command.Ended]


@pytest.fixture(scope="module")
def tune(one_ray: str) -> Tune:
    """A sweep in this process, on the Ray that tests share: (file, workspace, more arguments)."""
    return lambda path, home, *more: within(
        "sweep", str(path), "--json", *more, home=home, RAY_ADDRESS=one_ray
    )


def tune_alone(path: Path, home: Path, *more: str) -> command.Ended:
    """A sweep as a process, with a Ray of its own."""
    return command.finish(command.start(str(path), "--json", *more, home=home, script=TUNE))


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
    tune: Tune, maps: Path, undisturbed: tuple[Path, command.Ended], tmp_path: Path
) -> None:
    path = toy.sweep_file(tmp_path, maps)
    kept: dict[str, int] = {}
    for more in (3, 8):
        killed = command.stopped("sweep", str(path), "--json", at=f"SIGKILL {more}", home=tmp_path)
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


@pytest.mark.parametrize(
    "cluster",
    [["local_cpus=1"], ["in_flight=1"]],
    ids=["1 CPU", "1 in flight"],
)
def test_the_machine_changes_nothing(
    tune: Tune, cluster: list[str], maps: Path, undisturbed: tuple[Path, command.Ended], tmp_path: Path
) -> None:
    settings = [part for setting in cluster for part in ("--set", f"cluster.{setting}")]
    of_its_own = cluster != ["in_flight=1"]  # another machine than the one that tests share
    ended = (tune_alone if of_its_own else tune)(toy.sweep_file(tmp_path, maps), tmp_path, *settings)
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
    ended = tune(toy.sweep_file(tmp_path, altered), tmp_path)
    assert ended.code == 0, ended.err
    after = trials(tmp_path)
    assert scored(after["group-1"]) == scored(before["group-1"])
    assert scored(after["group-2"]) != scored(before["group-2"])


def scored(search: dict[str, Any]) -> list[Any]:
    return [search["chosen"], *((t["index"], t["setting"], t["state"], t["rungs"]) for t in search["trials"])]


@pytest.mark.parametrize(("mode", "stamp"), [("flat", "selection-optimistic"), ("oracle", "oracle:setting")])
def test_what_has_seen_its_subjects_is_stamped(
    tune: Tune, mode: str, stamp: str, maps: Path, undisturbed: tuple[Path, Any], tmp_path: Path
) -> None:
    # the same inner folds and settings: mostly there
    shutil.copytree(undisturbed[0] / "ledger", tmp_path / "ledger")
    path = toy.sweep_file(tmp_path, maps, mode=mode, searcher="random", trials=3)
    ended = tune(path, tmp_path)
    assert ended.code == 0, ended.err
    assert ended.json["stamps"] == [stamp]
    assert f"NOT A HEADLINE: {stamp}" in ended.out
    assert ended.json["optimism"]["uar"] == pytest.approx(ended.json["inner"]["uar"] - ended.json["uar"])
    if mode == "oracle":
        assert ended.json["optimism"]["uar"] == pytest.approx(0)  # what it believes is what it was chosen by
    (chosen,) = tmp_path.glob("sweeps/*/chosen/all.yaml")
    ran = loso(str(chosen), "--json", "--local", home=tmp_path)
    assert (ran.code, ran.json["uar"], ran.json["uf1"]) == (0, ended.json["uar"], ended.json["uf1"])


def test_rungs_of_epochs_and_features_among_the_settings(tune: Tune, maps: Path, tmp_path: Path) -> None:
    space = {"train.lr": {"choice": [1e-7, 1e-2]}, "inputs.standardise": {"choice": [True, False]}}
    path = toy.sweep_file(tmp_path, maps, rungs="epochs", grace=3, space=space, searcher="random", trials=5)
    ended = tune(path, tmp_path)
    assert ended.code == 0, ended.err
    searches = trials(tmp_path).values()
    assert {rung["budget"] for s in searches for t in s["trials"] for rung in t["rungs"]} == {3, 6, 12}
    counts = ended.json["counts"]
    assert counts["stopped"] > 0
    assert counts["epochs_without_stopping"] == 2 * 5 * 3 * 12
    done = [sum(rung["budget"] for rung in t["rungs"]) * 3 for s in searches for t in s["trials"]]
    assert counts["epochs"] == sum(done)


def test_a_setting_that_cannot_be_fails_alone(tune: Tune, maps: Path, tmp_path: Path) -> None:
    space = {"model.size": {"choice": [16, 32]}, "model.channels": {"choice": [[4, 8], [4, 8, 8, 8, 16]]}}
    path = toy.sweep_file(
        tmp_path,
        maps,
        searcher="grid",
        space=space,
        trials=None,
        scheduler="none",
        evaluation={"folds": "group_kfold", "k": 2},
    )
    tree = yaml.safe_load(path.read_text())
    del tree["sweep"]["trials"]
    path.write_text(yaml.safe_dump(tree))
    ended = tune(path, tmp_path)
    assert ended.code == 0, ended.err
    assert (ended.json["counts"]["complete"], ended.json["counts"]["failed"]) == (6, 2)
    assert "size must be at least 32 px for 5 stages" in ended.err


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


@pytest.mark.parametrize(("job", "said"), [("loso.py", "give it to `distmer sweep` or jobs/tune.py")])
def test_the_wrong_command_names_the_right_one(
    tune: Tune, job: str, said: str, maps: Path, tmp_path: Path
) -> None:
    ended = loso(str(toy.sweep_file(tmp_path, maps)), home=tmp_path)
    assert (ended.code, said in ended.err) == (2, True)
    ended = tune(command.ROOT / "configs" / "demo.yaml", tmp_path)
    assert (ended.code, "has no sweep section" in ended.err) == (2, True)
