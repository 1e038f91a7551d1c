"""A comparison of runs as text, Markdown, CSV, LaTeX. "Better" is only said where a corrected test says
so."""

from __future__ import annotations

import json

import pandas as pd

from distmer.experiment.comparison import Comparison, Entry, Pair
from distmer.experiment.hard import always_wrong
from distmer.report.document import Document, Facts, Lines, Part
from distmer.report.table import Column, Row, Table
from distmer.report.tables import interval_text
from distmer.types import JsonValue


def score_frame(comparison: Comparison) -> pd.DataFrame:
    """One row an entry: scores with intervals and spread, fold-means, floors, per data set, size and cost."""
    return pd.DataFrame([_record(entry) for entry in comparison.entries])


def pair_frame(comparison: Comparison) -> pd.DataFrame:
    """One row a tested pair: differences A − B with intervals, raw and Holm-corrected p-values, and what may
    be said."""
    rows = [
        {
            "on": pair.on,
            "a": pair.a,
            "b": pair.b,
            "subjects": pair.difference.subjects,
            "clips": pair.difference.clips,
            "clips_in_one_only": pair.difference.unpaired,
            "uar_difference": pair.difference.uar,
            "uar_lo": pair.difference.uar_ci.lo,
            "uar_hi": pair.difference.uar_ci.hi,
            "uar_p": pair.difference.uar_p,
            "uar_p_holm": pair.uar_holm,
            "uf1_difference": pair.difference.uf1,
            "uf1_lo": pair.difference.uf1_ci.lo,
            "uf1_hi": pair.difference.uf1_ci.hi,
            "uf1_p": pair.difference.uf1_p,
            "uf1_p_holm": pair.uf1_holm,
            **_further_tests(pair),
            "verdict": pair.verdict(),
        }
        for pair in comparison.pairs
    ]
    rows += [
        {"on": u.on, "a": u.a, "b": u.b, "verdict": f"not tested: {u.reason}"} for u in comparison.untested
    ]
    return pd.DataFrame(rows)


def _further_tests(pair: Pair) -> dict[str, float]:
    columns: dict[str, float] = {}
    for name, tested in pair.difference.metrics.items():
        columns |= {
            f"{name}_difference": tested.value,
            f"{name}_lo": tested.ci.lo,
            f"{name}_hi": tested.ci.hi,
        }
        columns |= {f"{name}_p": tested.p, f"{name}_p_holm": pair.metrics_holm[name]}
    return columns


def subject_frame(comparison: Comparison) -> pd.DataFrame:
    """One row a subject of each scored entry: how many clips, and how many of them right, the mean over
    seeds."""
    rows = [
        {"on": entry.on, "row": entry.label, "subject": one.subject, "n": one.n, "correct": one.correct}
        for entry in comparison.entries
        if entry.scored is not None
        for one in entry.scored.per_subject or ()
    ]
    return pd.DataFrame(rows, columns=["on", "row", "subject", "n", "correct"])


def hard_frame(comparison: Comparison) -> pd.DataFrame:
    """One row a clip that no row and no seed of the comparison got right: its class, the answers, and how far
    the face moves, px, where that is known."""
    rows = [
        {
            "on": clip.on,
            "clip": clip.clip,
            "class": clip.truth,
            "answers": ", ".join(f"{name} {times}" for name, times in clip.answers.items()),
            "motion_px": comparison.motion.get((clip.on, clip.clip)),
        }
        for clip in always_wrong(comparison.entries)[0]
    ]
    return pd.DataFrame(rows, columns=["on", "clip", "class", "answers", "motion_px"])


def hard_table(hard: pd.DataFrame, title: str = "", most: int | None = None) -> Table:
    """Those clips (or ``most`` of them) as a table, the least motion first."""
    columns = [Column("clip"), Column("class"), Column("answers"), Column("motion, px", right=True)]
    ordered = hard.sort_values(["on", "motion_px", "clip"], na_position="last")
    rows = [
        Row(
            (
                _on(str(row["clip"]), str(row["on"]) if pd.notna(row["on"]) else ""),
                str(row["class"]),
                str(row["answers"]),
                "" if pd.isna(row["motion_px"]) else f"{float(row['motion_px']):.2f}",
            )
        )
        for _, row in ordered.head(most or len(ordered)).iterrows()
    ]
    return Table(columns, rows, title)


def _hard_parts(comparison: Comparison) -> list[Part]:
    _, counted = always_wrong(comparison.entries)
    if not counted:
        return []
    of = ", ".join(
        f"{clips} clips, {answers} answers each{f' on {on}' if on else ''}"
        for on, (clips, answers) in counted.items()
    )
    hard = hard_frame(comparison)
    if hard.empty:
        return [Lines([f"no clip was always wrong ({of})"])]
    cut = f"; {_HARD_SHOWN} are shown, all are in always_wrong.csv" if len(hard) > _HARD_SHOWN else ""
    title = f"{len(hard)} clips that every row and seed got wrong (of {of}{cut}):"
    return [hard_table(hard, title, _HARD_SHOWN)]


_HARD_SHOWN = 30  # clips in the text; all of them are in the table of the page

# Of fewer subjects there are too few ways to swap two rows: no paired test can come below .05.
_ENOUGH = 6


def comparison_report(comparison: Comparison) -> Document:
    """The scores of all rows, the paired tests between them, and what could not be tested."""
    scores, tests = _metric_table(comparison), _metric_pair_table(comparison.pairs)
    parts: list[Part] = [_score_table(comparison), *([scores] if scores.rows else [])]
    floors = _floor_lines(comparison)
    parts += [Lines(floors)] if floors else []
    parts += [_pair_table(comparison.pairs)] if comparison.pairs else []
    parts += [tests] if tests.rows else []
    few = min((pair.difference.subjects for pair in comparison.pairs), default=_ENOUGH)
    if few < _ENOUGH:
        parts.append(
            Lines([f"with {few} subjects no test can come below p = {2 / 2**few:.3g}, however clear"])
        )
    if not comparison.pairs and not comparison.untested and len(comparison.entries) > 1:
        parts.append(Lines(["nothing is tested: no two rows are of the same data"]))
    untested = [f"not tested{f' on {u.on}' if u.on else ''}: {u.reason}" for u in comparison.untested]
    parts += [Lines(untested)] if untested else []
    parts += _hard_parts(comparison)
    parts += [Facts([("MLflow", comparison.link)])] if comparison.link else []
    return Document(f"{comparison.name}: {len(comparison.entries)} rows", parts=parts)


def comparison_files(comparison: Comparison) -> dict[str, str]:
    """Everything a comparison leaves behind, by file name; its page is made of these."""
    whole = {"name": comparison.name, "reference": comparison.reference, "resamples": comparison.resamples}
    whole |= {"digest": comparison.digest}
    return {
        "comparison.md": comparison_report(comparison).markdown(),
        "scores.csv": score_frame(comparison).to_csv(index=False),
        "pairs.csv": pair_frame(comparison).to_csv(index=False),
        "subjects.csv": subject_frame(comparison).to_csv(index=False),
        "always_wrong.csv": hard_frame(comparison).to_csv(index=False),
        "scores.tex": _paper_table(comparison).latex(),
        "comparison.json": json.dumps(whole, indent=1),
    }


def _record(entry: Entry) -> dict[str, JsonValue]:
    r = entry.scored
    record: dict[str, JsonValue] = {"on": entry.on, "row": entry.label, "note": _note(entry)}
    if r is None:
        return record
    for score, value, ends, spread, mean in (
        ("uar", r.uar, r.uar_ci, r.uar_sd, r.uar_foldmean),
        ("uf1", r.uf1, r.uf1_ci, r.uf1_sd, r.uf1_foldmean),
    ):
        lo, hi = ends or (None, None)
        record |= {score: value, f"{score}_lo": lo, f"{score}_hi": hi, f"{score}_sd_seeds": spread}
        record |= {f"{score}_foldmean": mean}
        record |= {f"{score}_floor_{name}": getattr(floor, score) for name, floor in (r.floors or {}).items()}
        record |= {f"{score}_{name}": getattr(of, score) for name, of in (r.per_dataset or {}).items()}
    for name, of in r.metrics.items():
        lo, hi = of.pooled_ci or (None, None)
        record |= {name: of.pooled, f"{name}_lo": lo, f"{name}_hi": hi, f"{name}_sd_seeds": of.pooled_sd}
        record |= {f"{name}_foldmean": of.foldmean}
        record |= {f"{name}_floor_{floor}": value.pooled for floor, value in of.floors.items()}
    record |= {"model": r.model, "clips_used": r.clips_used, "clips_expected": r.clips_expected}
    record |= {"selection": r.selection, "seeds": len(r.seeds), "status": r.status}
    record |= {"parameters": r.parameters}
    return {**record, "seconds_a_fold": round(r.seconds_a_fold, 3), "run_dir": r.run_dir}


def _score_table(comparison: Comparison) -> Table:
    interval = Column("interval")
    columns = [Column(""), Column("UAR", right=True), interval, Column("UF1", right=True), interval]
    columns += [Column("clips"), Column("parameters", right=True), Column("s a fold", right=True)]
    columns.append(Column("note"))
    return Table(columns, [Row(_cells(entry)) for entry in comparison.entries])


def _metric_table(comparison: Comparison) -> Table:
    """The scores by further metrics: a line for each metric of each row."""
    columns = [Column(""), Column("metric"), Column("score", right=True), Column("interval")]
    rows = [
        Row(
            (
                _on(entry.label, entry.on),
                name,
                _with_spread(of.pooled, of.pooled_sd),
                interval_text(of.pooled_ci),
                f"{of.foldmean:.4f}",
            )
        )
        for entry in comparison.entries
        if entry.scored
        for name, of in entry.scored.metrics.items()
    ]
    return Table([*columns, Column("mean over folds", right=True)], rows)


def _cells(entry: Entry) -> tuple[str, ...]:
    r = entry.scored
    if r is None:
        return (_on(entry.label, entry.on), *[""] * 7, _note(entry))
    return (
        _on(entry.label, entry.on),
        _with_spread(r.uar, r.uar_sd),
        interval_text(r.uar_ci),
        _with_spread(r.uf1, r.uf1_sd),
        interval_text(r.uf1_ci),
        f"{r.clips_used}/{r.clips_expected}",
        "" if r.parameters is None else f"{r.parameters:,}",
        f"{r.seconds_a_fold:.1f}",
        _note(entry),
    )


def _with_spread(score: float | None, sd: float | None) -> str:
    """A score, and its standard deviation over seeds where there are several."""
    return f"{score:.4f}" + (f" ± {sd:.3f}" if sd is not None else "")


def _pair_table(pairs: tuple[Pair, ...]) -> Table:
    columns = [Column("A"), Column("B")]
    for score in ("UAR", "UF1"):
        columns += [Column(f"{score} A − B", right=True), Column("interval"), Column("p, Holm", right=True)]
    rows: list[Row] = []
    for pair in pairs:
        d = pair.difference
        uar = (f"{d.uar:+.4f}", interval_text((d.uar_ci.lo, d.uar_ci.hi)), f"{pair.uar_holm:.3f}")
        uf1 = (f"{d.uf1:+.4f}", interval_text((d.uf1_ci.lo, d.uf1_ci.hi)), f"{pair.uf1_holm:.3f}")
        verdict = "; ".join(filter(None, (pair.verdict(), pair.on_part)))  # on which clips, where not on all
        rows.append(Row((_on(pair.a, pair.on), pair.b, *uar, *uf1, verdict)))
    title = f"{len(pairs)} paired permutation tests over subjects, Holm-corrected together:"
    return Table((*columns, Column("verdict")), rows, title)


def _metric_pair_table(pairs: tuple[Pair, ...]) -> Table:
    """The tests of further metrics: a line for each metric of each pair."""
    rows = [
        Row(
            (
                _on(pair.a, pair.on),
                pair.b,
                name,
                f"{tested.value:+.4f}",
                interval_text((tested.ci.lo, tested.ci.hi)),
                f"{pair.metrics_holm[name]:.3f}",
            )
        )
        for pair in pairs
        for name, tested in pair.difference.metrics.items()
    ]
    columns = [Column("A"), Column("B"), Column("metric"), Column("A − B", right=True), Column("interval")]
    return Table([*columns, Column("p, Holm", right=True)], rows, "The same tests by further metrics:")


def _paper_table(comparison: Comparison) -> Table:
    """The scores as a paper prints them: the notes beside the names."""
    interval = Column("95\u202f% CI")
    columns = (Column("Model"), Column("UAR", right=True), interval, Column("UF1", right=True), interval)
    rows: list[Row] = []
    for entry in comparison.entries:
        label, uar, uar_ci, uf1, uf1_ci, *_, note = _cells(entry)
        if entry.scored is None:
            rows.append(Row((label, "--", "n/a", "--", "n/a")))
        else:
            rows.append(Row((f"{label} ({note})" if note else label, uar, uar_ci, uf1, uf1_ci)))
    return Table(columns, rows)


def _note(entry: Entry) -> str:
    """What must be read with the row: stamps first."""
    r = entry.results
    stamps = f"NOT A HEADLINE: {', '.join(r.stamps)}" if r and r.stamps else ""
    return "; ".join(filter(None, (stamps, r.status if r and entry.partial else "", entry.note)))


def _floor_lines(comparison: Comparison) -> list[str]:
    """The floors under the scores, once a data set."""
    lines: dict[str, str] = {}
    for entry in comparison.entries:
        if entry.scored and entry.on not in lines:
            floors = (entry.scored.floors or {}).items()
            values = ", ".join(f"{name} UAR {floor.uar:.4f} UF1 {floor.uf1:.4f}" for name, floor in floors)
            lines[entry.on] = f"floors{f' on {entry.on}' if entry.on else ''}: {values}"
    return list(lines.values())


def _on(label: str, on: str) -> str:
    return f"{label} on {on}" if on else label
