"""The page of a comparison: scores, differences with intervals, verdicts, and wins by subject."""

from __future__ import annotations

from typing import Any

import pandas as pd

from distmer.report.comparison import LOOK, at, difference, hard_table, pair_table, score_table
from distmer.report.html import render
from distmer.report.kept import read_frame, read_mapping, read_text
from distmer.report.svg import forest_svg
from distmer.report.table import Column, Row, Table
from distmer.storage import Place

_SHOWN = 40  # pairs in the drawing; all of them are in the table
_COPIED = ("scores.csv", "pairs.csv", "scores.tex")


def comparison_page(folder: Place) -> str:
    """The page of a comparison as HTML, from its tables. BadInput where one of them cannot be read."""
    name = read_mapping(folder / "comparison.json").get("name") or f"comparison {folder.name}"
    files = ("scores.csv", "pairs.csv", "subjects.csv", "always_wrong.csv")
    # a folder of an earlier version has neither subjects.csv nor always_wrong.csv
    scores, pairs, subjects, hard = (read_frame(folder / file) for file in files)
    tested = pairs[pairs["uar_difference"].notna()] if "uar_difference" in pairs else pairs.iloc[:0]
    untested, shown = pairs.drop(tested.index), tested.head(_SHOWN)
    labels = [f"{row['a']} − {row['b']}{at(row['on'])}" for _, row in shown.iterrows()]
    return render(
        "comparison.html",
        title=f"Comparison: {name}",
        scores=score_table(scores, on_page=True),
        stamped=[str(note) for note in scores.get("note", ()) if "NOT A HEADLINE" in str(note)],
        tests=len(tested),
        subjects=len(subjects),
        shown=len(shown),
        forest=forest_svg(shown, labels) if len(tested) else "",
        pairs=pair_table(tested, on_page=True),
        verdicts=[_sentence(row) for _, row in tested.iterrows()],
        untested=[
            f"{row['a']} and {row['b']}{at(row['on'])}: {row['verdict']}" for _, row in untested.iterrows()
        ],
        wins=_wins(tested, subjects),
        hard=hard_table(hard) if len(hard) else None,
        look=LOOK if "clip" in hard and hard["motion_px"].notna().any() else "",
        knows_hard="clip" in hard,
        texts={file: text for file in _COPIED if (text := read_text(folder / file))},
    )


def _sentence(row: Any) -> tuple[str, bool]:
    """What a test says in words, and whether it found a difference."""
    uar, uar_ends, uar_p = difference(row, "uar")
    uf1, uf1_ends, uf1_p = difference(row, "uf1")
    numbers = f"UAR {uar} {uar_ends}, p = {uar_p}; UF1 {uf1} {uf1_ends}, p = {uf1_p}".replace("= <", "< ")
    apart = ""
    if row["clips_in_one_only"]:
        apart = f", on the {row['clips']:.0f} clips that both predicted with every seed"
    if row["verdict"] == "no difference shown":
        return (
            f"Between {row['a']} and {row['b']}{at(row['on'])} no difference is shown{apart}: {numbers}.",
            False,
        )
    return f"{row['verdict']}{at(row['on'])}{apart}. {row['a']} − {row['b']}: {numbers}.", True


def _wins(pairs: pd.DataFrame, subjects: pd.DataFrame) -> Table | None:
    """For each tested pair, on how many subjects a larger share of the clips is right in A, or in B."""
    if not len(subjects):
        return None
    whole = subjects.assign(on=subjects["on"].fillna(""), accuracy=subjects["correct"] / subjects["n"])
    shares = {key: rows.set_index("subject")["accuracy"] for key, rows in whole.groupby(["on", "row"])}
    rows: list[Row] = []
    for _, row in pairs.iterrows():
        on = row["on"] if isinstance(row["on"], str) else ""
        a, b = shares.get((on, str(row["a"]))), shares.get((on, str(row["b"])))
        if a is None or b is None:
            continue
        apart = (a - b).dropna()
        won, lost = int((apart > 1e-9).sum()), int((apart < -1e-9).sum())
        counts = (str(won), str(len(apart) - won - lost), str(lost))
        rows.append(Row((f"{row['a']}{at(row['on'])}", str(row["b"]), *counts)))
    counted = ("A has more right", "equal", "B has more right")
    return Table([Column("A"), Column("B"), *(Column(name, right=True) for name in counted)], rows)
