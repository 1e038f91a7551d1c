"""Storage, local and on a real S3 server: the same contract. Half a write is none, what is missing is told
from what is away, and whatever the storage refuses is one sentence."""

from __future__ import annotations

import random
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from distmer.config import DataConfig, FeatureConfig
from distmer.datasets import datasets, load_manifest
from distmer.experiment.ledger import Ledger
from distmer.features.featureset import MAPS
from distmer.features.row import FeatureRow
from distmer.features.store import FeatureStore
from distmer.leftovers import temporary
from distmer.report.jsonl import JsonLines
from distmer.storage import Place, below, delete, files, place, write
from distmer.training.fit import fit_fold
from distmer.types import RunError
from harness import command, objects, toy
from tests.fixtures.further_layouts import EVERY_LAYOUT as LAYOUTS


@pytest.fixture(params=["local", "s3"])
def address(request: pytest.FixtureRequest, tmp_path: Path, server: objects.Server) -> str:
    return str(tmp_path / "folder") if request.param == "local" else objects.fresh()


# The contract of a store.


def test_what_is_written_is_read_and_listed(address: str) -> None:
    root = place(address)
    written = {
        "a/b/c.bin": b"1",
        "a/empty": b"",
        "top": b"22",
        "name with blank .png": b"3",
        "é/ü": b"4",
        "big": random.Random(0).randbytes(12_000_000),
    }
    for key, data in written.items():
        write(root / key, data)
    listed = files(root)
    assert list(listed) == sorted(written) and {key: (root / key).read_bytes() for key in listed} == written
    assert [info.size for info in listed.values()] == [len(written[key]) for key in listed]
    assert list(files(root, ".bin")) == ["a/b/c.bin"]
    assert list(files(root / "a")) == ["b/c.bin", "empty"] and (root / "a/b" / "c.bin").read_bytes() == b"1"
    with (root / "big").open("rb") as file:
        assert file.seek(11_000_000) and file.read(5) == written["big"][11_000_000:11_000_005]
    write(root / "top", b"other")
    assert (root / "top").read_bytes() == b"other"
    assert [(root / key).is_file() for key in ("top", "a", "none", "a/b/c.bin")] == [True, False, False, True]


def test_a_missing_key_is_a_file_not_found_and_a_missing_folder_is_empty(address: str) -> None:
    root = place(address)
    assert files(root) == {} and not (root / "x").exists()
    write(root / "x/y", b"")
    for key in ("none", "x/none", "x"):
        with pytest.raises(OSError) as error:
            (root / key).read_bytes()
        assert isinstance(error.value, FileNotFoundError) or key == "x"
    with pytest.raises(FileNotFoundError), (root / "none").open("rb"):
        pass


def test_a_folder_is_removed_and_nothing_beside_it(address: str) -> None:
    root = place(address)
    for key in ("a/1", "a/b/2", "ab/3"):
        write(root / key, b"")
    if isinstance(root, Path):
        temporary(root, "1").write_bytes(b"half")
    assert list(files(root)) == ["a/1", "a/b/2", "ab/3"]  # what is half written is never listed
    delete(root / "a")
    delete(root / "a")
    assert list(files(root)) == ["ab/3"]


@pytest.mark.parametrize("size", [300_000, 12_000_000], ids=["one request", "in parts"])
def test_half_a_write_leaves_what_was_there(size: int, address: str, server: objects.Server) -> None:
    """Locally a file may not grow beyond 100 kB; on S3 the line breaks after that many bytes."""
    root = place(address)
    write(root / "old", b"old")
    data = random.Random(1).randbytes(size)
    if "://" in address:
        with objects.breaking(server, 100_000) as url, objects.surroundings({"AWS_ENDPOINT_URL": url}):
            for key in ("old", "new"):
                with pytest.raises(RunError, match=f"{key}: the storage (does not answer|failed)"):
                    write(place(address) / key, data)
    else:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        try:
            for key in ("old", "new"):
                with pytest.raises(OSError, match="File too large"):
                    write(root / key, data)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (list(files(root)), (root / "old").read_bytes()) == (["old"], b"old")


# What stands on it.


def test_the_ledger_and_the_feature_store_tell_damaged_from_missing_from_away(
    address: str, caplog: pytest.LogCaptureFixture
) -> None:
    clips = toy.clips()
    result = fit_fold(toy.jobs(toy.config("linear"), clips)[0], toy.inputs(clips))
    ledger = Ledger(place(address) / "ledger")
    other = replace(result, digest="f" * 64)
    ledger.put(result)
    ledger.put(other)
    entry = ledger.entry(result.digest)
    write(entry, entry.read_bytes()[:-20])
    assert ledger.known([result.digest, other.digest, "0" * 64]).keys() == {other.digest}
    assert caplog.text.count("is damaged") == 1
    features = FeatureStore(place(address) / "features", FeatureConfig(size=16), "minmax")
    map_HW3 = np.random.default_rng(0).random((28, 28, 3)).astype(np.float32)
    channels = dict(zip(MAPS, map_HW3.transpose(2, 0, 1), strict=True))
    row = FeatureRow("d/s/a", "a", "minmax", "ok", channels=channels)
    features.write([row])
    features.write([replace(row, key="b")])
    np.testing.assert_array_equal(features.load([("d/s/a", "a")]).channel("strain")[0], map_HW3[..., 2])
    part = features.index["b"].part
    write(features.folder / part, (features.folder / part).read_bytes()[:-20])
    again = FeatureStore(place(address) / "features", FeatureConfig(size=16), "minmax")
    assert (
        again.index.keys() == {"a"} and "is not a readable feature part and counts as absent" in caplog.text
    )
    if "://" in address:  # away: what it holds is not known, and must not be made again
        with objects.surroundings({"AWS_ENDPOINT_URL": f"http://127.0.0.1:{command.free_port()}"}):
            away = place(address)
            ledger, features = Ledger(away), FeatureStore(away, FeatureConfig())
            for look in (lambda: ledger.known(["0" * 64]), lambda: features.index):
                with pytest.raises(RunError, match="the storage does not answer; check the network"):
                    look()


@pytest.mark.parametrize("name", sorted(datasets()))
def test_a_data_set_on_s3_is_the_one_on_disk(name: str, tmp_path: Path, remote: str) -> None:
    folder = datasets()[name].folders[0]
    (tmp_path / folder).mkdir()
    root = LAYOUTS[name](tmp_path / folder)
    objects.upload(tmp_path, remote)
    # alone, and among other data sets; the search for an apex reads all frames of a clip: once is enough
    for near, far, missing in (
        (root, f"{remote}/{root.relative_to(tmp_path)}", "max-flow"),
        (tmp_path, remote, "midpoint"),
    ):
        here, there = (
            load_manifest(DataConfig(protocol=name, root=str(at), missing_apex=missing), tmp_path)
            for at in (near, far)
        )
        assert repr(there.clips).replace(remote, str(tmp_path)) == repr(here.clips)
        assert there.failures == here.failures and there.clips[0].source != here.clips[0].source


def test_a_row_of_a_sheet_cannot_lead_out_of_the_data_root(tmp_path: Path, address: str) -> None:
    rows = ["subject,clip,label,onset,apex"]
    names = [
        "in.png",
        "a/../in.png",
        "../out.png",
        "../rooted/out.png",
        "a/../../out.png",
        "a/../../root/in.png",
        "..",
        "../../../x.png",
    ]
    rows += [f"s{n},c{n},{'ab'[n % 2]},in.png,{name}" for n, name in enumerate(names)]
    for key, data in {
        "root/manifest.csv": "\n".join(rows),
        "root/in.png": "x",
        "root/a/b.png": "x",
        "out.png": "x",
        "rooted/out.png": "x",
    }.items():
        write(place(address) / key, data.encode())
    manifest = load_manifest(DataConfig(protocol="folder", root=f"{address}/root"), tmp_path)
    assert [clip.name for clip in manifest.clips] == ["c0", "c1", "c5"]
    assert [failure.clip[-2:] for failure in manifest.failures] == ["c2", "c3", "c4", "c6", "c7"]
    assert all("leads out of" in failure.reason for failure in manifest.failures)


def test_a_place_looks_the_same_near_and_far(address: str) -> None:
    for key in ("root/b/2.txt", "root/b/1.txt", "root/a.b.txt", "beside/x"):
        write(place(address) / key, key.encode())

    def look(root: Place) -> object:
        inside = [
            root,
            root / "b",
            root / "b/1.txt",
            root / "a.b.txt",
            root / "none",
            root / "none/x",
            root / "b" / "c",
        ]
        facts = [
            (p.name, p.stem, p.suffix, p.parent.name, p.is_dir(), p.is_file(), p.exists(), below(p, root))
            for p in inside
        ]
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
    write(place(f"{address}/root/late.txt"), b"")
    assert look(kept) == expected or "://" not in address  # told to be still, it asks once
    facts, listed, text, *outside = look(place(f"{address}/root"))  # type: ignore[misc]
    assert (
        [name for name, *_ in listed] == ["a.b.txt", "b", "late.txt"]
        and text == "root/b/2.txt"
        and outside == [None, None]
    )
    assert [fact[4:7] for fact in facts] == [(True, False, True)] * 2 + [(False, True, True)] * 2 + [
        (False, False, False)
    ] * 3


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
