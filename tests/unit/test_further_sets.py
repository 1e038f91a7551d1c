"""MMEW, CAS(ME)², CAS(ME)³ and 4DME on hand-written copies, objective classes, SAMM's errata, and composites
of many sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from distmer.config import EvaluationConfig
from distmer.datasets import datasets
from distmer.datasets.protocols import load_protocol
from distmer.evaluation.folds import make_folds
from distmer.types import BadInput
from tests.fixtures.dataset_layouts import (
    CASME2_ROWS,
    SAMM_HEADER,
    casme,
    casme2,
    frames,
    samm,
    samm_row,
    xlsx,
)
from tests.fixtures.dataset_loading import by_id, load, pair
from tests.fixtures.further_layouts import casme3a, casme3c, casmesq, fourdme, mmew


def test_mmew_lies_by_emotion_and_not_by_subject(tmp_path: Path) -> None:
    manifest = load("mmew-7class", mmew(tmp_path))
    assert {name: (clip.emotion, pair(clip)) for name, clip in by_id(manifest).items()} == {
        "mmew/01/S01-01-001": ("disgust", ("1.jpg", "8.jpg")),
        "mmew/01/S01-02-002": ("surprise", ("1.jpg", "5.jpg")),
        "mmew/12/S12-01-001": ("happiness", ("1.jpg", "4.jpg")),
        "mmew/12/S12-03-001": ("others", ("1.jpg", "4.jpg")),
    }


def test_several_clips_of_one_video_are_named_by_their_onsets(tmp_path: Path) -> None:
    manifest = load("casme3a", casme3a(tmp_path))
    assert list(by_id(manifest)) == ["casme3a/spNO.1/a_34", "casme3a/spNO.1/a_50", "casme3a/spNO.20/m_5"]
    assert [(e.clip, e.reason) for e in manifest.excluded] == [
        ("casme3a/spNO.1/b_1", "its expression type is 'Macro-expression'")
    ]


def test_casme3c_has_no_apex_and_one_full_width_comma(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"the apex is missing; set data\.missing_apex to midpoint"):
        load("casme3c", casme3c(tmp_path))
    clips = by_id(load("casme3c", tmp_path, missing_apex="midpoint"))
    assert pair(clips["casme3c/spNO.2/2"]) == ("3.jpg", "6.jpg")


def test_a_clip_of_4dme_with_several_labels_is_of_no_class(tmp_path: Path) -> None:
    manifest = load("4dme", fourdme(tmp_path))
    assert {clip.name: clip.emotion for clip in manifest.clips} == {
        "01_01_1": "positive",
        "01_02_1": "surprise",
        "02_01_1": "negative",
        "02_01_3": "negative",
    }
    assert [e.reason for e in manifest.excluded] == [
        "its emotion 'negative+surprise' belongs to no class of the protocol"
    ]


def test_casme_squared_is_read_by_its_naming_rules(tmp_path: Path) -> None:
    manifest = load("casmesq", casmesq(tmp_path))
    clips = by_id(manifest)
    assert list(clips) == ["casmesq/s01/anger1_1", "casmesq/s01/happy2_1", "casmesq/s02/disgust2_1"]
    assert "s15/15_0401girlcrashing/img557.jpg" in clips["casmesq/s01/anger1_1"].source.onset  # type: ignore[union-attr]
    assert [e.reason for e in manifest.excluded] == ["its expression type is 'macro-expression'"]
    assert any("no header, columns in the published order" in line for line in manifest.readings)


def test_megc2018_is_by_objective_classes_and_holds_one_set_out(tmp_path: Path) -> None:
    casme2(tmp_path / "CASME2")
    header = ["Subject", "Filename", "Objective Class"]
    classes = [[row[0], row[1], number] for row, number in zip(CASME2_ROWS[:4], (1, 3, 7, 2), strict=True)]
    xlsx(tmp_path / "CASME2/CASME2-ObjectiveClasses.xlsx", [header, *classes])
    samm(tmp_path / "SAMM")
    manifest = load("megc2018", tmp_path)
    assert {clip.id: manifest.classes[clip.label] for clip in manifest.clips} == {
        "casme2/sub01/EP02_01f": "I",
        "casme2/sub01/EP19_05f": "III",
        "casme2/sub17/EP01_13": "II",
        "samm/006/006_1_2": "III",
        "samm/006/006_3_5": "III",
        "samm/007/007_6_1": "III",
    }
    assert [f.reason.split(": ")[1] for f in manifest.failures] == [
        "its objective class is not given; add the column or the sheet of objective classes."
    ]
    assert "its objective class '7' belongs to no class of the protocol" in {
        e.reason for e in manifest.excluded
    }
    folds = make_folds(manifest.clips, EvaluationConfig(folds="cross_dataset"))
    assert len(folds) == 2


def test_six_sets_of_which_one_is_held_out(tmp_path: Path) -> None:
    for make, folder in (
        (casme, "CASME"),
        (casme2, "CASME2"),
        (samm, "SAMM"),
        (fourdme, "4DME"),
        (mmew, "MMEW"),
        (casme3a, "CASME3"),
    ):
        make(tmp_path / folder)
    manifest = load("sixsets", tmp_path)
    folds = make_folds(manifest.clips, EvaluationConfig(folds="cross_dataset"))
    assert len(folds) == 6 and not manifest.failures
    for fold in folds:
        assert len({clip.split("/")[0] for clip in fold.test}) == 1


def test_counts_of_composites_add_up() -> None:
    protocol = load_protocol("offtanet294", datasets())
    assert sum(n for part in protocol.sets.values() for n in part.expected.values()) == 294
    assert sum(part.expected_subjects or 0 for part in protocol.sets.values()) == 49
    assert sum(load_protocol("casme3a-7class", datasets()).sets["casme3a"].expected.values()) == 943
    assert sum(load_protocol("mmew-7class", datasets()).sets["mmew"].expected.values()) == 300
    for name, value in (("casme3a-7class", 943), ("casme3a-4class", 943), ("mmew-7class", 300)):
        (part,) = load_protocol(name, datasets()).sets.values()
        assert sum(part.expected.values()) == value


def erroneous_samm(root: Path, corrected: bool) -> Path:
    """The three rows that circulate wrong and right, and one sound row."""
    rows = [
        samm_row("028", "028_4_1", 1071, 1113 if corrected else 1143, 1134, "Surprise"),
        samm_row("032", "032_3_1", 4896, 4930 if corrected else 1930, 4970, "Anger"),
        samm_row("032", "032_3_2", 5100, 5101, 5140, "Anger"),
        samm_row("006", "006_1_2", 5562, 5563, 5591, "Anger"),
    ]
    xlsx(root / "SAMM_Micro_FACS_Codes_v2.xlsx", [SAMM_HEADER, *rows])
    for row in rows:
        name, onset, offset = str(row[1]), int(str(row[3])), int(str(row[5]))
        frames(root / f"SAMM/{name[:3]}/{name}", range(onset, offset + 1), f"{name[:3]}_{{:05d}}.jpg")
    return root


@pytest.mark.parametrize("corrected", [False, True])
def test_the_errata_of_samm_leave_a_corrected_copy_alone(tmp_path: Path, corrected: bool) -> None:
    manifest = load("samm", erroneous_samm(tmp_path, corrected))
    clips = by_id(manifest)
    assert not manifest.failures
    assert pair(clips["samm/028/028_4_1"])[1] == "028_01113.jpg"
    assert pair(clips["samm/032/032_3_1"])[1] == "032_04930.jpg"
    assert pair(clips["samm/032/032_3_2"])[1] == "032_05130.jpg"
    assert ("erratum" in clips["samm/028/028_4_1"].note) is not corrected
    assert "erratum: apex 5130 for '5101'" in clips["samm/032/032_3_2"].note
    assert clips["samm/006/006_1_2"].note == "apex = onset + 1"
