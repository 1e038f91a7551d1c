"""Data sets: official layouts read into one manifest of clips.

``load_manifest`` is the entry; each module with a ``DATASET`` is a data set. Importing this package reads
and writes nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache

from distmer.config import DataConfig, SyntheticConfig
from distmer.datasets.assemble import assemble, read_include
from distmer.datasets.base import DatasetInfo, ReadOptions
from distmer.datasets.check import Counts, check_report, counts, mismatches, subjects_without_clips
from distmer.datasets.flowmaps import parted
from distmer.datasets.protocols import Protocol, errata_of, load_protocol, protocol_names
from distmer.datasets.roots import find_root
from distmer.registry import discover, lookup, nearest
from distmer.storage import Place, place
from distmer.types import BadInput, Manifest

__all__ = [
    "Counts",
    "DatasetInfo",
    "check_report",
    "counts",
    "datasets",
    "load_manifest",
    "mismatches",
    "protocol_names",
    "subjects_without_clips",
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
) -> Manifest:
    """The clips of ``data.protocol``, found under the configured roots.

    Only the embedded data set writes: it is generated when it is not there yet.

    Parameters
    ----------
    data : DataConfig
    workspace_data : path or remote place
        Where the embedded data set is generated.
    progress, meanwhile : callable
        As in `distmer.datasets.synthetic.ensure`; not called for any other data set.

    Raises
    ------
    BadInput
        A root or sheet is not there, no clip can be used, or all are of one class.
    """
    known = datasets()
    protocol = load_protocol(data.protocol, known)
    for name in data.roots:
        if name not in known:
            raise BadInput(f"data.roots.{name} is the folder of no data set; {nearest(name, known)}")
    include = None if data.include is None else read_include(place(data.include))
    if protocol.embedded:
        protocol, data = _generated(protocol, data, workspace_data, progress, meanwhile)
    alone = len(protocol.sets) == 1
    rows = {}
    for name in protocol.sets:
        info: DatasetInfo = lookup(known, name, "data set")
        columns = {field: heading for field, heading in data.columns.items() if isinstance(heading, str)}
        own = data.columns.get(name, {})
        options = ReadOptions(
            missing_apex=data.missing_apex,
            errata=errata_of(protocol, name),
            columns=columns | (own if isinstance(own, dict) else {}),
        )
        rows[name] = info.read(find_root(info, data, alone), options)
        if parts := protocol.sets[name].parts:
            rows[name] = parted(rows[name], {own: part.subjects for own, part in parts.items()})
    return _checked(assemble(protocol, rows, include, data.include or ""))


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
            raise BadInput(
                f"protocol {protocol.name}: the embedded data set has no {name}; {nearest(name, expected)}"
            )
    root = synthetic.ensure(options, workspace_data, progress, meanwhile)
    sets = {
        name: part.model_copy(update={"expected": expected[name], "expected_subjects": subjects[name]})
        for name, part in protocol.sets.items()
    }
    return protocol.model_copy(update={"sets": sets}), data.model_copy(
        update={"root": str(root), "roots": {}}
    )


def _checked(manifest: Manifest) -> Manifest:
    if not manifest.clips:
        first = (
            f" The first of {len(manifest.failures)}: {manifest.failures[0].reason}"
            if manifest.failures
            else ""
        )
        raise BadInput(
            f"protocol {manifest.protocol}: not one clip can be used; correct the data or the"
            f" protocol.{first}"
        )
    labels = {clip.label for clip in manifest.clips}
    if len(labels) == 1:
        only = manifest.classes[labels.pop()]
        raise BadInput(
            f"protocol {manifest.protocol}: all {len(manifest.clips)} usable clips are {only!r}; training"
            " needs two classes or more."
        )
    return manifest
