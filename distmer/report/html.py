"""Pages: one HTML file each, from the templates beside this module. It loads nothing from anywhere, and no
script runs in it but its own: the page itself tells the browser so, by the digest of the script."""

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
    """A template filled in. Every value is escaped; only what `svg` drew is taken as it is."""
    return _environment().get_template(template).render(**values)


def document_page(document: Document) -> str:
    """A report as a page of its own."""
    parts = [(type(part).__name__, part) for part in document.parts]
    return render("document.html", title=document.title, warnings=document.warnings, parts=parts)


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    script = (_TEMPLATES / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"
    environment.globals |= {
        "style": Markup((_TEMPLATES / "page.css").read_text(encoding="utf-8")),  # noqa: S704  # files of ours
        "script": Markup(script),  # noqa: S704
        "policy": policy,
        "version": __version__,
    }
    environment.filters["percent"] = lambda value: f"{100 * min(1.0, max(0.0, value)):.2f}"
    environment.filters["drawing"] = Markup  # of `svg`, whose texts matplotlib has escaped
    return environment
