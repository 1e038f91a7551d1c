"""SMIC-HS (Li et al. 2013): 100 fps, 16 subjects; folders HS/s1/micro/{negative,positive,surprise}/s1_ne_01/.

There is no apex, and officially no sheet: onset and offset are a clip's first and last frame, the emotion is a folder. A
smic.xlsx of one's own (meb's columns: subject, material, emotion, onset, offset) overrides that.
"""

from __future__ import annotations

from distmer.datasets.base import Annotation, DatasetInfo, ReadOptions, Row, annotated, by_number, image_folder, inside
from distmer.datasets.frames import Unusable, frames_of
from distmer.datasets.sheets import matching, read_sheet, tidy
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


def read(root: Place, options: ReadOptions) -> list[Row]:
    """Every clip of the sheet if there is one, else of the folders; the apex by policy, for no clip has one."""
    if options.missing_apex == "error":
        raise BadInput(f"{root}: SMIC has no annotated apex; set data.missing_apex to midpoint or max-flow.")
    images = image_folder(root, _IMAGES, r"s\d+")
    sheets = matching(root, _SHEETS)
    if len(sheets) > 1:
        raise BadInput(f"{root}: {', '.join(p.name for p in sheets)} could each be the sheet of SMIC; leave only one there.")
    if not sheets:
        return _from_folders(images, options)
    rows: list[Row] = []
    for row in read_sheet(sheets[0], _COLUMNS):
        note = Annotation(row.where, apex="", **{k: tidy(v) if k == "subject" else v for k, v in row.cells.items()})
        folder = images / note.subject / "micro" / tidy(note.emotion).lower() / tidy(note.clip)
        rows.append(annotated(note, images, folder, options))
    return rows


def _from_folders(images: Place, options: ReadOptions) -> list[Row]:
    rows: list[Row] = []
    for subject in (p for p in by_number(images) if (p / "micro").is_dir()):
        for emotion in by_number(subject / "micro"):
            for clip in by_number(emotion):
                rows.append(_from_folder(images, subject.name, emotion.name, clip, options))
    return rows


def _from_folder(images: Place, subject: str, emotion: str, clip: Place, options: ReadOptions) -> Row:
    where = below(clip, images.parent) or clip.name
    try:
        frames = frames_of(inside(clip, images))
    except Unusable as problem:
        return Row(subject, clip.name, emotion.lower(), where, problem=f"{where}: {problem}")
    note = Annotation(where, subject, clip.name, emotion, str(min(frames)), "", str(max(frames)))
    return annotated(note, images, clip, options)


DATASET = DatasetInfo(
    name="smic",
    title="SMIC-HS",
    citation="Li, Pfister, Huang, Zhao, Pietikäinen: A spontaneous micro-expression database. IEEE FG 2013, doi 10.1109/FG.2013.6553717",
    folders=("SMIC", "SMIC-HS", "SMIC_HS", "SMIC_all_raw"),
    signs=("HS", "SMIC_all_raw", "SMIC_all_cropped", *_SHEETS),
    read=read,
)
