"""The one folder under which everything is written."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from distmer.types import BadInput


@dataclass(frozen=True, slots=True)
class Workspace:
    """``--workspace``, else ``DISTMER_HOME``, else ``~/distmer``: data, features, ledger, runs, tracking."""

    root: Path

    @classmethod
    def find(cls, option: str | None, environ: Mapping[str, str]) -> Workspace:
        place = option or environ.get("DISTMER_HOME") or "~/distmer"
        if "://" in place:
            raise BadInput(f"{place}: the workspace is a folder of this machine or a mounted one, not an address yet; name a path.")
        return cls(Path(place).expanduser().absolute())

    def require(self) -> None:
        """Make the folder; BadInput if nothing can be written there: better told now than after an hour of extraction."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                pass
        except OSError as error:
            raise BadInput(
                f"{self.root}: the workspace cannot be written ({error.strerror}); mend that, or name another folder by --workspace or in"
                " the environment variable DISTMER_HOME."
            ) from error

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def ledger(self) -> Path:
        return self.root / "ledger"

    @property
    def scratch(self) -> Path:
        return self.root / "scratch"

    @property
    def mlflow_uri(self) -> str:
        return f"sqlite:///{self.root / 'mlflow.db'}"

    @property
    def mlflow_artifacts(self) -> Path:
        return self.root / "mlartifacts"

    def comparison_dir(self, digest: str) -> Path:
        """A comparison's folder: its tables, which name the runs they are made of."""
        return self.root / "comparisons" / digest[:12]

    def sweep_dir(self, digest: str) -> Path:
        """A sweep's folder: the same across resumes."""
        return self.root / "sweeps" / digest[:12]

    def run_dir(self, plan_digest: str) -> Path:
        """The run's folder: the same across resumes."""
        return self.root / "runs" / plan_digest[:12]
