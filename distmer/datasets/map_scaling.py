"""Whether published flow maps were min-max scaled for each clip, told from their pixels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from distmer.types import Clip, FlowMap

# of 0..1: a map that was resized after it was scaled does not reach its ends exactly
_NEAR = 0.04
_MOST = 0.95  # of the maps of a set


@dataclass(frozen=True, slots=True)
class Scaling:
    """What the maps of one data set look like. ``spanning``: how many of them reach both ends of 0..1 in u,
    v and strain."""

    dataset: str
    maps: int
    spanning: int
    unreadable: int = 0

    @property
    def by_clip(self) -> bool:
        """Whether each map was stretched to the whole range for itself."""
        readable = self.maps - self.unreadable
        return readable > 0 and self.spanning >= _MOST * readable

    @property
    def sentence(self) -> str:
        found = f"{self.dataset}: {self.spanning} of {self.maps} maps reach from 0 to 255 in u, v and strain"
        if self.unreadable:
            found += f" ({self.unreadable} cannot be read)"
        if self.by_clip:
            return (
                f"{found}: each was min-max scaled for itself. How far a face moved, and which value means"
                " no motion, are lost; a model can only learn from the pattern."
            )
        if self.spanning:
            return (
                f"{found}: some were min-max scaled for themselves and some were not. Their amplitudes"
                " cannot be compared; ask the authors, or make the maps anew from the frames."
            )
        return (
            f"{found}: they were not min-max scaled for each clip. Amplitudes can be compared within the set;"
            " the scale in px is not in the files."
        )


def scalings(clips: Sequence[Clip]) -> list[Scaling]:
    """How the maps of each data set are scaled, in the order of the clips; nothing for frames."""
    from distmer.features.frames import ClipError, decode_flow_map, read_bytes  # they bring OpenCV

    seen: dict[str, list[bool | None]] = defaultdict(list)
    for clip in clips:
        if not isinstance(clip.source, FlowMap):
            continue
        try:
            map_HW3 = decode_flow_map(read_bytes(clip.source.image), clip.id)
        except ClipError:
            seen[clip.dataset].append(None)
            continue
        low_3, high_3 = map_HW3.min(axis=(0, 1)), map_HW3.max(axis=(0, 1))
        seen[clip.dataset].append(bool((low_3 <= _NEAR).all() and (high_3 >= 1 - _NEAR).all()))
    return [Scaling(dataset, len(maps), maps.count(True), maps.count(None)) for dataset, maps in seen.items()]


def scaling_text(clips: Sequence[Clip]) -> str:
    """A block of `distmer data check`; "" where there is no map."""
    found = scalings(clips)
    lines = ["How the flow maps are scaled:", *(f"  {one.sentence}" for one in found)]
    return "\n" + "\n".join(lines) + "\n" if found else ""
