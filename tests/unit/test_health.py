"""What `distmer doctor` makes of a node's report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from distmer.code import digests_of
from distmer.experiment.health import FREE, SKEW, Answer, NodeReport, differences, judge
from harness import objects
from tests.saying import Say, settings

WELL = NodeReport(
    {"distmer": "0.1.0", "ray": "2.60.0", "torch": "2.13.0+cpu", "python": "3.11.7"},
    gpus=1,
    storage="",
    data="",
    landmarks="",
    code="",
    free=FREE,
    clock=0.0,
)


def failed(
    report: NodeReport | None, *, shared: bool = True, skew: float = 0.0, why: str = ""
) -> dict[str, str]:
    """What is not well, with what was found and the remedy."""
    checks = list(judge(WELL, Answer("node", 1, report, skew, why), shared=shared))
    assert all(bool(check.remedy) != check.ok for check in checks)
    return {check.what: f"{check.found}; {check.remedy}" for check in checks if not check.ok}


def test_a_node_that_is_well() -> None:
    another_build = {**WELL.versions, "torch": "2.13.0", "python": "3.11.13"}
    assert failed(WELL) == failed(replace(WELL, versions=another_build), skew=-SKEW) == {}


@pytest.mark.parametrize(
    ("report", "what", "said"),
    [
        (replace(WELL, versions={**WELL.versions, "ray": "2.59.0"}), "versions", "another ray"),
        (
            replace(WELL, versions={**WELL.versions, "python": "3.12.7", "torch": "2.12.0"}),
            "versions",
            "another torch and python",
        ),
        (replace(WELL, gpus=0), "gpus", "Ray counts 1, torch sees 0"),
        (replace(WELL, storage="Access Denied"), "storage", "Access Denied"),
        (replace(WELL, data="/mnt/data is not there"), "data", "same path"),
        (replace(WELL, landmarks="not installed"), "landmarks", "not installed"),
        (replace(WELL, code="lab_nets is another version"), "code", "use one image on all nodes"),
        (replace(WELL, free=FREE - 2**30), "disk", "4.0 GB free"),
    ],
)
def test_what_is_wrong_is_named_alone(report: NodeReport, what: str, said: str) -> None:
    found = failed(report)
    assert list(found) == [what] and said in found[what]


def test_code_that_is_not_there_or_is_another_version_is_named() -> None:
    own = digests_of(["distmer.models.linear", "distmer.models.svm"])
    assert differences(own) == ""
    assert differences({**own, "distmer.models.svm": "0" * 64}) == "distmer.models.svm is another version"
    missing = differences({"nobody_has_this": "0" * 64})
    assert missing.startswith("nobody_has_this cannot be imported (ModuleNotFoundError: No module")


def test_a_clock_that_is_off_and_a_node_that_is_silent() -> None:
    assert list(failed(WELL, skew=SKEW + 0.1)) == list(failed(WELL, skew=-SKEW - 0.1)) == ["clock"]
    assert failed(None, why="no answer within 60 s").keys() == {"answer"}


def test_storage_that_no_node_needs_may_be_out_of_reach() -> None:
    assert failed(replace(WELL, storage="it is not there"), shared=False) == {}


def test_places_that_cannot_be_used_are_lines_and_the_rest_is_looked_at(
    say: Say, server: objects.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket that is not there, one that refuses; SQLite with no disk below it, an empty folder of data, no
    Ray: every check is made."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    (data := tmp_path / "sets").mkdir()
    here = ["data.protocol=casme2", f"data.root={data}", "cluster.address=127.0.0.1:1"]

    def look(workspace: str, *chosen: str) -> dict[str, str]:
        said = say("doctor", "--json", "--workspace", workspace, *settings(*here, *chosen))
        checks = said.json["checks"]
        assert (
            said.code == 1 and len({(check["where"], check["what"]) for check in checks}) == len(checks) == 8
        )
        return {check["what"]: check["found"] for check in checks if not check["ok"]}

    found = look("s3://nowhere/x", "tracking.enabled=true")
    assert found.keys() == {"storage", "data", "tracking", "ray"}
    assert (
        found["storage"].startswith("s3://nowhere/x/doctor-")
        and "the bucket does not exist; make it" in found["storage"]
    )
    assert found["tracking"].startswith(
        "s3://nowhere/x: MLflow's SQLite cannot live on an object store; name a server"
    )
    assert found["data"] == f"{data} is empty"
    (data / "CASME2").mkdir()
    try:
        with objects.surroundings(server.user("s3:ListBucket")):
            found = look(f"s3://{objects.BUCKET}/x", "data.roots.smic=s3://nowhere/y")
    finally:
        server.checking(False)
    assert found.keys() == {"storage", "data", "ray"}
    assert "the storage refuses the access" in found["storage"] and "s3://nowhere/y: the" in found["data"]
