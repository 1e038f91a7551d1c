"""A report as a value: its content is written once, for the terminal, for Markdown and for a notebook."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import rich.table
from rich.console import Console
from rich.text import Text

from distmer.report.table import Table


@dataclass(frozen=True, slots=True)
class Facts:
    """Names, each with a value."""

    rows: Sequence[tuple[str, str]]

    def terminal(self) -> list[Text]:
        width = max(len(name) for name, _ in self.rows)
        return [Text.assemble((f"{name:<{width}}  ", "dim"), value) for name, value in self.rows]

    def markdown(self) -> str:
        return "\n".join(f"- {name}: {value}" for name, value in self.rows)

    def html(self) -> str:
        items = "".join(f"<li>{escape(name)}: {escape(value)}</li>" for name, value in self.rows)
        return f"<ul>{items}</ul>"


@dataclass(frozen=True, slots=True)
class Lines:
    """Sentences, one a line, below the line ``title``."""

    lines: Sequence[str]
    title: str = ""

    def terminal(self) -> list[Text]:
        if not self.title:
            return [Text(line) for line in self.lines]
        return [Text(self.title, style="bold yellow"), *(Text(f"  {line}") for line in self.lines)]

    def markdown(self) -> str:
        return "\n".join([*([self.title, ""] if self.title else []), *(f"- {line}" for line in self.lines)])

    def html(self) -> str:
        items = "".join(f"<li>{escape(line)}</li>" for line in self.lines)
        return f"<p>{escape(self.title)}</p><ul>{items}</ul>"


Part = Table | Facts | Lines


@dataclass(frozen=True, slots=True)
class Document:
    """A title, warnings (what must be read before any number), then tables, facts and lines.

    Empty parts are left out. A notebook shows a document as HTML.
    """

    title: str
    warnings: Sequence[str] = ()
    parts: Sequence[Part] = ()

    def __post_init__(self) -> None:
        held = [part for part in self.parts if (part.lines if isinstance(part, Lines) else part.rows)]
        object.__setattr__(self, "parts", tuple(held))

    def text(self, *, width: int = 100, colour: bool = False) -> str:
        """For a terminal or a log; only tables are folded to ``width`` characters."""
        head = [Text(self.title, style="bold")]
        for line in self.warnings:
            head.append(Text(line, style="bold red" if line.startswith(("NOT", "FAILED")) else "bold yellow"))
        blocks = [head, *(part.terminal() for part in self.parts)]
        return "\n\n".join(as_text(block, width, colour).strip("\n") for block in blocks)

    def markdown(self) -> str:
        """For a file, and for the note of an MLflow run."""
        warnings = [f"> **{line}**" for line in self.warnings]
        return "\n\n".join([f"## {self.title}", *warnings, *(part.markdown() for part in self.parts)]) + "\n"

    def _repr_html_(self) -> str:
        warnings = "".join(f"<p><strong>{escape(line)}</strong></p>" for line in self.warnings)
        return f"<h3>{escape(self.title)}</h3>{warnings}{''.join(part.html() for part in self.parts)}"


def as_text(lines: Sequence[str | Text | rich.table.Table], width: int, colour: bool) -> str:
    """Lines and tables as rich prints them, without blanks at the ends of lines."""
    sink = io.StringIO()
    colours = "standard" if colour else None
    console = Console(file=sink, width=width, color_system=colours, force_terminal=colour)
    for line in lines:
        copied = not isinstance(line, rich.table.Table)  # a path or a reason is not folded: it is copied
        console.print(Text(line) if isinstance(line, str) else line, soft_wrap=copied)
    return "\n".join(line.rstrip() for line in sink.getvalue().splitlines())
