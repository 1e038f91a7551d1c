"""Protocols over hand-made copies: labels, exclusions, errata, include lists, roots, and the report against
the published counts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from distmer.config import DataConfig
from distmer.datasets import (
    check_report,
    counts,
    datasets,
    load_manifest,
    mismatches,
    protocol_names,
    require_two_classes,
    subjects_without_clips,
    with_own_roots,
)
from distmer.datasets.protocols import label_table, load_protocol
from distmer.types import BadInput
from tests.fixtures.dataset_layouts import (
    CASME2_ROWS,
    casme,
    casme2,
    casme2_row,
    flowmaps,
    folder,
    samm,
    smic,
)
from tests.fixtures.dataset_loading import load


def own(path: Path, **changes: Any) -> str:
    """A protocol file over CASME II, with changes."""
    part = {"labels": "three", **changes.pop("casme2", {})}
    tree = {
        "source": "a test",
        "classes": ["negative", "positive", "surprise"],
        "sets": {"casme2": part},
        **changes,
    }
    path.write_text(yaml.safe_dump(tree))
    return str(path)


# --- the built-in ones
# ------------------------------------------------------------------------------------------------


def test_the_published_counts_of_the_built_in_protocols() -> None:
    published = {"casme": (82, 7, 15), "casme2": (88, 32, 25), "samm": (92, 26, 15), "smic": (70, 51, 43)}
    for name, sets, total, people in (
        ("seed382", ["casme", "casme2", "samm"], 382, 67),
        ("megc2019", ["smic", "casme2", "samm"], 442, 68),
    ):
        protocol = load_protocol(name, datasets())
        assert protocol.classes == ("negative", "positive", "surprise") and list(protocol.sets) == sets
        assert {k: tuple(v.expected[c] for c in protocol.classes) for k, v in protocol.sets.items()} == {
            s: published[s] for s in sets
        }
        assert sum(n for part in protocol.sets.values() for n in part.expected.values()) == total
        assert sum(part.expected_subjects or 0 for part in protocol.sets.values()) == people


def test_an_emotion_means_what_its_own_sheet_means() -> None:
    protocol = load_protocol("seed382", datasets())
    assert label_table(protocol, "samm")["sadness"] == "negative"
    assert "sadness" not in label_table(protocol, "casme2")
    assert label_table(protocol, "casme")["sadness"] == "negative"
    five = load_protocol("casme2-5class", datasets())
    assert label_table(five, "casme2")["others"] == "others"


def test_the_megc_exclusions_and_the_clips_that_stay(tmp_path: Path) -> None:
    rows = [
        casme2_row(4, "EP12_01f", 1, "/", 9, "disgust"),
        casme2_row(5, "EP09_05f", 69, 69, 79, "disgust"),
        casme2_row(24, "EP02_02f", 1, 5, 9, "repression"),
        casme2_row(5, "EP12_03f", 1, 5, 9, "surprise"),
    ]
    manifest = load("casme2", casme2(tmp_path, [*CASME2_ROWS, *rows]))
    assert {"casme2/sub05/EP12_03f", "casme2/sub24/EP02_02f"} < {c.id for c in manifest.clips}
    assert {e.clip for e in manifest.excluded if "by name: not in the MEGC 2019 list" in e.reason} == {
        "casme2/sub04/EP12_01f",
        "casme2/sub05/EP09_05f",
    }
    assert not manifest.failures and not manifest.problems


def test_people_of_two_sets_with_one_name_stay_two(tmp_path: Path) -> None:
    casme(tmp_path / "CASME")
    casme2(tmp_path / "casmeii")
    samm(tmp_path / "SAMM")
    manifest = load("seed382", tmp_path)
    assert {(c.subject_key.dataset, c.subject) for c in manifest.clips if c.subject == "sub01"} == {
        ("casme", "sub01"),
        ("casme2", "sub01"),
    }
    assert len({c.subject_key for c in manifest.clips}) == 7
    table = counts(manifest)
    assert table["casme"]["sub01"] == {"negative": 1, "positive": 0, "surprise": 1}
    assert table["samm"] == {
        "006": {"negative": 1, "positive": 0, "surprise": 1},
        "007": {"negative": 0, "positive": 1, "surprise": 0},
    }


def test_the_embedded_data_set_meets_what_it_promises(tmp_path: Path) -> None:
    settings = DataConfig.model_validate(
        {"protocol": "synthetic", "root": "/not/there", "synthetic": {"subjects": 3, "clips_per_subject": 2}}
    )
    manifest = load_manifest(settings, tmp_path)
    assert not mismatches(manifest) and not manifest.failures and len(manifest.clips) == 6
    assert "Every published count is met." in check_report(manifest)


def test_the_embedded_data_set_is_only_what_it_is(tmp_path: Path) -> None:
    protocol = own(tmp_path / "p.yaml", embedded=True, sets={"smic": {"labels": "three"}})
    with pytest.raises(BadInput, match="the embedded data set has no smic"):
        load_manifest(DataConfig(protocol=protocol), tmp_path)


# --- a protocol of one's own
# ------------------------------------------------------------------------------------------


def test_an_unknown_protocol_names_the_nearest() -> None:
    with pytest.raises(
        BadInput,
        match=r"data\.protocol: there is no protocol 'seed383'; did you mean"
        r" 'seed382'\?",
    ):
        load("seed383", None)
    assert "megc2019" in protocol_names()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sets": {"casme3": {"labels": "three"}}}, r"sets\.casme3 is not a data set; did you mean 'casme"),
        ({"casme2": {"labels": "tree"}}, r"no label table 'tree' for casme2; did you mean 'three'\?"),
        (
            {"casme2": {"lables": "three"}},
            r"p\.yaml: sets\.casme2\.lables is not a setting; did you mean"
            r" 'labels'\?",
        ),
        ({"casme2": {"expected": {"negativ": 3}}}, r"names the class 'negativ', which is not among"),
        ({"casme2": {"labels": {"sad": ["disgust"]}}}, r"names the class 'sad'"),
        (
            {"casme2": {"labels": {"negative": ["disgust"], "positive": ["disgust"]}}},
            r"puts 'disgust' in"
            r" two classes",
        ),
        (
            {"classes": ["negative", "positive"]},
            r"makes 'surprise' the class 'surprise', which is not in"
            r" classes",
        ),
        ({"classes": ["negative"]}, r"classes must be distinct and at least two"),
        ({"classes": []}, r"classes may be empty only where labels are as-is"),
        ({"sets": {}}, r"at least one data set"),
        (
            {
                "casme2": {
                    "errata": [{"subject": "sub01", "clip": "x", "field": "apx", "value": 1, "source": "me"}]
                }
            },
            r"errata\.0\.field",
        ),
    ],
)
def test_a_wrong_protocol_file_names_the_field(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        load(own(tmp_path / "p.yaml", **changes), casme2(tmp_path / "data"))


def test_labels_spelled_out(tmp_path: Path) -> None:
    labels = {"negative": ["disgust", "Repression"], "positive": "happiness"}
    manifest = load(
        own(tmp_path / "p.yaml", classes=["positive", "negative"], casme2={"labels": labels}),
        casme2(tmp_path / "data"),
    )
    assert [manifest.classes[c.label] for c in manifest.clips] == ["positive", "negative", "negative"]


def test_a_protocol_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nowhere\.yaml: the protocol cannot be read .*data\.protocol"):
        load(str(tmp_path / "nowhere.yaml"), tmp_path)
    (tmp_path / "p.yaml").write_text("a: [")
    with pytest.raises(BadInput, match=r"p\.yaml: not valid YAML"):
        load(str(tmp_path / "p.yaml"), tmp_path)
    (tmp_path / "p.yaml").write_text("- a")
    with pytest.raises(BadInput, match="a protocol is a mapping"):
        load(str(tmp_path / "p.yaml"), tmp_path)


def test_errata_are_applied_and_noted(tmp_path: Path) -> None:
    rows = [*CASME2_ROWS, casme2_row(3, "EP09_01", 50, 46, 60, "others")]
    errata = [
        {"subject": "sub03", "clip": "EP09_01", "field": "apex", "value": 56, "source": "lab A"},
        {"subject": "sub03", "clip": "EP09_01", "field": "emotion", "value": "Disgust", "source": "lab B"},
    ]
    manifest = load(own(tmp_path / "p.yaml", casme2={"errata": errata}), casme2(tmp_path / "data", rows))
    clip = next(c for c in manifest.clips if c.subject == "sub03")
    assert clip.source.apex.endswith("img56.jpg") and clip.emotion == "disgust"  # type: ignore[union-attr]
    assert clip.note == "erratum: apex 56 for '46' (lab A); erratum: emotion Disgust for 'others' (lab B)"
    assert "erratum: apex 56 for '46' (lab A)" in check_report(manifest)


# --- roots
# ------------------------------------------------------------------------------------------------------------


def test_no_root_is_given() -> None:
    with pytest.raises(
        BadInput,
        match=r"no folder is given for CASME II: .*--set"
        r" data\.root=.*DISTMER_DATA, or in data\.roots\.casme2",
    ):
        load("casme2", None)


def test_a_root_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        BadInput,
        match=r"nowhere: the folder for CASME II is not there; correct data\.root"
        r" .*DISTMER_DATA",
    ):
        load("casme2", tmp_path / "nowhere")
    with pytest.raises(
        BadInput,
        match=r"nowhere: the folder for SAMM is not there; correct"
        r" data\.roots\.samm",
    ):
        load("samm", tmp_path, roots={"samm": str(tmp_path / "nowhere")})
    with pytest.raises(
        BadInput,
        match=r"data\.roots\.sam is the folder of no data set of the protocol; did you mean"
        r" 'samm'\?",
    ):
        load("samm", tmp_path, roots={"sam": str(tmp_path)})


def test_the_rows_of_a_comparison_share_their_folders() -> None:
    roots = {"casme2": "/a", "samm": "/b"}
    several = [DataConfig(protocol=name, roots=roots) for name in ("casme2", "samm", "seed382")]
    assert [data.roots for data in with_own_roots(several)] == [{"casme2": "/a"}, {"samm": "/b"}, roots]
    with pytest.raises(BadInput, match=r"data\.roots\.samm is the folder of no data set of the protocol"):
        with_own_roots(several[:1])


def test_a_common_root_without_one_of_the_sets(tmp_path: Path) -> None:
    casme2(tmp_path / "CASME2")
    samm(tmp_path / "SAMM")
    with pytest.raises(
        BadInput,
        match=r"it holds no folder of CASME; looked for CASME, .*found CASME2,"
        r" SAMM\. .*data\.roots\.casme",
    ):
        load("seed382", tmp_path)
    elsewhere = casme(tmp_path.parent / f"{tmp_path.name}-casme")
    assert len(load("seed382", tmp_path, roots={"casme": str(elsewhere)}).clips) == 10


def test_a_root_that_is_the_set_itself_or_holds_it(tmp_path: Path) -> None:
    samm(tmp_path / "SAMM")
    assert len(load("samm", tmp_path).clips) == len(load("samm", tmp_path / "SAMM").clips) == 3
    smic(tmp_path / "SMIC")
    assert len(load("smic", tmp_path, missing_apex="midpoint").clips) == 3


# --- what comes of it
# -------------------------------------------------------------------------------------------------


def test_nothing_usable_and_one_class_only(tmp_path: Path) -> None:
    with pytest.raises(
        BadInput,
        match=r"protocol casme2: not one clip can be used.* The first of 1: .*row"
        r" 2: the apex 3 comes before",
    ):
        load("casme2", casme2(tmp_path / "a", [casme2_row(1, "EP01_1", 5, 3, 9, "disgust")]))
    rows = [casme2_row(n, "EP01_1", 1, 3, 9, "disgust") for n in (1, 2)]
    with pytest.raises(BadInput, match=r"all 2 usable clips are 'negative'; training needs two classes"):
        require_two_classes(load("casme2", casme2(tmp_path / "b", rows)))
    with pytest.raises(BadInput, match=r"all 1 usable clips are 'joy'"):
        require_two_classes(load("folder", folder(tmp_path, ["p1,a,joy,x/1.png,x/2.png"])))


def test_the_report_against_the_published_counts(tmp_path: Path) -> None:
    manifest = load(
        "casme2", casme2(tmp_path, [*CASME2_ROWS, casme2_row(3, "EP09_01", 50, 46, 60, "disgust")])
    )
    assert mismatches(manifest)[:4] == [
        "casme2: 2 negative clips, published 88",
        "casme2: 1 positive clips, published 32",
        "casme2: 1 surprise clips, published 25",
        "casme2: 3 subjects, published 24",
    ]
    assert [str(s) for s in subjects_without_clips(manifest)] == ["casme2/sub03"]
    report = check_report(manifest)
    for part in (
        "Protocol casme2: 4 of 5 clips can be used, 3 subjects.",
        "casme2    negative        2         88",
        "casme2: 2 negative clips, published 88",
        "casme2/sub17         0         0         1",
        "Subjects without a usable clip, which make no fold:\n  casme2/sub03",
        "Could not be used (1):\n  casme2/sub03/EP09_01: CASME2-coding-20140508.xlsx row 7: the apex 46"
        " comes before the onset 50",
        "   1  its emotion 'others' belongs to no class of the protocol (casme2/sub17/EP01_15)",
    ):
        assert part in report, report


def test_a_set_without_any_usable_clip_still_counts_against_the_published_ones(tmp_path: Path) -> None:
    casme(tmp_path / "CASME")
    samm(tmp_path / "SAMM")
    casme2(tmp_path / "CASME2", [casme2_row(1, "EP01_1", 5, 3, 9, "disgust")])
    lines = mismatches(load("seed382", tmp_path))
    assert "casme2: 0 negative clips, published 88" in lines and "casme2: 0 subjects, published 24" in lines


def test_no_published_count(tmp_path: Path) -> None:
    manifest = load("flowmaps", flowmaps(tmp_path))
    assert mismatches(manifest) == []
    assert "No count is published for this protocol." in check_report(manifest)


def test_importing_the_package_loads_no_data_set_and_no_opencv() -> None:
    code = (
        "import sys, distmer.datasets; print([m for m in ('cv2', 'torch', 'ray', 'mlflow',"
        " 'distmer.datasets.casme') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
