"""The frames of a clip: which image file is which frame number, and from there the onset and the apex."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath

from distmer.datasets.text import natural
from distmer.storage import Place
from distmer.types import ApexSearch, KeyFrames, Source

IMAGES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff"})
PHOTOS = frozenset({".heic", ".heif"})  # of telephones: patented, and OpenCV does not read them
CONVERT = "convert it to PNG (heif-convert img.heic img.png, or export it from the telephone as JPEG)."


class Unusable(Exception):
    """This row cannot become a clip. The message ends a sentence that begins with file and row, and has the
    remedy."""


def frame_number(path: Place) -> int | None:
    """The frame number of an image file: the last integer of its name ("reg_EP01_5-113.jpg" is 113). None for
    any other file."""
    if path.name.startswith(".") or path.suffix.lower() not in IMAGES:
        return None
    digits = re.findall(r"\d+", path.stem)
    return int(digits[-1]) if digits else None


def frames_of(folder: Place) -> dict[int, str]:
    """Frame number → image file of a clip's folder, in numeric order. Other files (Thumbs.db, shortcuts) are
    skipped. Unusable if there is no frame, or if two have the same number."""
    if not folder.is_dir():
        raise Unusable(
            f"the frame folder {folder} is not there; unpack it, or correct the name in the sheet."
        )
    frames: dict[int, str] = {}
    for path in sorted(folder.iterdir(), key=lambda p: natural(p.name)):
        number = frame_number(path)
        if number is None:
            continue
        if number in frames:
            raise Unusable(
                f"{PurePath(frames[number]).name} and {path.name} in {folder} both claim to be"
                f" frame {number}; remove one."
            )
        frames[number] = str(path)
    if not frames:
        photo = next((p.name for p in folder.iterdir() if p.suffix.lower() in PHOTOS), None)
        if photo is not None:
            raise Unusable(f"{photo} in {folder} is a HEIC photo, which is not read; {CONVERT}")
        raise Unusable(
            f"the frame folder {folder} holds no numbered image ({', '.join(sorted(IMAGES))}); give the"
            " folder of one clip, or unpack it again."
        )
    return dict(sorted(frames.items()))


def key_frames(
    folder: Place, onset: int, apex: int | None, offset: int | None, missing_apex: str
) -> tuple[Source, str]:
    """Onset and apex as files, and a note on what was done to get them.

    ``folder`` has the clip's frames. Numbers are those in the files' names (absolute in SAMM).
    ``missing_apex`` says what to do without an apex: refuse the clip (``error``), take onset + (offset -
    onset) // 2 as meb does for SMIC (``midpoint``), or leave the choice among the frames after the onset to
    the feature extraction (``max-flow``).

    Unusable where a frame is not there, or the numbers are in no order.
    """
    _enough(onset, apex, offset, missing_apex)  # before the folder is listed
    return of_numbers(frames_of(folder), f"{folder}", onset, apex, offset, missing_apex)


def of_numbers(
    frames: Mapping[int, str],
    folder: str,
    onset: int,
    apex: int | None,
    offset: int | None,
    missing_apex: str,
) -> tuple[Source, str]:
    """As `key_frames`, of the frames of a folder or a video that are known by number."""
    _enough(onset, apex, offset, missing_apex)
    first = _file(frames, onset, "onset", folder)
    if apex is not None:
        course = _course(frames, onset, apex if offset is None else offset)
        note = {0: "apex = onset", 1: "apex = onset + 1"}.get(apex - onset, "")
        return KeyFrames(first, _file(frames, apex, "apex", folder), course), note
    assert offset is not None
    after = [n for n in frames if onset < n <= offset]
    if not after:
        raise Unusable(
            f"no frame of {folder} lies between onset {onset} and offset {offset}; unpack it"
            " again, or correct the row."
        )
    if missing_apex == "max-flow":
        candidates = tuple(frames[n] for n in after)
        return ApexSearch(first, candidates, _course(frames, onset, offset)), "apex by largest flow"
    middle = onset + (offset - onset) // 2
    chosen = min(after, key=lambda n: (abs(n - middle), n))  # a dropped frame: its neighbour
    course = _course(frames, onset, offset)
    return KeyFrames(first, frames[chosen], course), f"apex = midpoint, frame {chosen}"


def _course(frames: Mapping[int, str], onset: int, end: int) -> tuple[tuple[int, str], ...]:
    return tuple((number, file) for number, file in frames.items() if onset <= number <= end)


def _enough(onset: int, apex: int | None, offset: int | None, missing_apex: str) -> None:
    if apex is None and missing_apex == "error":
        raise Unusable(
            "the apex is missing; set data.missing_apex to midpoint or max-flow, or fill in the apex."
        )
    if offset is None and apex is None:
        raise Unusable("the apex and the offset are both missing; fill in one of them.")
    remedy = "correct the row, or add an erratum to the protocol."
    if apex is not None and apex < onset:
        raise Unusable(f"the apex {apex} comes before the onset {onset}; {remedy}")
    if apex is not None and offset is not None and apex > offset:
        raise Unusable(f"the apex {apex} comes after the offset {offset}; {remedy}")
    if offset is not None and offset < onset:
        raise Unusable(f"the offset {offset} comes before the onset {onset}; {remedy}")


def _file(frames: Mapping[int, str], number: int, what: str, folder: str) -> str:
    if number not in frames:
        span = f"{min(frames)} to {max(frames)}"
        raise Unusable(
            f"the {what} frame {number} is not in {folder}, which holds {span}; unpack it"
            " again, or correct the row."
        )
    return frames[number]
