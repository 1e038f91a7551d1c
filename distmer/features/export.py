"""Features as files that other code reads: in the folders of the published flow maps, and as .npy in px.
``docs/data.md`` describes both layouts."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from distmer.config import InputConfig
from distmer.features.featureset import MAPS, FeatureSet
from distmer.features.inputs import model_inputs
from distmer.storage import csv_text, write
from distmer.types import BadInput, Clip

LABELS = {"negative": "0", "positive": "1", "surprise": "2"}
_HEADER = ("clip", "file", "dataset", "subject", "label", "unit_of_u_and_v", "unit_of_strain")


def require_empty(folder: Path) -> None:
    """BadInput for a folder that holds something: two exports in one would look like one."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder}: something is there already; name an empty folder, or one to be made.")


def require_layout(clips: Sequence[Clip], classes: Sequence[str]) -> None:
    """BadInput where the published layout has no place for these clips."""
    for name in classes:
        if name not in LABELS:
            raise BadInput(
                f"the layout of the published maps has no class {name!r}, only {', '.join(LABELS)}; export as"
                " npy, or use a protocol with these classes."
            )
    owner: dict[str, Clip] = {}
    for clip in clips:
        other = owner.setdefault(clip.subject, clip)
        if other.dataset != clip.dataset:
            raise BadInput(
                f"{other.subject_key} and {clip.subject_key} would share the folder {clip.subject}; export"
                " one data set at a time, or as npy."
            )


def write_maps(
    folder: Path, clips: Mapping[str, Clip], classes: Sequence[str], parts: Iterable[FeatureSet], size: int
) -> int:
    """Write the published layout, maps of ``size`` px; how many clips. ``u_train`` of a subject links the
    maps of all others, because the published trainers look there.

    ``clips``: clip id → clip; ``parts``: their features, some clips at a time.
    """
    written: list[tuple[str, str, Path]] = []  # subject, label, file
    for features in parts:
        x_NCHW = model_inputs(features, MAPS, size, InputConfig(normalise="minmax"))
        for name, x_CHW in zip(features.clip_ids, x_NCHW, strict=True):
            clip = clips[name]
            label = LABELS[classes[clip.label]]
            file = folder / clip.subject / "u_test" / label / f"{clip.subject}_{clip.name} .png"
            bgr_HW3 = np.rint(np.clip(x_CHW[::-1], 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
            write(file, cv2.imencode(".png", np.ascontiguousarray(bgr_HW3))[1].tobytes())
            written.append((clip.subject, label, file))
    for subject in {subject for subject, _, _ in written}:
        for other, label, file in written:
            if other != subject:
                _link(file, folder / subject / "u_train" / label / file.name)
    return len(written)


def write_arrays(
    folder: Path, clips: Mapping[str, Clip], classes: Sequence[str], parts: Iterable[FeatureSet], size: int
) -> int:
    """Write the .npy files, maps of ``size`` px with their values as stored, and ``clips.csv``; how many
    clips."""
    rows: list[tuple[str, ...]] = []
    for features in parts:
        x_NCHW = model_inputs(features, MAPS, size, InputConfig(normalise="none"))
        units = ("px", "px/px") if features.unit == "px" else ("min-max", "min-max")
        for name, x_CHW in zip(features.clip_ids, x_NCHW, strict=True):
            clip = clips[name]
            file = f"npy/{clip.dataset}/{clip.subject}/{clip.name}.npy"
            buffer = io.BytesIO()
            np.save(buffer, x_CHW, allow_pickle=False)
            write(folder / file, buffer.getvalue())
            rows.append((name, file, clip.dataset, clip.subject, classes[clip.label], *units))
    write(folder / "clips.csv", csv_text([_HEADER, *rows]).encode())
    return len(rows)


def _link(file: Path, name: Path) -> None:
    """Another name of a file, which takes no room; a copy where the disk has no hard links."""
    name.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, name)
    except OSError:
        shutil.copyfile(file, name)
