"""Tables of a run's scores and of a plan; on a terminal, in a log, as Markdown.

The score table is a function of ``results.json`` alone, so every number in it is the JSON's.
A stamped run is never shown as a headline, and what is missing from a score stands beside it.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from distmer.experiment.plan import Plan
from distmer.experiment.result import RunResult
from distmer.types import JsonValue

Results = Mapping[str, JsonValue]  # what `RunResult.to_json` gives and results.json holds

_FAILURES_SHOWN = 10
_STAMPS = {
    "oracle:setting": "the setting was chosen on the held-out clips",
    "oracle": "the epoch was chosen on the held-out clips",
    "labels-permuted": "labels were shuffled within each subject: this is chance",
    "counts-mismatch": "the clips are not those that the protocol publishes",
    "mixed-devices": "some folds were trained on a GPU and some on a CPU, which are two types of machine",
    "selection-optimistic": "every held-out subject had a say in the choice of the setting",
}
_SELECTIONS = {
    "fixed": "no epoch is chosen by a score",
    "inner": "the epoch by inner folds over training subjects",
    "oracle:per_subject": "the best epoch on each held-out subject's own clips",
    "oracle:global_epoch": "the best epoch on all held-out clips",
    "sweep:nested": "each fold's setting by inner folds over its own training subjects",
    "sweep:flat": "one setting by inner folds over all subjects",
    "sweep:oracle": "the best setting on the held-out clips",
}


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """A line of the table. ``kind``: headline, floor (of the line above), foldmean, dataset."""

    label: str
    uar: float
    uf1: float
    uar_ci: Sequence[float] | None = None
    uf1_ci: Sequence[float] | None = None
    kind: str = "headline"


def score_rows(results: Results) -> list[ScoreRow]:
    """Pooled scores, the mean over folds, each with its own floors, and every data set of several. Empty when nothing was scored."""
    if results.get("uar") is None:
        return []
    rows = [ScoreRow("pooled", results["uar"], results["uf1"], results.get("uar_ci"), results.get("uf1_ci"))]
    floors: Mapping[str, Mapping[str, float]] = results.get("floors") or {}
    rows += [ScoreRow(f"floor, {name}", floor["uar"], floor["uf1"], kind="floor") for name, floor in floors.items()]
    rows.append(ScoreRow("mean over folds", results["uar_foldmean"], results["uf1_foldmean"], kind="foldmean"))
    rows += [ScoreRow(f"floor, {name}", floor["uar_foldmean"], floor["uf1_foldmean"], kind="floor") for name, floor in floors.items()]
    per_dataset: Mapping[str, Mapping[str, float]] = results.get("per_dataset") or {}
    if len(per_dataset) > 1:
        rows += [ScoreRow(f"{name}, {row['n']:.0f} clips", row["uar"], row["uf1"], kind="dataset") for name, row in per_dataset.items()]
    return rows


def banners(results: Results) -> list[str]:
    """What must be read before any number: stamps, and a score that is not of all folds."""
    lines: list[str] = []
    stamps: Sequence[str] = results.get("stamps") or ()
    if stamps:
        lines.append(f"NOT A HEADLINE: {'; '.join(_explained(stamp) for stamp in stamps)}")
    done, total = fold_counts(results)
    if results["status"] == "failed":
        lines.append(f"FAILED: none of the {total} folds finished, so there is no score")
    elif results["status"] == "some-folds":
        lines.append(f"{done} of {total} folds, as asked: the score is of these alone")
    elif done < total:
        lines.append(f"PARTIAL: {done} of {total} folds are in this score")
    return lines


def fold_counts(results: Results) -> tuple[int, int]:
    """Folds finished, and folds of the run: folds × seeds."""
    total = int(results["folds"]) * len(results["seeds"])
    return total - sum("fold" in row for row in results["failed"]), total


def facts(results: Results) -> list[tuple[str, str]]:
    """What a score is a score of, and where it lies."""
    done, total = fold_counts(results)
    undone = Counter(_undone(row) for row in results["failed"] if "fold" in row)
    others = "".join(f", {undone[how]} {how}" for how in ("not reached", "not asked for") if undone[how])
    folds = f"{done} of {total} done, {undone['failed']} failed{others}"
    seeds = ", ".join(str(seed) for seed in results["seeds"])
    if results.get("uar_sd") is not None:
        seeds += f" (means; standard deviation UAR {results['uar_sd']:.4f}, UF1 {results['uf1_sd']:.4f})"
    selection = str(results["selection"])
    place = [("MLflow run", str(results["mlflow_run_id"]))] if results.get("mlflow_run_id") else []
    intervals = [("intervals", f"{results['confidence']:.0%}, bootstrap over subjects")] if results.get("uar_ci") else []
    return [
        *intervals,
        ("clips", f"{results['clips_used']} of {results['clips_expected']} used"),
        ("folds", folds),
        ("seeds", seeds),
        ("selection", f"{selection} ({_SELECTIONS[selection]})" if selection in _SELECTIONS else selection),
        ("time", f"{clock(float(results['seconds']))} on {', '.join(results['devices']) or 'no device'}"),
        ("results", str(results["run_dir"])),
        *place,
    ]


def _undone(row: Mapping[str, str]) -> str:
    """How a fold came not to be done: ``not reached``, ``not asked for``, or ``failed``."""
    before, colon, _ = row["reason"].partition(":")
    return before if colon and before in {"not reached", "not asked for"} else "failed"


def _left_out(results: Results) -> list[Mapping[str, str]]:
    return [row for row in results["failed"] if _undone(row) != "not asked for"]


def failure_lines(results: Results) -> list[str]:
    """The first failures in words, then how many more. Folds that nobody asked for are no failures."""
    rows = _left_out(results)
    shown = [f"{_subject_of(row)}: {row['reason']}" for row in rows[:_FAILURES_SHOWN]]
    more = len(rows) - len(shown)
    return [*shown, f"… and {more} more in results.json"] if more else shown


def result_text(result: RunResult, *, width: int = 100, colour: bool = False) -> str:
    """A run's end as text; ``colour`` for a terminal."""
    return rendered(result.to_json(), width=width, colour=colour)


def rendered(results: Results, *, width: int = 100, colour: bool = False) -> str:
    """What ``results.json`` holds, as text."""
    rows, told, failures = score_rows(results), facts(results), failure_lines(results)
    label = max(len(name) for name, _ in told)
    parts: list[Text | Table] = [Text(_title(results), style="bold")]
    parts += [Text(line, style="bold red" if line.startswith(("NOT", "FAILED")) else "bold yellow") for line in banners(results)]
    parts += [_score_table(rows, stamped=bool(results.get("stamps")))] if rows else [Text()]
    parts += [Text.assemble((f"{name:<{label}}  ", "dim"), value) for name, value in told]
    if failures:
        parts.append(Text(f"\nnot in the score: {len(_left_out(results))}", style="bold yellow"))
        parts += [Text(f"  {line}") for line in failures]
    return as_text(parts, width, colour)


def to_markdown(result: RunResult) -> str:
    """A run's end as Markdown, for its folder and for the note of an MLflow run."""
    results: Results = result.to_json()
    lines = [f"## {_title(results)}", ""]
    lines += [text for line in banners(results) for text in (f"> **{line}**", "")]
    rows = score_rows(results)
    if rows:
        lines += ["| | UAR | interval | UF1 | interval |", "|---|---:|---|---:|---|"]
        lines += [
            f"| {'&nbsp;&nbsp;' if row.kind == 'floor' else ''}{row.label} | {row.uar:.4f} | {_interval(row.uar_ci)}"
            f" | {row.uf1:.4f} | {_interval(row.uf1_ci)} |"
            for row in rows
        ]
        lines.append("")
    lines += [f"- {name}: {value}" for name, value in facts(results)]
    failures = failure_lines(results)
    if failures:
        lines += ["", f"Not in the score: {len(_left_out(results))}", "", *(f"- {line}" for line in failures)]
    return "\n".join(lines) + "\n"


def plan_text(plan: Plan, missing_features: int, done: int, seconds: float, how: str, run_dir: str) -> str:
    """What a run would do. ``seconds``: the estimate of the folds still to train, one after the other; ``how``: as what each is trained."""
    todo = len(plan.jobs) - done
    stamps = [Text(f"NOT A HEADLINE: {'; '.join(_explained(stamp) for stamp in plan.stamps)}", style="bold red")] if plan.stamps else []
    rows = [
        ("clips", f"{len(plan.clips)} of {plan.manifest.clips_expected} usable; features of {missing_features} are still to be extracted"),
        ("folds", f"{len(plan.folds)} × {len(plan.config.seeds)} seeds = {len(plan.jobs)}: {done} in the ledger already, {todo} to train"),
        ("selection", plan.selection),
        ("estimate", f"about {clock(seconds)} one after the other on this machine, without extraction" if todo else "nothing to train"),
        *([("on Ray", how)] if how else []),
        ("results", run_dir),
    ]
    label = max(len(name) for name, _ in rows)
    lines = [Text(f"{name:<{label}}  {value}") for name, value in rows]
    lost = [Text(f"  clip {failure.clip}: {failure.reason}") for failure in plan.failures[:_FAILURES_SHOWN]]
    more = len(plan.failures) - len(lost)
    lost += [Text(f"  … and {more} more: see `distmer data check`")] if more else []
    head = [Text(f"\nnot usable: {len(plan.failures)}")] if lost else []
    return as_text([Text(f"{plan.model.info.name} on {plan.manifest.protocol}"), *stamps, *lines, *head, *lost], 100, colour=False)


def clock(seconds: float) -> str:
    """Seconds in minutes and hours: 0:07, 12:31, 3:05:09."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def _title(results: Results) -> str:
    seeds = f" × {len(results['seeds'])} seeds" if len(results["seeds"]) > 1 else ""
    return f"{results['model']} on {results['dataset']}, {results['folds']} folds{seeds}"


def _explained(stamp: str) -> str:
    words = _STAMPS.get(stamp) or _STAMPS.get(stamp.split(":")[0])
    return f"{stamp} ({words})" if words else stamp


def as_text(parts: Sequence[str | Text | Table], width: int, colour: bool) -> str:
    """Lines and tables one below the other, without trailing blanks."""
    sink = io.StringIO()
    console = Console(file=sink, width=width, color_system="standard" if colour else None, force_terminal=colour)
    for part in parts:
        copied = not isinstance(part, Table)  # a path or a reason is not folded: it is copied
        console.print(Text(part) if isinstance(part, str) else part, soft_wrap=copied)
    return "\n".join(line.rstrip() for line in sink.getvalue().splitlines())


def _score_table(rows: Sequence[ScoreRow], *, stamped: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for name in ("UAR", "UF1"):
        table.add_column(name, justify="right")
        table.add_column("interval" if any(row.uar_ci for row in rows) else "")
    for before, row in zip([None, *rows], rows, strict=False):
        if before is not None and row.kind != "floor" and row.kind != before.kind:
            table.add_section()
        style = {"headline": "" if stamped else "bold", "floor": "dim"}.get(row.kind, "")
        label = f"  {row.label}" if row.kind == "floor" else row.label
        cells = (label, f"{row.uar:.4f}", _interval(row.uar_ci), f"{row.uf1:.4f}", _interval(row.uf1_ci))
        table.add_row(*(Text(cell) for cell in cells), style=style)
    return table


def _interval(ends: Sequence[float] | None) -> str:
    return f"[{ends[0]:.4f}, {ends[1]:.4f}]" if ends else ""


def _subject_of(row: Mapping[str, str]) -> str:
    return f"clip {row['clip']}" if "clip" in row else f"fold {row['fold']}, seed {row['seed']}"
