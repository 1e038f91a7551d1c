"""The price list of dishonest habits as text, Markdown and CSV. Every line of it carries its stamp."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from distmer.habits.prices import Price
from distmer.report.document import Document, Lines, Part
from distmer.report.table import Column, Row, Table
from distmer.report.tables import interval_text
from distmer.types import JsonValue


@dataclass(frozen=True, slots=True)
class PriceList:
    """The prices of one data set; ``unpriced``: (model, habit, reason). ``digest``: of what was trained."""

    protocol: str
    clips: int
    subjects: int
    confidence: float
    prices: tuple[Price, ...]
    unpriced: tuple[tuple[str, str, str], ...]
    digest: str


def habits_report(found: PriceList) -> Document:
    """A table a model: what each habit reports, and by how much it is above the honest score."""
    warnings = [
        'NOT A HEADLINE, in any line: each "reported" is what a dishonest habit makes of the honest score'
    ]
    parts: list[Part] = [_table(found, model) for model in dict.fromkeys(p.model for p in found.prices)]
    lost = [f"{model}, {habit}: {reason}" for model, habit, reason in found.unpriced]
    parts += [Lines(lost, "Not priced:")] if lost else []
    parts.append(
        Lines(
            [
                f"gain = reported − honest; intervals: {found.confidence:.0%}, bootstrap over the subjects,"
                " the same ones for both; a choice of seed is made again in each resample, all others stand"
            ]
        )
    )
    title = f"habits on {found.protocol}, {found.clips} clips of {found.subjects} subjects"
    return Document(title, warnings, parts)


def habits_csv(found: PriceList) -> str:
    """One row a price, with its stamp."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("protocol", "model", "habit", "score", "honest", "reported", "gain", "lo", "hi", "stamp"))
    for one in found.prices:
        values = (one.honest, one.feigned, one.gain, one.interval.lo, one.interval.hi)
        numbers = [f"{value:.6f}" for value in values]
        table.writerow((found.protocol, one.model, one.habit, one.score, *numbers, one.stamp))
    return text.getvalue()


def habits_json(found: PriceList) -> JsonValue:
    """What `--json` prints."""
    return {
        "protocol": found.protocol,
        "prices": [
            {
                "model": one.model,
                "habit": one.habit,
                "score": one.score,
                "honest": one.honest,
                "reported": one.feigned,
                "gain": one.gain,
                "gain_ci": [one.interval.lo, one.interval.hi],
                "stamps": [one.stamp],
            }
            for one in found.prices
        ],
        "unpriced": [list(line) for line in found.unpriced],
    }


def _table(found: PriceList, model: str) -> Table:
    columns = [Column("habit")]
    for score in ("UF1", "UAR"):
        columns += [Column(score, right=True), Column("reported", right=True)]
        columns += [Column("gain", right=True), Column("interval")]
    own = [one for one in found.prices if one.model == model]
    rows = [
        Row([habit, *(cell for score in ("UF1", "UAR") for cell in _cells(own, habit, score))])
        for habit in dict.fromkeys(one.habit for one in own)
    ]
    return Table(columns, rows, f"{model}:")


def _cells(prices: Sequence[Price], habit: str, score: str) -> tuple[str, ...]:
    for one in prices:
        if (one.habit, one.score) == (habit, score):
            ends = interval_text((one.interval.lo, one.interval.hi))
            return (f"{one.honest:.4f}", f"{one.feigned:.4f}", f"{one.gain:+.4f}", ends)
    return ("", "", "", "")
