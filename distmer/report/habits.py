"""The price list of dishonest habits as text, Markdown and CSV. Every line of it carries its stamp."""

from __future__ import annotations

from dataclasses import dataclass

from distmer.habits.prices import Price
from distmer.report.document import Document, Lines
from distmer.report.table import Column, Row, Table
from distmer.report.tables import interval_text, percent
from distmer.storage import csv_text
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
    tables = [_table(found, model) for model in dict.fromkeys(price.model for price in found.prices)]
    lost = [f"{model}, {habit}: {reason}" for model, habit, reason in found.unpriced]
    legend = (
        "gain = reported − honest; the honest score of a line is of the seeds and settings that its habit"
        f" needs; intervals: {percent(found.confidence)}, bootstrap over the subjects, the same ones for"
        " both; a choice of seed is made again in each resample, all others stand"
    )
    title = f"habits on {found.protocol}, {found.clips} clips of {found.subjects} subjects"
    return Document(title, warnings, [*tables, Lines(lost, "Not priced:"), Lines([legend])])


def habits_csv(found: PriceList) -> str:
    """One row for each price, with its stamp."""
    rows: list[tuple[str, ...]] = []
    for one in found.prices:
        values = (one.honest, one.feigned, one.gain, one.interval.lo, one.interval.hi)
        numbers = [f"{value:.6f}" for value in values]
        rows.append((found.protocol, one.model, one.habit, one.score, *numbers, one.stamp))
    head = ("protocol", "model", "habit", "score", "honest", "reported", "gain", "lo", "hi", "stamp")
    return csv_text([head, *rows])


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
    own = {(one.habit, one.score): one for one in found.prices if one.model == model}
    rows = [
        Row([habit, *_cells(own.get((habit, "UF1"))), *_cells(own.get((habit, "UAR")))])
        for habit in dict.fromkeys(habit for habit, _ in own)
    ]
    return Table(columns, rows, f"{model}:")


def _cells(price: Price | None) -> tuple[str, ...]:
    if price is None:
        return ("", "", "", "")
    ends = interval_text((price.interval.lo, price.interval.hi))
    return (f"{price.honest:.4f}", f"{price.feigned:.4f}", f"{price.gain:+.4f}", ends)
