"""A table as a value, and how it looks on a terminal, in Markdown, in LaTeX and in HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

import rich.table
from rich import box
from rich.text import Text

_LATEX = {char: f"\\{char}" for char in "_%&#${}"} | {"\u202f": r"\,", "~": r"\textasciitilde{}"}
_LATEX |= {"^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
_CSS = {"": "", "bold": ' style="font-weight: bold"', "dim": ' style="opacity: 0.6"'}


@dataclass(frozen=True, slots=True)
class Column:
    """The head of a column; ``right`` aligns its cells to the right, as numbers are."""

    name: str
    right: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table. ``indent``: it belongs to the row above it; ``section``: a rule is drawn above it.

    ``style`` is shown where there are colours, and in HTML.
    """

    cells: Sequence[str]
    style: Literal["", "bold", "dim"] = ""
    indent: bool = False
    section: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Columns, rows of as many cells, and a sentence that stands above them."""

    columns: Sequence[Column]
    rows: Sequence[Row]
    title: str = ""

    def terminal(self) -> list[Text | rich.table.Table]:
        """What rich prints. Cells are plain text, never rich's markup."""
        table = rich.table.Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for column in self.columns:
            table.add_column(Text(column.name), justify="right" if column.right else "left")
        for row in self.rows:
            if row.section:
                table.add_section()
            table.add_row(*(Text(cell) for cell in _indented(row, "  ")), style=row.style)
        return [Text(self.title), table] if self.title else [table]

    def markdown(self) -> str:
        """A table of GitHub's Markdown."""
        rule = f"|{'|'.join('---:' if column.right else '---' for column in self.columns)}|"
        head = _markdown_line([column.name for column in self.columns])
        rows = [_markdown_line(_indented(row, "&nbsp;&nbsp;")) for row in self.rows]
        return "\n".join([*([self.title, ""] if self.title else []), head, rule, *rows])

    def latex(self) -> str:
        """A ``tabular`` with the rules of the package booktabs, without the title."""
        sides = "".join("r" if column.right else "l" for column in self.columns)
        head = _latex_line([column.name for column in self.columns])
        lines = [rf"\begin{{tabular}}{{{sides}}}", r"\toprule", head, r"\midrule"]
        for row in self.rows:
            lines += [*([r"\midrule"] if row.section else []), _latex_line(_indented(row, "\u202f\u202f"))]
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])

    def html(self) -> str:
        """A ``table`` element; every text is escaped."""
        title = f"<caption>{escape(self.title)}</caption>" if self.title else ""
        head = "".join(f"<th>{escape(column.name)}</th>" for column in self.columns)
        rows = "".join(f"<tr{_CSS[row.style]}>{self._html_cells(row)}</tr>" for row in self.rows)
        return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"

    def _html_cells(self, row: Row) -> str:
        sides = ["right" if column.right else "left" for column in self.columns]
        cells = zip(sides, _indented(row, "\u00a0\u00a0"), strict=True)
        return "".join(f'<td style="text-align: {side}">{escape(cell)}</td>' for side, cell in cells)


def _indented(row: Row, blank: str) -> list[str]:
    first, *rest = row.cells
    return [blank + first if row.indent else first, *rest]


def _markdown_line(cells: Sequence[str]) -> str:
    escaped = [cell.replace("|", r"\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"


def latex_text(text: str) -> str:
    """Plain text as LaTeX and BibTeX take it."""
    return "".join(_LATEX.get(char, char) for char in text)


def _latex_line(cells: Sequence[str]) -> str:
    return " & ".join(map(latex_text, cells)) + r" \\"
