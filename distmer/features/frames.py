"""Reading single frames: bytes from a file, pixels from bytes. A frame is named by its image file, or as
``clip.mp4#46``: frame 46 of a video (`distmer.features.video`). Every failure is a ClipError a user can act
on."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from distmer.storage import place
from distmer.types import VIDEOS

ByteArray = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]
LumaArray = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

_OF_VIDEO = re.compile(rf"(.+(?:{'|'.join(re.escape(suffix) for suffix in VIDEOS)}))#(\d+)", re.I)
_NO_MEMORY = -4  # OpenCV's StsNoMem
_SPARE = 256 * 2**20  # bytes, asked for and never touched


class ClipError(Exception):
    """This clip cannot be used; others can. The message is one sentence: the file, what is wrong, and the
    remedy.

    Only for what follows from the clip's bytes, or for a file that gives none: such a failure is stored under
    the bytes' key.
    """


def file_of(frame: str) -> tuple[str, int | None]:
    """The file that a frame is in, and its number if that is a video: ``clip.mp4#46`` is ("clip.mp4",
    46)."""
    found = _OF_VIDEO.fullmatch(frame)
    return (found[1], int(found[2])) if found else (frame, None)


def read_each(frames: Sequence[str]) -> Iterator[bytes]:
    """The bytes of frames, one after the other; of neighbours in one video, in one pass. A frame of a video
    is an image file of its pixels. Raises as `read_bytes` does, at the frame that it concerns."""
    for file, group in groupby(map(file_of, frames), key=lambda found: found[0]):
        numbers = [number for _, number in group]
        if numbers[0] is None:
            for _ in numbers:
                yield _read_image(file)
        else:
            from distmer.features.video import read_frames  # FFmpeg, which few data sets need

            yield from read_frames(file, [number for number in numbers if number is not None])


def read_bytes(path: str) -> bytes:
    """The bytes of a frame, at a path or an address.

    ClipError when it is missing, empty or cannot be opened; its message may name the full path, because it is
    never stored: a clip without bytes has no key. RunError where an object store is away or refuses.
    """
    return next(read_each([path]))


def _read_image(path: str) -> bytes:
    try:
        data = place(path).read_bytes()
    except FileNotFoundError as error:
        raise ClipError(
            f"{path}: the file does not exist; correct the row, or point data.root at the frames."
        ) from error
    except OSError as error:
        raise ClipError(
            f"{path}: the file cannot be read ({error.strerror}); check its permissions and the disk."
        ) from error
    if not data:
        raise ClipError(f"{path}: the file is empty; copy it again.")
    return data


def content(data: bytes) -> str:
    """The identity of a file's bytes: SHA-256, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def frame_digest(path: str) -> str:
    """The identity of a frame's bytes. Raises as `read_bytes` does."""
    return content(read_bytes(path))


def decode_gray(data: bytes, name: str) -> ByteArray:
    """One frame as 8-bit grey (H, W): `decode_luma`, and `eight_bits` by the frame itself."""
    luma_HW = decode_luma(data, name)
    return eight_bits(luma_HW, bits_of(luma_HW))


def decode_luma(data: bytes, name: str) -> LumaArray:
    """One frame as luma (BT.601, OpenCV's BGR2GRAY), uint8 or uint16, turned upright by its EXIF tag if it
    has one.

    ``name`` is its file name, for messages. ClipError where the bytes are no image, or one of neither 8 nor
    16 bits.
    """
    frame = _decode(data, name, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
    if frame.dtype.name not in ("uint8", "uint16"):
        raise _wrong_depth(frame, name, "8-bit or 16-bit")
    return np.ascontiguousarray(frame if frame.ndim == 2 else cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY))


def bits_of(luma_HW: LumaArray) -> int:
    """How many bits a frame uses: 8 of an 8-bit image; of a 16-bit one, the fewest of 8, 10, 12, 14, 16 that
    hold its brightest pixel, for a camera's 10 or 12 bits are kept in 16."""
    if luma_HW.dtype == np.uint8:
        return 8
    return next(bits for bits in (8, 10, 12, 14, 16) if int(luma_HW.max(initial=0)) < 2**bits)


def eight_bits(luma_HW: LumaArray, bits: int) -> ByteArray:
    """A frame on 8 bits: divided by 2^(bits − 8), without rounding up, and 255 where it is brighter.

    ``bits`` are those of the clip's onset, so that onset and apex keep one scale.
    """
    if luma_HW.dtype == np.uint8:
        return np.asarray(luma_HW, dtype=np.uint8)
    return np.minimum(luma_HW >> (bits - 8), 255).astype(np.uint8)


def decode_flow_map(data: bytes, name: str) -> Float32Array:
    """A published map as u, v and strain in 0..1 (float32 (H, W, 3)): an RGB image with R = u, G = v, B =
    strain, each min-max scaled to 0..255, as STSTNet (Liong et al. 2019) and HTNet (Wang et al. 2024) ship
    them.

    ClipError where the bytes are no image, or one that is not of three channels of 8 bits.
    """
    image = _decode(data, name, cv2.IMREAD_UNCHANGED)
    if image.dtype != np.uint8:
        raise _wrong_depth(image, name, "8-bit")
    if image.ndim != 3 or image.shape[2] != 3:
        channels = 1 if image.ndim == 2 else image.shape[2]
        raise ClipError(
            f"{name}: a flow map has three channels (u, v, strain), this one has {channels};"
            " export it as an RGB image."
        )
    map_HW3 = image[:, :, ::-1].astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(map_HW3)


def _wrong_depth(image: npt.NDArray[Any], name: str, wanted: str) -> ClipError:
    depth = f"{8 * image.dtype.itemsize}-bit"
    return ClipError(
        f"{name}: the image is {depth}, but it must be {wanted}; convert all frames of the clip with one"
        " scaling."
    )


def _decode(data: bytes, name: str, flags: int) -> npt.NDArray[Any]:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        if error.code == _NO_MEMORY:
            raise MemoryError(f"OpenCV has no memory to decode {name}") from error
        raise ClipError(
            f"{name}: OpenCV cannot decode the image ({error.err}); convert it to 8-bit PNG or JPEG."
        ) from error
    if image is None:
        # some decoders (WebP's) give nothing, too, where memory is short: MemoryError then, and no verdict
        np.empty(_SPARE, np.uint8)
        raise ClipError(
            f"{name}: not an image that OpenCV can decode, or cut short; copy it again or"
            " convert it to PNG or JPEG."
        )
    return np.asarray(image)
