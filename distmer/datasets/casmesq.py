"""CAS(ME)² (Qu et al. 2018): 30 fps, 22 subjects, 57 micro-expressions among 300 macro-expressions; sheet
CAS(ME)^2code_final.xlsx, frames <image folder>/s15/<video>/img1.jpg.

The sheet may have no header: its columns are then taken in the published order. It names subjects and videos
by codes of its own. Further worksheets of two columns (the naming rules) say which folder a code means. We
know this layout from a description only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from distmer.datasets.base import ReadOptions, by_number
from distmer.datasets.columns import Columns
from distmer.datasets.frame_files import Unusable
from distmer.datasets.layout import HEADINGS, PLAIN, SheetLayout, micro_alone, padded
from distmer.datasets.sheets import Annotation, find_sheet
from distmer.datasets.tables import tables
from distmer.datasets.text import listing, subject_number, tidy
from distmer.storage import Place

_LAYOUT = SheetLayout(
    sheets=("CAS(ME)^2code*", "CAS(ME)2code*", "CASME2code*", "casmesq"),
    columns=Columns(
        {**HEADINGS, **PLAIN, "clip": ("video code", "video", "Filename")},
        {"type": ("expression type", "type")},
        ("subject", "clip", "onset", "apex", "offset", "", "emotion", "type", ""),
    ),
    images=("selectedpic", "rawpic", "cropped", ""),
    subject=padded("s", 2),
    folders=("CASMESQ", "CAS(ME)2", "CAS(ME)^2", "CASME_sq", "CASME(2)"),
    refine=micro_alone,
)


def read(root: Place, options: ReadOptions) -> list[Annotation]:
    """Every row of the sheet. Macro-expressions are set aside."""
    sheet = find_sheet(root, _LAYOUT.names)
    codes = _codes(sheet)
    if codes:
        options.say(f"{sheet.name}: {len(codes)} codes of subjects and videos in further worksheets")
    return replace(_LAYOUT, clip_folder=lambda images, row: _folder(images, row, codes)).read(root, options)


def _codes(sheet: Place) -> dict[str, str]:
    """From each cell of a worksheet of two columns to the other cell of its row."""
    codes: dict[str, str] = {}
    for table in tables(sheet).values():
        rows = [[tidy(cell) for cell in row if tidy(cell)] for row in table]
        rows = [row for row in rows if row]
        if rows and all(len(row) == 2 for row in rows):
            for left, right in rows:
                codes |= {left.lower(): right, right.lower(): left}
    return codes


def _folder(images: Place, row: Annotation, codes: Mapping[str, str]) -> Place:
    """The folder of a row's video: it has the video's name, or its code between other characters."""
    number = subject_number(row.subject)
    wanted = {number, subject_number(codes.get(str(number), ""))} - {None}
    subjects = [p for p in by_number(images) if subject_number(p.name) in wanted]
    # A code that the naming rules give comes before the number that is typed.
    subjects.sort(key=lambda p: subject_number(p.name) == number)
    video = re.sub(r"_\d+$", "", row.clip).lower()
    names = {name for name in (row.clip.lower(), video, codes.get(video, "").lower()) if name}
    for subject in subjects:
        videos = [p for p in by_number(subject) if p.name.lower() in names]
        videos = videos or [
            p
            for p in by_number(subject)
            if any(name in re.split(r"[_\W]", p.name.lower(), maxsplit=1)[-1] for name in names)
        ]
        if len(videos) > 1:
            names_there = listing(p.name for p in videos)
            raise Unusable(
                f"the video {row.clip!r} may be {names_there} in {subject}; name the folder in the sheet."
            )
        if videos:
            return videos[0]
    return images / row.subject / row.clip


DATASET = replace(
    _LAYOUT.dataset(
        name="casmesq",
        title="CAS(ME)²",
        citation="Qu, Wang, Yan, Li, Wu, Fu: CAS(ME)2. IEEE Trans. Affective Computing 9(4):424-436, 2018",
    ),
    read=read,
)
