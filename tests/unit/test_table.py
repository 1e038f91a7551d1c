"""One table on a terminal, in Markdown, LaTeX and HTML: the same cells, aligned, never taken for markup."""

from __future__ import annotations

import html
import subprocess
import sys

from distmer.report.document import Document, Facts, Lines
from distmer.report.table import Column, Row, Table

ODD = r"a|b_[red]<b>&50%{x}[/]\~^"
TABLE = Table(
    (Column("name"), Column("UAR", right=True)),
    (
        Row((ODD, "0.5"), style="bold"),
        Row(("floor", "0.25"), style="dim", indent=True),
        Row(("other", "0.1234"), section=True),
    ),
    "two of them:",
)


def test_a_terminal_gets_aligned_cells_and_a_rule_between_sections() -> None:
    text = Document("title", (), (TABLE,)).text()
    lines = text.splitlines()
    assert lines[0] == "title" and lines[2] == "two of them:"
    assert f" {ODD}      0.5" in lines and any(line.startswith("   floor") for line in lines)
    assert lines[-2] == "" and lines[-1].split() == ["other", "0.1234"]
    assert len({len(line) for line in lines if line.endswith(("0.5", "0.25", "0.1234"))}) == 1


def test_markdown_keeps_its_columns() -> None:
    title, _, head, rule, first, floor, _ = TABLE.markdown().splitlines()
    assert (title, head, rule) == ("two of them:", "| name | UAR |", "|---|---:|")
    assert r"a\|b" in first and floor == "| &nbsp;&nbsp;floor | 0.25 |"


def test_latex_is_escaped_and_ruled() -> None:
    lines = TABLE.latex().splitlines()
    assert lines[:4] == [r"\begin{tabular}{lr}", r"\toprule", r"name & UAR \\", r"\midrule"]
    odd = r"a|b\_[red]<b>\&50\%\{x\}[/]\textbackslash{}\textasciitilde{}\textasciicircum{}"
    assert lines[4:6] == [rf"{odd} & 0.5 \\", r"\,\,floor & 0.25 \\"]
    assert lines[6:] == [r"\midrule", r"other & 0.1234 \\", r"\bottomrule", r"\end{tabular}"]


def test_a_notebook_shows_the_whole_document_and_escapes_it() -> None:
    parts = (TABLE, Facts((("time", "<u>"),)), Lines((ODD,), "left out"))
    page = Document("<i>", ("NOT A <b>HEADLINE</b>",), parts)._repr_html_()
    assert "<h3>&lt;i&gt;</h3><p><strong>NOT A &lt;b&gt;HEADLINE&lt;/b&gt;</strong></p>" in page
    assert f'<td style="text-align: left">{html.escape(ODD)}</td>' in page
    assert '<td style="text-align: right">0.5</td>' in page
    assert "<caption>two of them:</caption>" in page and "<li>time: &lt;u&gt;</li>" in page
    assert "<i>" not in page and "<b>" not in page and "<u>" not in page


def test_reports_are_made_without_torch() -> None:
    modules = "distmer.report.tables, distmer.report.comparison, distmer.report.sweep, distmer.report.figures"
    heavy = "[name for name in ('torch', 'ray', 'mlflow', 'sklearn') if name in sys.modules]"
    code = f"import sys, {modules}; print({heavy})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"
