"""What an experiment would do and how long it would take, before anything of it is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from distmer.experiment.plan import Plan
from distmer.report.document import Document, Facts, Lines
from distmer.report.table import Column, Row, Table
from distmer.report.tables import clock, first_of, not_a_headline


@dataclass(frozen=True, slots=True)
class PlannedRow:
    """Folds that belong together (a row of a comparison, a share of a curve, a habit): of all seeds, how many
    of them are to be trained, and the seconds that one takes."""

    name: str
    folds: int = 0
    to_train: int = 0
    seconds_a_fold: float = 0.0
    note: str = ""

    @property
    def seconds(self) -> float:
        """Of all folds to train, one after the other."""
        return self.seconds_a_fold * self.to_train


def plan_text(
    plan: Plan,
    missing_features: int,
    by: str,
    done: int,
    takes: str,
    how: str,
    run_dir: str,
    bare: int = 0,
) -> str:
    """What a run would do. ``by``: who extracts the missing features; ``done`` folds are in the ledger,
    ``bare`` of them without the weights that are wanted. ``takes``: how long the folds still to train take;
    ``how``: in which kind of process a fold is trained."""
    jobs, todo = len(plan.jobs), len(plan.jobs) - done + bare
    again = f", {bare} of them again, to the same numbers, for their weights" if bare else ""
    folds = f"{len(plan.folds)} × {len(plan.config.seeds)} seeds = {jobs}"
    usable = f"{len(plan.clips)} of {plan.manifest.clips_expected} usable"
    rows = [
        ("clips", f"{usable}; features of {missing_features} are still to be extracted{by and f', {by}'}"),
        ("folds", f"{folds}: {done} in the ledger already, {todo} to train{again}"),
        ("selection", plan.selection),
        ("estimate", takes),
        ("on Ray", how),
        ("results", run_dir),
    ]
    rows = [(name, text) for name, text in rows if text]
    lost = [f"clip {failure.clip}: {failure.reason}" for failure in plan.failures]
    not_usable = Lines(first_of(lost, ": see `distmer data check`"), f"not usable: {len(lost)}")
    warnings = [not_a_headline(plan.stamps)] if plan.stamps else []
    title = f"{plan.model.info.name} on {plan.manifest.protocol}"
    return Document(title, warnings, (Facts(rows), not_usable)).text()


def rows_text(title: str, rows: Sequence[PlannedRow], unextracted: int, takes: str) -> str:
    """What an experiment of several parts would do. ``unextracted`` clips have no features yet; ``takes``:
    how long the folds still to train take."""
    columns = [Column(""), *(Column(head, right=True) for head in ("folds", "to train", "s a fold", "time"))]
    lines: list[Row] = []
    for row in rows:
        cells = [str(row.folds), str(row.to_train), f"{row.seconds_a_fold:.1f}", clock(row.seconds)]
        lines.append(Row([row.name, *(cells if row.folds else [""] * 4), row.note]))
    facts = [("features", f"of {unextracted} clips are still to be extracted"), ("estimate", takes)]
    return Document(title, parts=(Table([*columns, Column("note")], lines), Facts(facts))).text()


def time_text(seconds: float, folds: int, beside: int) -> str:
    """How long so many folds take that need ``seconds`` one after the other, ``beside`` of them at once."""
    if not folds:
        return "nothing to train"
    single = f"{clock(seconds)} one after the other"
    here = f"{clock(seconds / beside)} with {beside} folds at once, {single}" if beside > 1 else single
    return f"about {here}, on this machine and without extraction"
