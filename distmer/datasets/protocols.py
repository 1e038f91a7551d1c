"""Protocols: which sets, which emotions make which class, which clips are left out, what was published.

A protocol is one YAML file: built in (``protocols/*.yaml``) or one's own. The tables it draws on are
``labels.yaml`` (emotions to classes), ``errata.yaml`` (corrections) and ``editions.yaml``.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from distmer.config import Section, parse
from distmer.config_base import read_yaml
from distmer.datasets.sheets import Annotation
from distmer.datasets.text import clip_spelling
from distmer.registry import nearest
from distmer.storage import Place, place
from distmer.types import BadInput

AS_IS = "as-is"  # the label table of sets whose labels are classes already
_HERE = Path(__file__).parent


def _quoted(name: Any) -> Any:
    if isinstance(name, int):
        raise ValueError("put quotes around the name, for YAML reads it as a number")
    return name


_Name = Annotated[str, BeforeValidator(_quoted)]
_Cell = Annotated[str, BeforeValidator(lambda cell: str(cell) if type(cell) is int else cell)]


class NamedSubject(Section):
    """A subject of whom no clip belongs, and who says so."""

    subject: _Name
    source: str


class NamedClip(NamedSubject):
    """A clip left out by name, and who says so."""

    clip: _Name


class Erratum(NamedClip):
    """A published correction: the new value of one cell of a clip's row, and who says so.

    ``replaces``: the value that it corrects; a sheet that has another one there is left alone. "onset+1"
    stands for the frame after the row's onset. Empty: any value.
    """

    field: Literal["onset", "apex", "offset", "emotion"]
    value: _Cell
    replaces: _Cell = ""


class PublishedCounts(Section):
    """What was published of a data set: clips by class, subjects, and in ``clips`` the list of its clips, a
    file beside the protocol with one subject/clip a line."""

    expected: dict[str, int] = Field(default_factory=dict)
    expected_subjects: int | None = None
    clips: str | None = None


class ProtocolPart(PublishedCounts):
    """One of the data sets that a folder mixes, told by the spelling of its subjects (a regular
    expression)."""

    subjects: str

    @field_validator("subjects")
    @classmethod
    def _an_expression(cls, subjects: str) -> str:
        try:
            re.compile(subjects)
        except re.error as error:
            raise ValueError(f"subjects is not a regular expression ({error})") from error
        return subjects


class ProtocolSet(PublishedCounts):
    """A data set's part in a protocol.

    ``labels``: a table of labels.yaml, ``as-is``, or class → emotions spelled out. ``by``: what the labels
    name, the emotion or the objective class (of action units). ``parts``: the data sets that its folder
    mixes, by name.
    """

    labels: str | dict[str, tuple[str, ...]]
    parts: dict[str, ProtocolPart] = Field(default_factory=dict)
    by: Literal["emotion", "objective"] = "emotion"
    exclude: tuple[NamedClip, ...] = ()
    exclude_subjects: tuple[NamedSubject, ...] = ()
    errata: tuple[Erratum, ...] = ()

    @field_validator("labels", mode="before")
    @classmethod
    def _one_emotion_or_several(cls, labels: Any) -> Any:
        """``positive: happiness`` is ``positive: [happiness]``."""
        if not isinstance(labels, dict):
            return labels
        return {k: (v,) if isinstance(v, str) else v for k, v in labels.items()}


class Protocol(Section):
    """A protocol as its file states it. ``classes`` are in label order; empty: the labels that are found, in
    natural order."""

    name: str
    title: str = ""
    source: str
    embedded: bool = False  # the data are generated, not looked for
    classes: tuple[str, ...]
    sets: dict[str, ProtocolSet]

    @property
    def published(self) -> dict[str, PublishedCounts]:
        """What was published of each set, and of each of the sets that one folder mixes."""
        return {n: p for name, own in self.sets.items() for n, p in ((name, own), *own.parts.items())}

    @field_validator("sets")
    @classmethod
    def _some_set(cls, sets: dict[str, ProtocolSet]) -> dict[str, ProtocolSet]:
        if not sets:
            raise ValueError("a protocol needs at least one data set")
        return sets

    @model_validator(mode="after")
    def _classes_fit(self) -> Protocol:
        if len(set(self.classes)) != len(self.classes) or len(self.classes) == 1:
            raise ValueError(f"classes must be distinct and at least two, not {list(self.classes)}")
        for name, part in self.sets.items():
            if not self.classes and part.labels != AS_IS:
                raise ValueError(
                    f"classes may be empty only where labels are {AS_IS}, but {name} has a label table"
                )
            of_parts = {label for own in part.parts.values() for label in own.expected}
            named = {*part.expected, *of_parts, *(part.labels if isinstance(part.labels, dict) else ())}
            unknown = sorted(named - set(self.classes)) if self.classes else []
            if unknown:
                raise ValueError(
                    f"{name} names the class {unknown[0]!r}, which is not among {list(self.classes)}"
                )
        return self


def protocol_names() -> list[str]:
    """The built-in protocols."""
    return sorted(path.stem for path in (_HERE / "protocols").glob("*.yaml"))


def load_protocol(
    name: str, known_sets: Mapping[str, Any], own_set: Callable[[str, Place], str] = lambda key, folder: key
) -> Protocol:
    """The protocol of a built-in name or a YAML path. BadInput names the nearest built-in one, or the field
    that is wrong.

    ``own_set``: a key of ``sets`` and the protocol's folder → the data set's name; asked before
    ``known_sets``.
    """
    own = is_own(name)
    if not own and name not in protocol_names():
        hint = nearest(name, protocol_names())
        raise BadInput(
            f"data.protocol: there is no protocol {name!r}; {hint} A protocol of your own is a"
            " path that ends in .yaml."
        )
    path = place(name) if own else _HERE / "protocols" / f"{name}.yaml"
    tree = _mapping(path)
    if isinstance(tree.get("sets"), dict):
        # one by one first: an unknown key is then told the keys of a set
        for dataset, part in tree["sets"].items():
            parse(ProtocolSet, part, str(path), f"sets.{dataset}")
        tree["sets"] = {own_set(str(key), path.parent): part for key, part in tree["sets"].items()}
    protocol = parse(Protocol, {"name": path.stem, **tree}, str(path))
    for dataset, part in protocol.sets.items():
        if dataset not in known_sets:
            raise BadInput(f"{path}: sets.{dataset} is not a data set; {nearest(dataset, known_sets)}")
        for emotion, label in label_table(protocol, dataset).items():
            if label not in protocol.classes:
                raise BadInput(
                    f"{path}: sets.{dataset}.labels makes {emotion!r} the class {label!r},"
                    " which is not in classes; add it."
                )
        if part.labels != AS_IS and not label_table(protocol, dataset):
            raise BadInput(f"{path}: sets.{dataset}.labels is empty; name the emotions of each class.")
    return protocol


def label_table(protocol: Protocol, dataset: str) -> dict[str, str]:
    """Emotion → class for one set of a protocol. An ``as-is`` set maps every class to itself (empty where
    classes are found)."""
    labels = protocol.sets[dataset].labels
    if labels == AS_IS:
        return {name: name for name in protocol.classes}
    if isinstance(labels, str):
        tables = _own("labels").get(dataset, {})
        if labels not in tables:
            where = f"protocol {protocol.name}: sets.{dataset}.labels"
            raise BadInput(
                f"{where}: there is no label table {labels!r} for {dataset};"
                f" {nearest(labels, [*tables, AS_IS])}"
            )
        labels = tables[labels]
    table: dict[str, str] = {}
    for name, emotions in labels.items():
        for emotion in emotions:
            if table.setdefault(emotion.lower(), name) != name:
                raise BadInput(
                    f"protocol {protocol.name}: sets.{dataset}.labels puts {emotion!r} in two"
                    " classes; keep one."
                )
    return table


def errata_of(protocol: Protocol, dataset: str) -> dict[tuple[str, str], tuple[Erratum, ...]]:
    """The corrections of one set by (subject, clip): those of errata.yaml, then the protocol's own."""
    tree = {"entries": _own("errata").get(dataset, [])}
    published = parse(_Published, tree, str(_HERE / "errata.yaml")).entries
    errata: dict[tuple[str, str], tuple[Erratum, ...]] = {}
    for entry in (*published, *protocol.sets[dataset].errata):
        key = (entry.subject, entry.clip)
        errata[key] = (*errata.get(key, ()), entry)
    return errata


def edition_of(dataset: str, rows: Sequence[Annotation]) -> str:
    """Which edition of its sheet a copy is, as a sentence, from ``editions.yaml``; "" where none is known. An
    edition is told by the emotions of some clips."""
    emotions = {f"{row.subject}/{row.clip}": row.emotion for row in rows}
    for edition in _own("editions").get(dataset, []):
        if edition["emotions"].items() <= emotions.items():
            return f"{dataset}: the sheet is of the edition {edition['name']}: {edition['means']}"
    return ""


def is_own(name: str) -> bool:
    """Whether a protocol's name is the path of a file of one's own."""
    return name.endswith((".yaml", ".yml"))


def published_lists(name: str, protocol: Protocol) -> dict[str, frozenset[str]]:
    """The published lists of clips of a protocol called ``name``: data set → clip ids."""
    folder = place(name).parent if is_own(name) else _HERE / "protocols"
    lists: dict[str, frozenset[str]] = {}
    for dataset, part in protocol.published.items():
        if part.clips is not None:
            try:
                lines = (folder / part.clips).read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise BadInput(
                    f"protocol {protocol.name}: the list of {dataset}, {folder / part.clips} cannot be read"
                    f" ({error}); name a text file beside the protocol."
                ) from error
            names = _names_in(folder / part.clips, lines)
            lists[dataset] = frozenset(f"{dataset}/{name}" for name in names)
    return lists


def _names_in(path: Place, lines: Sequence[str]) -> list[str]:
    """The clips of a published list, ``subject/clip`` each. BadInput names a line that is not one, or
    that repeats another in another spelling."""
    found: dict[tuple[int | str, str], tuple[int, str]] = {}
    for number, line in enumerate(lines, start=1):
        if not (name := line.partition("#")[0].strip()):
            continue
        parts = name.split("/")
        if len(parts) != 2 or not all(parts):
            raise BadInput(
                f"{path} line {number}: {name!r} is not a clip of a published list; write subject/clip."
            )
        first, _ = found.setdefault(clip_spelling(*parts), (number, name))
        if first != number:
            raise BadInput(f"{path} line {number}: {name} is listed already in line {first}; remove one.")
    return [name for _, name in found.values()]


class _Published(Section):
    entries: tuple[Erratum, ...]


@functools.cache
def _own(name: str) -> dict[str, Any]:
    """A table of this folder, by data set. Reading it takes a twentieth of a second."""
    return _mapping(_HERE / f"{name}.yaml")


def _mapping(path: Place) -> dict[str, Any]:
    tree = read_yaml(path, "protocol", lambda: "name an existing YAML file in data.protocol.")
    if not isinstance(tree, dict):
        raise BadInput(f"{path}: a protocol is a mapping (classes, sets, …), not a {type(tree).__name__}.")
    return tree
