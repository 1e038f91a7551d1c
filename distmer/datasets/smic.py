"""SMIC-HS (Li et al. 2013): 100 fps, 16 subjects; folders
HS/s1/micro/{negative,positive,surprise}/s1_ne_01/.

There is no apex, and officially no sheet: onset and offset are a clip's first and last frame, the emotion is
a folder. A smic.xlsx of one's own (meb's columns: subject, material, emotion, onset, offset) overrides that.
"""

from __future__ import annotations

from dataclasses import replace

from distmer.datasets.base import DatasetInfo, ReadOptions, by_number, image_folder, inside, with_frames
from distmer.datasets.frame_files import Unusable, frames_of
from distmer.datasets.sheets import Annotation, matching, read_sheet, tidy
from distmer.storage import Place, below
from distmer.types import BadInput

_SHEETS = ("smic.xls*", "SMIC-HS*.xls*", "SMIC_HS*.xls*")
_COLUMNS = {
    "subject": ("subject",),
    "clip": ("material", "Filename"),
    "emotion": ("emotion",),
    "onset": ("onset", "OnsetF"),
    "offset": ("offset", "OffsetF"),
}
_IMAGES = ("HS", "SMIC_all_raw/HS", "SMIC-HS", "SMIC_HS", "", "SMIC_all_cropped/HS")


def read(root: Place, options: ReadOptions) -> list[Annotation]:
    """Every clip of the sheet if there is one, else of the folders; the apex by policy, for no clip has
    one."""
    if options.missing_apex == "error":
        raise BadInput(f"{root}: SMIC has no annotated apex; set data.missing_apex to midpoint or max-flow.")
    images = image_folder(root, _IMAGES, r"s\d+")
    sheets = matching(root, _SHEETS)
    if len(sheets) > 1:
        raise BadInput(
            f"{root}: {', '.join(p.name for p in sheets)} could each be the sheet of SMIC;"
            " leave only one there."
        )
    if not sheets:
        return _from_folders(images, options)
    rows = [replace(row, subject=tidy(row.subject)) for row in read_sheet(sheets[0], _COLUMNS)]
    return [with_frames(row, _folder(images, row), images, options) for row in rows]


def _folder(images: Place, row: Annotation) -> Place:
    return images / row.subject / "micro" / tidy(row.emotion).lower() / tidy(row.clip)


def _from_folders(images: Place, options: ReadOptions) -> list[Annotation]:
    rows: list[Annotation] = []
    for subject in (p for p in by_number(images) if (p / "micro").is_dir()):
        for emotion in by_number(subject / "micro"):
            for clip in by_number(emotion):
                rows.append(_from_folder(images, subject.name, emotion.name, clip, options))
    return rows


def _from_folder(images: Place, subject: str, emotion: str, clip: Place, options: ReadOptions) -> Annotation:
    where = below(clip, images.parent) or clip.name
    try:
        frames = frames_of(inside(clip, images))
    except Unusable as problem:
        return Annotation(subject, clip.name, emotion.lower(), where, problem=f"{where}: {problem}")
    first, last = str(min(frames)), str(max(frames))
    row = Annotation(subject, clip.name, emotion, where, onset=first, offset=last)
    return with_frames(row, clip, images, options)


DATASET = DatasetInfo(
    name="smic",
    title="SMIC-HS",
    citation="Li, Pfister, Huang, Zhao, Pietikäinen: A spontaneous micro-expression database. IEEE FG"
    " 2013, doi 10.1109/FG.2013.6553717",
    folders=("SMIC", "SMIC-HS", "SMIC_HS", "SMIC_all_raw"),
    markers=("HS", "SMIC_all_raw", "SMIC_all_cropped", *_SHEETS),
    read=read,
)
