"""The embedded data set: clips generated on the user's machine, in the official layouts of CASME, CASME II
and SAMM.

It is read through the loaders of these sets. It needs no licence and no download. It shows that the whole
path works and can learn, and says nothing of how good a model is.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from threadpoolctl import threadpool_limits

from distmer.config import SyntheticConfig
from distmer.datasets.synthetic.annotations import (
    AnnotatedClip,
    annotated_clips,
    expected_counts,
    expected_subjects,
)
from distmer.datasets.synthetic.layout import END_OF_JPEG, Subject, beside_the_clips, clip_folder, frame_names
from distmer.digests import digest
from distmer.leftovers import temporary_folder
from distmer.storage import Place, RemotePath, files, write

__all__ = ["ensure", "expected_counts", "expected_subjects", "root_of"]

GENERATOR_VERSION = 1  # raise it whenever other bytes come out for the same options
MARKER = "COMPLETE.json"


def root_of(options: SyntheticConfig, folder: Place) -> Place:
    """Where the set of these options lies in ``folder``, whether it has been generated or not."""
    key = digest({"options": options.model_dump(mode="json"), "generator": GENERATOR_VERSION})
    return folder / f"synthetic-{key[:12]}"


def ensure(
    options: SyntheticConfig,
    folder: Place,
    progress: Callable[[int, int], None] = lambda done, total: None,
    meanwhile: Callable[[], None] = lambda: None,
) -> Place:
    """The root that holds ``CASME/``, ``CASME2/`` and ``SAMM/``, generated unless it is complete in
    ``folder`` already. Sets of several options may lie side by side there.

    A clip gets its place when all its frames are written, and the marker comes last. So a root without the
    marker is never taken for the set; what an interruption left in it is kept, and the next call goes on from
    there. Several processes may generate at once: their bytes are the same.

    ``progress`` is called with (clips done, clips in all) after every clip, in the thread that generates.
    ``meanwhile`` is what this thread does while another one generates; it is not called where the set is
    complete. If it raises, or is interrupted, the generation stops after the clip under way.
    """
    root = root_of(options, folder)
    if (root / MARKER).is_file():
        return root
    stopped = threading.Event()
    # A start of Ray forks. OpenBLAS can hang for ever in a fork while another thread multiplies on
    # several threads of its own (seen with numpy 2's OpenBLAS); on one it cannot.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(1) as pool:
        generation = pool.submit(_generate, options, root, progress, stopped)
        try:
            meanwhile()
            generation.result()
        finally:
            stopped.set()
    return root


def _generate(
    options: SyntheticConfig, root: Place, progress: Callable[[int, int], None], stopped: threading.Event
) -> None:
    clips = annotated_clips(options)
    site = _Disk(root) if isinstance(root, Path) else _ObjectStore(root)
    done = 0
    for subject_index, own_clips in itertools.groupby(clips, key=lambda clip: clip.subject_index):
        subject: Subject | None = None
        for clip in own_clips:
            if stopped.is_set():
                return
            if not site.holds(clip):
                subject = subject or Subject(options, subject_index)
                site.put(clip, subject.frames_of(clip))
            done += 1
            progress(done, len(clips))
    for name, data in beside_the_clips(clips).items():
        write(root / name, data)
    marker = {"options": options.model_dump(mode="json"), "generator": GENERATOR_VERSION, "clips": len(clips)}
    write(root / MARKER, (json.dumps(marker, indent=2) + "\n").encode())


class _Disk:
    """A clip's folder is written beside the root and moved to its place."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def holds(self, clip: AnnotatedClip) -> bool:
        folder = self._root / clip_folder(clip)
        with suppress(OSError):  # a power cut, or a copy that was broken off, leaves files without their end
            return all((folder / name).read_bytes().endswith(END_OF_JPEG) for name in frame_names(clip))
        return False

    def put(self, clip: AnnotatedClip, frames: Mapping[str, bytes]) -> None:
        target = self._root / clip_folder(clip)
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = self._root.name, self._root.parent
        with temporary_folder(*beside) as unfinished:
            for name, data in frames.items():
                (unfinished / name).write_bytes(data)
            unfinished.chmod(target.parent.stat().st_mode)
            if target.exists() and not self.holds(clip):
                with temporary_folder(*beside) as broken, suppress(FileNotFoundError):
                    target.rename(broken / "clip")  # not whole: no clip of ours was ever put there so
            with suppress(OSError):  # another process was first: its bytes are the same
                unfinished.rename(target)
        if not self.holds(clip):
            raise OSError(f"{target}: a finished clip cannot be moved here")


class _ObjectStore:
    """A clip is there when all its objects are. What was there is asked once, at the start."""

    def __init__(self, root: RemotePath) -> None:
        self._root = root
        self._there = frozenset(files(root))

    def holds(self, clip: AnnotatedClip) -> bool:
        return self._there.issuperset(f"{clip_folder(clip)}/{name}" for name in frame_names(clip))

    def put(self, clip: AnnotatedClip, frames: Mapping[str, bytes]) -> None:
        folder = self._root / clip_folder(clip)
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda name: write(folder / name, frames[name]), frames))
