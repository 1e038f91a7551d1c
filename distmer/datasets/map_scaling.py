"""Whether published flow maps were min-max scaled for each clip, told from their pixels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from distmer.types import Clip, FlowMap

# of 0..1: a map that was resized after it was scaled does not reach its ends exactly
_NEAR = 0.04
_MOST = 0.95  # of the maps of a set


def scaling_text(clips: Sequence[Clip]) -> str:
    """A block of `distmer data check`: how the maps of each data set are scaled; "" where there is no map."""
    lines = [f"  {_sentence(dataset, maps)}" for dataset, maps in full_ranges(clips).items()]
    return "\n" + "\n".join(["How the flow maps are scaled:", *lines]) + "\n" if lines else ""


def full_ranges(clips: Sequence[Clip]) -> dict[str, list[bool | None]]:
    """Data set → of each of its maps, whether it reaches both ends of 0..1 in u, v and strain; None of one
    that cannot be read."""
    from distmer.features.frames import ClipError, decode_flow_map, read_bytes  # they bring OpenCV

    found: dict[str, list[bool | None]] = defaultdict(list)
    for clip in clips:
        if not isinstance(clip.source, FlowMap):
            continue
        try:
            map_HW3 = decode_flow_map(read_bytes(clip.source.image), clip.id)
        except ClipError:
            found[clip.dataset].append(None)
            continue
        low_3, high_3 = map_HW3.min(axis=(0, 1)), map_HW3.max(axis=(0, 1))
        found[clip.dataset].append(bool((low_3 <= _NEAR).all() and (high_3 >= 1 - _NEAR).all()))
    return found


def scaled_by_clip(maps: Sequence[bool | None]) -> bool:
    """Whether each map of a data set was stretched to the whole range by itself."""
    readable = len(maps) - maps.count(None)
    return readable > 0 and maps.count(True) >= _MOST * readable


def _sentence(dataset: str, maps: Sequence[bool | None]) -> str:
    found = f"{dataset}: {maps.count(True)} of {len(maps)} maps reach from 0 to 255 in u, v and strain"
    if unreadable := maps.count(None):
        found += f" ({unreadable} cannot be read)"
    if scaled_by_clip(maps):
        return (
            f"{found}: each was min-max scaled for itself. How far a face moved, and which value means no"
            " motion, are lost; a model can only learn from the pattern."
        )
    if True in maps:
        return (
            f"{found}: some were min-max scaled for themselves and some were not. Their amplitudes cannot be"
            " compared; ask the authors, or make the maps anew from the frames."
        )
    return (
        f"{found}: they were not min-max scaled for each clip. Amplitudes can be compared within the set; the"
        " scale in px is not in the files."
    )
