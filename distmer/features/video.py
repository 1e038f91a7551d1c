"""Frames of a video file: how many there are, when each is shown, and their pixels.

Frames are counted from 1 in the order in which they are shown, as ffmpeg numbers the images that it writes.
The time stamps of all frames are read first, without decoding, so a number means the same frame after a seek
as after decoding from the start.

A frame is given as the bytes of a PGM image of its luma, so it is hashed, kept and decoded like an image
file, and a clip has the same features in two lossless containers. ``docs/features.md`` has more on its luma.
"""

# pyright: strict, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import bisect
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePath
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from distmer.features.frames import ClipError
from distmer.storage import place

_FULL_RANGE = 2  # FFmpeg's AVCOL_RANGE_JPEG


@dataclass(frozen=True, slots=True)
class Index:
    """What a video says of its frames, in the order in which they are shown."""

    seconds: tuple[float, ...]  # when each frame is shown, s after the first
    stamps: tuple[int, ...]  # the same as time stamps of the file
    # The numbers of the key frames, with which decoding can begin. Only the first one where a decoded frame
    # cannot be told by its stamp: then frames are counted from the start.
    keys: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def rate(self) -> float:
        """Frames a second, on average; 0 for a single frame."""
        return (len(self) - 1) / self.seconds[-1] if len(self) > 1 else 0.0

    @property
    def steady(self) -> bool:
        """Whether a program that takes the rate as constant gives every frame the number that we do."""
        if len(self) < 3:
            return True
        steps_N = np.diff(self.seconds)
        drift_N = np.asarray(self.seconds) * self.rate - np.arange(len(self))
        middle = float(np.median(steps_N))
        return bool(
            np.abs(drift_N).max() < 0.5 and steps_N.max() < 1.5 * middle and steps_N.min() > 0.5 * middle
        )

    def key_before(self, number: int) -> int:
        """The last key frame that is not after a frame."""
        return self.keys[max(bisect.bisect_right(self.keys, number) - 1, 0)]

    def nearest(self, seconds: float) -> int:
        """The number of the frame whose time is nearest, from 1; the earlier one of equals."""
        after = min(bisect.bisect_left(self.seconds, seconds), len(self) - 1)
        before = max(after - 1, 0)
        closer = seconds - self.seconds[before] <= self.seconds[after] - seconds
        return (before if closer else after) + 1


def index(path: str) -> Index:
    """The frames of a video, without decoding one. ClipError for what is no video, holds no frame, or is cut
    short; and for a file that is not there."""
    if "://" in path:
        return _read_index(path)
    try:
        status = os.stat(path)
    except OSError as error:
        raise ClipError(f"{path}: the video cannot be opened ({error.strerror}); correct the row.") from error
    if not status.st_size:
        raise ClipError(f"{PurePath(path).name}: the file is empty; copy it again.")
    return _kept_index(path, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@lru_cache(maxsize=2**14)
def _kept_index(path: str, size: int, mtime: int, ctime: int) -> Index:  # size and times only key the cache
    return _read_index(path)


def read_frames(path: str, numbers: Sequence[int]) -> Iterator[bytes]:
    """The frames of these numbers, from 1, as PGM images, one after the other; one frame is held at a time.
    Ascending numbers are read in one pass.

    ClipError as for `index`, for a number that the video does not have, and for a frame that cannot be
    decoded.
    """
    found = index(path)
    name = PurePath(path).name
    for number in numbers:
        if not 1 <= number <= len(found):
            raise ClipError(f"{name}: it has no frame {number}, only 1 to {len(found)}; correct the row.")
    with _opened(path) as (container, stream):
        decoder, at = iter(()), len(found)  # `at`: the number of the frame that was decoded last
        for number in numbers:
            if not at < number or found.key_before(number) > at + 1:
                decoder = _decoded(container, stream, found, found.key_before(number))
            at, frame = _next(decoder, number)
            if at > number:  # the file's own key frames led past it
                decoder = _decoded(container, stream, found, 1)
                at, frame = _next(decoder, number)
            if frame is None or at != number:
                raise ClipError(f"{name}: frame {number} cannot be decoded; copy the video again.")
            yield _pgm(_luma(frame))


def _next(decoder: Iterator[tuple[int, VideoFrame]], number: int) -> tuple[int, VideoFrame | None]:
    """The first frame that is not before ``number``."""
    return next((pair for pair in decoder if pair[0] >= number), (0, None))


def _read_index(path: str) -> Index:
    name = PurePath(path).name
    with _opened(path) as (container, stream):
        declared, stream_seconds = stream.frames, _seconds(stream)
        packets = [packet for packet in container.demux(stream) if packet.size]
        stamps = [p.pts if p.pts is not None else p.dts for p in packets]
        known = sorted({stamp for stamp in stamps if stamp is not None})
        base = float(stream.time_base or 0)
        # AVI keeps no time of showing: where frames are not shown in their order in the file, it is a guess
        in_order = "avi" not in container.format.name or all(p.is_keyframe for p in packets)
    if not packets:
        raise ClipError(f"{name}: it holds no video frame; copy it again.")
    if len(known) != len(packets):  # as in raw streams
        raise ClipError(
            f"{name}: its frames have no time stamps of their own; convert it (ffmpeg -i {name} -c:v ffv1"
            " out.mkv)."
        )
    seconds = [(stamp - known[0]) * base for stamp in known]
    step = seconds[-1] / (len(seconds) - 1) if len(seconds) > 1 else 0.0
    if declared > len(packets):
        raise ClipError(
            f"{name}: it is cut short, {len(packets)} of {declared} frames are there; copy it again."
        )
    if stream_seconds > seconds[-1] + 2.5 * step and len(seconds) > 1:
        raise ClipError(
            f"{name}: it is cut short, {seconds[-1] + step:.2f} of {stream_seconds:.2f} s are there; copy it"
            " again."
        )
    keys = {p.pts if p.pts is not None else p.dts for p in packets if p.is_keyframe} if in_order else set()
    numbers = [n for n, stamp in enumerate(known, start=1) if n == 1 or stamp in keys]
    return Index(tuple(seconds), tuple(known), tuple(numbers))


def _seconds(stream: VideoStream) -> float:
    """How long the file says that its video is, s; 0 where it does not say."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    hours, _, rest = stream.metadata.get("DURATION", "").partition(":")  # Matroska: 00:00:01.016000000
    minutes, _, seconds = rest.partition(":")
    try:
        return 3600 * float(hours) + 60 * float(minutes) + float(seconds)
    except ValueError:
        return 0.0


@contextmanager
def _opened(path: str) -> Generator[tuple[InputContainer, VideoStream]]:
    """The file and its first video stream. What FFmpeg raises within the block becomes a ClipError."""
    name, where = PurePath(path).name, place(path)
    try:
        with where.open("rb") as file, av.open(file, mode="r", metadata_errors="ignore") as container:
            if not container.streams.video:
                raise ClipError(f"{name}: it holds no video; name the video file.")
            stream = container.streams.video[0]
            if stream.codec_context is None:  # pyright: ignore[reportUnnecessaryComparison]  # PyAV's stubs
                raise ClipError(f"{name}: FFmpeg does not know its codec; convert it to MP4 or AVI.")
            stream.codec_context.thread_count = 1
            # the same bits on every processor: FFmpeg's fast inverse transforms differ in the last one
            stream.codec_context.options = {"flags": "+bitexact", "idct": "simple"}
            yield container, stream
    except FFmpegError as error:
        if isinstance(error, MemoryError):
            raise
        raise ClipError(
            f"{name}: not a video that FFmpeg can read, or cut short ({error.strerror}); copy it again, or"
            " convert it to MP4 or AVI."
        ) from error
    except OSError as error:
        why = error.strerror or error
        raise ClipError(
            f"{path}: the video cannot be read ({why}); correct the row, or check the disk."
        ) from error


def _decoded(
    container: InputContainer, stream: VideoStream, found: Index, key: int
) -> Iterator[tuple[int, VideoFrame]]:
    """(number, frame) from a key frame on."""
    container.seek(found.stamps[key - 1], stream=stream)
    numbers = {stamp: n for n, stamp in enumerate(found.stamps, start=1)}
    told = len(found.keys) > 1
    for count, frame in enumerate(container.decode(stream), start=1):
        if not told:
            yield count, frame
        elif frame.pts in numbers:
            yield numbers[frame.pts], frame


def _luma(frame: VideoFrame) -> npt.NDArray[Any]:
    """uint8 or uint16 (H, W), turned upright as the file says."""
    kind, bits = frame.format.name, frame.format.components[0].bits
    if kind.startswith(("gray", "yuv", "yuvj", "yuva", "nv12", "nv21")) and kind not in {
        "yuyv422",
        "yvyu422",
    }:
        luma_HW = _first_plane(frame, 1 if bits == 8 else 2, kind.endswith("be"))
        full = kind.startswith(("gray", "yuvj")) or int(frame.color_range) == _FULL_RANGE
        if not full or (bits > 8 and not kind.startswith("gray")):
            luma_HW = _stretched(luma_HW, bits, full)
    elif bits > 8:
        luma_HW = cv2.cvtColor(frame.to_ndarray(format="rgb48le"), cv2.COLOR_RGB2GRAY)
    else:
        luma_HW = cv2.cvtColor(frame.to_ndarray(format="bgr24"), cv2.COLOR_BGR2GRAY)
    return np.rot90(luma_HW, round(frame.rotation / 90) % 4)


def _first_plane(frame: VideoFrame, size: int, big: bool) -> npt.NDArray[Any]:
    plane = frame.planes[0]
    kind = np.dtype(np.uint8) if size == 1 else np.dtype(">u2" if big else "<u2")
    rows = np.frombuffer(bytes(plane), kind).reshape(-1, plane.line_size // size)
    return rows[: frame.height, : frame.width]


def _stretched(luma_HW: npt.NDArray[Any], bits: int, full: bool) -> npt.NDArray[np.uint8]:
    """Luma of so many bits, on 16..235 of 8 bits where it is not ``full``, to 0..255."""
    low, high = (0.0, float(2**bits - 1)) if full else (16.0 * 2 ** (bits - 8), 235.0 * 2 ** (bits - 8))
    table = np.rint(np.clip((np.arange(2**bits) - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    return table[np.minimum(luma_HW, 2**bits - 1)]


def _pgm(luma_HW: npt.NDArray[Any]) -> bytes:
    height, width = luma_HW.shape
    deep = luma_HW.dtype != np.uint8
    head = f"P5\n{width} {height}\n{65535 if deep else 255}\n".encode()
    return head + luma_HW.astype(">u2" if deep else np.uint8).tobytes()
