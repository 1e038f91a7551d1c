"""Frames are read once: a file that has not changed is known by its size and times, one that may have is read
again."""

from __future__ import annotations

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from distmer.features import hashes
from distmer.features.frames import ClipError
from distmer.features.hashes import FILE, hash_frames
from distmer.storage import files, place, write
from distmer.types import ApexSearch, Clip, KeyFrames
from tests.saying import Say, on_maps, run


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the frames that are read."""
    names: list[str] = []
    reading = hashes.frame_digest

    def counted(path: str) -> str:
        names.append(Path(path).name)
        return reading(path)

    monkeypatch.setattr(hashes, "frame_digest", counted)
    return names


def settle(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the files be older than they are: a minute goes by."""
    now = time.time_ns()
    monkeypatch.setattr(hashes.time, "time_ns", lambda: now + 60 * 10**9)


def clips_of(root: object) -> list[Clip]:
    sources = [
        KeyFrames(f"{root}/a/1.png", f"{root}/a/2.png"),
        ApexSearch(f"{root}/a/1.png", (f"{root}/b/3.png",)),
    ]
    return [Clip("d", "s", f"c{n}", 0, "happiness", source, "row") for n, source in enumerate(sources)]


def fill(root: object) -> None:
    for name in ("a/1.png", "a/2.png", "b/3.png"):
        write(place(str(root)) / name, name.encode())


@pytest.mark.parametrize("far", [False, True], ids=["disk", "S3"])
def test_a_frame_is_read_once_and_again_when_it_has_changed(
    far: bool,
    tmp_path: Path,
    read: list[str],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    root = request.getfixturevalue("remote") if far else str(tmp_path / "data")
    fill(root)
    clips, memory = clips_of(root), tmp_path / "features"
    first = hash_frames(clips, memory)
    assert sorted(read) == ["1.png", "2.png", "3.png"]  # a frame of two clips once
    assert first.digests == {
        f"{root}/{name}": hashlib.sha256(name.encode()).hexdigest()
        for name in ("a/1.png", "a/2.png", "b/3.png")
    }
    assert not files(memory)  # so fresh a file may change unseen: nothing is remembered of it
    settle(tmp_path, monkeypatch)
    hash_frames(clips, memory)
    read.clear()
    assert hash_frames(clips, memory) == first and read == []
    if far:
        # S3 counts whole seconds; an object that was just written is not remembered, so this is no race
        time.sleep(1.1)
    write(place(str(root)) / "a/2.png", b"a/X.png")  # of the same size
    changed = hash_frames(clips, memory)
    assert read == ["2.png"] and changed.digests[f"{root}/a/2.png"] == hashlib.sha256(b"a/X.png").hexdigest()


def test_a_file_that_was_given_its_old_time_back_is_read_again(
    tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "data")
    settle(tmp_path, monkeypatch)
    memory, frame = tmp_path / "features", tmp_path / "data" / "a" / "1.png"
    hash_frames(clips_of(tmp_path / "data"), memory)
    before, copy = frame.stat(), tmp_path / "data" / "copy"
    copy.write_bytes(b"X/1.png")
    os.utime(copy, ns=(before.st_atime_ns, before.st_mtime_ns))  # as `rsync -t` does
    copy.rename(frame)
    read.clear()
    hash_frames(clips_of(tmp_path / "data"), memory)
    assert read == ["1.png"]


def test_a_damaged_memory_is_an_absent_one_and_racing_writers_leave_a_whole_one(
    tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "data")
    settle(tmp_path, monkeypatch)
    clips, memory = clips_of(tmp_path / "data"), tmp_path / "features"
    whole = hash_frames(clips, memory)
    data = bytearray((memory / FILE).read_bytes())
    data[len(data) // 4] ^= 0x10
    for damaged in (b"", b"nonsense", bytes(data), bytes(data[:-9])):
        write(memory / FILE, damaged)
        with ThreadPoolExecutor(4) as pool:
            assert set(map(str, pool.map(lambda _: hash_frames(clips, memory), range(4)))) == {str(whole)}
        read.clear()
        assert hash_frames(clips, memory) == whole and read == []


def test_a_file_that_cannot_be_read_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "data")
    settle(tmp_path, monkeypatch)
    (tmp_path / "data" / "b" / "3.png").unlink()
    memory = tmp_path / "features"
    for _ in range(2):
        frames = hash_frames(clips_of(tmp_path / "data"), memory)
        with pytest.raises(ClipError, match=r"3\.png: the file does not exist"):
            frames.digest(str(tmp_path / "data" / "b" / "3.png"))
    (tmp_path / "file").write_text("")
    # A memory that cannot be written is no failure.
    frames = hash_frames(clips_of(tmp_path / "data"), tmp_path / "file" / "below")
    assert len(frames.digests) == 2


def test_a_run_that_has_all_its_features_reads_no_frame(
    say: Say, maps: Path, read: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(maps, monkeypatch)
    first = run(say, *on_maps(maps))
    assert (first.code, len(read)) == (0, 12)
    again = run(say, *on_maps(maps))
    assert (again.code, len(read), again.json["uar"]) == (0, 12, first.json["uar"])
