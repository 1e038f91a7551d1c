"""A comparison of runs as text, Markdown, CSV and LaTeX. A row is called better only where a corrected test
says so."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from distmer.experiment.comparison import Comparison, Entry, Pair
from distmer.experiment.hard import always_wrong
from distmer.report.document import Document, Facts, Lines, Part
from distmer.report.table import Column, Row, Table
from distmer.report.tables import headline, interval_text, p_text, percent
from distmer.types import JsonValue

_HARD_SHOWN = 30  # clips in the text; all of them are in the table of the page
_ENOUGH = 6  # subjects; with fewer, there are too few permutations for a p below .05
# Shows the clips that were always wrong; with `--spot` it looks for the frame that has moved most.
LOOK = "distmer data look RUN/config.yaml --spot --set data.include=TABLES/always_wrong.csv"
_SCORES = {"uar": "UAR", "uf1": "UF1"}


def score_frame(comparison: Comparison) -> pd.DataFrame:
    """One row for each entry: scores with intervals and spread, means over folds, floors, size and cost."""
    return pd.DataFrame([_record(entry) for entry in comparison.entries])


def _record(entry: Entry) -> dict[str, JsonValue]:
    r = entry.scored
    record: dict[str, JsonValue] = {"on": entry.on, "row": entry.label, "note": _note(entry)}
    if r is None:
        return record
    for name, of in {**headline(r), **r.metrics}.items():
        lo, hi = of.pooled_ci or (None, None)
        record |= {name: of.pooled, f"{name}_lo": lo, f"{name}_hi": hi}
        record |= {f"{name}_sd_seeds": of.pooled_sd, f"{name}_foldmean": of.foldmean}
        record |= {f"{name}_floor_{floor}": value.pooled for floor, value in of.floors.items()}
        if name in _SCORES:
            record |= {f"{name}_{part}": getattr(own, name) for part, own in (r.per_dataset or {}).items()}
    record |= {"model": r.model, "clips_used": r.clips_used, "clips_expected": r.clips_expected}
    record |= {"selection": r.selection, "seeds": len(r.seeds), "status": r.status}
    record |= {"parameters": r.parameters, "confidence": r.confidence}
    return {**record, "seconds_a_fold": round(r.seconds_a_fold, 3), "run_dir": r.run_dir}


def _note(entry: Entry) -> str:
    """The note of a row: its stamps, then whether it is partial, then its own note."""
    r = entry.results
    stamps = f"NOT A HEADLINE: {', '.join(r.stamps)}" if r and r.stamps else ""
    return "; ".join(filter(None, (stamps, r.status if r and entry.partial else "", entry.note)))


def pair_frame(comparison: Comparison) -> pd.DataFrame:
    """One row for each tested pair: differences A − B with intervals, raw and Holm-corrected p-values, and
    the verdict. Then one row for each pair that could not be tested."""
    rows: list[dict[str, JsonValue]] = [
        {
            "on": pair.on,
            "a": pair.a,
            "b": pair.b,
            "subjects": pair.difference.subjects,
            "clips": pair.difference.clips,
            "clips_in_one_only": pair.difference.unpaired,
            **_tests(pair),
            "verdict": pair.verdict(),
        }
        for pair in comparison.pairs
    ]
    rows += [
        {"on": u.on, "a": u.a, "b": u.b, "verdict": f"not tested: {u.reason}"} for u in comparison.untested
    ]
    return pd.DataFrame(rows)


def _tests(pair: Pair) -> dict[str, float]:
    d = pair.difference
    tests = {
        "uar": (d.uar, d.uar_ci, d.uar_p, pair.uar_holm),
        "uf1": (d.uf1, d.uf1_ci, d.uf1_p, pair.uf1_holm),
    }
    tests |= {name: (one.value, one.ci, one.p, pair.metrics_holm[name]) for name, one in d.metrics.items()}
    columns: dict[str, float] = {}
    for name, (difference, ci, p, holm) in tests.items():
        columns |= {f"{name}_difference": difference, f"{name}_lo": ci.lo, f"{name}_hi": ci.hi}
        columns |= {f"{name}_p": p, f"{name}_p_holm": holm}
    return columns


def subject_frame(comparison: Comparison) -> pd.DataFrame:
    """One row for each subject of each scored entry: its clips, and how many of them were right (the mean
    over seeds)."""
    rows = [
        {"on": entry.on, "row": entry.label, "subject": one.subject, "n": one.n, "correct": one.correct}
        for entry in comparison.entries
        if entry.scored is not None
        for one in entry.scored.per_subject or ()
    ]
    return pd.DataFrame(rows, columns=["on", "row", "subject", "n", "correct"])


def hard_frame(comparison: Comparison) -> pd.DataFrame:
    """One row for each clip that no entry and no seed got right: its class, the answers, and how far the face
    moves, in px, if that is known."""
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


def comparison_report(comparison: Comparison) -> Document:
    """The scores of all rows, the paired tests between them, and what could not be tested."""
    tested = _tested(comparison)
    several = f"{len(tested)} paired permutation tests over subjects, Holm-corrected together:"
    tests = several if len(tested) > 1 else "1 paired permutation test over subjects:"
    notes: list[str] = []
    few = min((pair.difference.subjects for pair in comparison.pairs), default=_ENOUGH)
    if few < _ENOUGH:
        notes = [f"with {few} subjects no test can come below p = {2 / 2**few:.3g}, however clear"]
    if not comparison.pairs and not comparison.untested and len(comparison.entries) > 1:
        scored = sum(entry.predictions is not None for entry in comparison.entries)
        why = "no two rows are of the same data" if scored > 1 else "fewer than two rows have a score"
        notes = [f"nothing is tested: {why}"]
    parts = (
        score_table(score_frame(comparison)),
        _metric_table(comparison),
        Lines(_floor_lines(comparison)),
        pair_table(tested, tests),
        _metric_pair_table(comparison),
        Lines(notes),
        Lines([f"not tested{at(u.on)}: {u.reason}" for u in comparison.untested]),
        *_hard_parts(comparison),
        Facts(_facts(comparison)),
    )
    return Document(f"{comparison.name}: {len(comparison.entries)} rows", parts=parts)


def _tested(comparison: Comparison) -> pd.DataFrame:
    """The tested pairs. If a verdict is on some of the clips only, it says on which."""
    tested = pair_frame(comparison).head(len(comparison.pairs))
    verdicts = ["; ".join(filter(None, (pair.verdict(), pair.on_part))) for pair in comparison.pairs]
    return tested.assign(verdict=verdicts)


def comparison_files(comparison: Comparison) -> dict[str, str]:
    """The files of a comparison, by name. Its page is made from them."""
    whole = {"name": comparison.name, "reference": comparison.reference, "resamples": comparison.resamples}
    whole |= {"digest": comparison.digest}
    return {
        "comparison.md": comparison_report(comparison).markdown(),
        "scores.csv": score_frame(comparison).to_csv(index=False),
        "pairs.csv": pair_frame(comparison).to_csv(index=False),
        "subjects.csv": subject_frame(comparison).to_csv(index=False),
        "always_wrong.csv": hard_frame(comparison).to_csv(index=False),
        "scores.tex": _paper_table(score_frame(comparison)).latex(),
        "comparison.json": json.dumps(whole, indent=1),
    }


def score_table(scores: pd.DataFrame, *, on_page: bool = False) -> Table:
    """The rows of a `score_frame`; ``on_page`` with the highest floor beside each score."""
    columns = [Column("")]
    for name in _SCORES.values():
        columns += [Column(name, right=True), Column("interval", right=on_page)]
        columns += [Column("floor", right=True)] if on_page else []
    columns += [Column("clips"), Column("parameters", right=True), Column("s a fold", right=True)]
    rows: list[Row] = []
    for _, row in scores.iterrows():
        cells = [f"{row['row']}{at(row.get('on'))}"]
        for score in _SCORES:
            spread = _number(row.get(f"{score}_sd_seeds"), " ± {:.3f}")
            cells += [_number(row.get(score), "{:.4f}") + spread, _interval(row, score)]
            floors = [value for name, value in row.items() if str(name).startswith(f"{score}_floor_")]
            highest = max(filter(pd.notna, floors), default=None)
            cells += [_number(highest, "{:.4f}")] if on_page else []
        used, expected = _number(row.get("clips_used"), "{:.0f}"), row.get("clips_expected")
        cells.append(f"{used}/{expected:.0f}" if used else "")
        cells.append(_number(row.get("parameters"), "{:,.0f}"))
        cells.append(_number(row.get("seconds_a_fold"), "{:.1f}"))
        rows.append(Row([*cells, str(note) if pd.notna(note := row.get("note")) else ""]))
    return Table([*columns, Column("note")], rows)


def pair_table(pairs: pd.DataFrame, title: str = "", *, on_page: bool = False) -> Table:
    """The tested rows of a `pair_frame`; ``on_page`` with the numbers of subjects and clips."""
    columns = [Column("A"), Column("B")]
    for name in _SCORES.values():
        columns += [Column(f"{name} A − B", right=True), Column("interval", right=on_page)]
        columns.append(Column("p, Holm", right=True))
    sizes = ("subjects", "clips") if on_page else ()
    columns += [Column(name, right=True) for name in sizes]
    rows: list[Row] = []
    for _, row in pairs.iterrows():
        tests = [cell for score in _SCORES for cell in difference(row, score)]
        counts = [f"{row[name]:.0f}" for name in sizes]
        rows.append(Row([f"{row['a']}{at(row['on'])}", str(row["b"]), *tests, *counts, str(row["verdict"])]))
    return Table([*columns, Column("verdict")], rows, title)


def hard_table(hard: pd.DataFrame, title: str = "", most: int | None = None) -> Table:
    """The clips of a `hard_frame` (or ``most`` of them) as a table, the least motion first."""
    columns = [Column("clip"), Column("class"), Column("answers"), Column("motion, px", right=True)]
    ordered = hard.sort_values(["on", "motion_px", "clip"], na_position="last")
    rows: list[Row] = []
    for _, row in ordered.head(most or len(ordered)).iterrows():
        motion = _number(row["motion_px"], "{:.2f}")
        rows.append(Row((f"{row['clip']}{at(row['on'])}", str(row["class"]), str(row["answers"]), motion)))
    return Table(columns, rows, title)


def difference(row: Any, score: str) -> tuple[str, str, str]:
    """Of a row of a `pair_frame`: the difference, its interval, and the corrected p-value."""
    return f"{row[f'{score}_difference']:+.4f}", _interval(row, score), p_text(row[f"{score}_p_holm"])


def at(on: Any) -> str:
    """On which data a row is, where the comparison is on several."""
    return f" on {on}" if isinstance(on, str) and on else ""


def _number(value: Any, form: str) -> str:
    """A number, formatted; "" if there is none."""
    return form.format(float(value)) if pd.notna(value) else ""


def _interval(row: Any, score: str) -> str:
    lo, hi = row.get(f"{score}_lo"), row.get(f"{score}_hi")
    return interval_text((float(lo), float(hi))) if pd.notna(lo) and pd.notna(hi) else ""


def _metric_table(comparison: Comparison) -> Table:
    """The scores by further metrics: a line for each metric of each row."""
    columns = [Column(""), Column("metric"), Column("score", right=True), Column("interval")]
    rows: list[Row] = []
    for entry in comparison.entries:
        for name, of in (entry.scored.metrics if entry.scored else {}).items():
            spread = "" if of.pooled_sd is None else f" ± {of.pooled_sd:.3f}"
            score, interval = f"{of.pooled:.4f}{spread}", interval_text(of.pooled_ci)
            rows.append(Row((f"{entry.label}{at(entry.on)}", name, score, interval, f"{of.foldmean:.4f}")))
    return Table([*columns, Column("mean over folds", right=True)], rows)


def _metric_pair_table(comparison: Comparison) -> Table:
    """The tests of further metrics: a line for each metric of each pair."""
    rows: list[Row] = []
    for pair in comparison.pairs:
        tests = _tests(pair)
        for name in pair.difference.metrics:
            rows.append(Row((f"{pair.a}{at(pair.on)}", pair.b, name, *difference(tests, name))))
    columns = [Column("A"), Column("B"), Column("metric"), Column("A − B", right=True), Column("interval")]
    return Table([*columns, Column("p, Holm", right=True)], rows, "The same tests by further metrics:")


def _paper_table(scores: pd.DataFrame) -> Table:
    """The scores as a paper prints them: the notes beside the names. Where the intervals are of several
    confidences, each name has its own beside it."""
    levels = [f"{percent(of)[:-1]}\u202f% CI" if pd.notna(of) else "" for of in scores.get("confidence", ())]
    one = len({*levels} - {""}) == 1
    interval = Column(max(levels) if one else "CI")
    columns = (Column("Model"), Column("UAR", right=True), interval, Column("UF1", right=True), interval)
    rows: list[Row] = []
    for row, level in zip(score_table(scores).rows, levels or [""] * len(scores), strict=True):
        label, *values = row.cells[:5]
        note = "; ".join(filter(None, (row.cells[-1], "" if one else level)))
        if not values[0]:
            rows.append(Row((label, "--", "n/a", "--", "n/a")))
        else:
            rows.append(Row((f"{label} ({note})" if note else label, *values)))
    return Table(columns, rows)


def _facts(comparison: Comparison) -> list[tuple[str, str]]:
    """Of which confidence the intervals are, and where MLflow shows the runs."""
    levels = sorted({entry.scored.confidence for entry in comparison.entries if entry.scored})
    said = " and ".join(percent(level) for level in levels)
    if comparison.pairs and levels != [comparison.confidence]:
        said += f", of the differences {percent(comparison.confidence)}"
    facts = [("intervals", f"{said}, bootstrap over subjects" if levels else ""), ("MLflow", comparison.link)]
    return [(name, text) for name, text in facts if text]


def _floor_lines(comparison: Comparison) -> list[str]:
    """The floors of the scores, one line for each data set."""
    lines: dict[str, str] = {}
    for entry in comparison.entries:
        if entry.scored and entry.on not in lines:
            floors = (entry.scored.floors or {}).items()
            values = ", ".join(f"{name} UAR {floor.uar:.4f} UF1 {floor.uf1:.4f}" for name, floor in floors)
            lines[entry.on] = f"floors{at(entry.on)}: {values}"
    return list(lines.values())


def _hard_parts(comparison: Comparison) -> list[Part]:
    """The clips that were always wrong; empty if no clip has enough answers to say so."""
    _, counted = always_wrong(comparison.entries)
    if not counted:
        return []
    of = ", ".join(
        f"{clips} clips, {answers} answers each{at(on)}" for on, (clips, answers) in counted.items()
    )
    hard = hard_frame(comparison)
    if hard.empty:
        return [Lines([f"no clip was always wrong ({of})"])]
    cut = f"; {_HARD_SHOWN} are shown, all are in always_wrong.csv" if len(hard) > _HARD_SHOWN else ""
    title = f"{len(hard)} clips that every row and seed got wrong (of {of}{cut}):"
    has_frames = hard["motion_px"].notna().any()  # published maps have none
    one = "; of several data sets, keep the lines of one" if len(counted) > 1 else ""
    look = [
        f"to see them, and how far each apex is from the frame that has moved most: {LOOK} (RUN: the folder"
        f" of a run on these clips; TABLES: the folder of these tables{one})"
    ]
    return [hard_table(hard, title, _HARD_SHOWN), Lines(look if has_frames else ())]
