"""Copies of a coding sheet as labs save them again: every one is read to the same clips, or refused in one
sentence."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import openpyxl
import pytest

from distmer.types import BadInput
from tests.fixtures.dataset_layouts import CASME2_HEADER, CASME2_ROWS, Cell, casme2, casme2_row, xls, xlsx
from tests.fixtures.dataset_loading import by_id, load, pair

Rows = list[list[Cell]]
SHEET: Rows = [list(CASME2_HEADER), *(list(row) for row in CASME2_ROWS)]


def text(rows: Sequence[Sequence[Cell]], separator: str, encoding: str) -> bytes:
    file = io.StringIO()
    writer = csv.writer(file, delimiter=separator)
    writer.writerows([["" if cell is None else cell for cell in row] for row in rows])
    return file.getvalue().encode(encoding)


def as_text(name: str, separator: str, encoding: str) -> Callable[[Path, Rows], None]:
    return lambda root, rows: (root / name).write_bytes(text(rows, separator, encoding)) and None


def merged_subjects(root: Path, rows: Rows) -> None:
    """The subject stands once for the clips below it, in a cell merged downwards, under a merged title."""
    book = openpyxl.Workbook()
    sheet = book.worksheets[0]
    sheet.append(["CASME II, our copy"])
    sheet.merge_cells("A1:I1")
    for row in rows:
        sheet.append(row)
    sheet.merge_cells("A3:A4")
    sheet.merge_cells("A6:A7")
    book.save(root / "CASME2-coding-20140508.xlsx")


def second_worksheet(root: Path, rows: Rows) -> None:
    book = openpyxl.Workbook()
    book.worksheets[0].append(["nobody knows", "what this is", 3])
    sheet = book.create_sheet("coding")
    for row in rows:
        sheet.append(row)
    book.save(root / "CASME2-coding-20140508.xlsx")


FORMS: dict[str, Callable[[Path, Rows], None]] = {
    "xlsx": lambda root, rows: xlsx(root / "CASME2-coding-20140508.xlsx", rows),
    "xls": lambda root, rows: xls(root / "casme2-coding-2014.xls", rows),
    "csv": as_text("CASME2-coding-20140508.csv", ",", "utf-8"),
    "csv of Excel in Germany": as_text("CASME2-coding.csv", ";", "utf-8-sig"),
    "csv of Excel in China": as_text("CASME2-coding - 副本.csv", ",", "gb18030"),
    "tabs": as_text("casme2.txt", "\t", "utf-16"),
    "tsv": as_text("casme2.tsv", "\t", "gb18030"),
    "full-width commas": as_text("casme2.csv", "，", "utf-8"),
    "merged": merged_subjects,
    "second worksheet": second_worksheet,
}


def copied(root: Path, form: str, rows: Rows) -> Path:
    (casme2(root) / "CASME2-coding-20140508.xlsx").unlink()
    FORMS[form](root, rows)
    return root


CLIPS = {
    "casme2/sub01/EP02_01f": ("img46.jpg", "img59.jpg"),
    "casme2/sub01/EP19_05f": ("img1.jpg", "img5.jpg"),
    "casme2/sub02/EP01_11f": ("img46.jpg", "img48.jpg"),
    "casme2/sub17/EP01_13": ("img7.jpg", "img9.jpg"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_sheet_says_the_same(tmp_path: Path, form: str) -> None:
    notes: Rows = [[], [None, None, "注：onset，apex"], ["Total", 5]]
    manifest = load("casme2", copied(tmp_path, form, [*SHEET, *notes]))
    assert {name: pair(clip) for name, clip in by_id(manifest).items()} == CLIPS
    assert not manifest.failures
    assert sum("is taken for a note" in row.reason for row in manifest.excluded) == 2
    (said,) = [line for line in manifest.readings if "header in row" in line]
    assert "onset = OnsetFrame (D), apex = ApexFrame (E)" in said and "5 rows of clips, 2 others" in said


def test_the_text_says_how_it_was_read(tmp_path: Path) -> None:
    manifest = load("casme2", copied(tmp_path, "csv of Excel in China", [*SHEET, [None, "注：起始帧"]]))
    assert any("GBK text separated by commas, header in row 1" in line for line in manifest.readings)


@pytest.mark.parametrize(
    "header",
    [
        [str(name or "").upper() for name in CASME2_HEADER],
        [str(name or "").replace("Frame", " frame ").replace("name", " Name") for name in CASME2_HEADER],
    ],
)
def test_case_and_blanks_of_the_header_do_not_count(tmp_path: Path, header: list[Cell]) -> None:
    assert list(by_id(load("casme2", copied(tmp_path, "csv", [header, *SHEET[1:]])))) == list(CLIPS)


@pytest.mark.parametrize(
    ("one", "two"),
    [("1", "2"), ("01", "02"), ("sub01", "sub02"), ("s1", "s2"), ("spNO.1", "spNO.2"), ("001", "2.0")],
)
def test_every_spelling_of_a_subject(tmp_path: Path, one: str, two: str) -> None:
    rows = [[{1: one, 2: two}.get(row[0], row[0]), *row[1:]] for row in SHEET[1:]]  # type: ignore[arg-type, call-overload]
    assert list(by_id(load("casme2", copied(tmp_path, "csv", [SHEET[0], *rows])))) == list(CLIPS)


@pytest.mark.parametrize("spelling", ["1", "s1", "subject_1", "001", "S01"])
def test_every_spelling_of_a_subjects_folder(tmp_path: Path, spelling: str) -> None:
    casme2(tmp_path)
    images = tmp_path / "CASME2_RAW_selected"
    (images / "sub01").rename(images / spelling)
    clips = by_id(load("casme2", tmp_path))
    assert list(clips) == list(CLIPS)
    assert f"/{spelling}/EP02_01f/" in clips["casme2/sub01/EP02_01f"].source.onset  # type: ignore[union-attr]


def test_columns_that_cannot_be_guessed_are_mapped(tmp_path: Path) -> None:
    header: list[Cell] = ["Proband", "Clip", None, "On Frame", "Apex Frame", "Ende", None, "AU", "Gefühl"]
    copied(tmp_path, "xlsx", [header, *SHEET[1:]])
    with pytest.raises(
        BadInput, match=r"has a row with the columns Subject, .* in data\.columns if they are"
    ):
        load("casme2", tmp_path)
    mapped = {
        "subject": "proband",
        "clip": "Clip",
        "onset": "On Frame",
        "offset": "column F",
        "emotion": "Gefühl",
    }
    manifest = load("casme2", tmp_path, columns=mapped)
    assert {name: pair(clip) for name, clip in by_id(manifest).items()} == CLIPS
    assert list(by_id(load("casme2", tmp_path, columns={"casme2": mapped}))) == list(CLIPS)
    with pytest.raises(BadInput, match=r"lacks the column 'Begin' .* set data\.columns to \{onset: "):
        load("casme2", tmp_path, columns={**mapped, "onset": "Begin"})
    with pytest.raises(
        BadInput, match=r"column D is taken for the onset and for the apex; correct data\.columns"
    ):
        load("casme2", tmp_path, columns={**mapped, "apex": "column D"})


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"onsett": "x"}, r"data\.columns\.onsett is not a field of a sheet; did you mean 'onset'"),
        (
            {"casme": {"onset": "x"}},
            r"data\.columns\.casme is not a data set of the protocol; did you mean 'casme2'",
        ),
        ({"casme2": {"begin": "x"}}, r"data\.columns\.casme2\.begin is not a field of a sheet"),
    ],
)
def test_a_wrong_mapping(tmp_path: Path, columns: dict[str, str], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        load("casme2", casme2(tmp_path), columns=columns)


@pytest.mark.parametrize("second", ["Estimated Emotion", "emotion"])
def test_a_column_that_is_named_twice_is_refused(tmp_path: Path, second: str) -> None:
    rows = [[*row, "disgust" if number else second] for number, row in enumerate(SHEET)]
    message = rf"several columns for the emotion, 'Estimated Emotion' \(column I\) and '{second}' \(column J"
    with pytest.raises(BadInput, match=message):
        load("casme2", copied(tmp_path, "xlsx", rows))
    clips = by_id(load("casme2", tmp_path, columns={"emotion": "column I"}))
    assert list(clips) == list(CLIPS)


def test_a_comma_too_many_is_listed_and_not_read_as_another_row(tmp_path: Path) -> None:
    root = copied(tmp_path, "csv", SHEET)
    with (root / "CASME2-coding-20140508.csv").open("a") as file:
        file.write("3,EP09_01,,46,55,60,,4,+7,others\n")
    (failure,) = load("casme2", root).failures
    assert "row 7: it has a cell in column J, where the header has none; put quotes around" in failure.reason


def test_text_in_no_encoding_is_one_sentence(tmp_path: Path) -> None:
    (copied(tmp_path, "csv", SHEET) / "CASME2-coding-20140508.csv").write_bytes(b"Subject\xff\xff\xff,\xff")
    with pytest.raises(BadInput, match="it is neither UTF-8 nor GBK text; save it again as CSV UTF-8"):
        load("casme2", tmp_path)


def test_the_excel_file_comes_before_a_text_copy_of_it(tmp_path: Path) -> None:
    casme2(tmp_path)
    (tmp_path / "CASME2-coding-20140508.csv").write_text("nothing")
    assert list(by_id(load("casme2", tmp_path))) == list(CLIPS)


# --- one person as two, links, roots


def test_one_person_as_two_is_refused_until_it_is_confirmed(tmp_path: Path) -> None:
    from tests.fixtures.dataset_layouts import folder

    for one, two in (("1", "01"), ("s2", "S2"), ("anna 1", "Anna_1")):
        rows = [f"{one},a,negative,x/1.png,x/2.png", f"{two},b,positive,x/1.png,x/2.png"]
        root = folder(tmp_path / one, rows) if (tmp_path / one).mkdir() is None else tmp_path
        message = rf"row 3: the subject '{two}' and '{one}' of manifest\.csv row 2 look like one person"
        with pytest.raises(BadInput, match=message):
            load("folder", root)
        assert len({clip.subject for clip in load("folder", root, subjects="as-written").clips}) == 2


def test_links_may_lead_within_the_data_root_or_anywhere_by_consent(tmp_path: Path) -> None:
    casme2(tmp_path / "data/CASME2")
    images = tmp_path / "data/CASME2/CASME2_RAW_selected"
    (tmp_path / "data/disk").mkdir()
    (images / "sub01").rename(tmp_path / "data/disk/sub01")
    (images / "sub01").symlink_to(tmp_path / "data/disk/sub01")
    (images / "sub17").rename(tmp_path / "sub17")
    (images / "sub17").symlink_to(tmp_path / "sub17")
    manifest = load("casme2", tmp_path / "data")
    assert list(by_id(manifest)) == list(CLIPS)[:3]
    (failure,) = manifest.failures
    assert "leads out of" in failure.reason and "set data.allow_links to true" in failure.reason
    assert list(by_id(load("casme2", tmp_path / "data", allow_links=True))) == list(CLIPS)


def test_consent_to_links_is_none_to_names_that_lead_out(tmp_path: Path) -> None:
    from tests.fixtures.dataset_layouts import folder, frames

    frames(tmp_path / "secret", [1], "{}.png")
    (tmp_path / "data").mkdir()
    rows = ["p1,a,negative,x/1.png,x/2.png", "p2,b,positive,x/1.png,x/2.png"]
    root = folder(tmp_path / "data", [*rows, "p3,c,positive,../secret/1.png,x/2.png"])
    manifest = load("folder", root, allow_links=True, subjects="as-written")
    assert "leads out of" in manifest.failures[0].reason and len(manifest.clips) == 2


def test_a_sheet_in_the_common_root_does_not_hide_the_sets_folder(tmp_path: Path) -> None:
    root = casme2(tmp_path / "CASME2")
    (root / "CASME2-coding-20140508.xlsx").rename(tmp_path / "CASME2-coding-20140508.xlsx")
    assert list(by_id(load("casme2", tmp_path))) == list(CLIPS)  # the sheet above, the frames below
    casme2(tmp_path / "CASME2", [*CASME2_ROWS, casme2_row(3, "EP09_01", 46, 55, 60, "disgust")])
    assert len(load("casme2", tmp_path).clips) == 5  # the set's own sheet
