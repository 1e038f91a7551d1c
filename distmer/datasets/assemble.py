"""From rows to a manifest: labels, named exclusions, the include list, repeated clips.

Pure, once the rows are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from distmer.datasets.protocols import AS_IS, Protocol, label_table
from distmer.datasets.sheets import Annotation, natural
from distmer.registry import nearest
from distmer.storage import Place
from distmer.types import BadInput, Clip, ClipFailure, Manifest


@dataclass(frozen=True, slots=True)
class Excluded:
    """A row that is no part of the protocol, and why."""

    clip: str
    reason: str


def read_include(path: Place) -> dict[str, int]:
    """The clip ids of an include file (one a line, # begins a comment): id → line.

    BadInput names file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise BadInput(
            f"{path}: the list of data.include cannot be read ({error.strerror}); name an existing text file."
        ) from error
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{path}: the list of data.include is not UTF-8 text (byte {error.start}); save it as UTF-8."
        ) from error
    ids: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        if len(text.split("/")) != 3 or not all(text.split("/")):
            raise BadInput(
                f"{path} line {number}: {text!r} is not a clip id; write data set/subject/clip,"
                " such as casme2/sub01/EP02_01f."
            )
        if text in ids:
            raise BadInput(f"{path} line {number}: {text} is listed already in line {ids[text]}; remove one.")
        ids[text] = number
    if not ids:
        raise BadInput(f"{path}: the list of data.include is empty; name the clips, one id a line.")
    return ids


def assemble(
    protocol: Protocol,
    rows: Mapping[str, Sequence[Annotation]],
    include: Mapping[str, int] | None = None,
    include_file: str = "",
) -> Manifest:
    """The manifest of a protocol, in the order of sets, subjects and clips whatever the sheets' order.

    Parameters
    ----------
    protocol : Protocol
    rows : mapping
        Data set → its annotations.
    include : mapping, optional
        Clip id → line of the list that names the protocol's clips; None: all clips belong that have a class.
    include_file : str
        The list's name, for messages.

    Raises
    ------
    BadInput
        The list names a data set that the protocol does not have.
    """
    classes = protocol.classes or _found_classes(rows)
    clips: list[Clip] = []
    failures: list[ClipFailure] = []
    excluded: list[ClipFailure] = []
    for dataset, own in rows.items():
        rules = _rules(protocol, classes, dataset, include)
        for row, earlier in _with_earlier(dataset, own):
            verdict = _judge(rules, row, earlier)
            if isinstance(verdict, Clip):
                clips.append(verdict)
            elif isinstance(verdict, Excluded):
                excluded.append(ClipFailure(verdict.clip, verdict.reason))
            else:
                failures.append(verdict)
        excluded += _unmet(protocol, dataset, own)
    failures += _missing(include or {}, include_file, rows)
    counted = [pair for name, part in protocol.sets.items() for pair in ((name, part), *part.parts.items())]
    return Manifest(
        protocol=protocol.name,
        classes=classes,
        clips=tuple(clips),
        failures=tuple(failures),
        excluded=tuple(excluded),
        expected={name: dict(part.expected) for name, part in counted if part.expected},
        expected_subjects={n: p.expected_subjects for n, p in counted if p.expected_subjects is not None},
    )


def clip_id(dataset: str, row: Annotation) -> str:
    """The id of the clip that a row describes, usable or not."""
    return f"{row.dataset or dataset}/{row.subject}/{row.clip}"


@dataclass(frozen=True, slots=True)
class _Rules:
    """What decides over the rows of one data set. ``named``: (subject, clip) → why it is left out."""

    dataset: str
    classes: tuple[str, ...]
    table: Mapping[str, str]
    word: str
    named: Mapping[tuple[str, str], str]
    include: Mapping[str, int] | None


def _rules(
    protocol: Protocol, classes: tuple[str, ...], dataset: str, include: Mapping[str, int] | None
) -> _Rules:
    part = protocol.sets[dataset]
    # Whoever pins the list of clips has settled the named exclusions too.
    named = (
        {(e.subject, e.clip): f"left out by name: {e.source}" for e in part.exclude}
        if include is None
        else {}
    )
    table = label_table(protocol, dataset) or {label: label for label in classes}
    return _Rules(dataset, classes, table, "label" if part.labels == AS_IS else "emotion", named, include)


def _judge(rules: _Rules, row: Annotation, earlier: Annotation | None) -> Clip | ClipFailure | Excluded:
    """What becomes of a row.

    Whether it belongs is asked before whether it can be used: only then is it counted as lost.
    """
    name = clip_id(rules.dataset, row)
    if rules.include is not None and name not in rules.include:
        return Excluded(name, "not in the list of data.include")
    if (row.subject, row.clip) in rules.named:
        return Excluded(name, rules.named[row.subject, row.clip])
    if row.emotion and row.emotion not in rules.table:
        reason = f"its {rules.word} {row.emotion!r} belongs to no class of the protocol"
        if rules.include is None:
            return Excluded(name, reason)
        return ClipFailure(
            name,
            f"{row.where}: {reason}; take it off the list of data.include, or widen the protocol's labels.",
        )
    if earlier is not None:
        if (earlier.source, earlier.emotion, bool(earlier.problem)) == (
            row.source,
            row.emotion,
            bool(row.problem),
        ):
            return Excluded(name, f"repeats {earlier.where} with the same values")
        return ClipFailure(
            name,
            f"{row.where}: the clip stands in {earlier.where} already, with other"
            " values; remove one of the rows.",
        )
    if row.problem or row.source is None:
        return ClipFailure(name, row.problem)
    label = rules.classes.index(rules.table[row.emotion])
    return Clip(
        row.dataset or rules.dataset,
        row.subject,
        row.clip,
        label,
        row.emotion,
        row.source,
        row.where,
        row.note,
    )


def _with_earlier(dataset: str, rows: Sequence[Annotation]) -> Iterator[tuple[Annotation, Annotation | None]]:
    """The rows in natural order of their ids, each with the earlier row of the same clip, if there is one."""
    first: dict[str, Annotation] = {}
    for row in sorted(rows, key=lambda r: natural(clip_id(dataset, r))):
        name = clip_id(dataset, row)
        yield row, first.get(name)
        first.setdefault(name, row)


def _found_classes(rows: Mapping[str, Sequence[Annotation]]) -> tuple[str, ...]:
    return tuple(sorted({row.emotion for own in rows.values() for row in own if row.emotion}, key=natural))


def _unmet(protocol: Protocol, dataset: str, rows: Sequence[Annotation]) -> list[ClipFailure]:
    """The protocol's own exclusions and errata that name no clip of the sheet.

    The sheet is of another edition, or the protocol has a typing error.
    """
    there = {(row.subject, row.clip) for row in rows}
    part = protocol.sets[dataset]
    named = [("exclude", e) for e in part.exclude] + [("errata", e) for e in part.errata]
    return [
        ClipFailure(
            f"{dataset}/{entry.subject}/{entry.clip}",
            f"named under {what} of the protocol, but not in the sheet",
        )
        for what, entry in named
        if (entry.subject, entry.clip) not in there
    ]


def _missing(
    include: Mapping[str, int], file: str, rows: Mapping[str, Sequence[Annotation]]
) -> list[ClipFailure]:
    """The listed clips that no row describes."""
    there = {clip_id(dataset, row) for dataset, own in rows.items() for row in own}
    known = {*rows, *(name.split("/")[0] for name in there)}
    failures: list[ClipFailure] = []
    for name, line in include.items():
        dataset = name.split("/")[0]
        if dataset not in known:
            raise BadInput(
                f"{file} line {line}: {dataset!r} is no data set of the protocol; {nearest(dataset, known)}"
            )
        if name not in there:
            failures.append(
                ClipFailure(
                    name,
                    f"{file} line {line}: no row or folder describes {name}; correct the id, or the data.",
                )
            )
    return failures
