"""What a run was made with: the code's commit, the locked requirements, libraries, Python and machine."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from distmer.types import JsonValue

_LIBRARIES = (
    *("distmer", "ray", "torch", "numpy", "scipy", "scikit-learn"),
    *("opencv-contrib-python-headless", "dlib-bin", "pyarrow", "pydantic", "mlflow"),
)


@dataclass(frozen=True, slots=True)
class Environment:
    """The driver's surroundings. None: not known, as the commit of an installed wheel."""

    commit: str | None
    dirty: bool | None  # tracked files differ from the commit
    requirements: str | None  # SHA-256 of requirements.lock
    libraries: Mapping[str, str]
    python: str
    platform: str
    cpus: int
    device: str

    def to_json(self) -> dict[str, JsonValue]:
        return asdict(self)


def capture(root: Path | None = None) -> Environment:
    """The environment of this process; ``root``: the source checkout, by default where the package lies."""
    root = root or Path(__file__).resolve().parents[2]
    commit, dirty = _revision(root)
    return Environment(
        commit=commit,
        dirty=dirty,
        requirements=_digest(root / "requirements.lock"),
        libraries={name: version for name in _LIBRARIES if (version := _version(name))},
        python=platform.python_version(),
        platform=platform.platform(),
        cpus=os.cpu_count() or 1,
        device=_device(),
    )


def _revision(root: Path) -> tuple[str | None, bool | None]:
    """The commit of ``root`` itself: an installed package may lie inside a checkout of something else."""
    if not (root / ".git").exists():
        return None, None
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    return commit or None, None if changes is None else bool(changes)


def _git(root: Path, *arguments: str) -> str | None:
    try:
        command = ["git", "-C", str(root), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def _device() -> str:
    """The driver's own accelerator; where each fold ran is in its result."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return platform.processor() or platform.machine()
