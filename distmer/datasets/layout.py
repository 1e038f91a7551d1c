"""The layout that most data sets share: one coding sheet, and a folder of frames for each clip."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from distmer.datasets.base import DatasetInfo, ReadOptions, by_number, emotion_name, image_folder, with_frames
from distmer.datasets.columns import Columns
from distmer.datasets.sheets import Annotation, find_sheet, read_sheet
from distmer.datasets.tables import sheet_names
from distmer.datasets.text import SUBJECT_FOLDER, subject_number, tidy
from distmer.storage import Place, below

# The headings that most coding sheets use, and those of frame numbers in the later sets. Blanks, punctuation
# and case do not count.
HEADINGS: Mapping[str, tuple[str, ...]] = {
    "subject": ("Subject",),
    "clip": ("Filename",),
    "onset": ("OnsetFrame", "OnsetF"),
    "apex": ("ApexFrame", "ApexF"),
    "offset": ("OffsetFrame", "OffsetF"),
    "emotion": ("Estimated Emotion", "Emotion"),
}
PLAIN = {field: (field.capitalize(), f"{field.capitalize()}Frame") for field in ("onset", "apex", "offset")}


@dataclass(frozen=True, slots=True)
class SheetLayout:
    """A data set of one coding sheet and a folder of frames for each clip.

    Clips are read from the first image folder that holds a folder like ``subject_folder``, and from no other.
    """

    sheets: tuple[str, ...]  # glob patterns of the sheet's name, without its ending
    columns: Columns
    images: tuple[str, ...]  # names of the image folder, raw before cropped; "" is the root itself
    subject: Callable[[str], str]  # spells a subject of the sheet as its folder does
    subject_folder: str = SUBJECT_FOLDER  # regular expression of the folders in the image folder
    folders: tuple[str, ...] = ()  # names of the set's folder, where the sheet lies beside it
    # image folder, row → the folder of the clip's frames
    clip_folder: Callable[[Place, Annotation], Place] = lambda images, row: images / row.subject / row.clip
    refine: Callable[[Annotation], Annotation] = lambda row: row  # what else the rows of this set need

    @property
    def names(self) -> tuple[str, ...]:
        """Glob patterns of the sheet's file."""
        return sheet_names(*self.sheets)

    def dataset(self, name: str, title: str, citation: str) -> DatasetInfo:
        """The data set of this layout."""
        return DatasetInfo(name, title, citation, self.folders, self.names, self.read, self.columns.fields)

    def read(self, root: Place, options: ReadOptions) -> list[Annotation]:
        """Every row of the sheet, in its order."""
        sheet = find_sheet(root, self.names)
        images = image_folder(root, self.images, self.subject_folder, self.folders)
        options.say(f"frames in {below(images, root.parent) or images}")
        named = subject_folders(images)
        rows = read_sheet(sheet, self.columns, options.columns, options.say)
        return [self._of_row(row, images, named, options) for row in rows]

    def _of_row(
        self, row: Annotation, images: Place, named: Mapping[int, Place], options: ReadOptions
    ) -> Annotation:
        if row.aside:
            return row
        spelled = replace(row, subject=self.subject(row.subject), clip=tidy(row.clip))
        spelled = self.refine(replace(spelled, emotion=emotion_name(spelled.emotion)))
        return with_frames(
            spelled, lambda row: _there(self.clip_folder(images, row), images, row, named), images, options
        )


def subject_folders(images: Place) -> dict[int, Place]:
    """The subjects' folders by number, for copies that spell them otherwise: 1, s1 or sub001 for sub01. A
    number that two folders have is left out."""
    numbered = [(subject_number(p.name), p) for p in by_number(images)]
    numbers = [number for number, _ in numbered]
    return {n: p for n, p in numbered if n is not None and numbers.count(n) == 1}


def _there(folder: Place, images: Place, row: Annotation, named: Mapping[int, Place]) -> Place:
    """The clip's folder. If the subject's folder has another spelling, the clip's folder below that one."""
    number = subject_number(row.subject)
    rest = below(folder, images / row.subject)
    if number is None or rest is None or (images / row.subject).is_dir() or number not in named:
        return folder
    return named[number] / rest


def padded(prefix: str, width: int) -> Callable[[str], str]:
    """A function that spells a subject: "1", "01", "sub1" or "spNO.1" becomes ``prefix`` and a zero-padded
    number. Other text stays as it is, and fails later because there is no such folder."""

    def spell(text: str) -> str:
        number = subject_number(text)
        return tidy(text) if number is None else f"{prefix}{number:0{width}d}"

    return spell


def micro_alone(row: Annotation) -> Annotation:
    """The row; set aside if it is a macro-expression, which some sheets hold too."""
    kind = tidy(row.extra.get("type", ""))
    if not kind or kind.lower().startswith("micro"):
        return row
    return replace(row, aside=f"its expression type is {kind!r}")
