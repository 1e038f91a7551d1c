"""`distmer data new`: a first manifest.csv of a folder of clips, for its owner to fill in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from distmer.datasets.folder import MANIFEST, VIDEOS, frames_of_video
from distmer.datasets.frame_files import Unusable, frame_number, frames_of
from distmer.datasets.text import natural
from distmer.storage import Place, csv_text, write
from distmer.types import BadInput

COLUMNS = ("subject", "clip", "label", "onset", "apex", "offset", "path")


@dataclass(frozen=True, slots=True)
class FoundClip:
    """A video or a folder of frames: its likely subject, first and last frame, and what is wrong."""

    path: str  # relative to the folder
    subject: str  # the outermost folder's name; "" where the clip lies in the folder itself
    clip: str
    first: int | None
    last: int | None
    problem: str = ""

    @property
    def cells(self) -> tuple[str | int | None, ...]:
        return (self.subject, self.clip, None, self.first, None, self.last, self.path)


def find_clips(folder: Path) -> list[FoundClip]:
    """Every video, and every folder that holds numbered images, below a folder, in natural order."""
    found: list[FoundClip] = []
    names: set[tuple[str, str]] = set()
    for path in _clip_paths(folder):
        parts = path.relative_to(folder).parts
        stem = path.stem if path.suffix.lower() in VIDEOS else path.name
        subject, clip = parts[0] if len(parts) > 1 else "", "_".join([*parts[1:-1], stem])
        if (subject, clip) in names:  # a.avi beside a.mp4
            clip = f"{clip}_{path.suffix.lower().lstrip('.') or 'frames'}"
        names.add((subject, clip))
        first, last, problem = None, None, ""
        try:
            first, last = _span(path)
        except Unusable as error:
            problem = str(error)
        found.append(FoundClip(path.relative_to(folder).as_posix(), subject, clip, first, last, problem))
    return found


def write_first_manifest(folder: Place) -> str:
    """Write ``manifest.csv`` into a folder of clips. Returns a text: what it holds, and what to fill in.

    BadInput for a folder that is not on this machine, that has a manifest.csv, or that holds no clip.
    """
    if not isinstance(folder, Path) or not folder.is_dir():
        what = "this is a file" if folder.is_file() else "this is not a folder on this machine"
        raise BadInput(f"{folder}: {what}; name the folder that holds the clips.")
    target = folder / MANIFEST
    if target.exists():
        raise BadInput(f"{target} is there already, and is not overwritten; rename it to begin a new one.")
    clips = find_clips(folder)
    if not clips:
        raise BadInput(
            f"{folder}: there is no clip below it; looked for videos ({', '.join(VIDEOS)}) and for folders of"
            " numbered images."
        )
    sheet = csv_text([COLUMNS, *(clip.cells for clip in clips)])
    write(target, f"\ufeff{sheet}".encode())  # the mark tells Excel that it is UTF-8
    return _summary(folder, clips)


def _clip_paths(folder: Path) -> Iterator[Path]:
    entries = sorted(
        (path for path in folder.iterdir() if not path.name.startswith(".")), key=lambda p: natural(p.name)
    )
    for path in entries:
        if path.is_file() and path.suffix.lower() in VIDEOS:
            yield path
        elif path.is_dir() and not path.is_symlink():  # a link may lead round in a circle
            if any(frame_number(Path(name)) is not None for name in os.listdir(path)):
                yield path
            else:
                yield from _clip_paths(path)


def _span(path: Path) -> tuple[int, int]:
    """The first and the last frame's number."""
    if path.is_dir():
        frames = frames_of(path)
        return min(frames), max(frames)
    return 1, len(frames_of_video(path))


def _summary(folder: Path, clips: list[FoundClip]) -> str:
    videos = sum(Path(clip.path).suffix.lower() in VIDEOS for clip in clips)
    subjects = {clip.subject for clip in clips if clip.subject}
    nobody = sum(not clip.subject for clip in clips)
    lines = [
        f"{folder / MANIFEST}: {len(clips)} clips of {len(subjects)} subjects ({videos} videos,"
        f" {len(clips) - videos} folders of frames).",
        "",
        "Fill in:",
        "  label    the emotion or class of the clip, one spelling for each",
        "  apex     the frame of the strongest expression: its number; its file name; in a video also its",
        "           time (0.23 s). Or leave it empty, and set data.missing_apex to midpoint or max-flow",
        "",
        "Check:",
        "  subject  the name of the outermost folder; one person must have one spelling",
        "  onset    now the first frame of the clip: correct it where the clip begins before the expression",
        "  offset   now its last frame, likewise. The frames of a video are counted from 1",
    ]
    if nobody:
        lines += ["", f"Clips that lie in {folder} itself ({nobody}): fill in their subject too."]
    broken = [clip for clip in clips if clip.problem]
    if broken:
        lines += ["", f"Cannot be used as they are ({len(broken)}):"]
        lines += [f"  {clip.path}: {clip.problem}" for clip in broken]
    where = f"--set data.protocol=folder --set data.root={folder}"
    without = "(where apex is empty: --set data.missing_apex=max-flow, too)"
    return "\n".join([*lines, "", f"Then: distmer data check {where}", f"      {without}"])
