"""Pairs of onset and apex that cannot be what a sheet says: the same picture twice, a black apex, another
person."""

from __future__ import annotations

import numpy as np

from distmer.features.frames import ByteArray, Float32Array

MARK = "implausible: "
_BLACK = 16  # of 255: no pixel of a black frame is brighter, whatever a codec made of it
_BLANK = 2.0  # grey levels, standard deviation: one even colour
# Of the crop's side, 3 px of 128. A micro-expression moves the skin by less than 1 px on average, and the
# head's own motion is subtracted. On the embedded set: .1 to .9 px for its own clips, 7 to 18 px where the
# apex is of another person.
_FAR = 3 / 128


def doubt(onset_HW: ByteArray, apex_HW: ByteArray, flow_HW2: Float32Array) -> str:
    """What makes a pair implausible, behind `MARK`, for the clip's note; "" where nothing does.

    The arrays are the aligned crops, and the flow from one to the other as it is stored, px.
    """
    if np.array_equal(onset_HW, apex_HW):
        return f"{MARK}onset and apex are the same picture"
    if int(apex_HW.max()) < _BLACK:
        return f"{MARK}the apex is black"
    if float(apex_HW.std()) < _BLANK:
        return f"{MARK}the apex is blank"
    mean = float(np.hypot(flow_HW2[..., 0], flow_HW2[..., 1]).mean())
    if mean > _FAR * min(onset_HW.shape):
        return (
            f"{MARK}the face moves by {mean:.1f} px on average, as if the apex were of another person or of"
            " another moment"
        )
    return ""


def doubt_in(note: str) -> str:
    """The doubt in a clip's note, without its mark; "" where there is none."""
    return next((part[len(MARK) :] for part in note.split("; ") if part.startswith(MARK)), "")
