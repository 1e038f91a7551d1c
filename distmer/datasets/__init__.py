"""Data sets: official layouts read into one manifest of clips. `load_manifest` is the entry; each module with
a ``DATASET`` is a data set. An import of this package reads and writes nothing."""

from __future__ import annotations

import sys
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import chain

from distmer.config import DataConfig, SyntheticConfig
from distmer.datasets.assemble import assemble, refuse_one_subject_as_two
from distmer.datasets.base import DatasetInfo, ReadOptions
from distmer.datasets.check import Counts, check_report, counts, mismatches, subjects_without_clips
from distmer.datasets.flowmaps import parted
from distmer.datasets.lists import FIELDS as LIST_FIELDS
from distmer.datasets.lists import changed_content, other_labels, read_list, resolve
from distmer.datasets.own import own_sets
from distmer.datasets.protocols import (
    Protocol,
    edition_of,
    errata_of,
    is_own,
    load_protocol,
    protocol_names,
    published_lists,
)
from distmer.datasets.roots import find_root
from distmer.datasets.sheets import Annotation
from distmer.registry import discover, nearest
from distmer.storage import Place, place
from distmer.types import BadInput, Manifest

__all__ = [
    "Annotation",
    "Counts",
    "DatasetInfo",
    "ReadOptions",
    "changed_content",
    "check_report",
    "counts",
    "datasets",
    "load_manifest",
    "mismatches",
    "protocol_names",
    "subjects_without_clips",
    "with_own_roots",
]


@cache
def datasets() -> dict[str, DatasetInfo]:
    """Every data set that can be loaded, by name."""
    return {name: info for name, (info, _) in discover(sys.modules[__name__], DatasetInfo, "DATASET").items()}


def load_manifest(
    data: DataConfig,
    workspace_data: Place,
    progress: Callable[[int, int], None] = lambda done, total: None,
    meanwhile: Callable[[], None] = lambda: None,
    rule: Callable[[str], str] = lambda setting: "",
) -> Manifest:
    """The clips of ``data.protocol``, found under the configured roots.

    Only the embedded data set writes: it is generated in ``workspace_data`` when it is not there yet.
    ``progress`` and ``meanwhile`` are as in `distmer.datasets.synthetic.ensure`, and not called for any other
    data set; ``rule`` is as in `distmer.datasets.roots.find_root`.

    BadInput where a root or sheet is not there, or no clip can be used.
    """
    protocol, known = _protocol_of(data)
    lists = published_lists(data.protocol, protocol)
    with_own_roots([data])
    columns = _columns(data, protocol, known)
    include = None if data.include is None else read_list(place(data.include), columns["include"])
    if protocol.embedded:
        protocol, data = _generated(protocol, data, workspace_data, progress, meanwhile)
    alone = len(protocol.sets) == 1
    rows: dict[str, list[Annotation]] = {}
    readings: list[str] = []
    for name in protocol.sets:
        info = known[name]
        root = find_root(info, data, alone, rule)
        options = ReadOptions(
            missing_apex=data.missing_apex,
            errata=errata_of(protocol, name),
            columns=columns[name],
            bounds=place(data.root) if data.root else root,
            allow_links=data.allow_links,
            say=lambda line, name=name: readings.append(f"{name}: {line}"),
        )
        rows[name] = info.read(root, options)
        if parts := protocol.sets[name].parts:
            rows[name] = parted(rows[name], {part: of.subjects for part, of in parts.items()})
        if data.subjects == "distinct":
            refuse_one_subject_as_two(name, rows[name])
    entries, lost = ({}, []) if include is None else resolve(place(data.include or ""), include, rows)
    manifest = assemble(protocol, rows, None if include is None else entries)
    manifest = replace(
        manifest,
        failures=(*manifest.failures, *lost),
        listed=lists if include is None else {},
        readings=tuple(readings),
        editions={name: text for name, own in rows.items() if (text := edition_of(name, own))},
        pinned={clip: entry.sha256 for clip, entry in entries.items() if entry.sha256},
    )
    if manifest.problems and is_own(data.protocol):
        raise BadInput(f"{manifest.problems[0]}.")
    if not manifest.clips:
        lost = manifest.failures
        first = f" The first of {len(lost)}: {lost[0].reason}" if lost else ""
        what = "not one clip can be used; correct the data or the protocol"
        raise BadInput(f"protocol {manifest.protocol}: {what}.{first}")
    return replace(manifest, changed=tuple(other_labels(manifest, entries)))


def require_two_classes(manifest: Manifest) -> None:
    """BadInput where all usable clips are of one class, so that nothing can be trained."""
    labels = {clip.label for clip in manifest.clips}
    if len(labels) == 1:
        only = manifest.classes[labels.pop()]
        raise BadInput(
            f"protocol {manifest.protocol}: all {len(manifest.clips)} usable clips are {only!r}; training"
            " needs two classes or more."
        )


def with_own_roots(settings: Sequence[DataConfig]) -> list[DataConfig]:
    """The settings of several experiments, each with only those folders of ``data.roots`` that its protocol
    uses. BadInput for a folder that none of them uses."""
    if not any(data.roots for data in settings):
        return list(settings)
    sets = [_protocol_of(data)[0].sets for data in settings]
    known = {name for own in sets for name in own}
    for name in (name for data in settings for name in data.roots):
        if name not in known:
            raise BadInput(
                f"data.roots.{name} is the folder of no data set of the protocol; {nearest(name, known)}"
            )
    return [
        data.model_copy(update={"roots": {name: data.roots[name] for name in data.roots if name in own}})
        for data, own in zip(settings, sets, strict=True)
    ]


def _protocol_of(data: DataConfig) -> tuple[Protocol, Mapping[str, DatasetInfo]]:
    """The protocol, and all data sets by name, the user's own that it names among them."""
    own: dict[str, DatasetInfo] = {}
    known = ChainMap(own, datasets())
    return load_protocol(data.protocol, known, own_sets(datasets(), own)), known


def _columns(
    data: DataConfig, protocol: Protocol, known: Mapping[str, DatasetInfo]
) -> dict[str, dict[str, str]]:
    """``data.columns`` for each set of the protocol, and for the list of ``data.include``. BadInput for a
    field that no reader uses."""
    fields = {name: known[name].fields for name in protocol.sets}
    fields["include"] = LIST_FIELDS if data.include else ()
    given: dict[str, dict[str, str]] = {name: {} for name in fields}
    for key, value in data.columns.items():
        if isinstance(value, str):
            _require_field(f"data.columns.{key}", key, chain.from_iterable(fields[n] for n in protocol.sets))
            for name in (name for name in protocol.sets if key in fields[name]):
                given[name].setdefault(key, value)
        elif key not in fields:
            raise BadInput(f"data.columns.{key} is not a data set of the protocol; {nearest(key, fields)}")
        else:
            for field, heading in value.items():
                _require_field(f"data.columns.{key}.{field}", field, fields[key])
                given[key][field] = heading
    return given


def _require_field(setting: str, field: str, known: Iterable[str]) -> None:
    known = sorted(set(known))
    if not known:
        raise BadInput(f"{setting}: there is no sheet or list with columns to be named; leave it out.")
    if field not in known:
        raise BadInput(f"{setting} is not a field of a sheet; {nearest(field, known)}")


def _generated(
    protocol: Protocol,
    data: DataConfig,
    workspace_data: Place,
    progress: Callable[[int, int], None],
    meanwhile: Callable[[], None],
) -> tuple[Protocol, DataConfig]:
    """The protocol and the settings for the embedded data set: where it lies, and what is expected of it."""
    from distmer.datasets import synthetic  # not when this package is imported: it brings OpenCV

    options: SyntheticConfig = data.synthetic
    expected, subjects = synthetic.expected_counts(options), synthetic.expected_subjects(options)
    for name in protocol.sets:
        if name not in expected:
            what = f"the embedded data set has no {name}; {nearest(name, expected)}"
            raise BadInput(f"protocol {protocol.name}: {what}")
    root = synthetic.ensure(options, workspace_data, progress, meanwhile)
    sets = {
        name: part.model_copy(update={"expected": expected[name], "expected_subjects": subjects[name]})
        for name, part in protocol.sets.items()
    }
    return protocol.model_copy(update={"sets": sets}), data.model_copy(
        update={"root": str(root), "roots": {}}
    )
