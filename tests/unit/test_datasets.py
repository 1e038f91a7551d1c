"""The loaders against the traps of the official sheets and folders, one small hand-made copy for each."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from distmer.datasets import check_report
from distmer.types import ApexSearch, BadInput
from tests.fixtures.dataset_layouts import (
    CASME2_HEADER,
    CASME2_ROWS,
    JPEG,
    casme,
    casme2,
    casme2_row,
    frames,
    samm,
    smic,
    xlsx,
)
from tests.fixtures.dataset_loading import by_id, load, only_failure, pair


def with_row(root: Path, *cells: Any) -> Path:
    """A sound CASME II copy with one further row, row 7 of the sheet."""
    return casme2(root, [*CASME2_ROWS, casme2_row(*cells)])


# --- sheets
# -----------------------------------------------------------------------------------------------------------


def test_casme2_rows_become_clips_with_padded_subjects_and_excel_row_numbers(tmp_path: Path) -> None:
    manifest = load("casme2", casme2(tmp_path))
    clips = by_id(manifest)
    assert list(clips) == [
        "casme2/sub01/EP02_01f",
        "casme2/sub01/EP19_05f",
        "casme2/sub02/EP01_11f",
        "casme2/sub17/EP01_13",
    ]
    first = clips["casme2/sub01/EP02_01f"]
    assert (first.emotion, manifest.classes[first.label], pair(first)) == (
        "happiness",
        "positive",
        ("img46.jpg", "img59.jpg"),
    )
    assert first.where == "CASME2-coding-20140508.xlsx row 2"
    assert Path(first.source.onset).is_absolute()  # type: ignore[union-attr]
    assert [(e.clip, e.reason) for e in manifest.excluded if "EP01_15" in e.clip] == [
        ("casme2/sub17/EP01_15", "its emotion 'others' belongs to no class of the protocol")
    ]


def test_casme_reads_an_old_xls_and_takes_the_first_apex(tmp_path: Path) -> None:
    clips = by_id(load("casme", casme(tmp_path)))
    assert pair(clips["casme/sub01/EP01_12"]) == ("EP01_12-31.jpg", "EP01_12-34.jpg")
    assert pair(clips["casme/sub01/EP01_5"]) == ("EP01_5-113.jpg", "EP01_5-118.jpg")


@pytest.mark.parametrize("header_line", [1, 13, 14])
@pytest.mark.parametrize("subjects", [("006", "006", "007"), (6, 6, 7), (6.0, "6", " 007 ")])
def test_samm_header_is_found_wherever_it_stands_and_subjects_get_their_zeros_back(
    tmp_path: Path, header_line: int, subjects: Any
) -> None:
    manifest = load("samm", samm(tmp_path, header_line, subjects))
    clips = by_id(manifest)
    assert sorted(clips) == ["samm/006/006_1_2", "samm/006/006_3_5", "samm/007/007_6_1"]
    assert not manifest.failures and len(manifest.excluded) == 2
    assert all("is taken for a note" in row.reason for row in manifest.excluded)
    assert "if it is a clip.\n" in check_report(manifest)
    assert pair(clips["samm/006/006_1_2"]) == ("006_05562.jpg", "006_05575.jpg")
    assert clips["samm/006/006_1_2"].where.endswith(f"row {header_line + 1}")


def test_samm_frames_directly_beside_the_sheet(tmp_path: Path) -> None:
    samm(tmp_path)
    for subject in (tmp_path / "SAMM").iterdir():
        subject.rename(tmp_path / subject.name)
    assert len(load("samm", tmp_path).clips) == 3


def test_headings_of_a_copy_that_went_through_pandas(tmp_path: Path) -> None:
    header = [name or f"Unnamed: {i}" for i, name in enumerate(CASME2_HEADER)]
    assert len(load("casme2", casme2(tmp_path, header=header)).clips) == 4


def test_the_order_of_the_sheet_does_not_matter(tmp_path: Path) -> None:
    there = load("casme2", casme2(tmp_path / "a")).clips
    back = load("casme2", casme2(tmp_path / "b", CASME2_ROWS[::-1])).clips
    assert [c.id for c in there] == [c.id for c in back]


def test_typing_accidents_are_mended(tmp_path: Path) -> None:
    rows = [
        casme2_row(" 1", " EP02_01f ", "46 ", "59，", "86.", " Happiness"),
        casme2_row("02", "EP01_11f.", 46.0, 48, 50, "REPRESSION，"),
        casme2_row("sub3", "EP01_13，", 7, 9, 12, "Surprise"),
        casme2_row(4, "EP01_1", 7, 9, 12, "Other"),
        casme2_row(4, "EP01_2", 7, 9, 12, "others "),
    ]
    casme2(tmp_path, rows)
    frames(tmp_path / "CASME2_RAW_selected/sub01/EP02_01f", range(1, 121))
    frames(tmp_path / "CASME2_RAW_selected/sub03/EP01_13", range(1, 121))
    manifest = load("casme2", tmp_path)
    assert [c.id for c in manifest.clips] == [
        "casme2/sub01/EP02_01f",
        "casme2/sub02/EP01_11f",
        "casme2/sub03/EP01_13",
    ]
    assert sum("'others'" in e.reason for e in manifest.excluded) == 2
    assert not manifest.failures


def test_a_wrong_sheet_says_so(tmp_path: Path) -> None:
    casme2(tmp_path)
    xlsx(tmp_path / "CASME2-coding-20140508.xlsx", [["film", "length"], ["EP01", 30]], title="Videos")
    with pytest.raises(
        BadInput,
        match=r"20140508\.xlsx: no table \(worksheet 'Videos'\) has a row with the columns Subject, .*"
        r" is this the right file",
    ):
        load("casme2", tmp_path)


def test_a_renamed_column_is_named_with_the_nearest(tmp_path: Path) -> None:
    header = ["AppexFrame" if name == "ApexFrame" else name for name in CASME2_HEADER]
    with pytest.raises(
        BadInput,
        match=r"row 1 of worksheet 'Sheet1'.*lacks the column 'ApexFrame' \(did"
        r" you mean 'AppexFrame'\?\)",
    ):
        load("casme2", casme2(tmp_path, header=header))


def test_a_missing_doubled_or_broken_sheet(tmp_path: Path) -> None:
    sheet = casme2(tmp_path) / "CASME2-coding-20140508.xlsx"
    (tmp_path / "CASME2-coding-20190701.xlsx").write_bytes(sheet.read_bytes())
    with pytest.raises(
        BadInput,
        match=r"20140508\.xlsx, CASME2-coding-20190701\.xlsx could each be the"
        r" coding sheet",
    ):
        load("casme2", tmp_path)
    (tmp_path / "CASME2-coding-20190701.xlsx").unlink()
    sheet.write_bytes(sheet.read_bytes()[:3000])
    with pytest.raises(BadInput, match=r"20140508\.xlsx: it cannot be read as an Excel sheet"):
        load("casme2", tmp_path)
    sheet.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600)
    with pytest.raises(BadInput, match=r"20140508\.xlsx: it cannot be read as an Excel sheet"):
        load("casme2", tmp_path)
    sheet.unlink()
    with pytest.raises(
        BadInput,
        match=r"the coding sheet is not there; looked for CASME2-coding\*.*found"
        r" CASME2_RAW_selected",
    ):
        load("casme2", tmp_path)


# --- rows that cannot be used
# -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ((3, "EP09_01", 50, 46, 60, "disgust"), r"the apex 46 comes before the onset 50"),
        ((3, "EP09_01", 50, 66, 60, "disgust"), r"the apex 66 comes after the offset 60"),
        ((3, "EP09_01", 50, 55, 600, "disgust"), None),  # only onset and apex must be there
        (
            (3, "EP09_01", 50, 155, 160, "disgust"),
            r"the apex frame 155 is not in .*sub03/EP09_01, which"
            r" holds 1 to 120",
        ),
        ((3, "EP09_01", "/", 55, 60, "disgust"), r"the onset is missing"),
        ((3, "EP09_01", "46?", 55, 60, "disgust"), r"the onset '46\?' is not a frame number"),
        ((3, "EP09_01", 46, 55, 60, None), r"the emotion is empty"),
        ((3, None, 46, 55, 60, "disgust"), r"the clip name is empty"),
        ((None, "EP09_01", 46, 55, 60, "disgust"), r"the subject is empty"),
        ((3, "../../etc", 46, 55, 60, "disgust"), r"the clip name '\.\./\.\./etc' would leave the data root"),
        ((3, "..\\etc", 46, 55, 60, "disgust"), r"the clip name '.*etc' would leave the data root"),
        (("../x", "EP09_01", 46, 55, 60, "disgust"), r"the subject '\.\./x' would leave the data root"),
        # trailing dots are typing accidents
        (("..", "EP09_01", 46, 55, 60, "disgust"), r"the subject is empty"),
    ],
)
def test_a_bad_row_is_a_failure_that_names_file_and_row(
    tmp_path: Path, cells: Any, reason: str | None
) -> None:
    manifest = load("casme2", with_row(tmp_path, *cells))
    if reason is None:
        assert len(manifest.clips) == 5
        return
    assert len(manifest.clips) == 4
    assert re.match(r"CASME2-coding-20140508\.xlsx row 7: " + reason, only_failure(manifest)), (
        manifest.failures
    )
    assert manifest.clips_expected == 5


def test_a_missing_folder_and_an_emptied_one(tmp_path: Path) -> None:
    with_row(tmp_path, 3, "EP09_01", 46, 55, 60, "disgust")
    place = tmp_path / "CASME2_RAW_selected/sub03/EP09_01"
    for image in place.iterdir():
        image.unlink()
    (place / "Thumbs.db").write_bytes(b"")
    assert "holds no numbered image" in only_failure(load("casme2", tmp_path))
    (place / "Thumbs.db").unlink()
    place.rmdir()
    assert "is not there; unpack it, or correct the name in the sheet." in only_failure(
        load("casme2", tmp_path)
    )


def test_a_link_that_leads_out_of_the_data_root_is_refused(tmp_path: Path) -> None:
    with_row(tmp_path / "set", 3, "EP09_01", 46, 55, 60, "disgust")
    place = tmp_path / "set/CASME2_RAW_selected/sub03/EP09_01"
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    assert "leads out of" in only_failure(load("casme2", tmp_path / "set"))


def test_a_linked_image_folder_is_the_users_own_choice(tmp_path: Path) -> None:
    casme2(tmp_path / "set")
    (tmp_path / "set/CASME2_RAW_selected").rename(tmp_path / "disk")
    (tmp_path / "set/CASME2_RAW_selected").symlink_to(tmp_path / "disk")
    assert len(load("casme2", tmp_path / "set").clips) == 4


def test_a_bad_row_of_another_emotion_is_not_counted_as_lost(tmp_path: Path) -> None:
    manifest = load("casme2", with_row(tmp_path, 3, "EP09_01", 50, 46, 60, "others"))
    assert not manifest.failures and manifest.clips_expected == 4


def test_a_repeated_clip(tmp_path: Path) -> None:
    same = load("casme2", with_row(tmp_path / "a", 1, "EP02_01f", 46, 59, 86, "happiness"))
    assert len(same.clips) == 4 and not same.failures
    assert ("casme2/sub01/EP02_01f", "repeats CASME2-coding-20140508.xlsx row 2 with the same values") in {
        (e.clip, e.reason) for e in same.excluded
    }
    other = load("casme2", with_row(tmp_path / "b", 1, "EP02_01f", 46, 60, 86, "happiness"))
    assert len(other.clips) == 4
    assert (
        "row 7: the clip stands in CASME2-coding-20140508.xlsx row 2 already, with other values"
        in only_failure(other)
    )


# --- the apex
# ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["/", "\\", "", None, " / ", "NaN", "／"])
def test_a_missing_apex_by_policy(tmp_path: Path, token: Any) -> None:
    root = with_row(tmp_path, 3, "EP09_01", 46, token, 51, "disgust")
    name = "casme2/sub03/EP09_01"
    assert "the apex is missing; set data.missing_apex to midpoint or max-flow" in only_failure(
        load("casme2", root)
    )
    midpoint = by_id(load("casme2", root, missing_apex="midpoint"))[name]
    assert pair(midpoint) == ("img46.jpg", "img48.jpg") and midpoint.note == "apex = midpoint, frame 48"
    search = by_id(load("casme2", root, missing_apex="max-flow"))[name].source
    assert isinstance(search, ApexSearch)
    assert [Path(c).name for c in search.candidates] == [f"img{n}.jpg" for n in range(47, 52)]
    assert Path(search.onset).name == "img46.jpg"


def test_dropped_frames_around_a_missing_apex(tmp_path: Path) -> None:
    root = with_row(tmp_path, 3, "EP09_01", 46, "/", 51, "disgust")
    for number in (47, 48, 51):
        (root / f"CASME2_RAW_selected/sub03/EP09_01/img{number}.jpg").unlink()
    assert pair(by_id(load("casme2", root, missing_apex="midpoint"))["casme2/sub03/EP09_01"]) == (
        "img46.jpg",
        "img49.jpg",
    )
    search = by_id(load("casme2", root, missing_apex="max-flow"))["casme2/sub03/EP09_01"].source
    assert isinstance(search, ApexSearch) and [Path(c).name for c in search.candidates] == [
        "img49.jpg",
        "img50.jpg",
    ]


def test_apex_and_offset_both_missing(tmp_path: Path) -> None:
    root = with_row(tmp_path, 3, "EP09_01", 46, "/", "/", "disgust")
    assert "the apex and the offset are both missing" in only_failure(
        load("casme2", root, missing_apex="midpoint")
    )


# --- files
# ------------------------------------------------------------------------------------------------------------


def test_stray_files_are_no_frames_and_numbers_sort_as_numbers(tmp_path: Path) -> None:
    smic(tmp_path)
    place = tmp_path / "HS/s1/micro/negative/s1_ne_01"
    for stray in ("Thumbs.db", "image999.lnk", "._image1.bmp", "desktop.ini", "notes 500.txt"):
        (place / stray).write_bytes(JPEG)
    (tmp_path / "HS/s1/micro/negative/EP01 - Shortcut.lnk").write_bytes(b"")
    source = by_id(load("smic", tmp_path, missing_apex="max-flow"))["smic/s1/s1_ne_01"].source
    assert isinstance(source, ApexSearch)
    assert Path(source.onset).name == "image2.bmp"
    assert [Path(c).name for c in source.candidates] == [f"image{n}.bmp" for n in range(3, 13)]


def test_two_files_of_one_frame_number(tmp_path: Path) -> None:
    casme2(tmp_path)
    (tmp_path / "CASME2_RAW_selected/sub01/EP02_01f/reg_img46.jpg").write_bytes(JPEG)
    assert "img46.jpg and reg_img46.jpg" in only_failure(load("casme2", tmp_path))


def test_raw_frames_are_preferred_to_cropped_ones(tmp_path: Path) -> None:
    casme2(tmp_path)
    for row in CASME2_ROWS:
        frames(tmp_path / f"Cropped/sub{int(str(row[0])):02d}/{row[1]}", range(1, 121), "reg_img{}.jpg")
    assert pair(load("casme2", tmp_path).clips[0])[0] == "img46.jpg"
    (tmp_path / "CASME2_RAW_selected").rename(tmp_path / "gone")
    assert pair(load("casme2", tmp_path).clips[0])[0] == "reg_img46.jpg"
    (tmp_path / "Cropped").rename(tmp_path / "lost")
    with pytest.raises(
        BadInput,
        match=r"no frames are there; looked for subject folders .* in"
        r" CASME2_RAW_selected.*found .*gone, lost",
    ):
        load("casme2", tmp_path)
