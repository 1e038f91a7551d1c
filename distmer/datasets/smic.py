"""SMIC-HS (Li et al. 2013): 100 fps, 16 subjects; folders HS/s1/micro/{negative,positive,surprise}/s1_ne_01/.

There is no apex, and the folders count: onset and offset are a clip's first and last frame, the emotion is a
folder. A sheet in the set's folder (SMIC-HS-E_annotation.xlsx, or meb's smic.xlsx) has fewer clips than the
folders and other names of the subjects, so it may only correct onset and offset. Differences are reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from distmer.datasets.base import (
    DatasetInfo,
    ReadOptions,
    by_number,
    emotion_name,
    image_folder,
    inside,
    with_frames,
)
from distmer.datasets.columns import Columns
from distmer.datasets.frame_files import Unusable, frames_of
from distmer.datasets.sheets import Annotation, matching, read_sheet
from distmer.datasets.tables import sheet_names
from distmer.datasets.text import listing, plain_number, tidy
from distmer.storage import Place, below
from distmer.types import BadInput

_SHEETS = sheet_names("smic", "SMIC-HS*", "SMIC_HS*")
_COLUMNS = Columns(
    {
        "subject": ("subject",),
        "clip": ("material", "Filename", "clip"),
        "onset": ("onset", "OnsetF", "Onset Frame"),
        "offset": ("offset", "OffsetF", "Offset Frame"),
    },
    {"emotion": ("emotion", "Estimated Emotion")},
)
_IMAGES = ("HS", "SMIC_all_raw/HS", "SMIC-HS", "SMIC_HS", "", "SMIC_all_cropped/HS")


def read(root: Place, options: ReadOptions) -> list[Annotation]:
    """Every clip of the folders, and every row of a sheet that has no folder. The apex follows from the
    policy, because no clip has one."""
    if options.missing_apex == "error":
        raise BadInput(f"{root}: SMIC has no annotated apex; set data.missing_apex to midpoint or max-flow.")
    images = image_folder(root, _IMAGES, r"s\d+")
    options.say(f"frames in {below(images, root.parent) or images}")
    folders = {
        clip: Annotation(
            subject.name, clip.name, emotion_name(emotion.name), below(clip, images.parent) or clip.name
        )
        for subject in by_number(images)
        if (subject / "micro").is_dir()
        for emotion in by_number(subject / "micro")
        for clip in by_number(emotion)
    }
    given, asides = _sheet(root, list(folders.values()), options)
    rows = [_read(row, clip, images, given.get(_key(row.clip)), options) for clip, row in folders.items()]
    return [*rows, *asides]


def _read(
    row: Annotation, folder: Place, images: Place, given: Annotation | None, options: ReadOptions
) -> Annotation:
    """A folder as a clip: from its first frame to its last, or as the sheet's row ``given`` says."""
    try:
        frames = frames_of(inside(folder, images, options))
    except Unusable as problem:
        return replace(row, problem=f"{row.where}: {problem}")
    whole = replace(row, onset=str(min(frames)), offset=str(max(frames)))
    clip = with_frames(whole, lambda row: folder, images, options)
    if given is None or (plain_number(given.onset), plain_number(given.offset)) == (
        whole.onset,
        whole.offset,
    ):
        return clip
    corrected = replace(row, onset=given.onset, offset=given.offset)
    corrected = with_frames(corrected, lambda row: folder, images, options)
    reason = corrected.problem.removeprefix(f"{row.where}: ")
    if not reason and plain_number(given.offset) not in {str(number) for number in frames}:
        reason = f"its folder has no frame {tidy(given.offset) or 'of an offset'}"
    if reason:
        options.say(f"{given.where} does not correct {row.subject}/{row.clip}: {reason}")
        return clip
    note = f"onset and offset of the sheet, {given.where}"
    return replace(corrected, note="; ".join(part for part in (note, corrected.note) if part))


def _sheet(
    root: Place, folders: list[Annotation], options: ReadOptions
) -> tuple[dict[str, Annotation], list[Annotation]]:
    """Clip → the sheet's row with its onset and offset, and the rows that correct no folder."""
    rows = _rows(root, options)
    there = {_key(row.clip): row for row in folders}
    given: dict[str, Annotation] = {}
    asides: list[Annotation] = []
    for row in rows:
        if reason := _useless(row, there, given):
            asides.append(Annotation("", "", "", row.where, aside=reason))
            continue
        given[_key(row.clip)] = row
        emotion, own = emotion_name(row.emotion), there[_key(row.clip)].emotion
        if emotion and emotion != own:
            options.say(f"{row.where}: {row.clip} is {emotion!r} there; its folder, which counts, is {own!r}")
    if rows and (len(given) != len(folders) or asides):
        lacking = [row.clip for name, row in there.items() if name not in given]
        options.say(
            f"the sheet describes {len(given)} of the {len(folders)} clips, and the folders count; not in the"
            f" sheet: {listing(lacking)}"
        )
    return given, asides


def _rows(root: Place, options: ReadOptions) -> list[Annotation]:
    sheets = matching(root, _SHEETS)
    if len(sheets) > 1:
        options.say(
            f"{listing(p.name for p in sheets)}: not read, for only one sheet can correct the folders"
        )
    if len(sheets) != 1:
        return []
    try:
        return read_sheet(sheets[0], _COLUMNS, options.columns, options.say)
    except BadInput as error:
        if options.columns:  # a user who maps its columns wants it to be read
            raise
        options.say(f"not read, for the folders are the truth: {error}")
        return []


def _useless(row: Annotation, there: Mapping[str, Annotation], given: Mapping[str, Annotation]) -> str:
    """Why a row of the sheet does not correct a folder; "" if it does."""
    if row.aside or row.problem:
        return row.aside or row.problem
    if _key(row.clip) not in there:
        reason = f"the folders, which are the truth for SMIC, have no clip {row.clip!r}; correct the row."
        return f"{row.where}: {reason}"
    if first := given.get(_key(row.clip)):
        return f"{row.where}: it describes {row.clip} again, after {first.where}; remove one of the rows."
    return ""


def _key(clip: str) -> str:
    return tidy(clip).lower()


DATASET = DatasetInfo(
    name="smic",
    title="SMIC-HS",
    citation="Li, Pfister, Huang, Zhao, Pietikäinen: A spontaneous micro-expression database. IEEE FG"
    " 2013, doi 10.1109/FG.2013.6553717",
    folders=("SMIC", "SMIC-HS", "SMIC_HS", "SMIC_all_raw"),
    markers=("HS", "SMIC_all_raw", "SMIC_all_cropped", *_SHEETS),
    read=read,
    fields=_COLUMNS.fields,
)
