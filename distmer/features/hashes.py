"""The SHA-256 of frame files by path, size and times, kept so that a cached run reads no frame.

They are in one Parquet file beside the features. Nothing depends on it: the process that extracts a clip
hashes what it reads, and if the file is lost or damaged, the frames are read once more. If several runs write
it at once, the last one's is kept.
"""

# pyright: strict, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import io
import logging
import os
import posixpath
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from distmer.config import FeatureConfig
from distmer.features.frames import ClipError, content, file_of, frame_digest, read_each
from distmer.features.pipeline import frame_paths, transient_error
from distmer.storage import Place, files, place, write
from distmer.types import BadInput, Clip, RunError

log = logging.getLogger(__name__)

FILE = "frames.parquet"
# ns: a file changed that lately may change again within one tick of its clock, and is not remembered
_MIN_AGE = 10 * 10**9
_TIMES = [(name, pa.int64()) for name in ("size", "mtime", "ctime")]
_SCHEMA = pa.schema([("path", pa.string()), *_TIMES, ("sha256", pa.string())])

# size in bytes, and the times of the last change of content and of anything (0 on an object store), ns
Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Frames:
    """The SHA-256 of frame files by path, and why the others have none."""

    digests: Mapping[str, str]
    unreadable: Mapping[str, str]

    def digest(self, path: str) -> str:
        """ClipError, with the reason, where the file could not be read."""
        if path in self.unreadable:
            raise ClipError(self.unreadable[path])
        return self.digests[path]


def hash_frames(clips: Sequence[Clip], folder: Place, *settings: FeatureConfig) -> Frames:
    """The digests of all frames of these clips that features of any of these ``settings`` need.

    Only files that are new to the memory in ``folder``, or have changed, are read. A file that cannot be read
    is a reason and no exception. RunError where an object store is away or refuses.
    """
    needed = {clip.id: _frames_of(clip, settings or (FeatureConfig(),)) for clip in clips}
    paths = list(dict.fromkeys(path for some in needed.values() for path in some))
    now = time.time_ns()
    stamps = _stamps(clips, needed)  # before the reading: what changes meanwhile has another one next time
    remembered = _recall(folder / FILE)
    known = {path: remembered.get(path, ((), "")) for path in paths}
    digests = {path: sha256 for path, (stamp, sha256) in known.items() if stamp == stamps.get(path)}
    new = [path for path in paths if path not in digests]
    with ThreadPoolExecutor(8) as pool:
        outcomes = [one for group in pool.map(_digests_or_reasons, _by_file(new)) for one in group]
    read = {path: digest for path, digest, _ in outcomes if digest}
    unreadable = {path: why for path, digest, why in outcomes if not digest}
    old_enough = {
        path: (stamps[path], read[path])
        for path in read
        if path in stamps and max(stamps[path][1:]) < now - _MIN_AGE
    }
    if old_enough:
        _remember(folder / FILE, {**remembered, **old_enough})
    return Frames({**digests, **read}, unreadable)


def _by_file(frames: Sequence[str]) -> list[list[str]]:
    """Image files each alone; the frames of a video together and ascending, because they are read in one
    pass."""
    groups: dict[str, list[str]] = {}
    for frame in frames:
        groups.setdefault(file_of(frame)[0], []).append(frame)
    return [sorted(group, key=lambda frame: file_of(frame)[1] or 0) for group in groups.values()]


def _digests_or_reasons(frames: Sequence[str]) -> list[tuple[str, str, str]]:
    """(frame, digest, "") or (frame, "", reason) of one image file, or of the frames of one video."""
    found: list[tuple[str, str, str]] = []
    try:
        if len(frames) == 1:
            return [(frames[0], frame_digest(frames[0]), "")]
        for frame, data in zip(frames, read_each(frames), strict=True):
            found.append((frame, content(data), ""))
        return found
    except ClipError as error:
        why = str(error)
    except (BadInput, RunError):
        raise
    except Exception as error:  # noqa: BLE001  # one file must not end the run of all
        why = transient_error(error)
    return [*found, *((frame, "", why) for frame in frames[len(found) :])]


def _frames_of(clip: Clip, settings: Sequence[FeatureConfig]) -> list[str]:
    found: list[str] = []
    for cfg in settings:
        with suppress(ClipError):  # the clip has no such sequence; the making of its key will say so
            found += frame_paths(clip.source, cfg)
    return found


def _stamps(clips: Sequence[Clip], needed: Mapping[str, Sequence[str]]) -> dict[str, Stamp]:
    """Size and times of the frames that are there."""
    found: dict[str, Stamp] = {}
    remote: dict[str, set[str]] = {}  # by data set, whose frames lie in one folder
    for clip in clips:
        for path in needed[clip.id]:
            if "://" in path:
                remote.setdefault(clip.dataset, set()).add(path)
            elif path not in found:
                with suppress(OSError):  # the reading will report it
                    status = os.stat(file_of(path)[0])
                    found[path] = status.st_size, status.st_mtime_ns, status.st_ctime_ns
    for addresses in remote.values():
        found |= _listed(addresses)
    return found


def _listed(addresses: set[str]) -> dict[str, Stamp]:
    """The stamps of objects, from a listing of the folder that they all lie in: one request for a thousand,
    and none is opened."""
    common = posixpath.commonprefix([f"{posixpath.dirname(address)}/" for address in addresses])
    folder = place(common.rpartition("/")[0])
    infos = {f"{folder}/{name}": info for name, info in files(folder).items()}
    there = [(name, infos[file_of(name)[0]]) for name in addresses if file_of(name)[0] in infos]
    return {address: (info.size, info.mtime_ns, 0) for address, info in there if info.mtime_ns is not None}


def _recall(memory: Place) -> dict[str, tuple[Stamp, str]]:
    """What is remembered; nothing where the file is not there or damaged."""
    try:
        data = io.BytesIO(memory.read_bytes())
        table = pq.read_table(data, schema=_SCHEMA, page_checksum_verification=True)
    except (OSError, pa.ArrowException):
        return {}
    rows = zip(*(cast(list[Any], column.to_pylist()) for column in table.columns), strict=True)
    return {path: ((size, mtime, ctime), sha256) for path, size, mtime, ctime, sha256 in rows}


def _remember(memory: Place, entries: Mapping[str, tuple[Stamp, str]]) -> None:
    rows = [(path, *stamp, sha256) for path, (stamp, sha256) in sorted(entries.items())]
    buffer = io.BytesIO()
    table = pa.table([pa.array(column) for column in zip(*rows, strict=True)], schema=_SCHEMA)
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    try:
        write(memory, buffer.getvalue())
    # a read-only place or a full disk: what must be written reports it later
    except (OSError, RunError) as error:
        log.warning(
            "%s cannot be written (%s); the frames will be read again by the next run.", memory, error
        )
