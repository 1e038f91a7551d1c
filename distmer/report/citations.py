"""What a paper that uses a run should cite, as far as distmer knows: models, data sets, and itself."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from distmer import __version__
from distmer.datasets import datasets
from distmer.datasets.protocols import load_protocol, protocol_names
from distmer.models import models
from distmer.report.table import latex_text


@dataclass(frozen=True, slots=True)
class Citation:
    """``key``: its name in BibTeX; ``what``: the model or data set; ``text``: the reference."""

    key: str
    what: str
    text: str

    def bibtex(self) -> str:
        """A ``@misc`` entry with the reference as a note, because its parts are not known separately."""
        doi = re.search(r"\b10\.\d{4,9}/[^\s,;)]+", self.text)
        year = re.search(r"\b(19|20)\d\d\b(?!\.\d)", self.text)
        fields = [("title", latex_text(self.what)), ("note", latex_text(self.text))]
        fields += [("doi", doi[0].rstrip("."))] if doi else []
        fields += [("year", year[0])] if year else []
        lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields)
        return f"@misc{{{self.key},\n{lines}\n}}"


def citations(model_names: Iterable[str], protocol: str, set_names: Iterable[str]) -> list[Citation]:
    """The references of these models, of the protocol's list of clips, and of the data sets in it.

    The generated parts of the embedded data set have the names of real ones, which were not used.
    """
    found = [
        Citation(f"model-{_key(name)}", info.title, info.citation)
        for name in model_names
        if (info := models().get(name)) is not None
    ]
    known = datasets()
    own = load_protocol(protocol, known) if protocol in protocol_names() else None
    if own is not None and not own.embedded:
        found.append(Citation(f"protocol-{_key(protocol)}", own.title, own.source))
    if own is None or not own.embedded:
        found += [
            Citation(f"data-{_key(name)}", known[name].title, known[name].citation)
            for name in set_names
            if name in known and not known[name].citation.startswith("none")
        ]
    text = f"The distmer maintainers: distmer, version {__version__}. Software, Apache-2.0"
    return [*found, Citation("distmer", "distmer", text)]


def _key(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "-", name)
