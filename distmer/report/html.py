"""Pages: one HTML file each, from the templates beside this module. A page loads nothing, and forbids its
browser to run any script but its own, which it names by its digest."""

from __future__ import annotations

import base64
import functools
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distmer import __version__

if TYPE_CHECKING:
    from jinja2 import Environment

    from distmer.report.document import Document

_TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, **values: Any) -> str:
    """A template filled in. Every value is escaped, except our own files and drawings."""
    return _environment().get_template(template).render(**values)


def document_page(document: Document) -> str:
    """A report as a page of its own."""
    parts = [(type(part).__name__, part) for part in document.parts]
    return render("document.html", title=document.title, warnings=document.warnings, parts=parts)


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "own": lambda name: Markup(_own(name)),  # noqa: S704  # files of ours
        "policy": _policy,
        "version": __version__,
    }
    environment.filters["jpeg"] = lambda data: f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
    environment.filters["percent"] = lambda value: f"{100 * min(1.0, max(0.0, value)):.2f}"
    environment.filters["drawing"] = Markup  # SVG: of numbers alone, or with texts that matplotlib escaped
    return environment


def _own(name: str) -> str:
    """A style sheet or a script of ours."""
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _policy(script: str) -> str:
    """What a page with this script forbids its browser."""
    digest = base64.b64encode(hashlib.sha256(_own(script).encode()).digest()).decode()
    return f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"
