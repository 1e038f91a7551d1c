"""A manifest compared with what was published: as values, and as the text of ``distmer data check``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import chain

from distmer.datasets.text import clip_spelling, listing, natural
from distmer.types import ClipFailure, Manifest, SubjectKey

Counts = dict[str, dict[str, dict[str, int]]]
_OF_ONE_CLIP = {
    r"\d+ faces found in .*": "several faces in the onset",
    r"moves by [\d.]+ px on average": "moves too far",
}


def counts(manifest: Manifest) -> Counts:
    """Usable clips: data set → subject → class → number, every class named."""
    table: Counts = {}
    for clip in manifest.clips:
        row = table.setdefault(clip.dataset, {}).setdefault(clip.subject, dict.fromkeys(manifest.classes, 0))
        row[manifest.classes[clip.label]] += 1
    return table


def by_class(manifest: Manifest) -> dict[str, dict[str, int]]:
    """Usable clips: data set → class → number; a set without any is named if something is expected of it."""
    table = counts(manifest)
    rows = {name: table.get(name, {}).values() for name in (*manifest.expected, *table)}
    return {name: {c: sum(row[c] for row in own) for c in manifest.classes} for name, own in rows.items()}


def mismatches(manifest: Manifest) -> list[str]:
    """Each difference from what was published, as a sentence: a count, a clip of the published list, an
    exclusion that no row has. A run is stamped ``counts-mismatch`` when there is any."""
    found = by_class(manifest)
    subjects = counts(manifest)
    lines: list[str] = []
    for dataset, expected in manifest.expected.items():
        wrong = [
            f"{dataset}: {found[dataset][name]} {name} clips, published {number}"
            for name, number in expected.items()
            if found[dataset][name] != number
        ]
        lost = sum(failure.clip.startswith(f"{dataset}/") for failure in manifest.failures)
        lines += wrong
        if lost and not wrong:
            what = f"the counts are the published ones although {lost} of its clips cannot be used"
            lines.append(f"{dataset}: {what}, so others are too many")
    for dataset, number in manifest.expected_subjects.items():
        if (there := len(subjects.get(dataset, {}))) != number:
            lines.append(f"{dataset}: {there} subjects, published {number}")
    against = {dataset: _against_list(manifest, dataset) for dataset in manifest.listed}
    # A copy of exactly the published clips does not need the exclusions that lead to them.
    problems = [line for line in manifest.problems if against.get(line.split(":")[0]) != []]
    return [*lines, *chain.from_iterable(against.values()), *problems]


def _against_list(manifest: Manifest, dataset: str) -> list[str]:
    own = [clip for clip in manifest.clips if clip.dataset == dataset]
    there = {clip_spelling(clip.subject, clip.name): clip.id for clip in own}
    published = {clip_spelling(*name.split("/")[1:]): name for name in manifest.listed[dataset]}
    return [
        f"{dataset}: {what} ({len(clips)}): {listing(clip.removeprefix(f'{dataset}/') for clip in clips)}"
        for what, clips in (
            ("of the published list, not there", [published[key] for key in published.keys() - there.keys()]),
            ("not in the published list", [there[key] for key in there.keys() - published.keys()]),
        )
        if clips
    ]


def subjects_without_clips(manifest: Manifest) -> list[SubjectKey]:
    """The subjects without a usable clip. They have no fold."""
    usable = {clip.subject_key for clip in manifest.clips}
    lost = {SubjectKey.of(failure.clip) for failure in manifest.failures}
    return sorted(key for key in lost - usable if key.subject)


def _classes_of_one_subject(manifest: Manifest) -> list[str]:
    subjects: dict[int, set[SubjectKey]] = {}
    for clip in manifest.clips:
        subjects.setdefault(clip.label, set()).add(clip.subject_key)
    return [f"{manifest.classes[k]}: {min(of)}" for k, of in sorted(subjects.items()) if len(of) == 1]


def check_report(manifest: Manifest) -> str:
    """Counts by data set, class and subject against the published ones, and what was not used, and why."""
    subjects = {clip.subject_key for clip in manifest.clips}
    head = (
        f"Protocol {manifest.protocol}: {len(manifest.clips)} of {manifest.clips_expected} clips can be"
        f" used, {len(subjects)} subjects."
    )
    without = subjects_without_clips(manifest)
    blocks = [[head], _class_table(manifest), _verdict(manifest), _subject_table(manifest)]
    if manifest.changed:
        head = "What differs from the list of clips (the run is stamped lock-mismatch):"
        blocks.insert(3, [head, *(f"  {line}" for line in manifest.changed)])
    if alone := _classes_of_one_subject(manifest):
        head = "Classes of one subject (tested on it, no model has seen the class; is the label misspelt?):"
        blocks.append([head, *(f"  {line}" for line in alone)])
    if manifest.readings:
        blocks.append(["What was read:", *(f"  {line}" for line in manifest.readings)])
    if without:
        head = "Subjects without a usable clip, which make no fold:"
        blocks.append([head, f"  {', '.join(map(str, without))}"])
    if manifest.failures:
        lines = [f"  {f.clip}: {f.reason}" for f in manifest.failures]
        blocks.append([f"Could not be used ({len(lines)}):", *lines])
    if manifest.excluded:
        blocks.append([f"No part of the protocol ({len(manifest.excluded)}):", *_reasons(manifest.excluded)])
    notes = Counter(part for clip in manifest.clips for part in kinds_of_note(clip.note))
    if notes:
        blocks.append(["Done to the clips:", *(f"  {n:4d}  {note}" for note, n in notes.most_common())])
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _verdict(manifest: Manifest) -> list[str]:
    wrong = mismatches(manifest)
    if wrong:
        sets = {line.split(":")[0] for line in wrong}
        return [
            "What differs from the published protocol (the run is stamped counts-mismatch):",
            *(f"  {line}" for line in wrong),
            *(f"  {text}" for dataset, text in manifest.editions.items() if dataset in sets),
        ]
    if not manifest.expected:
        return ["No count is published for this protocol."]
    if manifest.failures:
        return [f"No count is wrong, but {len(manifest.failures)} clips of the protocol are lost."]
    listed = f" The clips of {', '.join(manifest.listed)} are those of the published list."
    return [f"Every published count is met.{listed if manifest.listed else ''}"]


def _class_table(manifest: Manifest) -> list[str]:
    subjects = counts(manifest)
    rows = [("data set", "class", "clips", "published")]
    for dataset, table in by_class(manifest).items():
        expected = manifest.expected.get(dataset, {})
        rows += [(dataset, name, str(n), str(expected.get(name, "-"))) for name, n in table.items()]
        rows.append((dataset, "(all)", str(sum(table.values())), str(sum(expected.values()) or "-")))
        known, published = subjects.get(dataset, {}), manifest.expected_subjects.get(dataset, "-")
        rows.append((dataset, "(subjects)", str(len(known)), str(published)))
    return aligned(rows)


def _subject_table(manifest: Manifest) -> list[str]:
    rows = [("subject", *manifest.classes)]
    for dataset, table in counts(manifest).items():
        for subject in sorted(table, key=natural):
            rows.append((f"{dataset}/{subject}", *(str(n) for n in table[subject].values())))
    return aligned(rows)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of columns as wide as their widest cell. Columns of numbers are aligned to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    right = [all(row[i].isdecimal() or row[i] == "-" for row in rows[1:]) for i in range(len(widths))]
    cells = [
        [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)] for row in rows
    ]
    return ["  ".join(row).rstrip() for row in cells]


def _reasons(excluded: tuple[ClipFailure, ...]) -> list[str]:
    """Reasons by frequency; the clips are named where they are few."""
    groups: dict[str, list[str]] = {}
    for failure in excluded:
        groups.setdefault(failure.reason, []).append(failure.clip)
    lines: list[str] = []
    for reason, clips in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0])):
        named = [clip for clip in clips if clip not in reason]  # the reason of a note names its row already
        names = f" ({', '.join(named)})" if named and len(clips) <= 3 else ""
        lines.append(f"  {len(clips):4d}  {reason}{names}")
    return lines


def kinds_of_note(note: str) -> list[str]:
    """A clip's notes without their details, so that equal kinds can be counted."""
    kinds = [part if part.startswith("erratum") else part.split(",")[0] for part in note.split("; ") if part]
    for pattern, kind in _OF_ONE_CLIP.items():
        kinds = [re.sub(pattern, kind, part) for part in kinds]
    return kinds
