"""Temporary files and folders that say who made them, so that what a killed process left can be removed.

A temporary is called ``.<name>.<owner>.tmp`` (a file) or ``.<name>.<owner>.partial`` (a folder). The owner is
``<host>~<pid>~<start>~<random>``. A run begins by removing what no living process owns. What a process of
this machine left is removed at once. What another machine on the same disk left is removed after a day. An
object store has no temporaries: an object is there when its upload is complete.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_DAY = 24 * 3600.0  # s
_OURS = re.compile(r"\..+\.(tmp|partial)")
_OWNED = re.compile(r"\.(?P<host>[\w-]+)~(?P<pid>\d+)~(?P<start>\d+)~[0-9a-f]{8}\.(tmp|partial)$")


@dataclass(frozen=True, slots=True)
class Removed:
    """Leftovers that are gone: how many files and folders, and their bytes in all."""

    number: int = 0
    size: int = 0

    def __add__(self, other: Removed) -> Removed:
        return Removed(self.number + other.number, self.size + other.size)

    def __str__(self) -> str:
        return (
            f"removed {self.number} leftover{'s' * (self.number != 1)} of ended runs,"
            f" {self.size / 1e6:.1f} MB"
        )


def temporary(folder: str | Path, name: str, kind: str = "tmp") -> Path:
    """A new path in ``folder`` that names this process. ``kind``: "tmp" for a file, "partial" for a
    folder."""
    pid = os.getpid()
    return Path(folder, f".{name}.{_host()}~{pid}~{_started(pid)}~{secrets.token_hex(4)}.{kind}")


@contextmanager
def temporary_folder(name: str, folder: str | Path | None = None) -> Iterator[Path]:
    """An empty folder that is deleted afterwards, in ``folder`` or in the system's folder for such files."""
    path = temporary(folder or tempfile.gettempdir(), name, "partial")
    path.mkdir(mode=0o700)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def remove_leftovers(trees: Iterable[Path], folders: Iterable[Path]) -> Removed:
    """Remove what no living process owns, anywhere below ``trees`` and directly in ``folders``."""
    removed = Removed()
    for tree in trees:
        for folder, below, files in os.walk(tree):
            for name in [*below, *files]:
                if _OURS.fullmatch(name):
                    removed += _remove_if_left(Path(folder, name))
            below[:] = [name for name in below if not _OURS.fullmatch(name)]
    for folder in folders:
        with suppress(OSError):
            for path in [Path(entry) for entry in os.scandir(folder) if _OURS.fullmatch(entry.name)]:
                removed += _remove_if_left(path)
    return removed


def remove(path: Path) -> Removed:
    """Remove a file or a folder. If that is not allowed, nothing happens."""
    size = 0
    for folder, _, names in os.walk(path) if path.is_dir() else [(path.parent, [], [path.name])]:
        for name in names:
            with suppress(OSError):  # gone in the meantime
                size += Path(folder, name).lstat().st_size
    with suppress(OSError):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        return Removed(1, size)
    return Removed()


def _remove_if_left(path: Path) -> Removed:
    owner = _OWNED.search(path.name)
    if owner is None:
        return Removed()
    try:
        about = path.lstat()
        if owner["host"] == _host():
            left = _started(int(owner["pid"])) != int(owner["start"])
        else:
            left = time.time() - about.st_mtime > _DAY
        mine = about.st_uid == os.getuid()
    except OSError:  # gone in the meantime
        return Removed()
    return remove(path) if left and mine else Removed()


@cache
def _host() -> str:
    """This machine since it was started, or this container: only here can a process's id be looked up."""
    marks = [socket.gethostname()]
    with suppress(OSError):
        marks += [
            Path("/proc/sys/kernel/random/boot_id").read_text(),
            str(os.stat("/proc/self/ns/pid").st_ino),
        ]
    name = re.sub(r"[^\w-]", "-", marks[0])[:40]
    return f"{name}-{hashlib.sha256(''.join(marks).encode()).hexdigest()[:8]}"


def _started(pid: int) -> int | None:
    """When a process of this machine was started, in the kernel's ticks; None if there is no such process, 0
    if that is not known.

    An id is used again, and the time of day can be set; the ticks since the machine's start cannot.
    """
    if Path("/proc/self/stat").exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else int(fields[19])  # Z, X: it is dead, and not yet waited for
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return 0
