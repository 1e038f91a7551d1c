"""The page of a comparison: scores side by side, differences with intervals, who wins on which subject, and
what may be said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from distmer.report.comparison import hard_table
from distmer.report.html import render
from distmer.report.kept import KeptComparison
from distmer.report.svg import forest_svg
from distmer.report.table import Column, Row, Table
from distmer.report.tables import interval_text

_SHOWN = 40  # pairs in the drawing; all of them are in the table


@dataclass(frozen=True, slots=True)
class Wins:
    """On how many subjects A has more clips right than B, on how many B has, and on how many neither."""

    a: str
    b: str
    a_wins: int
    b_wins: int
    ties: int


def comparison_page(kept: KeptComparison) -> str:
    """The page of a comparison as HTML."""
    pairs = kept.pairs
    tested = pairs[pairs["uar_difference"].notna()] if "uar_difference" in pairs else pairs.iloc[:0]
    untested = pairs.drop(tested.index)
    return render(
        "comparison.html",
        title=f"Comparison: {kept.name}",
        scores=_score_table(kept.scores),
        stamped=[str(note) for note in kept.scores.get("note", ()) if "NOT A HEADLINE" in str(note)],
        tests=len(tested),
        subjects=len(kept.subjects),
        shown=min(_SHOWN, len(tested)),
        forest=forest_svg(tested.head(_SHOWN)) if len(tested) else "",
        pairs=_pair_table(tested),
        verdicts=[_sentence(row) for _, row in tested.iterrows()],
        untested=[
            f"{row['a']} and {row['b']}{_at(row['on'])}: {row['verdict']}" for _, row in untested.iterrows()
        ],
        wins=_wins(tested, kept.subjects),
        hard=hard_table(kept.hard) if len(kept.hard) else None,
        knows_hard="clip" in kept.hard,
        texts=kept.texts,
    )


def _score_table(scores: pd.DataFrame) -> Table:
    cell = {"uar": "UAR", "uf1": "UF1"}
    columns = [Column("")]
    for score in cell.values():
        columns += [Column(score, right=True), Column("interval", right=True), Column("floor", right=True)]
    columns += [Column("clips"), Column("parameters", right=True), Column("s a fold", right=True)]
    rows: list[Row] = []
    for _, row in scores.iterrows():
        values: list[str] = [f"{row['row']}{_at(row.get('on'))}"]
        for score in cell:
            spread = _number(row.get(f"{score}_sd_seeds"), " ± {:.3f}")
            lo, hi = row.get(f"{score}_lo"), row.get(f"{score}_hi")
            floors = [value for name, value in row.items() if str(name).startswith(f"{score}_floor_")]
            highest = max((float(value) for value in floors if pd.notna(value)), default=None)
            values += [
                _number(row.get(score), "{:.4f}") + spread,
                interval_text((float(lo), float(hi))) if pd.notna(lo) and pd.notna(hi) else "",
                _number(highest, "{:.4f}"),
            ]
        used, expected = row.get("clips_used"), row.get("clips_expected")
        values += [f"{used:.0f}/{expected:.0f}" if pd.notna(used) else ""]
        values += [_number(row.get("parameters"), "{:,.0f}"), _number(row.get("seconds_a_fold"), "{:.1f}")]
        values += [str(note) if pd.notna(note := row.get("note")) else ""]
        rows.append(Row(values))
    return Table([*columns, Column("note")], rows)


def _pair_table(pairs: pd.DataFrame) -> Table:
    columns = [Column("A"), Column("B")]
    for score in ("UAR", "UF1"):
        columns += [
            Column(f"{score} A − B", right=True),
            Column("interval", right=True),
            Column("p, Holm", right=True),
        ]
    columns += [Column("subjects", right=True), Column("clips", right=True), Column("verdict")]
    rows = [
        Row(
            (
                f"{row['a']}{_at(row['on'])}",
                str(row["b"]),
                *_difference(row, "uar"),
                *_difference(row, "uf1"),
                f"{row['subjects']:.0f}",
                f"{row['clips']:.0f}",
                str(row["verdict"]),
            )
        )
        for _, row in pairs.iterrows()
    ]
    return Table(columns, rows)


def _difference(row: Any, score: str) -> tuple[str, str, str]:
    ends = (float(row[f"{score}_lo"]), float(row[f"{score}_hi"]))
    return f"{row[f'{score}_difference']:+.4f}", interval_text(ends), f"{row[f'{score}_p_holm']:.3f}"


def _sentence(row: Any) -> tuple[str, bool]:
    """What a test says in words, and whether it found a difference."""
    uar, uar_ends, uar_p = _difference(row, "uar")
    uf1, uf1_ends, uf1_p = _difference(row, "uf1")
    numbers = f"UAR {uar} {uar_ends}, p = {uar_p}; UF1 {uf1} {uf1_ends}, p = {uf1_p}"
    apart = f", on the {row['clips']:.0f} clips that both predicted" if row["clips_in_one_only"] else ""
    if row["verdict"] == "no difference shown":
        return (
            f"Between {row['a']} and {row['b']}{_at(row['on'])} no difference is shown{apart}: {numbers}.",
            False,
        )
    return f"{row['verdict']}{_at(row['on'])}{apart}. {row['a']} − {row['b']}: {numbers}.", True


def _wins(pairs: pd.DataFrame, subjects: pd.DataFrame) -> list[Wins]:
    """For each tested pair, by the share of each subject's clips that is right."""
    if not len(subjects):
        return []
    whole = subjects.assign(on=subjects["on"].fillna(""), accuracy=subjects["correct"] / subjects["n"])
    shares = {key: rows.set_index("subject")["accuracy"] for key, rows in whole.groupby(["on", "row"])}
    found: list[Wins] = []
    for _, row in pairs.iterrows():
        on = row["on"] if isinstance(row["on"], str) else ""
        a, b = shares.get((on, str(row["a"]))), shares.get((on, str(row["b"])))
        if a is None or b is None:
            continue
        apart = (a - b).dropna()
        won, lost = int((apart > 1e-9).sum()), int((apart < -1e-9).sum())
        found.append(Wins(f"{row['a']}{_at(row['on'])}", str(row["b"]), won, lost, len(apart) - won - lost))
    return found


def _number(value: Any, form: str) -> str:
    return form.format(float(value)) if value is not None and pd.notna(value) else ""


def _at(on: Any) -> str:
    return f" on {on}" if isinstance(on, str) and on else ""
