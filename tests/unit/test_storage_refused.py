"""From the command line to the sentence: what a storage refuses, or a server that is away. And places given
apart from the workspace."""

from __future__ import annotations

from pathlib import Path

import pytest

from distmer.storage import files, place
from distmer.types import BadInput, RunError
from harness import command, objects
from tests.fixtures.dataset_layouts import LAYOUTS
from tests.saying import Say, on_maps, run, settings

# What a storage refuses, from the command line.


def refused(say: Say, workspace: str, maps: Path, *chosen: str) -> str:
    said = say("run", "--local", "--workspace", workspace, *settings(*on_maps(maps), *chosen))
    assert said.code == 2 and not said.log
    return said.sentence


def test_a_bucket_that_is_not_there(say: Say, maps: Path, server: objects.Server, tmp_path: Path) -> None:
    assert "the workspace cannot be written: s3://nowhere/x/.writable: the bucket does not exist" in refused(
        say, "s3://nowhere/x", maps
    )
    for name in ("features", "ledger", "runs", "scratch", "data"):
        told = refused(say, str(tmp_path), maps, f"storage.{name}=s3://nowhere/x")
        assert (
            f"storage.{name} cannot be written: s3://nowhere/x/.writable: the bucket does not exist; make"
            f" it, or correct" in told
        )
    said = run(say, "data.protocol=flowmaps", "data.root=s3://nowhere/x", "inputs.normalise=minmax")
    assert (said.code, "s3://nowhere/x: the bucket does not exist" in said.sentence) == (1, True)
    said = run(say, "data.protocol=flowmaps", f"data.root={objects.fresh()}", "inputs.normalise=minmax")
    assert (
        said.code,
        "the folder for Published flow maps is not there; correct data.root" in said.sentence,
    ) == (2, True)


def test_wrong_credentials(say: Say, maps: Path, server: objects.Server) -> None:
    right = server.user()
    wrong = {
        "of nobody": {"AWS_ACCESS_KEY_ID": "nobody-of-ours", "AWS_SECRET_ACCESS_KEY": "hunter2"},
        "with another secret": {**right, "AWS_SECRET_ACCESS_KEY": "hunter2"},
    }
    home = objects.fresh()
    try:
        for given in wrong.values():
            with objects.surroundings(given):
                told = refused(say, home, maps)
                assert (
                    f"{home}/.writable: the storage refuses the access; check the credentials in the"
                    f" environment" in told
                )
                assert "hunter2" not in told and given["AWS_ACCESS_KEY_ID"] not in told
                said = run(say, "data.protocol=flowmaps", f"data.root={home}", "inputs.normalise=minmax")
                assert (said.code, "the storage refuses the access" in said.sentence) == (1, True)
        with objects.surroundings(right):
            said = say("run", "--local", "--json", "--workspace", home, *settings(*on_maps(maps)))
            assert (said.code, said.json["status"], said.json["run_dir"].startswith(f"{home}/runs/")) == (
                0,
                "complete",
                True,
            )
    finally:
        server.checking(False)


def test_a_token_that_has_expired(say: Say, maps: Path) -> None:
    """S3's own words for it (moto's tokens never expire); asked once, for trying again cannot help."""
    body = b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"
    head = (
        f"HTTP/1.1 400 Bad Request\r\nContent-Type: application/xml\r\nContent-Length:"
        f" {len(body)}\r\nConnection: close\r\n\r\n"
    )
    with (
        objects.answering(head.encode() + body) as (url, asked),
        objects.surroundings({"AWS_ENDPOINT_URL": url}),
    ):
        assert "the credentials have expired; renew them (AWS_SESSION_TOKEN)" in refused(
            say, "s3://laboratory/x", maps
        )
    assert asked == [b"PUT /laboratory/x/.writable HTTP/1.1"]
    # While it reads, pyarrow asks by HEAD first, whose answer has no words.
    with (
        objects.answering(head.encode()) as (url, asked),
        objects.surroundings({"AWS_ENDPOINT_URL": url}),
        pytest.raises(RunError, match="check whether the credentials have expired"),
    ):
        place("s3://laboratory/x").read_bytes()


@pytest.mark.parametrize("fault", ["nobody listens", "the line breaks"])
def test_a_server_that_is_away(fault: str, say: Say, maps: Path) -> None:
    with objects.answering(b"") as (url, asked):
        at = url if fault == "the line breaks" else f"http://127.0.0.1:{command.free_port()}"
        with objects.surroundings({"AWS_ENDPOINT_URL": at}):
            told = refused(say, "s3://laboratory/x", maps)
    assert "the storage does not answer; check the network, and AWS_ENDPOINT_URL" in told
    assert len(asked) <= 3


def test_frames_that_may_not_be_read_are_no_fault_of_their_clips(
    say: Say, maps: Path, server: objects.Server
) -> None:
    """Their names may be listed, no byte read: the run ends, instead of going on without them."""
    root = objects.upload(maps, objects.fresh())
    try:
        with objects.surroundings(server.user("s3:ListBucket")):
            said = run(say, "data.protocol=flowmaps", f"data.root={root}", "inputs.normalise=minmax")
    finally:
        server.checking(False)
    assert said.code == 1
    assert (
        f"error: {root}/sub0" in said.sentence
        and ".png: the storage refuses the access; check the credentials" in said.sentence
    )


def test_a_ledger_that_refuses_within_a_run_ends_it(
    say: Say, maps: Path, server: objects.Server, tmp_path: Path
) -> None:
    """The place could be written when the run began."""
    place = objects.fresh()
    chosen = [*on_maps(maps), f"storage.ledger={place}"]
    try:
        with objects.surroundings(
            server.user("s3:GetObject", "s3:ListBucket", "s3:PutObject", put_only=f"{place[5:]}/.writable")
        ):
            said = run(say, *chosen)
    finally:
        server.checking(False)
    assert said.code == 1 and f"error: {place}/" in said.sentence
    assert ".parquet: the storage refuses the access; check the credentials" in said.sentence
    assert "may do with the bucket, and run again; what was finished is kept." in said.sentence
    again = run(say, *chosen)
    assert (again.code, again.json["status"]) == (0, "complete") and "12 cached" in again.err


@pytest.mark.parametrize(
    ("workspace", "words"),
    [
        ("s3://KEY:hunter2@laboratory/x", "an address must hold no credentials"),
        (
            "s3://laboratory/x?region=eu-west-1",
            "an address takes no options; give them in the environment (AWS_REGION",
        ),
        (
            "ftp://laboratory/x",
            "not a storage address that can be opened; give a path, s3://bucket/… or gs://bucket/…",
        ),
        ("s3://", "not a storage address that can be opened"),
    ],
)
def test_an_address_that_is_none(workspace: str, words: str, say: Say, maps: Path) -> None:
    told = refused(say, workspace, maps)
    assert words in told and "hunter2" not in told


def test_a_secret_in_a_setting_is_refused_and_not_repeated(say: Say, maps: Path) -> None:
    for setting in ("data.root", "data.roots.smic", "storage.ledger"):
        said = run(say, *on_maps(maps), f"{setting}=s3://KEY:hunter2@laboratory/x")
        assert (
            said.code,
            "an address must hold no credentials, for it is kept with the run" in said.sentence,
        ) == (2, True)
        assert "hunter2" not in said.err


def test_mlflow_without_a_place_is_told_before_anything_is_written(say: Say, maps: Path, remote: str) -> None:
    told = refused(say, remote, maps, "tracking.enabled=true")
    assert (
        f"{remote}: MLflow's SQLite cannot live on an object store; name a server in tracking.uri or"
        f" MLFLOW_TRACKING_URI" in told
    )
    assert files(place(remote)) == {}
    said = say("ui", "--workspace", remote)
    assert (said.code, "MLflow's SQLite cannot live on an object store" in said.sentence) == (2, True)


# Places apart from the workspace.


def test_each_place_may_be_elsewhere_and_the_run_is_the_same_run(
    say: Say, maps: Path, remote: str, tmp_path: Path
) -> None:
    objects.upload(maps, f"{remote}/maps")
    here = run(say, *on_maps(maps))
    assert here.code == 0
    before = command.ledger(tmp_path / "home")
    apart = [f"storage.{name}={remote}/{name}-of-mine" for name in ("features", "ledger", "runs")]
    far = run(say, "data.protocol=flowmaps", f"data.root={remote}/maps", "inputs.normalise=minmax", *apart)
    assert far.code == 0 and far.json["run_dir"].startswith(f"{remote}/runs-of-mine/")
    entries = files(place(remote) / "ledger-of-mine")
    assert {Path(key).stem for key in entries} == before.keys()
    assert far.json["run_dir"].rsplit("/", 1)[1] == Path(here.json["run_dir"]).name
    kept = [place(said.json["run_dir"]) / "predictions.parquet" for said in (here, far)]
    mine, theirs = (path.read_bytes() for path in kept)
    assert mine == theirs
    assert len(list((tmp_path / "home").glob("runs/*"))) == 1  # the far run left nothing here
    again = run(say, "data.protocol=flowmaps", f"data.root={remote}/maps", "inputs.normalise=minmax", *apart)
    assert again.code == 0 and "(4 in the ledger already)" in again.err and "12 cached" in again.err
    compared = say(
        "compare",
        far.json["run_dir"],
        here.json["run_dir"],
        "--workspace",
        str(tmp_path / "home"),
        "--set",
        "tracking.enabled=false",
    )
    assert compared.code == 0 and str(tmp_path / "home" / "comparisons") in compared.out


def test_relative_places_are_below_the_workspace_in_a_file(tmp_path: Path) -> None:
    from distmer.commands.session import Given, Session

    path = tmp_path / "c.yaml"
    path.write_text(
        "storage: {ledger: mine/ledger, runs: /abs/runs, features: 's3://laboratory/f'}\ndata: {protocol:"
        " casme2, root: sets}\n"
    )
    near = Session.open(Given(path, ["storage.scratch=here"], str(tmp_path / "home")))
    assert [
        str(p) for p in (near.workspace.ledger, near.workspace.run_dir("0" * 64), near.workspace.features)
    ] == [
        f"{tmp_path}/home/mine/ledger",
        f"/abs/runs/{'0' * 12}",
        "s3://laboratory/f",
    ]
    assert (
        str(near.workspace.scratch) == f"{Path.cwd()}/here"
        and str(near.workspace.data) == f"{tmp_path}/home/data"
    )
    far = Session.open(Given(path, [], "s3://laboratory/home"))
    assert (
        str(far.workspace.ledger) == "s3://laboratory/home/mine/ledger"
        and far.config.data.root == "s3://laboratory/home/sets"
    )
    assert (
        str(far.workspace.data) == "s3://laboratory/home/data"
        and str(far.workspace.run_dir("0" * 64)) == f"/abs/runs/{'0' * 12}"
    )


def test_a_landmark_model_must_be_a_file(say: Say, tmp_path: Path, remote: str) -> None:
    root = LAYOUTS["folder"](tmp_path)
    said = run(say, "data.protocol=folder", f"data.root={root}", f"features.landmarks={remote}/model.dat")
    assert (
        said.code,
        "dlib reads its model from a file; set features.landmarks to a path" in said.sentence,
    ) == (2, True)


def test_an_unknown_scheme_is_told_within_the_code_too() -> None:
    with pytest.raises(BadInput, match="not a storage address"):
        place("nowhere://x")
