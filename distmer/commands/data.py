"""`distmer data check`, `list` and `lock`: what a protocol finds on this disk."""

from __future__ import annotations

from pathlib import Path

from distmer.commands.session import Session
from distmer.datasets import check_report
from distmer.datasets.check import aligned
from distmer.datasets.lists import HEADER, as_csv, content_of, images_of, table_of
from distmer.storage import place, write
from distmer.types import BadInput


def check_data(session: Session) -> str:
    """Counts of a protocol against the published ones, and every row that cannot be used."""
    return check_report(session.manifest())


def list_clips(session: Session, csv: bool) -> str:
    """Every usable clip with its files as seen from the data root, its label, its apex's policy and its
    errata."""
    rows = table_of(session.manifest(), session.config.data.root)
    return as_csv(rows) if csv else "\n".join(aligned([HEADER, *map(tuple, rows)])) + "\n"


def lock_clips(session: Session, to: Path) -> str:
    """Write the list of clips with the digest of each one's images to ``to``; say what it holds."""
    manifest = session.manifest()
    frames = session.frames(manifest)
    content: dict[str, str] = {}
    for clip in manifest.clips:
        content[clip.id] = content_of(clip, frames.digests)
        if not content[clip.id]:
            reason = next(frames.unreadable[path] for path in images_of(clip) if path in frames.unreadable)
            raise BadInput(f"{clip.where}: {clip.id} cannot be pinned: {reason}")
    rows = table_of(manifest, session.config.data.root, content)
    write(place(str(to)), as_csv(rows).encode())
    return f"{to}: {len(content)} clips of {manifest.protocol}; pin them with data.include={to}"
