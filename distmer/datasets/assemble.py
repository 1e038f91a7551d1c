"""From rows to a manifest: labels, named exclusions, the include list, repeated clips.

No file is read here.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from distmer.datasets.protocols import AS_IS, Protocol, label_table
from distmer.datasets.sheets import Annotation
from distmer.datasets.text import natural, plain_number, spelling
from distmer.types import BadInput, Clip, ClipFailure, Manifest


class Excluded(ClipFailure):
    """A row that does not belong to the protocol, and why."""

    __slots__ = ()


def assemble(
    protocol: Protocol,
    rows: Mapping[str, Sequence[Annotation]],
    include: Collection[str] | None = None,
) -> Manifest:
    """The manifest of a protocol, in the order of sets, subjects and clips, whatever the order of the sheets.

    ``rows``: data set → its annotations. ``include``: the ids of the protocol's clips; None: all clips belong
    that have a class.
    """
    found = {row.emotion for own in rows.values() for row in own if row.emotion}
    classes = protocol.classes or tuple(sorted(found, key=natural))
    verdicts: list[Clip | ClipFailure | Excluded] = []
    problems: list[str] = []
    for dataset, own in rows.items():
        judge = _judge_of(protocol, classes, dataset, include)
        by = protocol.sets[dataset].by
        labelled = [_labelled_by(by, row) for row in own]
        verdicts += [judge(row, earlier) for row, earlier in _with_earlier(dataset, labelled)]
        problems += _unmet(protocol, dataset, own, include is None)
    counted = protocol.published.items()
    return Manifest(
        protocol=protocol.name,
        classes=classes,
        clips=tuple(verdict for verdict in verdicts if isinstance(verdict, Clip)),
        failures=tuple(verdict for verdict in verdicts if type(verdict) is ClipFailure),
        excluded=tuple(verdict for verdict in verdicts if isinstance(verdict, Excluded)),
        expected={name: dict(part.expected) for name, part in counted if part.expected},
        expected_subjects={n: p.expected_subjects for n, p in counted if p.expected_subjects is not None},
        problems=tuple(problems),
    )


def refuse_one_subject_as_two(dataset: str, rows: Sequence[Annotation]) -> None:
    """BadInput where two subjects of a data set differ only in zeros, blanks or case: one person would be in
    training and in test."""
    first: dict[tuple[str, str], Annotation] = {}
    for row in (row for row in rows if row.subject):
        other = first.setdefault((row.dataset or dataset, spelling(row.subject)), row)
        if other.subject != row.subject:
            raise BadInput(
                f"{row.where}: the subject {row.subject!r} and {other.subject!r} of {other.where} look like"
                " one person, who would stand in training and in test; write one of them everywhere, or set"
                " data.subjects to as-written if they are two."
            )


def clip_id(dataset: str, row: Annotation) -> str:
    """The id of the clip that a row describes, usable or not."""
    return f"{row.dataset or dataset}/{row.subject}/{row.clip}"


def _judge_of(
    protocol: Protocol, classes: tuple[str, ...], dataset: str, include: Collection[str] | None
) -> Callable[[Annotation, Annotation | None], Clip | ClipFailure | Excluded]:
    """A function of a row and of the earlier row that it repeats, if any. It says what becomes of the row."""
    part = protocol.sets[dataset]
    table = label_table(protocol, dataset) or {label: label for label in classes}
    word = "label" if part.labels == AS_IS else {"objective": "objective class"}.get(part.by, part.by)
    left_out = {e.subject: f"a subject left out by name: {e.source}" for e in part.exclude_subjects}
    left_out |= {f"{e.subject}/{e.clip}": f"left out by name: {e.source}" for e in part.exclude}
    if include is not None:  # a pinned list of clips settles the named exclusions too
        left_out = {}

    def judge(row: Annotation, earlier: Annotation | None) -> Clip | ClipFailure | Excluded:
        # First ask whether the clip belongs to the protocol: only a clip that belongs counts as lost.
        name = clip_id(dataset, row)
        if row.aside:
            return Excluded(row.where if not row.clip else name, row.aside)
        if include is not None and name not in include:
            return Excluded(name, "not in the list of data.include")
        if why := left_out.get(f"{row.subject}/{row.clip}") or left_out.get(row.subject):
            return Excluded(name, why)
        if row.emotion and row.emotion not in table:
            reason = f"its {word} {row.emotion!r} belongs to no class of the protocol"
            remedy = "take it off the list of data.include, or widen the protocol's labels"
            if include is None:
                return Excluded(name, reason)
            return ClipFailure(name, f"{row.where}: {reason}; {remedy}.")
        if earlier is not None:
            return _repeated(name, row, earlier)
        if row.problem or row.source is None:
            return ClipFailure(name, row.problem)
        label = classes.index(table[row.emotion])
        names = row.dataset or dataset, row.subject, row.clip
        return Clip(*names, label, row.emotion, row.source, row.where, row.note)

    return judge


def _repeated(name: str, row: Annotation, earlier: Annotation) -> ClipFailure | Excluded:
    one, other = ((r.source, r.emotion, bool(r.problem)) for r in (earlier, row))
    if one == other:
        return Excluded(name, f"repeats {earlier.where} with the same values")
    reason = f"the clip stands in {earlier.where} already, with other values; remove one of the rows."
    return ClipFailure(name, f"{row.where}: {reason}")


def _labelled_by(by: str, row: Annotation) -> Annotation:
    """The row, with the cell that the protocol's labels name (``by``) as its emotion."""
    if by == "emotion" or row.aside:
        return row
    value = plain_number(row.extra.get(by, ""))
    lacking = f"{row.where}: its {by} class is not given; add the column or the sheet of {by} classes."
    return replace(row, emotion=value, problem=row.problem or ("" if value else lacking))


def _with_earlier(dataset: str, rows: Sequence[Annotation]) -> Iterator[tuple[Annotation, Annotation | None]]:
    """The rows in natural order of their ids, each with the earlier row of the same clip, if there is one."""
    first: dict[str, Annotation] = {}
    for row in sorted(rows, key=lambda r: natural(clip_id(dataset, r))):
        name = clip_id(dataset, row)
        yield row, first.get(name)
        if not row.aside:
            first.setdefault(name, row)


def _unmet(protocol: Protocol, dataset: str, rows: Sequence[Annotation], excludes: bool) -> list[str]:
    """The protocol's own exclusions and errata that no row has: a typing error, or a sheet of another
    edition."""
    clips = {f"{row.subject}/{row.clip}" for row in rows if not row.aside}
    subjects = {row.subject for row in rows}
    part = protocol.sets[dataset]
    exclude, exclude_subjects = (part.exclude, part.exclude_subjects) if excludes else ((), ())
    named = [
        *(("exclude", f"{entry.subject}/{entry.clip}", clips) for entry in exclude),
        *(("errata", f"{entry.subject}/{entry.clip}", clips) for entry in part.errata),
        *(("exclude_subjects", entry.subject, subjects) for entry in exclude_subjects),
    ]
    return [
        f"{dataset}: {what} of the protocol {protocol.name} names {dataset}/{name}, which no row of the data"
        f" has{_hint(dataset, name, known)}; correct the protocol, or pin the clips with data.include"
        for what, name, known in named
        if name not in known
    ]


def _hint(dataset: str, name: str, known: set[str]) -> str:
    # Most names of clips are alike, so only one that differs in a character is a hint.
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.9 if "/" in name else 0.75)
    return f" (did you mean {dataset}/{close[0]}?)" if close else ""
