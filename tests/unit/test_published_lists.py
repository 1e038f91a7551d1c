"""The published list of clips, exclusions and editions; lists of one's own for ``data.include``."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import yaml

from distmer.commands.data import lock_clips
from distmer.commands.session import Given, Session
from distmer.config import Config
from distmer.datasets import check_report, datasets, mismatches
from distmer.datasets.lists import table_of
from distmer.datasets.protocols import load_protocol, published_lists
from distmer.datasets.text import spelling
from distmer.experiment.plan import build_plan
from distmer.models import resolve
from distmer.storage import csv_text
from distmer.types import BadInput
from tests.fixtures.dataset_layouts import (
    CASME2_HEADER,
    CASME2_ROWS,
    casme,
    casme2,
    casme2_row,
    frames,
    samm,
    smic,
    xlsx,
)
from tests.fixtures.dataset_loading import load


def own(path: Path, **part: Any) -> str:
    """A protocol file over CASME II."""
    classes = ["negative", "positive", "surprise"]
    sets = {"casme2": {"labels": "three", **part}}
    path.write_text(yaml.safe_dump({"source": "a test", "classes": classes, "sets": sets}))
    return str(path)


def include(path: Path, *lines: str) -> str:
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def whole_casme2(root: Path, edition: int = 2014) -> Path:
    """All 145 clips of the published list, the two that it leaves out, and the three of two editions."""
    (listed,) = published_lists("casme2", load_protocol("casme2", datasets())).values()
    others = iter(["happiness"] * 32 + ["surprise"] * 25 + ["disgust"] * 88)
    rows = [
        casme2_row(clip.split("/")[1], clip.split("/")[2], 1, 3, 9, next(others)) for clip in sorted(listed)
    ]
    rows.append(casme2_row(4, "EP12_01f", 1, "/", 9, "disgust"))
    rows.append(casme2_row(5, "EP09_05f", 69, 69, 79, "disgust"))
    emotion = {2014: "sadness", 2019: "surprise"}[edition]
    rows += [casme2_row(24, clip, 1, 3, 9, emotion) for clip in ("EP07_01", "EP07_04f", "EP10_03")]
    xlsx(root / "CASME2-coding.xlsx", [CASME2_HEADER, *rows])
    for row in rows:
        number = int(str(row[0]).removeprefix("sub"))
        frames(root / f"CASME2_RAW_selected/sub{number:02d}/{row[1]}", (1, 3))
    return root


def test_the_published_list_is_met_by_the_right_sheet_alone(tmp_path: Path) -> None:
    manifest = load("casme2", whole_casme2(tmp_path / "a"))
    assert len(manifest.clips) == 145 and not mismatches(manifest)
    report = check_report(manifest)
    assert "Every published count is met. The clips of casme2 are those of the published list." in report
    later = check_report(load("casme2", whole_casme2(tmp_path / "b", 2019)))
    assert "casme2: 28 surprise clips, published 25" in later
    assert "not in the published list (3): sub24/EP07_01, sub24/EP07_04f, sub24/EP10_03" in later
    assert "the sheet is of the edition CASME2-coding-20190701: " in later


def test_one_clip_lost_and_one_too_many_do_not_cancel_out(tmp_path: Path) -> None:
    root = whole_casme2(tmp_path)
    shutil.rmtree(root / "CASME2_RAW_selected/sub01/EP19_05f")
    manifest = load("casme2", root)
    label = next(
        c for c in load("casme2", whole_casme2(tmp_path / "b")).clips if c.name == "EP19_05f"
    ).emotion
    book = openpyxl.load_workbook(root / "CASME2-coding.xlsx")
    book.worksheets[0].append(casme2_row(1, "EP99_01", 1, 3, 9, label))
    book.save(root / "CASME2-coding.xlsx")
    frames(root / "CASME2_RAW_selected/sub01/EP99_01", (1, 3))
    manifest = load("casme2", root)
    assert len(manifest.clips) == 145 and len(manifest.failures) == 1
    assert mismatches(manifest) == [
        "casme2: the counts are the published ones although 1 of its clips cannot be used, so others are too"
        " many",
        "casme2: of the published list, not there (1): sub01/EP19_05f",
        "casme2: not in the published list (1): sub01/EP99_01",
    ]
    assert "Every published count is met" not in check_report(manifest)


def test_an_exclusion_that_no_row_has_is_an_error_of_the_protocol(tmp_path: Path) -> None:
    casme2(tmp_path / "data")
    exclude = [{"subject": "sub17", "clip": "EP01_14", "source": "me"}]
    message = r"casme2: exclude of the protocol p names casme2/sub17/EP01_14, .*did you mean casme2/sub17/"
    with pytest.raises(BadInput, match=message):
        load(own(tmp_path / "p.yaml", exclude=exclude), tmp_path / "data")
    subjects = [{"subject": "sub71", "source": "me"}]
    with pytest.raises(BadInput, match=r"exclude_subjects of the .* casme2/sub71, .*casme2/sub17"):
        load(own(tmp_path / "p.yaml", exclude_subjects=subjects), tmp_path / "data")
    built_in = mismatches(load("casme2", tmp_path / "data"))
    assert any("names casme2/sub04/EP12_01f, which no row of the data has" in line for line in built_in)


def test_seed382_leaves_out_sub06_of_casme(tmp_path: Path) -> None:
    part = load_protocol("seed382", datasets()).sets["casme"]
    assert [entry.subject for entry in part.exclude_subjects] == ["sub06"]
    root = casme(tmp_path / "data")
    part = {"labels": "three", "exclude_subjects": [{"subject": "sub01", "source": "me"}]}
    three = ["positive", "negative", "surprise"]
    (tmp_path / "p.yaml").write_text(
        yaml.safe_dump({"source": "a test", "classes": three, "sets": {"casme": part}})
    )
    assert [clip.subject for clip in load(str(tmp_path / "p.yaml"), root).clips] == ["sub02"]


def test_a_name_that_yaml_reads_as_a_number_needs_quotes(tmp_path: Path) -> None:
    errata = [{"subject": 28, "clip": "028_4_1", "field": "apex", "value": 1, "source": "me"}]
    with pytest.raises(BadInput, match=r"sets\.casme2\.errata\.0\.subject: put quotes around the name"):
        load(own(tmp_path / "p.yaml", errata=errata), casme2(tmp_path / "data"))


# --- the include list
# -------------------------------------------------------------------------------------------------


def test_exactly_the_listed_clips(tmp_path: Path) -> None:
    root = casme2(tmp_path / "data", [*CASME2_ROWS, casme2_row(4, "EP12_01f", 1, 5, 9, "disgust")])
    listed = [
        "# pinned",
        "casme2/sub17/EP01_13",
        "",
        "casme2/sub04/EP12_01f  # we keep it",
        "casme2/sub99/EP01_01",
        "casme2/sub17/EP01_15",
    ]
    manifest = load("casme2", root, include=include(tmp_path / "list.txt", *listed))
    assert [c.id for c in manifest.clips] == ["casme2/sub04/EP12_01f", "casme2/sub17/EP01_13"]
    reasons = {f.clip: f.reason for f in manifest.failures}
    assert (
        "list.txt line 5: no row or folder describes casme2/sub99/EP01_01" in reasons["casme2/sub99/EP01_01"]
    )
    assert "row 6: its emotion 'others' belongs to no class" in reasons["casme2/sub17/EP01_15"]
    assert manifest.clips_expected == 4
    assert sum(e.reason == "not in the list of data.include" for e in manifest.excluded) == 3


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["casme2/sub17/EP01_13", "sub17/EP01_13"], r"list\.txt line 2: 'sub17/EP01_13' is not a clip id"),
        (
            ["casme2/sub17/EP01_13", "casme2/sub17/EP01_13"],
            r"line 2: casme2/sub17/EP01_13 is listed"
            r" already in line 1",
        ),
        (
            ["casmeii/sub17/EP01_13"],
            r"line 1: 'casmeii' is not a data set of the protocol; did you mean"
            r" 'casme2'",
        ),
        (["# nothing"], r"the list of data\.include is empty"),
    ],
)
def test_a_wrong_include_list(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        load("casme2", casme2(tmp_path / "data"), include=include(tmp_path / "list.txt", *lines))


def test_no_include_list(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.txt: the list of data\.include cannot be read"):
        load("casme2", casme2(tmp_path / "data"), include=str(tmp_path / "none.txt"))


# --- lists as tables


def test_a_list_by_subject_and_clip_in_any_spelling_is_matched_to_the_sheets(tmp_path: Path) -> None:
    """The form of a public list: a table of subjects and clips of several sets, with columns of its own."""
    casme2(tmp_path / "CASME2")
    samm(tmp_path / "SAMM")
    smic(tmp_path / "SMIC")
    lines = [
        "sub,fn,label,apex",
        "sub01,EP02_01f,1,59",
        "s01,s01_ne_01,0,",
        "6,006_1_2,0,5575",
        "007,007_9_9,0,1",
    ]
    table = include(tmp_path / "list.csv", *lines)
    columns = {"include": {"subject": "sub", "clip": "fn"}}
    manifest = load("megc2019", tmp_path, include=table, columns=columns, missing_apex="midpoint")
    assert [clip.id for clip in manifest.clips] == [
        "smic/s1/s1_ne_01",
        "casme2/sub01/EP02_01f",
        "samm/006/006_1_2",
    ]
    assert not manifest.changed  # labels by number are the classes'
    assert [f.clip for f in manifest.failures] == ["unknown/007/007_9_9"]
    assert "list.csv line 5: no row or folder has this subject and clip" in manifest.failures[0].reason
    other = include(
        tmp_path / "other.csv", "clip,label", "casme2/sub01/EP02_01f,surprise", "samm/006/006_1_2,0"
    )
    assert load("megc2019", tmp_path, include=other, missing_apex="midpoint").changed == (
        "casme2/sub01/EP02_01f is positive, and surprise in line 2 of the list",
    )


def test_what_data_list_writes_is_what_data_include_takes(tmp_path: Path) -> None:
    root = casme2(tmp_path / "data", [*CASME2_ROWS, casme2_row(3, "EP09_01", 46, "/", 51, "disgust")])
    manifest = load("casme2", root, missing_apex="midpoint")
    rows = table_of(manifest, str(root))
    assert rows[1][:6] == [
        *("casme2/sub01/EP02_01f", "positive", "happiness"),
        *(
            "CASME2_RAW_selected/sub01/EP02_01f/img46.jpg",
            "CASME2_RAW_selected/sub01/EP02_01f/img59.jpg",
            "2",
        ),
    ]
    assert [row[6] for row in rows[1:]] == ["", "", "", "apex = midpoint, frame 48", ""]
    written = tmp_path / "list.csv"
    written.write_text(csv_text(rows))
    again = load("casme2", root, missing_apex="midpoint", include=str(written))
    assert [clip.id for clip in again.clips] == [clip.id for clip in manifest.clips] and not again.changed


def test_a_lock_stamps_a_run_on_other_bytes(tmp_path: Path) -> None:
    root = casme2(tmp_path / "data")
    settings = (f"data.root={root}", "data.protocol=casme2")
    lock = tmp_path / "clips.csv"
    said = lock_clips(Session.open(Given(None, settings, str(tmp_path / "home"))), lock)
    assert said == f"{lock}: 4 clips of casme2; pin them with data.include={lock}"

    with pytest.raises(BadInput, match="is there already, and is not overwritten; name another file by --to"):
        lock_clips(Session.open(Given(None, settings, str(tmp_path / "home"))), lock)

    def changed() -> tuple[str, ...]:
        pinned = (*settings, f"data.include={lock}")
        return Session.open(Given(None, pinned, str(tmp_path / "home"))).manifest().changed

    assert changed() == ()
    image = root / "CASME2_RAW_selected/sub01/EP02_01f/img46.jpg"
    image.write_bytes(image.read_bytes() + b"\0")
    assert changed() == ("casme2/sub01/EP02_01f: its images are not those that the list pins",)
    manifest = replace(load("casme2", root), changed=changed())
    keys = {clip.id: clip.id for clip in manifest.clips}
    config = Config.model_validate({"data": {"protocol": "casme2"}, "model": {"name": "linear"}})
    assert "lock-mismatch" in build_plan(config, manifest, resolve(config.model), keys, ()).stamps


def test_the_list_of_htnets_repository_is_taken_as_it_is(tmp_path: Path) -> None:
    """Its columns, its spelling of SMIC's names, and its empty cells; the rows are of this test."""
    casme2(tmp_path / "CASME2")
    samm(tmp_path / "SAMM")
    smic(tmp_path / "SMIC")
    lines = [
        "dataset,sub,filename_o,label,apex,imagename,sub_filename",
        "casme2,sub01,EP02_01f,1,,sub01_EP02_01f.jpg,",
        "smic,s01,s01_ne_01,0,,s01_s1_ne_01.jpg,",
        "smic,s11,s11_po_02,2,,s11_s11_po_02.jpg,",
        "smic,s20,s20_ne_01,0,,s20_s20_ne_01.jpg,",
        "samm,006,006_1_2,0,,006_006_1_2.jpg,",
    ]
    table = include(tmp_path / "combined.csv", *lines)
    manifest = load("megc2019", tmp_path, include=table, missing_apex="midpoint")
    assert [clip.id for clip in manifest.clips] == [
        "smic/s1/s1_ne_01",
        "smic/s11/s11_po_02",
        "casme2/sub01/EP02_01f",
        "samm/006/006_1_2",
    ]
    assert [f.clip for f in manifest.failures] == ["smic/s20/s20_ne_01"]
    assert manifest.changed == ("smic/s11/s11_po_02 is positive, and 2 in line 4 of the list",)


def test_the_lists_of_megc_2019_have_its_442_clips() -> None:
    lists = published_lists("megc2019", load_protocol("megc2019", datasets()))
    assert {name: len(clips) for name, clips in lists.items()} == {"smic": 164, "casme2": 145, "samm": 133}
    assert {name: len({c.split("/")[1] for c in clips}) for name, clips in lists.items()} == {
        "smic": 16, "casme2": 24, "samm": 28,
    }  # fmt: skip
    kinds = [clip.split("_")[1] for clip in lists["smic"]]  # SMIC's names have the class
    assert [kinds.count(kind) for kind in ("ne", "po", "sur")] == [70, 51, 43]
    maps = published_lists("megc2019-flowmaps", load_protocol("megc2019-flowmaps", datasets()))
    assert maps == lists
    for name, dataset in (("smic", "smic"), ("samm", "samm"), ("seed382", "samm"), ("offtanet294", "casme2")):
        assert published_lists(name, load_protocol(name, datasets()))[dataset] == lists[dataset]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["# mine", "EP02_01f"], r"mine\.txt line 2: 'EP02_01f' .* write subject/clip"),
        (["casme2/sub01/EP02_01f"], r"mine\.txt line 1: 'casme2/sub01/EP02_01f' .* write subject/clip"),
        (["sub01/EP02_01f", "sub1/ep2_1f"], r"line 2: sub1/ep2_1f is listed already in line 1"),
    ],
)
def test_a_published_list_of_ones_own_has_a_clip_a_line(
    lines: list[str], message: str, tmp_path: Path
) -> None:
    include(tmp_path / "mine.txt", *lines)
    path = own(tmp_path / "p.yaml", clips="mine.txt")
    with pytest.raises(BadInput, match=message):
        mismatches(load(path, casme2(tmp_path / "data")))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("s1_ne_01", "S01-ne-1", True),
        ("EP02_01f", "ep2_1F", True),
        ("EP1_11", "EP11_1", False),
        ("006_1_2", "006_12", False),
        ("a 100", "a100", True),
        ("1.0", "10", False),
    ],
)
def test_two_spellings_of_one_name(one: str, other: str, same: bool) -> None:
    assert (spelling(one) == spelling(other)) is same
