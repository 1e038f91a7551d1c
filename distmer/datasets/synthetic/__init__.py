"""The embedded data set: clips generated on the user's machine, in the official layouts of CASME, CASME II and SAMM.

Everything else reads it as it would read the real sets: through their loaders, sheets and folders. It needs no licence and no
download, and what it proves is that the whole path works and can learn; never how good a model is.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from distmer.config import SyntheticConfig
from distmer.datasets.synthetic.layout import write_all
from distmer.datasets.synthetic.plan import expected_counts, expected_subjects, planned
from distmer.digests import digest
from distmer.remote import Place
from distmer.storage import Store

__all__ = ["ensure", "expected_counts", "expected_subjects", "root_of"]

GENERATOR_VERSION = 1  # raise it whenever other bytes come out for the same options
MARKER = "COMPLETE.json"
_ABANDONED = 24 * 3600  # s


def _silent(done: int, total: int) -> None:
    """No progress report."""


def root_of(options: SyntheticConfig, folder: Place) -> Place:
    """Where the set of these options lies in ``folder``, whether it has been generated or not."""
    key = digest({"options": options.model_dump(mode="json"), "generator": GENERATOR_VERSION})
    return folder / f"synthetic-{key[:12]}"


def ensure(options: SyntheticConfig, folder: Place, progress: Callable[[int, int], None] = _silent) -> Place:
    """The root that holds ``CASME/``, ``CASME2/`` and ``SAMM/``, generated unless it stands complete in ``folder`` already.

    ``progress(done, total)`` hears of every clip. The work is done in a folder beside the root, which takes its name only when all is
    written: what an interruption leaves is never taken for the set, and several processes may generate at once. On an object store,
    which has no renaming, the marker is written last.
    """
    root = root_of(options, folder)
    if (root / MARKER).is_file():
        return root
    if isinstance(root, Path):
        return _generate(options, root, progress)
    with tempfile.TemporaryDirectory() as near:
        _upload(_generate(options, Path(near, root.name), progress), Store(root))
    return root


def _generate(options: SyntheticConfig, root: Path, progress: Callable[[int, int], None]) -> Path:
    folder = root.parent
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f".{root.name}.*.partial"):
        if time.time() - left.stat().st_mtime > _ABANDONED:  # by a killed process; a younger one may still be written
            shutil.rmtree(left, ignore_errors=True)
    building = folder / f".{root.name}.{os.getpid()}-{secrets.token_hex(4)}.partial"
    clips = planned(options)
    try:
        write_all(options, clips, building, progress)
        marker = {"options": options.model_dump(mode="json"), "generator": GENERATOR_VERSION, "clips": len(clips)}
        (building / MARKER).write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")
        if root.exists() and not (root / MARKER).is_file():
            shutil.rmtree(root)
        with contextlib.suppress(OSError):  # another process was first: its bytes are the same
            building.rename(root)
        if not (root / MARKER).is_file():
            raise OSError(f"{root}: the finished set cannot be moved here")
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return root


def _upload(folder: Path, store: Store) -> None:
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path.name != MARKER)
    with ThreadPoolExecutor(16) as pool:
        for _ in pool.map(lambda name: store.write(name, (folder / name).read_bytes()), names):
            pass
    store.write(MARKER, (folder / MARKER).read_bytes())
