"""Tables of a run's scores; on a terminal, in a log, as Markdown.

The score table is a function of ``results.json`` alone, so every number in it is the JSON's.
A stamped run is never shown as a headline, and what is missing from a score stands beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from distmer.evaluation.every import FOLD_MEAN, POOLED, MetricRow
from distmer.evaluation.stats import Interval
from distmer.experiment.results_file import ClipLeftOut, Ends, LeftOut, MetricFloor, MetricScores, Results
from distmer.report.document import Document, Facts, Lines
from distmer.report.table import Column, Row, Table

_FAILURES_SHOWN = 10
_STAMPS = {
    "oracle:setting": "the setting was chosen on the held-out clips",
    "oracle": "the epoch was chosen on the held-out clips",
    "labels-permuted": "labels were shuffled within each subject: this is chance",
    "counts-mismatch": "the clips are not those that the protocol publishes",
    "lock-mismatch": "the images or labels are not those of the locked list of clips",
    "same-frames": "clips of different subjects have the same frames, so a subject is in training and test",
    "leak": "an audit found that the result depends on held-out clips",
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


def run_report(results: Results) -> Document:
    """The report of a run, or of a sweep's outer folds: the scores, of which clips and folds, and what is
    missing from them."""
    seeds = f" × {len(results.seeds)} seeds" if len(results.seeds) > 1 else ""
    title = f"{results.model} on {results.dataset}, {results.folds} folds{seeds}"
    # folds that nobody asked for are not failures
    left_out = [row for row in results.failed if _undone(row) != "not asked for"]
    reasons = [f"{what_is_left_out(row)}: {row.reason}" for row in left_out]
    parts = (
        score_table(results),
        metric_table(_further_metrics(results)),
        Facts(_facts(results)),
        Lines(first_of(reasons, " in results.json"), f"not in the score: {len(reasons)}"),
    )
    return Document(title, _warnings(results), parts)


def score_table(results: Results) -> Table:
    """Pooled scores, the mean over folds, each with its own floors, and every data set of several; empty
    where nothing was scored. A stamped score is not emphasised."""
    if results.uar is None:
        return Table((), ())
    r, floors, per_dataset = results, results.floors or {}, results.per_dataset or {}
    rows = [_scores("pooled", r.uar, r.uf1, r.uar_ci, r.uf1_ci, style="" if r.stamps else "bold")]
    rows += [_floor(name, floor.uar, floor.uf1) for name, floor in floors.items()]
    rows.append(_scores("mean over folds", r.uar_foldmean, r.uf1_foldmean, section=True))
    rows += [_floor(name, floor.uar_foldmean, floor.uf1_foldmean) for name, floor in floors.items()]
    if len(per_dataset) > 1:
        of_sets = [_scores(f"{name}, {of.n} clips", of.uar, of.uf1) for name, of in per_dataset.items()]
        rows += [replace(row, section=place == 0) for place, row in enumerate(of_sets)]
    interval = Column("interval" if r.uar_ci else "")
    columns = (Column(""), Column("UAR", right=True), interval, Column("UF1", right=True), interval)
    return Table(columns, rows)


def headline(results: Results) -> dict[str, MetricScores]:
    """``uar`` and ``uf1`` in the form of the further metrics; empty where nothing was scored."""
    if results.uar is None:
        return {}
    found: dict[str, MetricScores] = {}
    for name in ("uar", "uf1"):
        floors = {
            floor: MetricFloor(pooled=getattr(of, name), foldmean=getattr(of, f"{name}_foldmean"))
            for floor, of in (results.floors or {}).items()
        }
        found[name] = MetricScores(
            pooled=getattr(results, name),
            pooled_ci=getattr(results, f"{name}_ci"),
            pooled_sd=getattr(results, f"{name}_sd"),
            foldmean=getattr(results, f"{name}_foldmean"),
            floors=floors,
        )
    return found


def _further_metrics(results: Results) -> list[MetricRow]:
    """The metrics beside UAR and UF1: pooled, then as means over folds."""
    pooled, means = list[MetricRow](), list[MetricRow]()
    for name, of in results.metrics.items():
        interval = Interval(*of.pooled_ci) if of.pooled_ci else None
        floors = {floor: value.pooled for floor, value in of.floors.items()}
        pooled.append(MetricRow(name, POOLED, of.pooled, of.pooled_sd, interval, floors))
        floors = {floor: value.foldmean for floor, value in of.floors.items()}
        means.append(MetricRow(name, FOLD_MEAN, of.foldmean, None, None, floors))
    return [*pooled, *means]


def metric_table(scored: Sequence[MetricRow]) -> Table:
    """A row for each score, with its interval and its floors."""
    rows: list[Row] = []
    for before, row in zip((None, *scored), scored, strict=False):
        spread = "" if row.sd is None else f" ± {row.sd:.4f}"
        ends = None if row.interval is None else (row.interval.lo, row.interval.hi)
        floors = [f"{row.floors[name]:.4f}" if row.floors else "" for name in ("constant", "stratified")]
        cells = (f"{row.metric}, {row.over}", f"{row.value:.4f}{spread}", interval_text(ends, 4), *floors)
        rows.append(Row(cells, section=before is not None and before.over != row.over))
    right = [Column(name, right=True) for name in ("floor, constant", "floor, stratified")]
    return Table((Column(""), Column("score", right=True), Column("interval"), *right), tuple(rows))


def _scores(
    label: str,
    uar: float | None,
    uf1: float | None,
    uar_ci: Ends | None = None,
    uf1_ci: Ends | None = None,
    **how: Any,
) -> Row:
    cells = (label, f"{uar:.4f}", interval_text(uar_ci, 4), f"{uf1:.4f}", interval_text(uf1_ci, 4))
    return Row(cells, **how)


def _floor(name: str, uar: float, uf1: float) -> Row:
    """The floor of the scores in the row above."""
    return _scores(f"floor, {name}", uar, uf1, style="dim", indent=True)


def interval_text(ends: Ends | None, digits: int = 3) -> str:
    """An interval with so many decimal places; "" if there is none."""
    return f"[{ends[0]:.{digits}f}, {ends[1]:.{digits}f}]" if ends else ""


def percent(share: float) -> str:
    """A confidence in words: 95%, 97.5%."""
    return f"{100 * share:.4g}%"


def p_text(p: float) -> str:
    """A p-value. A permutation test never gives 0, so a small one is printed as a bound."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _warnings(results: Results) -> list[str]:
    """What must be read before any number: stamps, and a score that is not of all folds."""
    lines = [not_a_headline(results.stamps)] if results.stamps else []
    done, total = results.fold_counts
    if results.status == "failed":
        lines.append(f"FAILED: none of the {total} folds finished, so there is no score")
    elif results.status == "some-folds":
        lines.append(f"{done} of {total} folds, as asked: the score is of these alone")
    elif done < total:
        lines.append(f"PARTIAL: {done} of {total} folds are in this score")
    return lines


def not_a_headline(stamps: Sequence[str]) -> str:
    words = {stamp: _STAMPS.get(stamp) or _STAMPS.get(stamp.split(":")[0]) for stamp in stamps}
    explained = [f"{stamp} ({why})" if why else stamp for stamp, why in words.items()]
    return f"NOT A HEADLINE: {'; '.join(explained)}"


def _facts(results: Results) -> list[tuple[str, str]]:
    """What a score was computed from, and where it is kept."""
    done, total = results.fold_counts
    undone = Counter(_undone(row) for row in results.failed if not isinstance(row, ClipLeftOut))
    others = "".join(f", {undone[how]} {how}" for how in ("not reached", "not asked for") if undone[how])
    seeds = ", ".join(str(seed) for seed in results.seeds)
    if results.uar_sd is not None:
        seeds += f" (means; standard deviation UAR {results.uar_sd:.4f}, UF1 {results.uf1_sd:.4f})"
    selection = results.selection
    explained = f"{selection} ({_SELECTIONS[selection]})" if selection in _SELECTIONS else selection
    noted = [f"{n} × {kind}" for kind, n in results.notes.items()]
    if noted and results.implausible:
        noted.insert(0, f"{results.implausible} with an implausible pair")
    facts = [
        ("intervals", f"{percent(results.confidence)}, bootstrap over subjects" if results.uar_ci else ""),
        ("clips", f"{results.clips_used} of {results.clips_expected} used"),
        ("noted", "; ".join(noted)),
        ("folds", f"{done} of {total} done, {undone['failed']} failed{others}"),
        ("seeds", seeds),
        ("selection", explained),
        ("audited", results.audited),
        ("time", f"{clock(results.seconds)} on {', '.join(results.devices) or 'no device'}"),
        ("results", results.run_dir),
        ("MLflow run", results.mlflow_run_id),
    ]
    return [(name, text) for name, text in facts if text]


def _undone(row: LeftOut) -> str:
    """Why a fold was not done: ``not reached``, ``not asked for``, or ``failed``."""
    before, colon, _ = row.reason.partition(":")
    return before if colon and before in {"not reached", "not asked for"} else "failed"


def what_is_left_out(row: LeftOut) -> str:
    """A clip or a fold that is not in the score, by name."""
    return f"clip {row.clip}" if isinstance(row, ClipLeftOut) else f"fold {row.fold}, seed {row.seed}"


def first_of(lines: Sequence[str], where: str) -> list[str]:
    """The first lines, then how many more there are and ``where``."""
    more = len(lines) - _FAILURES_SHOWN
    return [*lines[:_FAILURES_SHOWN], *([f"… and {more} more{where}"] if more > 0 else [])]


def clock(seconds: float) -> str:
    """Seconds in minutes and hours: 0:07, 12:31, 3:05:09."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
