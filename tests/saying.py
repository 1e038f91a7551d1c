"""The command line in this process: its imports take longer than most cases of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness import command


@dataclass(frozen=True)
class Said(command.Ended):
    """How a command in this process ended, and what it logged."""

    log: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The one sentence that a command which failed ends with, and nothing of Python's."""
        told = [line for line in self.err.splitlines() if line.startswith(("bad input: ", "error: "))]
        assert len(told) == 1, self.err
        assert self.err.rstrip().endswith(told[0])
        assert "Traceback" not in self.err
        return told[0]


Say = Callable[..., Said]


def settings(*chosen: str) -> list[str]:
    """Overrides for a run of a second: a model without epochs, small features, no tracking."""
    every = ["tracking.enabled=false", "model.name=linear", "evaluation.bootstrap=100"]
    if "data.protocol=flowmaps" not in chosen:
        every += ["features.size=32", "features.flow=farneback"]
    return overrides(*every, *chosen)


def overrides(*settings: str) -> list[str]:
    """``--set`` for each setting; of two for the same one the later."""
    last = {setting.partition("=")[0]: setting for setting in settings}
    return [part for setting in last.values() for part in ("--set", setting)]


def run(say: Say, *chosen: str) -> Said:
    return say("run", "--local", "--json", *settings(*chosen))


def on_maps(root: Path) -> list[str]:
    return ["data.protocol=flowmaps", f"data.root={root}", "inputs.normalise=minmax"]


def home(tmp_path: Path) -> Path:
    return tmp_path / "home"
