"""The one folder under which everything is written, and what was given a place apart from it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from distmer.storage import Place, RemotePath, place, write
from distmer.types import BadInput, RunError

_DIGITS = re.compile(r"[0-9a-f]{12}")  # the folder of a run, or of another result


@dataclass(frozen=True, slots=True)
class Workspace:
    """``--workspace``, else ``DISTMER_HOME``, else ``~/distmer``: data, features, ledger, runs, scratch,
    tracking. A path or an address.

    ``elsewhere`` are the places of the section ``storage`` of the configuration, by name.
    """

    root: Place
    elsewhere: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def find(cls, option: str | None, environ: Mapping[str, str]) -> Workspace:
        return cls(place(option or environ.get("DISTMER_HOME") or "~/distmer").absolute())

    def require(self) -> None:
        """BadInput if one of the places cannot be written: better now than after an hour of extraction."""
        other = "name another folder by --workspace or in the environment variable DISTMER_HOME"
        _require(self.root, "the workspace", f"fix that, or {other}")
        for name, where in self.elsewhere.items():
            _require(place(where), f"storage.{name}", "fix that, or name another place there")

    @property
    def data(self) -> Place:
        return self._place("data")

    @property
    def features(self) -> Place:
        return self._place("features")

    @property
    def ledger(self) -> Place:
        return self._place("ledger")

    @property
    def scratch(self) -> Place:
        return self._place("scratch")

    @property
    def runs(self) -> Place:
        return self._place("runs")

    @property
    def sweeps(self) -> Place:
        return self._place("sweeps")

    @property
    def models(self) -> Place:
        return self.root / "models"

    @property
    def comparisons(self) -> Place:
        return self.root / "comparisons"

    @property
    def curves(self) -> Place:
        return self.root / "curves"

    @property
    def mlflow_uri(self) -> str:
        """The workspace's own data base; BadInput where it can have none."""
        if isinstance(self.root, RemotePath):
            raise BadInput(
                f"{self.root}: MLflow's SQLite cannot live on an object store; name a server in"
                " tracking.uri or MLFLOW_TRACKING_URI, or set"
                " tracking.enabled=false."
            )
        return f"sqlite:///{self.root / 'mlflow.db'}"

    def named(self, name: str) -> Place:
        """The folder that a user names: by its path or address, or by the 12 digits of a run, a sweep, a
        comparison, a learning curve or a kept model in this workspace. BadInput where nothing has these
        digits."""
        path = place(name)
        if not _DIGITS.fullmatch(name) or path.exists():
            return path
        for kind in (self.runs, self.sweeps, self.comparisons, self.curves, self.models):
            if (kind / name).is_dir():
                return kind / name
        raise BadInput(
            f"{name}: nothing in the workspace {self.root} has these digits; give the path of its folder"
            " (also if storage.runs has put it elsewhere), or name its workspace in the environment variable"
            " DISTMER_HOME."
        )

    def comparison_dir(self, digest: str) -> Place:
        """A comparison's folder: its tables, which name the runs they are made of."""
        return self.comparisons / digest[:12]

    def habits_dir(self, digest: str) -> Place:
        """The folder of a price list of dishonest habits, apart from all runs."""
        return self.root / "habits" / digest[:12]

    def curve_dir(self, digest: str) -> Place:
        """A learning curve's folder: the same across resumes."""
        return self.curves / digest[:12]

    def sweep_dir(self, digest: str) -> Place:
        """A sweep's folder: the same across resumes."""
        return self.sweeps / digest[:12]

    def run_dir(self, plan_digest: str) -> Place:
        """The run's folder: the same across resumes."""
        return self.runs / plan_digest[:12]

    def _place(self, name: str) -> Place:
        return place(self.elsewhere[name]).absolute() if name in self.elsewhere else self.root / name


def _require(where: Place, what: str, remedy: str) -> None:
    try:
        if isinstance(where, Path):
            where.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=where):
                pass
        else:  # by a write: a refused look gives no reason, and not every user who may write may delete
            write(where / ".writable", b"")
    except OSError as error:
        raise BadInput(f"{where}: {what} cannot be written ({error.strerror}); {remedy}.") from error
    except RunError as error:
        raise BadInput(f"{what} cannot be written: {error}") from error
