"""A hook of MkDocs: pages of the site that are not in ``docs/``.

The README is the home page. Their links are written for a reader of the repository. Here they become links
between pages; what leads nowhere is left as it is, and the strict build names it.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "mlflow/README.md": "tracking-server.md",
}
_RELATIVE_LINK = re.compile(r"(?<=\]\()([^)\s#:]+)")
_LOADED_FROM_ELSEWHERE = re.compile(
    r"<(?:script|link(?! rel=\"canonical\")|img|iframe)\b[^>]*\b(?:src|href)=\"(?:https?:)?//[^\"]*"
)


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages."""
    for source, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turns the links of a page."""
    sources = {uri: source for source, uri in OUTSIDE.items()}
    folder = posixpath.dirname(sources.get(page.file.src_uri, f"docs/{page.file.src_uri}"))

    def turned(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link[1]))
        return OUTSIDE.get(target, target.removeprefix("docs/"))

    return _RELATIVE_LINK.sub(turned, markdown)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Refuses a page that loads something from another host."""
    if found := _LOADED_FROM_ELSEWHERE.search(output):
        raise PluginError(f"{page.file.src_uri} loads from another host: {found[0]}")
    return output
