"""From the command line to the sentence and the exit status: a disk that is full, a workspace that cannot be
written, what a former run left damaged, a tracking store that is away. What was finished is kept, and the
same command goes on."""

from __future__ import annotations

import ctypes
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from distmer.features import hashes
from harness import command, toy
from tests.saying import Said, Say, home, on_maps, run, settings
from tests.within import within


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """A write beyond so many bytes fails (EFBIG), as on a full disk and without any right. Python ignores
    SIGXFSZ."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fills_up_under_the_feature_store(say: Say, tmp_path: Path) -> None:
    maps = toy.write_flowmaps(tmp_path / "maps", subjects=3, each=4)
    for path in maps.glob("sub01/*/*/*.png"):
        cv2.imwrite(str(path), np.full((28, 28, 3), 128, np.uint8))  # a first batch that takes little room
    with no_file_above(12_000):
        said = run(say, *on_maps(maps))
    assert said.code == 1
    assert "the feature store cannot be written (File too large); what is stored is kept" in said.sentence
    assert "Fix the cause (free space, permissions) and run again." in said.sentence
    (part,) = [path for path in home(tmp_path).rglob("*") if path.is_file() and path.name != hashes.FILE]
    before = part.stat().st_mtime_ns
    again = run(say, *on_maps(maps))
    assert (again.code, again.json["status"], part.stat().st_mtime_ns) == (0, "complete", before)
    assert "extracting features 12/12 · 0:00 elapsed · 4 cached" in again.err


def test_a_disk_that_fills_up_under_the_ledger(say: Say, tmp_path: Path) -> None:
    maps = toy.write_flowmaps(tmp_path / "maps", subjects=3, each=3)
    toy.write_flowmaps(tmp_path / "more", subjects=4, each=30)
    # its entry is by far the largest: every epoch of every clip
    shutil.copytree(tmp_path / "more" / "sub04", maps / "sub04")
    network = [
        "model.name=atscnn",
        "model.size=16",
        "model.hidden=8",
        "train.epochs=40",
        "train.selection=oracle",
        "train.oracle=global_epoch",
    ]
    chosen = [*on_maps(maps), *network]
    assert say("features", "--local", *settings(*chosen)).code == 0
    with no_file_above(20_000):
        said = run(say, *chosen)
    assert said.code == 1
    assert (
        "the ledger cannot be written (File too large); every fold finished before is kept" in said.sentence
    )
    assert "Fix the place (free space, permissions) and run again." in said.sentence
    kept = command.ledger(home(tmp_path))
    assert len(kept) == 3
    assert not list(home(tmp_path).glob("ledger/*/.*"))
    again = run(say, *chosen)
    assert (again.code, again.json["status"], again.json["failed"]) == (0, "complete", [])
    after = command.ledger(home(tmp_path))
    assert len(after) == 4 and {digest: after[digest] for digest in kept} == kept


def test_a_disk_that_fills_up_under_the_run_folder(say: Say, maps: Path, tmp_path: Path) -> None:
    assert say("features", "--local", *settings(*on_maps(maps))).code == 0
    with no_file_above(12_000):  # enough for folds, not for a figure
        said = run(say, *on_maps(maps))
    assert said.code == 1
    assert ".png: File too large. Fix this and run again; what was finished is kept." in said.sentence
    kept = command.ledger(home(tmp_path))
    assert len(kept) == 4
    assert run(say, *on_maps(maps)).code == 0
    assert command.ledger(home(tmp_path)) == kept


def test_a_disk_that_is_full_for_real(maps: Path, tmp_path: Path) -> None:
    """ENOSPC, on a file system of 60 kB in a mount namespace of the command's own."""
    enter = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    place = tmp_path / "home"
    place.mkdir()
    mount = f"mount -t tmpfs -o size=60k none {place}"
    if subprocess.run([*enter, mount], capture_output=True).returncode:
        pytest.skip("this kernel gives no mount namespace to a user")
    words = ["run", "--local", *settings(*on_maps(maps))]
    count = f'find {place} -name "*.tmp" | wc -l'
    inside = f'{mount} && {sys.executable} -m distmer.cli "$@"; code=$?; {count}; exit $code'
    ended = subprocess.run(
        [*enter, inside, "sh", *words],
        env=command.environment(place),
        cwd=command.ROOT,
        text=True,
        capture_output=True,
        timeout=command.PATIENCE,
    )
    said = Said(ended.returncode, ended.stdout, ended.stderr)
    assert said.code == 1
    assert "No space left on device" in said.sentence and str(place) in said.sentence
    assert said.out.split() == ["0"]


def test_a_workspace_that_is_a_file(say: Say, maps: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        for verb in (["run", "--local"], ["features", "--local"]):
            said = say(*verb, "--workspace", str(place), *settings(*on_maps(maps)))
            assert said.code == 2
            assert f"{place}: the workspace cannot be written" in said.sentence
            assert (
                "name another folder by --workspace or in the environment variable DISTMER_HOME."
                in said.sentence
            )
    (tmp_path / "rows.yaml").write_text("compare: {rows: {one: {}, other: {model.c: 1.0}}}\n")
    said = say(
        "compare",
        str(tmp_path / "rows.yaml"),
        "--local",
        "--workspace",
        str(tmp_path / "file"),
        *settings(*on_maps(maps)),
    )
    assert (said.code, "the workspace cannot be written" in said.sentence) == (2, True)
    # writes the data set
    said = say("plan", "--workspace", str(tmp_path / "file" / "below"), *settings("data.protocol=synthetic"))
    assert (said.code, "Not a directory" in said.sentence) == (1, True)


def test_a_workspace_without_permission(maps: Path, tmp_path: Path) -> None:
    place = tmp_path / "home"
    place.mkdir(mode=0o500)
    mortal = ctypes.CDLL(None).prctl
    words = [sys.executable, "-m", "distmer.cli", "run", "--local", *settings(*on_maps(maps))]
    ended = subprocess.run(
        words,
        env=command.environment(place),
        cwd=command.ROOT,
        text=True,
        capture_output=True,
        timeout=command.PATIENCE,
        # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE: for root too, permissions hold from here on
        preexec_fn=lambda: mortal(24, 1, 0, 0, 0),
    )
    said = Said(ended.returncode, ended.stdout, ended.stderr)
    assert said.code == 2
    told = f"{place}: the workspace cannot be written (Permission denied); fix that, or name another folder"
    assert told in said.sentence


# What a former run left.


def test_a_damaged_ledger_entry_is_told_and_its_fold_trained_again(
    say: Say, maps: Path, tmp_path: Path
) -> None:
    first = run(say, *on_maps(maps))
    assert first.code == 0
    entries = sorted(home(tmp_path).glob("ledger/*/*.parquet"))
    before = command.ledger(home(tmp_path))
    whole = [path.read_bytes() for path in entries]
    rows = command.predictions(home(tmp_path))
    flipped = bytearray(whole[1])
    flipped[len(flipped) // 8] ^= 0x10  # within a column's page: Parquet itself might not notice
    for path, data in zip(entries, (whole[0][:-100], bytes(flipped), b"nonsense"), strict=False):
        path.write_bytes(data)
    again = run(say, *on_maps(maps))
    assert (again.code, again.json["status"]) == (0, "complete")
    assert sorted(line.split(" is damaged (")[0] for line in again.log) == [str(path) for path in entries[:3]]
    assert all(line.endswith(": this fold is trained again.") for line in again.log)
    assert command.predictions(home(tmp_path)) == rows
    assert command.ledger(home(tmp_path))[entries[3].stem] == before[entries[3].stem]
    assert not run(say, *on_maps(maps)).log


def test_an_entry_under_another_folds_name_counts_for_neither(say: Say, maps: Path, tmp_path: Path) -> None:
    assert run(say, *on_maps(maps)).code == 0
    one, other, *_ = sorted(home(tmp_path).glob("ledger/*/*.parquet"))
    rows = command.predictions(home(tmp_path))
    shutil.copy(one, other)
    again = run(say, *on_maps(maps))
    assert again.code == 0 and [str(other) in line for line in again.log] == [True]
    assert command.predictions(home(tmp_path)) == rows


def test_a_ledger_that_cannot_be_read_is_not_taken_for_an_empty_one(
    say: Say, maps: Path, tmp_path: Path
) -> None:
    assert run(say, *on_maps(maps)).code == 0
    entry, *others = sorted(home(tmp_path).glob("ledger/*/*.parquet"))
    entry.unlink()
    entry.mkdir()
    said = run(say, *on_maps(maps))
    assert said.code == 1
    assert f"{entry}: the ledger cannot be read (" in said.sentence
    entry.rmdir()
    assert run(say, *on_maps(maps)).code == 0 and all(path.exists() for path in others)


def test_a_damaged_feature_part(say: Say, maps: Path, tmp_path: Path) -> None:
    assert run(say, *on_maps(maps)).code == 0
    kept = command.ledger(home(tmp_path))
    part, *_ = sorted(home(tmp_path).glob("features/*/parts/*.parquet"))
    whole = part.read_bytes()
    # cut short: absent, told, and extracted again into the same file
    part.write_bytes(whole[: len(whole) // 2])
    again = run(say, *on_maps(maps))
    assert (again.code, again.json["status"]) == (0, "complete")
    assert (
        len(again.log) == 1 and f"{part} is not a readable feature part and counts as absent" in again.log[0]
    )
    assert part.read_bytes() == whole
    assert command.ledger(home(tmp_path)) == kept
    rotten = bytearray(whole)
    rotten[len(whole) // 2] ^= 0xFF  # within the maps, which only training reads
    part.write_bytes(bytes(rotten))
    assert run(say, *on_maps(maps)).code == 0  # all folds are in the ledger: no map is read
    said = run(say, *on_maps(maps), "seeds=[1]")
    assert said.code == 2
    assert (
        f"{part}: the feature part is damaged" in said.sentence
        and "delete it and extract again." in said.sentence
    )
    assert command.ledger(home(tmp_path)) == kept
    part.unlink()
    assert run(say, *on_maps(maps), "seeds=[1]").code == 0


# The tracking server (its own cases: tests/mlflow): a run never ends by it.


@pytest.mark.slow
@pytest.mark.parametrize("case", ["locked", "away"])
def test_a_tracking_store_that_cannot_be_written_costs_a_hint(case: str, maps: Path, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db" if case == "locked" else "http://127.0.0.1:9"
    words = [
        "run",
        "--local",
        "--json",
        *settings(*on_maps(maps), "tracking.enabled=true", f"tracking.uri={uri}"),
    ]
    with closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        ended = within(*words, home=home(tmp_path))
    assert (ended.code, ended.json["status"], ended.json["mlflow_run_id"]) == (0, "complete", None)
    assert f"`distmer track {ended.json['run_dir']}` writes them later." in ended.err
    assert "Traceback" not in ended.err
    assert len(command.ledger(home(tmp_path))) == 4
    if case == "away":
        tracked = within("track", ended.json["run_dir"], home=home(tmp_path))
        assert (
            tracked.code == 1
            and "error: not written: MLflow at http://127.0.0.1:9 cannot be reached" in tracked.err
        )
    else:
        ended = within("track", ended.json["run_dir"], home=home(tmp_path))
        assert ended.code == 0 and "4 of 4 folds; MLflow run " in ended.out and "not written" not in ended.out
