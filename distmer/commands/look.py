"""`distmer data look`: what the page shows of each clip."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import numpy as np

from distmer.commands.look_apex import spotted_apex, weak_apex
from distmer.commands.run import extracted
from distmer.commands.session import Session
from distmer.config import Config
from distmer.experiment.events import Step
from distmer.experiment.prepare import Features
from distmer.features.align import AlignedFace, aligned_face
from distmer.features.featureset import FeatureSet
from distmer.features.frames import ByteArray, ClipError, read_bytes
from distmer.features.pictures import corners_in_thumbnail, flow_colours, heat, jpeg, thumbnail, wheel
from distmer.features.pipeline import one_thread
from distmer.features.plausible import MARK, doubt_in
from distmer.report.live import LiveProgress
from distmer.report.look import ClipView, Picture, page, points_overlay, square_overlay
from distmer.storage import write
from distmer.types import BadInput, Clip, FlowMap, Manifest

_AT_A_TIME = 32  # clips whose features are held at once
_FEW = 3  # clips of a subject: with fewer, none of them is unlike the others
_EYES, _ROLL = 0.25, 15.0  # share of the distance, degrees: further from the subject's median is unlike it


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """A clip's row, and its face for a comparison with the subject's other clips."""

    clip: Clip
    view: ClipView
    face: AlignedFace | None


def look_at_clips(session: Session, to: Path | None, *, local: bool, spot: bool = False) -> str:
    """Write the page, and say where it is and what it shows. Missing features are extracted first.

    ``spot``: also find the frame that has moved most, among all frames around the apex.
    """
    target = _target(session, to)
    manifest, _, features = extracted(session, local=local)
    progress = LiveProgress()
    seen: list[_Seen] = []
    try:
        with one_thread():
            for one in _views(manifest, features, session.config, spot):
                seen.append(one)
                progress(Step("drawing clips", len(seen), len(manifest.clips)))
    finally:
        progress.close()
    lost = len(manifest.failures) + len(features.failures)
    views = [*_without_pictures(manifest), *_compared(seen)]
    flow, strain = session.config.inputs.flow_scale, session.config.inputs.strain_scale
    legend = _legend(flow, strain) if any(not isinstance(c.source, FlowMap) for c in manifest.clips) else ()
    subtitle = f"{manifest.clips_expected} clips, of which {manifest.clips_expected - lost} can be used."
    text = page(f"Clips of protocol {manifest.protocol}", views, legend, subtitle).encode()
    write(target, text)
    troubled = sum(bool(view.troubles) for view in views)
    return (
        f"{target}: {len(views)} clips, {troubled} of them with trouble, {len(text) / 2**20:.1f} MB.\n"
        "It shows faces: it is on this disk only, and neither logged nor uploaded."
    )


def _target(session: Session, to: Path | None) -> Path:
    root = session.workspace.root
    if to is not None:
        return to.absolute()
    if isinstance(root, Path):
        return root / "look" / f"{PurePath(session.config.data.protocol).stem}.html"
    raise BadInput(f"{root}: the page shows faces and is not uploaded; name a file on this machine by --to.")


def _views(manifest: Manifest, features: Features, config: Config, spot: bool) -> Iterator[_Seen]:
    reasons = {failure.clip: failure.reason for failure in features.failures}
    for start in range(0, len(manifest.clips), _AT_A_TIME):
        clips = manifest.clips[start : start + _AT_A_TIME]
        rows = ((clip, features.stored.get(clip.id)) for clip in clips)
        usable = [clip for clip, row in rows if row and row.status == "ok"]
        found = features.store.load([(clip.id, features.keys[clip.id]) for clip in usable])
        index = {clip: n for n, clip in enumerate(found.clip_ids)}
        for clip in clips:
            view = _begun(clip, manifest, features, reasons.get(clip.id, ""))
            n = index.get(clip.id)
            if isinstance(clip.source, FlowMap):
                pictures = () if n is None else _of_map(found, n)
                yield _Seen(clip, replace(view, pictures=pictures), None)
            else:
                yield _of_frames(clip, view, found, n, features, config, spot)


def _begun(clip: Clip, manifest: Manifest, features: Features, failure: str) -> ClipView:
    """The row without pictures: names, notes, and the troubles that are already known."""
    label = manifest.classes[clip.label]
    stored = features.stored.get(clip.id)
    parts = [part for part in (stored.note if stored else "").split("; ") if part]
    troubles = [("unusable", failure.removeprefix(f"{clip.where}: "))] if failure else []
    if stored and (why := doubt_in(stored.note)) and why not in failure:
        troubles.append(("pair", f"{why}."))
    troubles += [("faces", f"{part}.") for part in parts if "faces found" in part]
    notes = [part for part in clip.note.split("; ") if part]
    notes += [part for part in parts if not part.startswith(MARK) and "faces found" not in part]
    if stored and stored.apex_file:
        notes.append(f"apex by largest flow: {stored.apex_file}")
    emotion = "" if clip.emotion == label else clip.emotion
    return ClipView(
        clip.dataset, clip.subject, clip.name, label, emotion, clip.where, (), tuple(troubles), tuple(notes)
    )


def _of_map(found: FeatureSet, n: int) -> tuple[Picture, ...]:
    """A published map: its three channels, which have no unit."""
    return tuple(
        _picture(np.rint(found.maps[name][n] * 255).astype(np.uint8), name, least=112)
        for name in ("u", "v", "strain")
    )


def _of_frames(
    clip: Clip,
    view: ClipView,
    found: FeatureSet,
    n: int | None,
    features: Features,
    config: Config,
    spot: bool,
) -> _Seen:
    onset, *others = clip.source.images
    name = PurePath(onset).name
    pictures: list[Picture] = []
    face: AlignedFace | None = None
    try:
        whole_hw = thumbnail(onset, name)
        pictures = [_picture(whole_hw, "whole frame")]
        face = aligned_face(read_bytes(onset), name, config.features)
        square = square_overlay(map(tuple, corners_in_thumbnail(face).tolist()))
        pictures = [_picture(whole_hw, "whole frame", square)]
    except ClipError as error:
        if n is not None or not view.troubles:
            view = replace(view, troubles=(*view.troubles, ("unusable", str(error))))
    if n is None:
        return _Seen(clip, replace(view, pictures=tuple(pictures)), face)
    onset_HW, apex_HW = found.crops["onset"][n], found.crops["apex"][n]
    flow_HW2 = np.stack([found.maps["u"][n], found.maps["v"][n]], axis=-1)
    strain_HW = found.maps["strain"][n]
    apex = features.stored[clip.id].apex_file or PurePath(others[0]).name
    dots = "" if face is None else points_overlay(map(tuple, face.points_L2.tolist()))
    mean, most = float(np.hypot(*np.moveaxis(flow_HW2, -1, 0)).mean()), float(strain_HW.max())
    pictures += [
        _picture(onset_HW, f"onset {name}", dots),
        replace(_picture(apex_HW, f"apex {apex}"), under=jpeg(onset_HW)),
        _picture(flow_colours(flow_HW2, config.inputs.flow_scale), f"flow, mean {mean:.2f} px"),
        _picture(heat(strain_HW, config.inputs.strain_scale), f"strain, up to {most:.2f}"),
    ]
    view = replace(view, pictures=tuple(pictures))
    doubted = any(key == "pair" for key, _ in view.troubles)
    if face is not None and not doubted and (weak := weak_apex(clip, onset_HW, apex_HW, face)):
        view = replace(view, troubles=(*view.troubles, ("apex", weak)))
    if face is not None and spot and (found_apex := spotted_apex(clip, onset_HW, face)):
        frame, distance = found_apex
        frames = "1 frame" if abs(distance) == 1 else f"{abs(distance)} frames"
        side = f"{frames} {'after' if distance > 0 else 'before'} the annotated apex"
        note = (
            f"frame {frame} has moved most, {side}" if distance else "no frame has moved more than the apex"
        )
        view = replace(view, notes=(*view.notes, note), distance=distance)
    return _Seen(clip, view, face)


def _compared(seen: Sequence[_Seen]) -> list[ClipView]:
    """The rows, with a note on each face that differs from those in the subject's other clips: often it is an
    ear, or a face on the wall."""
    by_subject: dict[object, list[AlignedFace]] = defaultdict(list)
    for one in seen:
        if one.face is not None:
            by_subject[one.clip.subject_key].append(one.face)
    return [
        replace(one.view, troubles=(*one.view.troubles, *_unlike(one.face, by_subject[one.clip.subject_key])))
        for one in seen
    ]


def _unlike(face: AlignedFace | None, faces: Sequence[AlignedFace]) -> list[tuple[str, str]]:
    if face is None or len(faces) < _FEW:
        return []
    eyes, roll = statistics.median(f.eyes for f in faces), statistics.median(f.roll for f in faces)
    found: list[tuple[str, str]] = []
    if abs(face.eyes / eyes - 1) > _EYES:
        found.append(
            ("eyes", f"the eyes lie {face.eyes:.0f} px apart, in the subject's other clips {eyes:.0f} px.")
        )
    if abs(face.roll - roll) > _ROLL:
        found.append(
            ("eyes", f"the eyes are turned by {face.roll:.0f}°, in the subject's other clips {roll:.0f}°.")
        )
    return found


def _without_pictures(manifest: Manifest) -> list[ClipView]:
    """The rows of the sheets that could not be used as clips."""
    views: list[ClipView] = []
    for failure in manifest.failures:
        dataset, subject, name = [*failure.clip.split("/", 2), "", ""][:3]
        views.append(ClipView(dataset, subject, name, "", "", "", (), (("unusable", failure.reason),)))
    return views


def _legend(flow: float, strain: float) -> tuple[Picture, ...]:
    ramp_HW = np.tile(np.linspace(0, strain, 120, dtype=np.float32), (14, 1))
    return (
        _picture(
            wheel(72),
            "Flow: the colour says where the skin moves to (right red, down green, left cyan, up violet),"
            f" white is no motion, full colour {flow:g} px and more.",
        ),
        _picture(
            heat(ramp_HW, strain),
            f"Strain: black is 0, yellow {strain:g} px/px and more. Point at an apex to see the onset in its"
            " place.",
        ),
    )


def _picture(image: ByteArray, caption: str, overlay: str = "", least: int = 0) -> Picture:
    height, width = image.shape[:2]
    shown = max(1, -(-least // width)) if least else 1
    return Picture(jpeg(image), width * shown, height * shown, caption, overlay)
