"""From a clip's files to its features: what Ray maps over clips, and the content key of the result."""

# pyright: strict, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportAttributeAccessIssue=false

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePath
from typing import Any

import cv2
import dlib
import numpy as np
import numpy.typing as npt

from distmer.config import FeatureConfig
from distmer.digests import digest
from distmer.features.align import aligned_face
from distmer.features.featureset import MAPS, Unit
from distmer.features.flow import dis_fast, subtract_rigid
from distmer.features.frames import (
    ByteArray,
    ClipError,
    Float32Array,
    content,
    decode_flow_map,
    frame_digest,
    read_each,
)
from distmer.features.landmarks import PointArray, model_hash, model_path
from distmer.features.methods import MethodError, methods
from distmer.features.plausible import doubt
from distmer.features.row import FeatureRow
from distmer.features.sequence import blended, samples
from distmer.types import ApexSearch, BadInput, FlowMap, JsonValue, KeyFrames, RunError, Source

# raise by one whenever code in this package changes what is extracted: old features are then not reused
FEATURE_EPOCH = 2


@dataclass(frozen=True, slots=True)
class FeatureRequest:
    """One clip to extract. The id travels along for messages; it is not part of the key."""

    clip_id: str
    source: Source


def clip_key(source: Source, cfg: FeatureConfig, digest_of: Callable[[str], str] = frame_digest) -> str:
    """The identity of a clip's features, 64 hexadecimal digits: SHA-256 over everything that can change them.

    That is: the bytes of its frames in order, the kind of source, and for frames the extraction settings, the
    hash of the landmark model's bytes, FEATURE_EPOCH, OpenCV's major.minor version (minor releases have
    changed how warps round) and dlib's major version (its detector and regression have not changed within
    one). Never a path, a name or a time.

    ``digest_of`` gives the SHA-256 of a frame file's bytes; by default it reads them. ClipError where a frame
    file is missing or unreadable, BadInput where the landmark model is.
    """
    return _key(source, [digest_of(path) for path in frame_paths(source, cfg)], cfg, extraction(cfg))


def extract(
    request: FeatureRequest, cfg: FeatureConfig, settings: Mapping[str, JsonValue] | None = None
) -> FeatureRow:
    """The features of one clip, with the same bits in any process.

    ``settings`` is the `extraction` of the process that planned it, if another did. OpenCV works on one
    thread meanwhile, because sums over two threads differ in the last digits.

    A clip that cannot be used is a failed row, not an exception. A ClipError follows from the clip's bytes,
    and its row has their key. Any other exception may pass (memory ran out, a disk was full): its row has no
    key, so the user is told and nothing is stored.

    What concerns every clip is raised: BadInput where the landmark model cannot be loaded, RunError where an
    object store is away.
    """
    with one_thread():
        return _extracted(request, cfg, settings or extraction(cfg))


@contextmanager
def one_thread() -> Generator[None]:
    """OpenCV on one thread within the block."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


class _Frames:
    """The frames of a clip as image files, read one after the other, and the digests of those that were
    read."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = list(paths)
        self.names = [PurePath(path).name for path in paths]
        self.digests: list[str] = []
        self._each = read_each(paths)

    def read(self) -> bytes:
        """The next frame."""
        data = next(self._each)
        self.digests.append(content(data))
        return data

    def read_rest(self) -> None:
        """For their digests alone. ClipError where one is missing."""
        self.digests += [content(data) for data in self._each]


def _extracted(request: FeatureRequest, cfg: FeatureConfig, settings: Mapping[str, JsonValue]) -> FeatureRow:
    begin = time.perf_counter()
    unit = unit_of(request.source)
    try:
        frames = _Frames(frame_paths(request.source, cfg))
    except ClipError as error:  # it has no such sequence
        return FeatureRow(request.clip_id, "", unit, "failed", error=str(error))
    channels: dict[str, npt.NDArray[Any]] = {}
    failure = note = apex_file = ""
    try:
        try:
            if isinstance(request.source, FlowMap):
                channels = _from_map(frames)
            else:
                channels, note, apex_file = _from_frames(request.source, frames, cfg)
        except ClipError as error:
            failure = str(error)
            with suppress(ClipError):
                frames.read_rest()
        # without all frames there is no content to keep a failure under
        whole = len(frames.digests) == len(frames.names)
        key = _key(request.source, frames.digests, cfg, settings) if whole else ""
    except (BadInput, RunError):
        raise
    except Exception as error:  # noqa: BLE001  # one clip must not end the run of all
        channels, key, failure = {}, "", transient_error(error)
    seconds = time.perf_counter() - begin
    if not channels:
        return FeatureRow(request.clip_id, key, unit, "failed", failure, seconds=seconds)
    return FeatureRow(request.clip_id, key, unit, "ok", "", note, channels, apex_file, seconds)


def transient_error(error: Exception) -> str:
    """The sentence for an exception that may pass: it says nothing about the clip's bytes."""
    if isinstance(error, MethodError):
        return f"{error} Nothing is stored of the clip, and the next run tries it again."
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:300].rstrip(": .")
    return (
        f"the extraction broke off ({reason}); nothing is stored of it, and the next run tries this clip"
        " again."
    )


def extraction(cfg: FeatureConfig) -> dict[str, JsonValue]:
    """What changes the features that are extracted from frames: the settings, and the code of a user's flow
    or strain. The path of the landmark model is not part of it; the model's bytes are in the key."""
    apart = {"landmarks", "flow", "strain", *(() if cfg.frames else ("frames", "sampling"))}
    return {**cfg.model_dump(mode="json", exclude=apart), **methods(cfg).identity}


def unit_of(source: Source) -> Unit:
    """The scale of a clip's flow and strain: px and px/px, or 0..1 of a published map."""
    return "minmax" if isinstance(source, FlowMap) else "px"


def frame_paths(source: Source, cfg: FeatureConfig) -> list[str]:
    """The files of a clip, in order: the onset first, and at the end what only a sequence needs. ClipError
    where the settings ask for a sequence that the clip does not have."""
    paths = list(source.images)
    if isinstance(source, FlowMap):
        return paths
    needed = (file for sample in samples(source, cfg) for file in (sample.one, sample.other))
    return [*paths, *(file for file in dict.fromkeys(needed) if file not in paths)]


def _key(source: Source, frames: Sequence[str], cfg: FeatureConfig, settings: Mapping[str, JsonValue]) -> str:
    identity: dict[str, JsonValue] = {
        "kind": {KeyFrames: "key-frames", ApexSearch: "max-flow", FlowMap: "flow-map"}[type(source)],
        "frames": list(frames),
        "epoch": FEATURE_EPOCH,
    }
    if not isinstance(source, FlowMap):  # a map is only decoded: neither settings nor a model change it
        identity |= {
            "extraction": dict(settings),
            "landmarks": model_hash(model_path(cfg.landmarks)),
            "opencv": ".".join(cv2.__version__.split(".")[:2]),
            "dlib": str(dlib.__version__).split(".")[0],
        }
        paths = frame_paths(source, cfg)
        # which frames make up the sequence: their numbers are in no file's bytes
        if moments := [[paths.index(s.one), paths.index(s.other), s.weight] for s in samples(source, cfg)]:
            identity["sequence"] = moments
    return digest(identity)


def _from_map(frames: _Frames) -> dict[str, npt.NDArray[Any]]:
    map_HW3 = decode_flow_map(frames.read(), frames.names[0])
    return dict(zip(MAPS, np.moveaxis(map_HW3, -1, 0), strict=True))


def _from_frames(
    source: KeyFrames | ApexSearch, frames: _Frames, cfg: FeatureConfig
) -> tuple[dict[str, npt.NDArray[Any]], str, str]:
    """The channels, the note, and the name of the apex if it was searched for."""
    names, paths = frames.names, frames.paths
    count, sequence = len(source.images), samples(source, cfg)
    if count < 2:
        raise ClipError(
            "there is no frame between onset and offset to choose the apex from; annotate the apex."
        )
    face = aligned_face(frames.read(), names[0], cfg)
    onset_HW = face.onset_HW

    def aligned(index: int) -> ByteArray:
        crop_HW = face.crop(frames.read(), names[index])
        if paths[index] in wanted:
            kept[paths[index]] = crop_HW
        return crop_HW

    def flow(before_HW: ByteArray, after_HW: ByteArray) -> Float32Array:
        flow_HW2 = methods(cfg).flow(before_HW, after_HW)
        return subtract_rigid(flow_HW2, face.points_L2) if cfg.stabilise else flow_HW2

    wanted = {file for sample in sequence for file in (sample.one, sample.other)}
    kept = {paths[0]: onset_HW}
    chosen, apex_HW = 1, aligned(1)
    if isinstance(source, ApexSearch):
        most = motion(onset_HW, apex_HW, face.points_L2)
        for index in range(2, count):
            candidate_HW = aligned(index)
            moved = motion(onset_HW, candidate_HW, face.points_L2)
            if moved > most:  # the first one of equals
                most, chosen, apex_HW = moved, index, candidate_HW
    for index in range(count, len(names)):
        aligned(index)
    flow_HW2 = flow(onset_HW, apex_HW)
    strain_HW = methods(cfg).strain(flow_HW2)
    crops = blended(kept, sequence)
    channels: dict[str, npt.NDArray[Any]] = {"strain": strain_HW, "onset": onset_HW, "apex": apex_HW}
    channels |= _components(flow_HW2)
    channels |= {f"crop{t}": crop_HW for t, crop_HW in enumerate(crops, start=1)}
    for t, (before_HW, after_HW) in enumerate(pairwise(crops), start=1):
        channels |= _components(flow(before_HW, after_HW), t)
    note = "; ".join(part for part in (face.note, doubt(onset_HW, apex_HW, flow_HW2)) if part)
    return channels, note, names[chosen] if isinstance(source, ApexSearch) else ""


def _components(flow_HW2: Float32Array, step: int | str = "") -> dict[str, npt.NDArray[Any]]:
    """The channels u and v of a flow, or those of a step of the sequence."""
    return {f"u{step}": flow_HW2[..., 0], f"v{step}": flow_HW2[..., 1]}


def motion(onset_HW: ByteArray, candidate_HW: ByteArray, points_L2: PointArray) -> float:
    """How far the face has moved since the onset: mean flow in the landmarks' hull, px. It is always
    stabilised, because the frame in which the head is furthest off is not the apex."""
    flow_HW2 = subtract_rigid(dis_fast(onset_HW, candidate_HW), points_L2)
    hull = np.asarray(cv2.convexHull(np.rint(points_L2).astype(np.int32)), dtype=np.int32)
    face_HW = np.asarray(cv2.fillConvexPoly(np.zeros(onset_HW.shape, np.uint8), hull, 1), dtype=np.uint8) > 0
    return float(np.hypot(flow_HW2[..., 0], flow_HW2[..., 1])[face_HW].mean())
