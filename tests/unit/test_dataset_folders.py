"""The data sets that need no coding sheet: SMIC's folders, published flow maps, and a manifest.csv of one's
own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from distmer.types import BadInput, FlowMap
from tests.fixtures.dataset_layouts import FOLDER_ROWS, flowmaps, folder, frames, smic, xlsx
from tests.fixtures.dataset_loading import by_id, load, only_failure, pair


def test_smic_has_no_apex(tmp_path: Path) -> None:
    with pytest.raises(
        BadInput,
        match=r"SMIC has no annotated apex; set data\.missing_apex to midpoint or"
        r" max-flow",
    ):
        load("smic", smic(tmp_path))
    clips = by_id(load("smic", tmp_path, missing_apex="midpoint"))
    assert pair(clips["smic/s1/s1_sur_01"]) == ("image165.bmp", "image172.bmp")
    assert clips["smic/s11/s11_po_02"].where == "HS/s11/micro/positive/s11_po_02"


def test_the_folders_are_the_truth_for_smic_and_a_sheet_corrects_onsets(tmp_path: Path) -> None:
    smic(tmp_path)
    header = [None, "Subject", "Filename", "Emotion", "OnsetF", "OffsetF"]
    rows = [
        [0, 1, "s1_ne_01", "negative", 4, 8],
        [1, 11, "s11_po_02", "surprise", 1, 500],
        [2, 1, "../../x", "surprise", 1, 5],
        [3, 1, "s1_ne_01", "negative", 5, 8],
        [4, "Total", 3, None, None, None],
    ]
    xlsx(tmp_path / "SMIC-HS-E_annotation.xlsx", [header, *rows])
    manifest = load("smic", tmp_path, missing_apex="midpoint")
    clips = by_id(manifest)
    assert list(clips) == ["smic/s1/s1_ne_01", "smic/s1/s1_sur_01", "smic/s11/s11_po_02"]
    assert pair(clips["smic/s1/s1_ne_01"]) == ("image4.bmp", "image6.bmp")
    assert clips["smic/s1/s1_ne_01"].note.startswith(
        "onset and offset of the sheet, SMIC-HS-E_annotation.xlsx row 2"
    )
    assert pair(clips["smic/s11/s11_po_02"]) == ("image1.bmp", "image3.bmp")
    assert clips["smic/s11/s11_po_02"].emotion == "positive" and not manifest.failures
    said = "\n".join(manifest.readings)
    assert "row 3: s11_po_02 is 'surprise' there; its folder, which counts, is 'positive'" in said
    assert "the sheet describes 2 of the 3 clips, and the folders count; not in the sheet: s1_sur_01" in said
    assert [e.reason.split(": ")[1][:40] for e in manifest.excluded] == [
        "the folders, which are the truth for SMI",
        "it describes s1_ne_01 again, after SMIC-",
        "'4 Total 3' is taken for a note; fill in",
    ]


def test_a_sheet_of_smic_that_cannot_be_read_stops_nothing(tmp_path: Path) -> None:
    smic(tmp_path)
    xlsx(tmp_path / "SMIC-HS-E_annotation.xlsx", [["what", "is this"], [1, 2]])
    manifest = load("smic", tmp_path, missing_apex="midpoint")
    assert len(manifest.clips) == 3
    assert any("not read, for the folders are the truth" in line for line in manifest.readings)
    with pytest.raises(BadInput, match=r"has a row with the columns subject"):
        load("smic", tmp_path, missing_apex="midpoint", columns={"smic": {"onset": "begin"}})


@pytest.mark.parametrize("with_train", [True, False])
def test_flow_maps_with_and_without_the_redundant_half(tmp_path: Path, with_train: bool) -> None:
    manifest = load("flowmaps", flowmaps(tmp_path, with_train))
    assert {c.id: manifest.classes[c.label] for c in manifest.clips} == {
        "flowmaps/006/006_3_5": "surprise",
        "flowmaps/s01/s01_ne_01": "negative",
        "flowmaps/sub01/EP02_01f": "positive",
    }
    sources = [c.source for c in manifest.clips]
    assert all(isinstance(s, FlowMap) and Path(s.image).is_file() and "u_test" in s.image for s in sources)


def test_flow_maps_that_cannot_be_used(tmp_path: Path) -> None:
    flowmaps(tmp_path)
    frames(tmp_path / "sub02/u_train/0", [0], "sub01_EP02_01f .png")
    frames(tmp_path / "sub01/u_test/happy", [0], "sub01_EP09_01 .png")
    reasons = sorted(f.reason for f in load("flowmaps", tmp_path).failures)
    assert "the label folder 'happy' is none of 0 (negative)" in reasons[0]
    assert "sub02: it has u_train but no u_test" in reasons[1]
    with pytest.raises(BadInput, match=r"no flow maps are there; looked for <subject>/u_test/"):
        load("flowmaps", tmp_path / "sub01")


def test_a_manifest_of_ones_own(tmp_path: Path) -> None:
    manifest = load("folder", folder(tmp_path))
    assert manifest.classes == ("negative", "positive", "surprise")
    assert [c.id for c in manifest.clips] == ["folder/p1/a", "folder/p1/b", "folder/p2/a"]
    rows = [
        'lab1,p1,a,"10",x/1.png,x/2.png,note',
        "lab2,p1,a,9,x\\1.png,x/2.png,",
        "",
        ",p3,a,9,x/1.png,x/1.png,",
    ]
    manifest = load("folder", folder(tmp_path, rows, "\ufeffDataset,Subject,clip,label,onset,apex,remark"))
    assert manifest.classes == ("9", "10")
    assert [(c.id, c.note) for c in manifest.clips] == [
        ("folder/p3/a", "apex = onset"),
        ("lab1/p1/a", ""),
        ("lab2/p1/a", ""),
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (
            "p3,c,negative,x/1.png,x/9.png",
            r"the apex 'x/9\.png' is not an image file in .*; correct the"
            r" path",
        ),
        ("p3,c,negative,x/1.png,", r"the apex is empty"),
        ("p3,c,negative,../1.png,x/1.png", r".*leads out of"),
        ("p3,c,negative,/x/1.png,x/1.png", r"the onset '/x/1\.png' is an absolute path"),
        ("p3,c,negative,C:\\x\\1.png,x/1.png", r"the onset .* is an absolute path"),
        ("p3,c,,x/1.png,x/2.png", r"the label is empty"),
        ("p3,c,?,x/1.png,x/2.png", r"the label is '\?', which is no class; fill it in"),
        ("p3,c,NaN,x/1.png,x/2.png", r"the label is 'nan', which is no class"),
        ("p3,c,NA,x/1.png,x/2.png", r"the label is 'na', which is no class"),
        ("p3,../c,negative,x/1.png,x/2.png", r"the clip name '\.\./c' would leave"),
        ("p3,c,negative,x/1.png", r"it has 4 cells, the header 5"),
    ],
)
def test_a_bad_row_of_ones_own_manifest(tmp_path: Path, row: str, reason: str) -> None:
    manifest = load(
        "folder", folder(tmp_path, ["p1,a,negative,x/1.png,x/2.png", "p2,b,positive,x/1.png,x/2.png", row])
    )
    assert len(manifest.clips) == 2
    assert re.match(r"manifest\.csv row 4: " + reason, only_failure(manifest)), manifest.failures


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("subject,clip,lable,onset,apex", r"row 1 .* lacks the column 'label' \(did you mean 'lable'\?\)"),
        ("subject,clip,label,onset,apex,datset", r"unknown column 'datset'; did you mean 'dataset'\?"),
        ("subject,clip,label,onset,path", r"row 1 .* lacks the column 'apex'"),
        ("subject,clip,label,onset,apex,Onset_s", r"several columns for the onset, 'onset'"),
        ("", r"has a row with the columns subject, clip, label, onset; is this the right file"),
    ],
)
def test_a_bad_header_of_ones_own_manifest(tmp_path: Path, header: str, reason: str) -> None:
    with pytest.raises(BadInput, match=r"manifest\.csv: .*" + reason):
        load("folder", folder(tmp_path, header=header))


@pytest.mark.parametrize(("separator", "encoding"), [(";", "utf-8-sig"), ("\t", "utf-16"), ("，", "utf-8")])
def test_a_manifest_of_ones_own_in_every_form_of_a_sheet(
    tmp_path: Path, separator: str, encoding: str
) -> None:
    clips = load("folder", folder(tmp_path)).clips
    manifest = tmp_path / "manifest.csv"
    above = "our clips, filmed in 2024\n" if separator != "，" else ""
    text = manifest.read_text(encoding="utf-8").replace(",", separator)
    manifest.write_text(above + text, encoding=encoding)
    again = load("folder", tmp_path)
    assert [(clip.id, clip.label, clip.source) for clip in again.clips] == [
        (clip.id, clip.label, clip.source) for clip in clips
    ]
    row = 3 if above else 2
    assert again.clips[0].where == f"manifest.csv row {row}"


def test_a_quote_that_is_never_closed_swallows_no_row(tmp_path: Path) -> None:
    rows = ['p1,a,"negative,x/1.png,x/2.png', *FOLDER_ROWS[1:]]
    with pytest.raises(BadInput, match=r"it is not a CSV file \(unexpected end of data\)"):
        load("folder", folder(tmp_path, rows))


def test_no_manifest_or_one_in_another_encoding(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"there is no manifest\.csv \(columns subject, clip"):
        load("folder", tmp_path)
    (tmp_path / "manifest.csv").write_bytes("subject,clip,label,onset,apex\nMüller".encode("latin-1"))
    with pytest.raises(BadInput, match="it is not UTF-8 text"):
        load("folder", tmp_path)
