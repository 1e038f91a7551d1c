"""`distmer doctor` on a real cluster of two nodes: well, with a GPU that is not one, with a node that does
not answer."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from distmer.cluster.connect import session
from distmer.config import ClusterConfig
from distmer.types import RunError
from harness import command, nodes, toy
from tests.within import loso, within

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[nodes.Nodes]:
    # a node that stands still is for us to find, not for Ray
    patient = {"RAY_health_check_failure_threshold": "1000"}
    with nodes.Nodes(("--num-cpus=1",), patient) as started:
        started.add()
        yield started


def look(
    cluster: nodes.Nodes, home: Path, *arguments: str, **env: str
) -> tuple[int, dict[str, dict[str, dict[str, Any]]]]:
    """The exit status, and the checks by where and what."""
    ended = within("doctor", "--json", *arguments, home=home, **cluster.driver, **env)
    assert "Traceback" not in ended.err, ended.err
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for check in ended.json["checks"]:
        assert check["what"] not in found.get(check["where"], {})
        found.setdefault(check["where"], {})[check["what"]] = check
    assert ended.json["ok"] == all(check["ok"] for check in ended.json["checks"]) == (ended.code == 0)
    return ended.code, found


def test_a_cluster_that_is_well(cluster: nodes.Nodes, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "CASME2").mkdir(parents=True)
    code, found = look(
        cluster,
        tmp_path / "home",
        str(command.ROOT / "examples" / "own-model" / "own-model.yaml"),  # installed on no node
        "--set",
        "data.protocol=casme2",
        "--set",
        f"data.root={data}",
        "--set",
        "cluster.workers_per_fold=2",
    )
    assert code == 0, found
    nodes = [checks for where, checks in found.items() if where.startswith("node ")]
    assert len(nodes) == 2
    for checks in nodes:
        assert checks.keys() == {"versions", "gpus", "storage", "data", "landmarks", "code", "disk", "clock"}
        assert checks["storage"]["found"] == "written, read and deleted"
    assert found["driver"].keys() == {"versions", "storage", "data", "landmarks", "code", "disk", "tracking"}
    assert list((tmp_path / "home").iterdir()) == []


def test_what_is_wrong_is_said_and_nothing_hangs(cluster: nodes.Nodes, tmp_path: Path) -> None:
    """A GPU that Ray was told of and torch cannot see; a node whose Ray stands still; a GPU too many; no
    server, no data."""
    cluster.add(gpus=1)
    with closing(socket.socket()) as closed:
        closed.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{closed.getsockname()[1]}"
    cluster.workers[0].signal(signal.SIGSTOP)
    try:
        code, found = look(
            cluster,
            tmp_path,
            "--set",
            "data.protocol=casme2",
            "--set",
            "data.root=nowhere",
            "--gpus",
            "2",
            "--wait",
            "1",
            "--timeout",
            "90",
            MLFLOW_TRACKING_URI=nowhere,
        )
    finally:
        cluster.workers[0].signal(signal.SIGCONT)
    assert code == 1
    assert (
        found["cluster"]["gpus"]["found"] == "1 of 2 GPUs in the cluster after 1 s"
        and "quota" in found["cluster"]["gpus"]["remedy"]
    )
    assert (
        "connection refused" in found["driver"]["tracking"]["found"] and not found["driver"]["tracking"]["ok"]
    )
    nodes = {where: checks for where, checks in found.items() if where.startswith("node ")}
    silent = [checks for checks in nodes.values() if "answer" in checks]
    assert len(nodes) == 3 and len(silent) == 1
    assert not silent[0]["answer"]["ok"] and silent[0]["answer"]["found"] == "no answer within 90 s"
    told = [checks for checks in nodes.values() if "answer" not in checks]
    assert sorted(checks["gpus"]["found"] for checks in told) == [
        "Ray counts 0, torch sees 0",
        "Ray counts 1, torch sees 0",
    ]
    for checks in [*told, found["driver"]]:
        assert not checks["data"]["ok"] and "nowhere is not there" in checks["data"]["found"]
        assert checks["storage"]["ok"] and checks["versions"]["ok"]
    assert [check["what"] for checks in told for check in checks.values() if not check["ok"]].count(
        "gpus"
    ) == 1


def test_a_cluster_that_cannot_be_joined_is_a_line(tmp_path: Path) -> None:
    arguments = [
        "doctor",
        "--json",
        "--set",
        "tracking.enabled=false",
        "--set",
        "cluster.address=127.0.0.1:1",
    ]
    ended = within(*arguments, home=tmp_path)
    assert ended.code == 1
    (failed,) = [check for check in ended.json["checks"] if not check["ok"]]
    assert failed["what"] == "ray" and "127.0.0.1:1 cannot be reached" in failed["found"]


def test_a_run_that_no_machine_takes_up_says_so(cluster: nodes.Nodes, tmp_path: Path) -> None:
    """Folds that ask for GPUs, and none comes: a sentence after the stated wait on a cluster that might grow,
    else at once."""
    maps = toy.write_flowmaps(tmp_path / "maps", subjects=3)
    asks = [*toy.settings(maps, "tracking.enabled=false", "cluster.gpus_per_fold=8")]
    ended = loso(*asks, "--set", "cluster.patience=8", home=tmp_path, **cluster.driver)
    assert ended.code == 1
    assert "no machine has taken up a fold for" in ended.err
    assert "a fold asks for 1 CPU and 8 GPU, the cluster has" in ended.err
    ended = loso(*asks, home=tmp_path)
    assert ended.code == 2
    assert "cluster.gpus_per_fold asks for 8 GPU a fold, but this machine has 0" in ended.err


# What Ray's own code raises when a process of its own is not up in time.
@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            "The current node timed out during startup. This could happen because …",
            "The current node timed out during startup",
        ),
        ("\nThe last 20 lines of /tmp/ray/…/dashboard.log (it …): \n…", "its dashboard did not start"),
    ],
)
@pytest.mark.parametrize("slow", [2, 3])
def test_a_machine_too_busy_to_start_ray_is_given_three_tries(
    slow: int, said: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray itself gives up a start after some time; here it does so at once, ``slow`` times."""
    import ray

    tries: list[dict[str, Any]] = []

    def init(**options: Any) -> None:
        tries.append(options)
        if len(tries) <= slow:
            raise Exception(said)

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    if slow == 3:
        sentence = re.escape(f"could not be started on this machine, 3 times in a row ({reason}).")
        with pytest.raises(RunError, match=sentence), session(ClusterConfig()):
            pass
    else:
        with session(ClusterConfig()):
            pass
    assert [options["address"] for options in tries] == ["local"] * 3
