"""Lists of clips: reading one for ``data.include``, and writing one with ``distmer data list`` and ``data
lock``.

A list is a text file of clip ids, or a table (CSV or Excel) with a column ``clip``: ids, or names beside a
column ``subject``. A column ``dataset`` may be left out. A column ``sha256`` pins the clips' content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distmer.datasets.assemble import clip_id
from distmer.datasets.columns import Columns, find_header, rows_below
from distmer.datasets.sheets import Annotation
from distmer.datasets.tables import EXCEL, TEXT, tables
from distmer.datasets.text import clip_spelling, tidy
from distmer.digests import digest
from distmer.registry import nearest
from distmer.storage import Place
from distmer.types import ApexSearch, BadInput, Clip, ClipFailure, Manifest

_HEADER = ("clip", "label", "emotion", "onset", "apex", "frames", "policy", "errata", "row")
_COLUMNS = Columns(
    {"clip": ("clip", "clip id", "filename", "file name", "filename_o", "material", "id")},
    {
        "subject": ("subject", "sub"),
        "dataset": ("dataset", "data set", "db"),
        "label": ("label",),
        "sha256": ("sha256",),
    },
)
FIELDS = _COLUMNS.fields  # that data.columns.include may map


@dataclass(frozen=True, slots=True)
class Listed:
    """A line of a list. ``dataset`` "": not stated; ``label`` and ``sha256`` "": any."""

    line: int
    dataset: str
    subject: str
    clip: str
    label: str = ""
    sha256: str = ""

    @property
    def name(self) -> str:
        return "/".join(part for part in (self.dataset, self.subject, self.clip) if part)


def read_list(path: Place, columns: Mapping[str, str] | None = None) -> list[Listed]:
    """The lines of the list of ``data.include``; ``columns`` maps its headings. BadInput names file and
    line."""
    if path.suffix.lower() in EXCEL:
        return _of_table(path, columns or {})
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise BadInput(
            f"{path}: the list of data.include cannot be read ({error.strerror}); name an existing text file."
        ) from error
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{path}: the list of data.include is not UTF-8 text (byte {error.start}); save it as UTF-8."
        ) from error
    texts = [line.partition("#")[0].strip() for line in lines]
    if path.suffix.lower() in TEXT and "/" not in next(filter(None, texts), "/"):  # a header, and no id
        return _of_table(path, columns or {})
    return [Listed(n, *_parts_of_id(path, n, text)) for n, text in enumerate(texts, start=1) if text]


def resolve(
    path: Place, listed: Sequence[Listed], rows: Mapping[str, Sequence[Annotation]]
) -> tuple[dict[str, Listed], list[ClipFailure]]:
    """Clip id → line of the list, and the lines that no row fits. A line is found among the rows by subject
    and clip, in whatever spelling, and by its data set if it has one.

    BadInput where the list is empty, names a clip twice or a data set that the protocol does not have, or
    where a line fits several clips.
    """
    if not listed:
        raise BadInput(f"{path}: the list of data.include is empty; name the clips, one id a line.")
    names = _by_names(rows)
    there = {clip_id(dataset, row) for dataset, own in rows.items() for row in own}
    usable = {id for ids in names.values() for id in ids}  # without rows that are set aside
    datasets = {*rows, *(name.split("/")[0] for name in there)}
    found: dict[str, Listed] = {}
    lost: list[ClipFailure] = []
    for entry in listed:
        name = entry.name
        if name not in usable:
            ids = names.get(clip_spelling(entry.subject, entry.clip), [])
            ids = [id for id in ids if not entry.dataset or id.startswith(f"{entry.dataset}/")]
            if len(ids) > 1:
                remedy = "write the id of one of them in the list"
                raise BadInput(f"{path} line {entry.line}: {name} may be {' or '.join(ids)}; {remedy}.")
            if not ids and not entry.dataset:
                reason = f"{path} line {entry.line}: no row or folder has this subject and clip"
                lost.append(
                    ClipFailure(f"unknown/{entry.subject}/{entry.clip}", f"{reason}; correct the line.")
                )
                continue
            name = ids[0] if ids else name
        if name in found:
            raise BadInput(
                f"{path} line {entry.line}: {name} is listed already in line {found[name].line}; remove one."
            )
        found[name] = entry
        if entry.dataset and entry.dataset not in datasets:
            hint = nearest(entry.dataset, datasets)
            raise BadInput(
                f"{path} line {entry.line}: {entry.dataset!r} is not a data set of the protocol; {hint}"
            )
        if name not in there:
            reason = f"{path} line {entry.line}: no row or folder describes {name}"
            lost.append(ClipFailure(name, f"{reason}; correct the id, or the data."))
    return found, lost


def other_labels(manifest: Manifest, entries: Mapping[str, Listed]) -> list[str]:
    """The clips to which the list gives another class, by its name or its number, each as a sentence."""
    lines: list[str] = []
    for clip in manifest.clips:
        entry, own = entries.get(clip.id), manifest.classes[clip.label]
        if entry and entry.label and entry.label.lower() not in {own.lower(), str(clip.label)}:
            lines.append(f"{clip.id} is {own}, and {entry.label} in line {entry.line} of the list")
    return lines


def changed_content(manifest: Manifest, digests: Mapping[str, str]) -> list[str]:
    """The clips whose content is not what the list pins, each as a sentence.

    ``digests``: image → SHA-256. A clip with an image that has none is skipped: it is a failed clip anyway.
    """
    return [
        f"{clip.id}: its images are not those that the list pins"
        for clip in manifest.clips
        if clip.id in manifest.pinned and content_of(clip, digests) not in {"", manifest.pinned[clip.id]}
    ]


def table_of(
    manifest: Manifest, root: str | None, content: Mapping[str, str] | None = None
) -> list[list[str]]:
    """The usable clips, a row each below the headings: files as seen from ``root``, and the content's digest
    if given."""
    rows = [[*_HEADER, *([] if content is None else ["sha256"])]]
    for clip in manifest.clips:
        notes = [part for part in clip.note.split("; ") if part]
        images = clip.source.images
        apex = "" if isinstance(clip.source, ApexSearch) else images[-1]
        errata = [note for note in notes if note.startswith("erratum")]
        rows.append(
            [
                *(clip.id, manifest.classes[clip.label], clip.emotion),
                *(file.removeprefix(f"{str(root).rstrip('/')}/") for file in (images[0], apex)),
                str(len(images)),
                "; ".join(note for note in notes if note not in errata),
                "; ".join(errata),
                clip.where,
                *([] if content is None else [content[clip.id]]),
            ]
        )
    return rows


def content_of(clip: Clip, digests: Mapping[str, str]) -> str:
    """The SHA-256 of a clip's content: of its images' digests, in order; "" if one of them has none."""
    images = clip.source.images
    return digest([digests[image] for image in images]) if all(image in digests for image in images) else ""


def _parts_of_id(path: Place, number: int, text: str) -> tuple[str, str, str]:
    parts = text.split("/")
    if len(parts) != 3 or not all(parts):
        raise BadInput(
            f"{path} line {number}: {text!r} is not a clip id; write data set/subject/clip,"
            " such as casme2/sub01/EP02_01f."
        )
    dataset, subject, clip = parts
    return dataset, subject, clip


def _of_table(path: Place, columns: Mapping[str, str]) -> list[Listed]:
    found = tables(path)
    header = find_header(path, found, _COLUMNS.mapped(columns))
    listed: list[Listed] = []
    for number, _, cells in rows_below(header, found[header.table]):
        values = {name: tidy(cell) for name, cell in cells.items()}
        clip = values["clip"]
        rest = (values.get("label", ""), values.get("sha256", ""))
        if clip.count("/") == 2:
            listed.append(Listed(number, *_parts_of_id(path, number, clip), *rest))
        elif clip and values.get("subject"):
            listed.append(Listed(number, values.get("dataset", "").lower(), values["subject"], clip, *rest))
        else:
            raise BadInput(
                f"{path} line {number}: it names no clip; write an id such as casme2/sub01/EP02_01f in the"
                " column clip, or fill in subject and clip."
            )
    return listed


def _by_names(rows: Mapping[str, Sequence[Annotation]]) -> dict[tuple[int | str, str], list[str]]:
    """`clip_spelling` → the ids of the clips that have these names."""
    names: dict[tuple[int | str, str], list[str]] = {}
    for dataset, own in rows.items():
        for row in own:
            if row.aside:
                continue
            ids = names.setdefault(clip_spelling(row.subject, row.clip), [])
            name = clip_id(dataset, row)
            if name not in ids:
                ids.append(name)
    return names
