"""The verdict of an audit: ``audit.json`` in the run's folder, which each report of the run shows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from distmer.storage import Place, write
from distmer.types import BadInput, FoldAudit, FoldJob

_FILE = "audit.json"


class LeakFound(BaseModel):
    """A leak, and how many of the audited folds have it."""

    model_config = ConfigDict(frozen=True)
    name: str
    sentence: str
    folds: int


class Audit(BaseModel):
    """The result of an audit. ``digest`` is that of the plan that was audited."""

    model_config = ConfigDict(frozen=True)
    digest: str
    folds: tuple[str, ...]
    leaks: tuple[LeakFound, ...]
    trainings: int
    difference: float
    seconds: float

    @property
    def passed(self) -> bool:
        return not self.leaks

    @property
    def verdict(self) -> str:
        """The seal: ``passed 3 folds``, or the names of the leaks."""
        if self.passed:
            return f"passed {_folds(len(self.folds))}"
        found = ", ".join(f"{leak.name} ({leak.folds} of {len(self.folds)} folds)" for leak in self.leaks)
        return f"failed: {found}"

    @property
    def stamps(self) -> tuple[str, ...]:
        """A run that leaks is stamped."""
        return tuple(f"leak:{leak.name}" for leak in self.leaks)


def gather(digest: str, found: Sequence[FoldAudit], seconds: float) -> Audit:
    """The verdict on the plan of that digest, from the audits of its folds."""
    first = {leak.name: leak.sentence for one in reversed(found) for leak in reversed(one.leaks)}
    counted = {name: sum(any(leak.name == name for leak in one.leaks) for one in found) for name in first}
    return Audit(
        digest=digest,
        folds=tuple(one.fold for one in found),
        leaks=tuple(LeakFound(name=n, sentence=first[n], folds=counted[n]) for n in sorted(first)),
        trainings=sum(one.trainings for one in found),
        difference=max(one.difference for one in found),
        seconds=round(seconds, 3),
    )


def drawn(jobs: Sequence[FoldJob], folds: int, seed: int) -> list[FoldJob]:
    """So many of the jobs, drawn with a seed, in the plan's order, each for one process."""
    rows_N = np.random.default_rng(seed).permutation(len(jobs))[:folds]
    chosen = [jobs[row] for row in sorted(rows_N.tolist())]
    return [replace(job, spec={**job.spec, "workers": 1}) for job in chosen]


def write_audit(run_dir: Place, verdict: Audit) -> None:
    """Keep the verdict in the run's folder."""
    write(run_dir / _FILE, json.dumps(verdict.model_dump(mode="json"), indent=1).encode())


def read_audit(run_dir: Place, digest: str) -> Audit | None:
    """The verdict in a run's folder on the plan of that digest, if any. BadInput for a damaged file."""
    try:
        found = Audit.model_validate_json((run_dir / _FILE).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        why = error.errors()[0]["msg"]
        raise BadInput(f"{run_dir / _FILE} cannot be read ({why}); audit again.") from error
    return found if found.digest == digest else None


def _folds(number: int) -> str:
    return "1 fold" if number == 1 else f"{number} folds"
