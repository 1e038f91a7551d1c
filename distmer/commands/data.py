"""`distmer data check`, `list`, `lock` and `export`: the clips of a protocol, and their features as files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from distmer.commands.session import Session
from distmer.datasets import check_report
from distmer.datasets.check import aligned
from distmer.datasets.lists import content_of, table_of
from distmer.datasets.map_scaling import scaling_text
from distmer.storage import csv_text, place, write
from distmer.types import BadInput

_AT_A_TIME = 64  # clips whose features are held at once


def check_data(session: Session) -> str:
    """Counts of a protocol against the published ones, and every row that cannot be used."""
    manifest = session.manifest(folds=False)
    return check_report(manifest) + scaling_text(manifest.clips)


def export_features(
    session: Session, folder: Path, form: Literal["maps", "npy"], size: int | None, *, local: bool
) -> str:
    """Write the features of the protocol's clips as files. Missing features are extracted first. ``size`` in
    px; else that of the features."""
    from distmer.commands.run import extracted  # it loads what a run needs
    from distmer.features import export

    export.require_empty(folder)
    manifest = session.manifest(folds=False)
    if form == "maps":
        export.require_layout(manifest.clips, manifest.classes)
    manifest, _, features = extracted(session, local=local)
    stored = features.stored
    there = [clip.id for clip in manifest.clips if clip.id in stored and stored[clip.id].status == "ok"]
    usable = [(clip, features.keys[clip]) for clip in there]
    if not usable:
        raise BadInput(f"{folder}: no clip has features; see distmer features for the reasons.")
    parts = (features.store.load(usable[n : n + _AT_A_TIME]) for n in range(0, len(usable), _AT_A_TIME))
    clips = {clip.id: clip for clip in manifest.clips}
    maps_of = export.write_maps if form == "maps" else export.write_arrays
    written = maps_of(folder, clips, manifest.classes, parts, size or session.config.features.size)
    lost = len(manifest.clips) + len(manifest.failures) - written
    lines = [f"{folder}: {written} clips" + (f"; {lost} have no features" if lost else "")]
    if form == "maps":
        lines.append(
            "Each map is min-max scaled for its clip, as published maps are: how far a face moved, and which"
            " value means no motion, are lost. --as npy keeps both."
        )
    return "\n".join(lines)


def list_clips(session: Session, csv: bool) -> str:
    """Every usable clip: its files below the data root, its label, how its apex was found, its errata."""
    rows = table_of(session.manifest(folds=False), session.config.data.root)
    return csv_text(rows) if csv else "\n".join(aligned(rows)) + "\n"


def lock_clips(session: Session, to: Path) -> str:
    """Write the list of clips with the digest of each one's images to ``to``; say what it holds."""
    if place(str(to)).exists():
        raise BadInput(f"{to} is there already, and is not overwritten; name another file by --to.")
    manifest = session.manifest(folds=False)
    frames = session.frames(manifest, [session.config.features])
    content: dict[str, str] = {}
    for clip in manifest.clips:
        content[clip.id] = content_of(clip, frames.digests)
        if not content[clip.id]:
            reason = next(frames.unreadable[path] for path in clip.source.images if path in frames.unreadable)
            raise BadInput(f"{clip.where}: {clip.id} cannot be pinned: {reason}")
    rows = table_of(manifest, session.config.data.root, content)
    write(place(str(to)), csv_text(rows).encode())
    return f"{to}: {len(content)} clips of {manifest.protocol}; pin them with data.include={to}"
