"""Runs that declare GPUs on a machine without any: `python harness/scripts/declared.py [--set SETTING=VALUE
…]`.

Folds are scheduled as real ones are, and trained on the CPU openly: what is filed says so. The script lies in
a folder of its own: a script's folder comes first on the import path.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from distmer.cluster.backend import RayBackend
from distmer.commands.run import run_with
from distmer.commands.session import Given, Session
from distmer.experiment.events import Observers
from distmer.experiment.local import attempt
from distmer.process import terminable
from distmer.report.live import LiveProgress
from distmer.training.fold_inputs import Inputs
from distmer.training.runtime import Runtime, SingleProcess
from distmer.types import FoldFailure, FoldJob, FoldResult


def on_the_cpu(job: FoldJob, inputs: Inputs, runtime: Runtime) -> FoldResult | FoldFailure:
    """A body: the fold on the CPU, though its identity names a GPU."""
    return attempt(replace(job, spec={**job.spec, "device": "cpu"}), inputs, SingleProcess())


@dataclass(frozen=True)
class Gated:
    """As `on_the_cpu`, but a fold waits while the file ``gate`` is there.

    First it leaves a file beside it, so that a test knows which folds are under way and cannot end."""

    gate: str

    def __call__(self, job: FoldJob, inputs: Inputs, runtime: Runtime) -> FoldResult | FoldFailure:
        gate = Path(self.gate)
        gate.with_name(f"{job.digest}.begun").touch()
        while gate.exists():
            time.sleep(0.05)
        return on_the_cpu(job, inputs, runtime)


def main(settings: list[str]) -> None:
    body = Gated(os.environ["GATE"]) if "GATE" in os.environ else on_the_cpu
    session = Session.open(Given(None, settings))
    with (
        terminable(),
        Observers([LiveProgress()]) as live,
        closing(RayBackend(session.config.cluster, str(session.workspace.scratch), body)) as backend,
    ):
        print(json.dumps(run_with(session, backend, live).to_json()))


if __name__ == "__main__":
    main([argument for argument in sys.argv[1:] if argument not in {"--set", "--json"}])
