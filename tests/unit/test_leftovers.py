"""What a killed process left is removed by the next run; what a living one is at stays."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distmer import leftovers
from distmer.leftovers import remove_leftovers, temporary, temporary_folder
from harness import command, toy
from tests.saying import Say, on_maps, run

OWNER = """
import sys
from distmer.leftovers import temporary
print(temporary(sys.argv[1], "part.parquet", sys.argv[2]), flush=True)
input()
"""


def owned_by(folder: Path, kind: str, *, alive: bool) -> tuple[Path, subprocess.Popen[str]]:
    """A temporary of another process, which is living or was killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder), kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    path = Path(process.stdout.readline().strip())
    if kind == "partial":
        (path / "below").mkdir(parents=True)
        (path / "below" / "frame.jpg").write_bytes(b"x" * 1000)
    else:
        path.write_bytes(b"x" * 500)
    if not alive:
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, though nobody has been told
    return path, process


def test_of_the_dead_all_goes_and_of_the_living_nothing(tmp_path: Path) -> None:
    tree, folder = tmp_path / "ledger" / "ab", tmp_path / "data"
    tree.mkdir(parents=True)
    (folder / "synthetic-1" / "CASME").mkdir(parents=True)
    made = [
        owned_by(*at, alive=alive) for alive in (True, False) for at in ((tree, "tmp"), (folder, "partial"))
    ]
    others = [
        tree / "done.parquet",
        tree / ".hidden",
        folder / ".x.partial",
        folder / "synthetic-1" / "CASME" / "frame.jpg",
    ]
    for path in others:
        path.write_bytes(b"of somebody")
    (file, living), (partial, at_work), (left, killed), (broken_off, killed_too) = made
    try:
        own = temporary(tree, "own")
        own.write_bytes(b"being written")
        removed = remove_leftovers([tmp_path / "ledger", tmp_path / "not there"], [folder])
        assert (removed.number, removed.size) == (2, 1500)
        assert str(removed) == "removed 2 leftovers of ended runs, 0.0 MB"
        assert not left.exists() and not broken_off.exists()
        assert all(path.exists() for path in (file, partial, own, *others))
    finally:
        for process in (living, at_work, killed, killed_too):
            process.kill()
            process.communicate(timeout=command.PATIENCE)
    assert remove_leftovers([tmp_path], []).number == 2  # now they are gone as well


def test_an_id_that_was_used_again_is_no_owner(tmp_path: Path) -> None:
    path = temporary(tmp_path, "entry")
    started = path.name.split("~")[2]
    earlier = path.with_name(path.name.replace(f"~{started}~", f"~{int(started) - 1}~"))
    earlier.touch()
    assert remove_leftovers([], [tmp_path]).number == 1


@pytest.mark.parametrize(
    "name",
    [
        ".entry.parquet.other-host-12345678~1~2~0123abcd.tmp",
        ".synthetic-0123456789ab.other-host-12345678~1~2~0123abcd.partial",
    ],
)
def test_of_another_machine_only_what_is_a_day_old(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.mkdir() if name.endswith("partial") else path.touch()
    trees, folders = ([], [tmp_path]) if name.endswith("partial") else ([tmp_path], [])
    assert remove_leftovers(trees, folders).number == 0
    long_ago = time.time() - 25 * 3600
    os.utime(path, (long_ago, long_ago))
    assert remove_leftovers(trees, folders).number == 1
    assert not path.exists()


def test_a_run_says_what_it_removed(say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maps, temp = toy.write_flowmaps(tmp_path / "maps", subjects=3, each=3), tmp_path / "temp"
    temp.mkdir()
    monkeypatch.setattr(leftovers.tempfile, "tempdir", str(temp))
    parts = tmp_path / "home" / "features" / "0123" / "parts"
    parts.mkdir(parents=True)
    found = [owned_by(at, kind, alive=False) for at, kind in ((parts, "tmp"), (temp, "partial"))]
    searching, process = owned_by(temp, "partial", alive=True)
    said = run(say, *on_maps(maps))
    for path, killed in found:
        killed.communicate(timeout=command.PATIENCE)
        assert not path.exists()
    assert searching.exists()
    assert "removed 2 leftovers of ended runs, 0.0 MB" in said.log
    assert not any("leftover" in line for line in run(say, *on_maps(maps)).log)
    process.communicate("\n", timeout=command.PATIENCE)


def test_a_temporary_folder_is_gone_afterwards(tmp_path: Path) -> None:
    with temporary_folder("checkpoint", tmp_path) as folder:
        (folder / "state.pt").touch()
        assert folder.stat().st_mode & 0o077 == 0
    assert list(tmp_path.iterdir()) == []
