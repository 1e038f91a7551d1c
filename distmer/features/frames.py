"""Reading single frames: bytes from a file, pixels from bytes.

Every failure is a ClipError a user can act on.
"""

# pyright: strict, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import hashlib

import cv2
import numpy as np
import numpy.typing as npt

from distmer.storage import place

ByteArray = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]

_NO_MEMORY = -4  # OpenCV's StsNoMem
_SPARE = 256 * 2**20  # bytes, asked for and never touched


class ClipError(Exception):
    """This clip cannot be used; others can.

    The message is one sentence: the file, what is wrong, and the remedy.

    Only for what follows from the clip's bytes, or for a file that gives none: such a failure is stored
    under the bytes' key.
    """


def read_bytes(path: str) -> bytes:
    """The bytes of a frame file, at a path or an address.

    ClipError when it is missing, empty or cannot be opened; RunError where an object store is away or
    refuses, for then no clip is at fault.

    The message names the full path: it is never stored, for a clip without bytes has no content key.
    """
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
    """The identity of a frame file's bytes. Raises as `read_bytes` does."""
    return content(read_bytes(path))


def decode_gray(data: bytes, name: str) -> ByteArray:
    """One frame as luma (BT.601, OpenCV's BGR2GRAY), turned upright by its EXIF tag if it has one.

    Parameters
    ----------
    data : bytes
        An image file.
    name : str
        Its file name, for messages.

    Returns
    -------
    uint8 array (H, W)

    Raises
    ------
    ClipError
        The bytes are no image, or a 16-bit one: which 8 of the 16 bits hold the face is not ours to guess.
    """
    frame = _decode(data, name, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
    return np.ascontiguousarray(
        frame if frame.ndim == 2 else cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), dtype=np.uint8
    )


def decode_flow_map(data: bytes, name: str) -> Float32Array:
    """A published map: an RGB image with R = u, G = v, B = strain, each min-max scaled to 0..255.

    This is the form of the ``u_v_os`` images shipped with STSTNet (Liong et al. 2019) and HTNet (Wang et al.
    2024).

    Returns
    -------
    float32 array (H, W, 3)
        u, v and strain in 0..1.

    Raises
    ------
    ClipError
        The bytes are no image, or one that is not of three channels of 8 bits.
    """
    image = _decode(data, name, cv2.IMREAD_UNCHANGED)
    if image.ndim != 3 or image.shape[2] != 3:
        channels = 1 if image.ndim == 2 else image.shape[2]
        raise ClipError(
            f"{name}: a flow map has three channels (u, v, strain), this one has {channels};"
            " export it as an RGB image."
        )
    map_HW3 = image[:, :, ::-1].astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(map_HW3)


def _decode(data: bytes, name: str, flags: int) -> npt.NDArray[np.uint8]:
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
    if image.dtype != np.uint8:
        depth = f"{8 * image.dtype.itemsize}-bit"
        raise ClipError(
            f"{name}: the image is {depth}, but frames must be 8-bit; convert all frames of"
            " the clip with one scaling."
        )
    return np.asarray(image, dtype=np.uint8)
