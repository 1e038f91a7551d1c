"""The text of `distmer models`: what each model costs, what the reference paper prints, and the options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import rich.table
from rich.text import Text

from distmer.report.document import as_text
from distmer.report.table import Column, Table
from distmer.report.table import Row as Line
from distmer.types import JsonValue

Row = Mapping[str, JsonValue]  # what `distmer.commands.models.list_models` gives

_COLUMNS = (
    *("model", "variant", "inputs", "px"),
    *("parameters", "Table 3", "MFlops", "Table 3", "MemR+W", "Table 3", "M MACs"),
)
_MEASURED = ("ms", "peak MB")
_NOTES = """\
For one clip and 3 classes; MB are 2^20 bytes; Table 3 is the reference paper's, at 128 px.
MFlops, MemR+W (MB): by torchstat 0.0.7's rules, which the digits of Table 3 follow. They leave out SELU,
sigmoid, softmax, dropout and whatever runs outside a layer (the products of self-attention, sums); of a layer
called twice, one call counts.
M MACs: multiply-adds in millions, by PyTorch's own counter: every convolution and matrix product, nothing
else.
"""
_MEASURED_NOTE = """\
ms, peak MB: measured here, one clip on one CPU thread: the median of nine, and the most tensor bytes alive,
weights included.
"""


def models_text(rows: Sequence[Row]) -> str:
    """The table of costs with its notes, then each model's options with their defaults, and its citation."""
    by_name = {row["name"]: row for row in reversed(rows)}  # of a model's variants the first
    lines: list[str | Text | rich.table.Table] = [*_cost_table(rows)]
    for name in dict.fromkeys(row["name"] for row in rows):
        row = by_name[name]
        options = ", ".join(f"{option}={value}" for option, value in row["options"].items())
        lines += [f"\n{name}: {row['title']}", f"  options: {options}", f"  {row['citation']}"]
    return as_text(lines, 150, colour=False)


def _cost_table(rows: Sequence[Row]) -> list[str | Text | rich.table.Table]:
    """The table and its notes. A classical model has no fixed cost: it depends on the data."""
    measured = any(row.get("measured") for row in rows)
    names = (*_COLUMNS, *(_MEASURED if measured else ()))
    columns = tuple(Column(name, right=index > 2) for index, name in enumerate(names))
    table = Table(columns, tuple(Line(tuple(_cells(row, measured))) for row in rows))
    unfit = [f"{row['name']}, {row['variant']}: {row['note']}" for row in rows if row.get("note")]
    notes = _NOTES + _MEASURED_NOTE if measured else _NOTES
    return [*table.terminal(), *unfit, *notes.splitlines()]


def _cells(row: Row, measured: bool) -> list[str]:
    cost: Mapping[str, Any] = row.get("cost") or {}
    printed: Mapping[str, Any] = row.get("printed") or {}
    times: Mapping[str, Any] = row.get("measured") or {}
    unknown = "not applicable" if row.get("note") else str(row["kind"])
    parameters = unknown if row["parameters"] is None else f"{row['parameters']:,}"
    variant = "" if row["kind"] == "classical" else str(row.get("variant", ""))
    cells = [str(row["name"]), variant, " ".join(row["inputs"]), str(row["size"])]
    cells += [parameters, printed.get("parameters", "")]
    cells += [_scaled(cost.get("flops"), 1e6), printed.get("mflops", "")]
    cells += [_scaled(cost.get("memory_bytes"), 2**20), printed.get("memory_mb", "")]
    cells.append(_scaled(cost.get("macs"), 1e6, 1))
    if measured:
        cells += [_scaled(times.get("milliseconds"), 1, 1), _scaled(times.get("peak_bytes"), 2**20, 1)]
    return cells


def _scaled(value: float | None, unit: float, digits: int = 3) -> str:
    return "" if value is None else f"{value / unit:,.{digits}f}"
