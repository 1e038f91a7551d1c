"""Storage, local and on a real S3 server: the same contract. Half a write is none, what is missing is told from what is away, and
whatever the storage refuses is one sentence."""

from __future__ import annotations

import os
import random
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from distmer.config import DataConfig, FeatureConfig
from distmer.datasets import datasets, load_manifest
from distmer.experiment.ledger import Ledger
from distmer.features.pipeline import FeatureRow
from distmer.features.store import FeatureStore
from distmer.remote import Place, below, place
from distmer.report.jsonl import JsonLines
from distmer.storage import Store
from distmer.training.fit import fit_fold
from distmer.types import BadInput, Manifest, RunError
from tests import command, objects, toy
from tests.fixtures.dataset_layouts import LAYOUTS
from tests.saying import Say, on_maps, run, settings


@pytest.fixture(scope="module")
def server() -> Iterator[objects.Server]:
    with objects.serving() as server:
        yield server


@pytest.fixture(params=["local", "s3"])
def address(request: pytest.FixtureRequest, tmp_path: Path, server: objects.Server) -> str:
    return str(tmp_path / "folder") if request.param == "local" else objects.fresh()


@pytest.fixture
def remote(server: objects.Server) -> str:
    return objects.fresh()


# The contract of a store.


def test_what_is_written_is_read_and_listed(address: str) -> None:
    store = Store(address)
    written = {
        "a/b/c.bin": b"1",
        "a/empty": b"",
        "top": b"22",
        "name with blank .png": b"3",
        "é/ü": b"4",
        "big": random.Random(0).randbytes(12_000_000),
    }
    for key, data in written.items():
        store.write(key, data)
    listed = store.keys()
    assert listed == sorted(written) and {key: store.read(key) for key in listed} == written
    assert store.keys(".bin") == ["a/b/c.bin"]
    assert (store / "a").keys() == ["b/c.bin", "empty"] and (store / "a/b").read("c.bin") == b"1"
    with store.open("big") as file:
        assert file.seek(11_000_000) and file.read(5) == written["big"][11_000_000:11_000_005]
    store.write("top", b"other")
    assert store.read("top") == b"other"
    assert [store.exists(key) for key in ("top", "a", "none", "a/b/c.bin")] == [True, False, False, True]


def test_a_missing_key_is_a_file_not_found_and_a_missing_folder_is_empty(address: str) -> None:
    store = Store(address)
    assert store.keys() == [] and not store.exists("x")
    store.write("x/y", b"")
    for key in ("none", "x/none", "x"):
        with pytest.raises(OSError) as error:
            store.read(key)
        assert isinstance(error.value, FileNotFoundError) or key == "x"
    with pytest.raises(FileNotFoundError), store.open("none"):
        pass


def test_a_folder_is_removed_and_nothing_beside_it(address: str) -> None:
    store = Store(address)
    for key in ("a/1", "a/b/2", "ab/3"):
        store.write(key, b"")
    store.remove("a")
    store.remove("a")
    assert store.keys() == ["ab/3"]


@pytest.mark.parametrize("size", [300_000, 12_000_000], ids=["one request", "in parts"])
def test_half_a_write_leaves_what_was_there(size: int, address: str, server: objects.Server) -> None:
    """Locally a file may not grow beyond 100 kB; on S3 the line breaks after that many bytes."""
    store = Store(address)
    store.write("old", b"old")
    data = random.Random(1).randbytes(size)
    if "://" in address:
        with objects.breaking(server, 100_000) as url, objects.surroundings({"AWS_ENDPOINT_URL": url}):
            for key in ("old", "new"):
                with pytest.raises(RunError, match=f"{key}: the storage (does not answer|failed)"):
                    Store(address).write(key, data)
    else:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        try:
            for key in ("old", "new"):
                with pytest.raises(OSError, match="File too large"):
                    store.write(key, data)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (store.keys(), store.read("old")) == (["old"], b"old")


# What stands on it.


def test_the_ledger_and_the_feature_store_tell_damaged_from_missing_from_away(address: str, caplog: pytest.LogCaptureFixture) -> None:
    clips = toy.clips()
    result = fit_fold(toy.jobs(toy.config("linear"), clips)[0], toy.inputs(clips))
    ledger = Ledger(Store(address) / "ledger")
    other = replace(result, digest="f" * 64)
    ledger.put(result)
    ledger.put(other)
    (key, _) = ledger.store.keys()
    ledger.store.write(key, ledger.store.read(key)[:-20])
    damaged, whole = (result, other) if result.digest in key else (other, result)
    assert ledger.known([damaged.digest, whole.digest, "0" * 64]).keys() == {whole.digest}
    assert caplog.text.count("is damaged") == 1
    features = FeatureStore(Store(address) / "features", FeatureConfig(size=16), "minmax")
    map_HW3 = np.random.default_rng(0).random((28, 28, 3)).astype(np.float32)
    row = FeatureRow("d/s/a", "a", "minmax", "ok", flow_HW2=map_HW3[..., :2], strain_HW=map_HW3[..., 2])
    features.write([row])
    features.write([replace(row, key="b")])
    np.testing.assert_array_equal(features.load([("d/s/a", "a")]).channel("strain")[0], map_HW3[..., 2])
    part = features.keys()["b"]
    features.store.write(part, features.store.read(part)[:-20])
    assert features.keys().keys() == {"a"} and "is not a readable feature part and counts as absent" in caplog.text
    if "://" in address:  # away: what it holds is not known, and must not be made again
        with objects.surroundings({"AWS_ENDPOINT_URL": f"http://127.0.0.1:{objects.free_port()}"}):
            for look in (lambda: Ledger(Store(address)).known(["0" * 64]), lambda: FeatureStore(Store(address), FeatureConfig()).keys()):
                with pytest.raises(RunError, match="the storage does not answer; check the network"):
                    look()


@pytest.mark.parametrize("name", sorted(datasets()))
@pytest.mark.parametrize("layout", ["alone", "among others"])
def test_a_data_set_on_s3_is_the_one_on_disk(name: str, layout: str, tmp_path: Path, remote: str) -> None:
    folder = datasets()[name].folders[0] if layout == "among others" else "root"
    (tmp_path / folder).mkdir()
    root = LAYOUTS[name](tmp_path / folder)
    objects.upload(tmp_path, remote)
    given = (tmp_path, remote) if layout == "among others" else (root, f"{remote}/{root.relative_to(tmp_path)}")

    def load(place: object) -> Manifest:
        return load_manifest(DataConfig(protocol=name, root=str(place), missing_apex="max-flow"), tmp_path)

    near, far = (load(root) for root in given)
    assert repr(far.clips).replace(remote, str(tmp_path)) == repr(near.clips)
    assert far.failures == near.failures and far.clips[0].source != near.clips[0].source


def test_a_row_of_a_sheet_cannot_lead_out_of_the_data_root(tmp_path: Path, address: str) -> None:
    store = Store(address)
    rows = ["subject,clip,label,onset,apex"]
    names = ["in.png", "a/../in.png", "../out.png", "../rooted/out.png", "a/../../out.png", "a/../../root/in.png", "..", "../../../x.png"]
    rows += [f"s{n},c{n},{'ab'[n % 2]},in.png,{name}" for n, name in enumerate(names)]
    for key, data in {
        "root/manifest.csv": "\n".join(rows),
        "root/in.png": "x",
        "root/a/b.png": "x",
        "out.png": "x",
        "rooted/out.png": "x",
    }.items():
        store.write(key, data.encode())
    manifest = load_manifest(DataConfig(protocol="folder", root=f"{address}/root"), tmp_path)
    assert [clip.name for clip in manifest.clips] == ["c0", "c1", "c5"]
    assert [failure.clip[-2:] for failure in manifest.failures] == ["c2", "c3", "c4", "c6", "c7"]
    assert all("leads out of" in failure.reason for failure in manifest.failures)


def test_a_place_looks_the_same_near_and_far(address: str) -> None:
    store = Store(address)
    for key in ("root/b/2.txt", "root/b/1.txt", "root/a.b.txt", "beside/x"):
        store.write(key, key.encode())

    def look(root: Place) -> object:
        inside = [root, root / "b", root / "b/1.txt", root / "a.b.txt", root / "none", root / "none/x", root / "b" / "c"]
        facts = [(p.name, p.stem, p.suffix, p.parent.name, p.is_dir(), p.is_file(), p.exists(), below(p, root)) for p in inside]
        listed = [(below(p, root), p.is_dir(), p.is_file()) for p in sorted(root.iterdir())]
        return (
            facts,
            listed,
            (root / "b/2.txt").read_text(),
            below((root / "../beside").resolve(), root.resolve()),
            below(root / "b", root / "b/1"),
        )

    kept = place(f"{address}/root", still=True) if "://" in address else place(f"{address}/root")
    expected = look(kept)
    store.write("root/late.txt", b"")
    assert look(kept) == expected or "://" not in address  # told to be still, it asks once
    facts, listed, text, *outside = look(place(f"{address}/root"))  # type: ignore[misc]
    assert [name for name, *_ in listed] == ["a.b.txt", "b", "late.txt"] and text == "root/b/2.txt" and outside == [None, None]
    assert [fact[4:7] for fact in facts] == [(True, False, True)] * 2 + [(False, True, True)] * 2 + [(False, False, False)] * 3


def test_events_on_s3_are_written_whole_and_those_of_former_runs_stay(remote: str) -> None:
    from distmer.experiment.events import Step

    path = place(remote) / "runs/x/events.jsonl"
    for expected in (2, 4):
        log = JsonLines(path, every=0)
        for n in range(2):
            log(Step("extracting features", n, 2))
        assert len(path.read_text().splitlines()) == expected
    late = JsonLines(path, every=3600)
    for n in range(3):
        late(Step("extracting features", n, 2))
    assert len(path.read_text().splitlines()) == 5  # the first at once, the others held


# What a storage refuses, from the command line.


def refused(say: Say, workspace: str, maps: Path, *chosen: str) -> str:
    said = say("run", "--local", "--workspace", workspace, *settings(*on_maps(maps), *chosen))
    assert said.code == 2 and not said.log
    return said.sentence


def test_a_bucket_that_is_not_there(say: Say, maps: Path, server: objects.Server, tmp_path: Path) -> None:
    assert "the workspace cannot be written: s3://nowhere/x/.writable: the bucket does not exist" in refused(say, "s3://nowhere/x", maps)
    for name in ("features", "ledger", "runs", "scratch", "data"):
        told = refused(say, str(tmp_path), maps, f"storage.{name}=s3://nowhere/x")
        assert f"storage.{name} cannot be written: s3://nowhere/x/.writable: the bucket does not exist; make it, or correct" in told
    said = run(say, "data.protocol=flowmaps", "data.root=s3://nowhere/x", "inputs.normalise=minmax")
    assert (said.code, "s3://nowhere/x: the bucket does not exist" in said.sentence) == (1, True)
    said = run(say, "data.protocol=flowmaps", f"data.root={objects.fresh()}", "inputs.normalise=minmax")
    assert (said.code, "the folder for Published flow maps is not there; correct data.root" in said.sentence) == (2, True)


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
                assert f"{home}/.writable: the storage refuses the access; check the credentials in the environment" in told
                assert "hunter2" not in told and given["AWS_ACCESS_KEY_ID"] not in told
                said = run(say, "data.protocol=flowmaps", f"data.root={home}", "inputs.normalise=minmax")
                assert (said.code, "the storage refuses the access" in said.sentence) == (1, True)
        with objects.surroundings(right):
            said = say("run", "--local", "--json", "--workspace", home, *settings(*on_maps(maps)))
            assert (said.code, said.json["status"], said.json["run_dir"].startswith(f"{home}/runs/")) == (0, "complete", True)
    finally:
        server.checking(False)


def test_a_token_that_has_expired(say: Say, maps: Path) -> None:
    """S3's own words for it (moto's tokens never expire); asked once, for trying again cannot help."""
    body = b"<?xml version='1.0'?><Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"
    head = f"HTTP/1.1 400 Bad Request\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    with objects.answering(head.encode() + body) as (url, asked), objects.surroundings({"AWS_ENDPOINT_URL": url}):
        assert "the credentials have expired; renew them (AWS_SESSION_TOKEN)" in refused(say, "s3://laboratory/x", maps)
    assert asked == [b"PUT /laboratory/x/.writable HTTP/1.1"]


@pytest.mark.parametrize("fault", ["nobody listens", "the line breaks"])
def test_a_server_that_is_away(fault: str, say: Say, maps: Path) -> None:
    with objects.answering(b"") as (url, asked):
        at = url if fault == "the line breaks" else f"http://127.0.0.1:{objects.free_port()}"
        with objects.surroundings({"AWS_ENDPOINT_URL": at}):
            told = refused(say, "s3://laboratory/x", maps)
    assert "the storage does not answer; check the network, and AWS_ENDPOINT_URL" in told
    assert len(asked) <= 3


def test_a_storage_that_goes_away_within_a_run_ends_it_with_one_sentence(say: Say, maps: Path, remote: str, tmp_path: Path) -> None:
    assert run(say, *on_maps(maps), f"storage.ledger={remote}").code == 0
    with objects.surroundings({"AWS_ENDPOINT_URL": f"http://127.0.0.1:{objects.free_port()}"}):
        said = run(say, "data.protocol=flowmaps", f"data.root={remote}", "inputs.normalise=minmax")
        assert (said.code, "the storage does not answer" in said.sentence) == (1, True)


@pytest.mark.parametrize(
    ("workspace", "words"),
    [
        ("s3://KEY:hunter2@laboratory/x", "an address must hold no credentials"),
        ("s3://laboratory/x?region=eu-west-1", "an address takes no options; give them in the environment (AWS_REGION"),
        ("ftp://laboratory/x", "not a storage address that can be opened; give a path, s3://bucket/… or gs://bucket/…"),
        ("s3://", "not a storage address that can be opened"),
    ],
)
def test_an_address_that_is_none(workspace: str, words: str, say: Say, maps: Path) -> None:
    told = refused(say, workspace, maps)
    assert words in told and "hunter2" not in told


def test_a_secret_in_a_setting_is_refused_and_not_repeated(say: Say, maps: Path) -> None:
    for setting in ("data.root", "data.roots.smic", "storage.ledger"):
        said = run(say, *on_maps(maps), f"{setting}=s3://KEY:hunter2@laboratory/x")
        assert (said.code, "an address holds credentials, which would be kept with the run" in said.sentence) == (2, True)
        assert "hunter2" not in said.err


def test_mlflow_without_a_place_is_told_before_anything_is_written(say: Say, maps: Path, remote: str) -> None:
    told = refused(say, remote, maps, "tracking.enabled=true")
    assert f"{remote}: MLflow's SQLite cannot live on an object store; name a server in tracking.uri or MLFLOW_TRACKING_URI" in told
    assert Store(remote).keys() == []
    said = say("ui", "--workspace", remote)
    assert (said.code, "MLflow's SQLite cannot live on an object store" in said.sentence) == (2, True)


# Places apart from the workspace.


def test_each_place_may_be_elsewhere_and_the_run_is_the_same_run(say: Say, maps: Path, remote: str, tmp_path: Path) -> None:
    objects.upload(maps, f"{remote}/maps")
    here = run(say, *on_maps(maps))
    assert here.code == 0
    before = command.ledger(tmp_path / "home")
    apart = [f"storage.{name}={remote}/{name}-of-mine" for name in ("features", "ledger", "runs")]
    far = run(say, "data.protocol=flowmaps", f"data.root={remote}/maps", "inputs.normalise=minmax", *apart)
    assert far.code == 0 and far.json["run_dir"].startswith(f"{remote}/runs-of-mine/")
    entries = (Store(remote) / "ledger-of-mine").keys()
    assert {Path(key).stem for key in entries} == before.keys()
    assert far.json["run_dir"].rsplit("/", 1)[1] == Path(here.json["run_dir"]).name
    mine, theirs = (Store(said.json["run_dir"]).read("predictions.parquet") for said in (here, far))
    assert mine == theirs
    assert len(list((tmp_path / "home").glob("runs/*"))) == 1  # the far run left nothing here
    again = run(say, "data.protocol=flowmaps", f"data.root={remote}/maps", "inputs.normalise=minmax", *apart)
    assert again.code == 0 and "(4 in the ledger already)" in again.err and "12 cached" in again.err
    compared = say(
        "compare", far.json["run_dir"], here.json["run_dir"], "--workspace", str(tmp_path / "home"), "--set", "tracking.enabled=false"
    )
    assert compared.code == 0 and str(tmp_path / "home" / "comparisons") in compared.out


def test_relative_places_are_below_the_workspace_in_a_file(tmp_path: Path) -> None:
    from distmer.app import Session

    path = tmp_path / "c.yaml"
    path.write_text("storage: {ledger: mine/ledger, runs: /abs/runs, features: 's3://laboratory/f'}\ndata: {root: sets}\n")
    near = Session.open(path, ["storage.scratch=here"], str(tmp_path / "home"), os.environ)
    assert [str(p) for p in (near.workspace.ledger, near.workspace.run_dir("0" * 64), near.workspace.features)] == [
        f"{tmp_path}/home/mine/ledger",
        f"/abs/runs/{'0' * 12}",
        "s3://laboratory/f",
    ]
    assert str(near.workspace.scratch) == f"{Path.cwd()}/here" and str(near.workspace.data) == f"{tmp_path}/home/data"
    far = Session.open(path, [], "s3://laboratory/home", os.environ)
    assert str(far.workspace.ledger) == "s3://laboratory/home/mine/ledger" and far.config.data.root == "s3://laboratory/home/sets"
    assert str(far.workspace.data) == "s3://laboratory/home/data" and str(far.workspace.run_dir("0" * 64)) == f"/abs/runs/{'0' * 12}"


def test_a_landmark_model_must_be_a_file(say: Say, tmp_path: Path, remote: str) -> None:
    root = LAYOUTS["folder"](tmp_path)
    said = run(say, "data.protocol=folder", f"data.root={root}", f"features.landmarks={remote}/model.dat")
    assert (said.code, "dlib reads its model from a file; set features.landmarks to a path" in said.sentence) == (2, True)


def test_an_unknown_scheme_is_told_by_a_store_too() -> None:
    with pytest.raises(BadInput, match="not a storage address"):
        Store("nowhere://x")
