"""From the command line to the sentence, the exit status and results.json: what happens when something is
wrong with the settings, the data or a frame. The loaders' own cases are in test_dataset*.py and
test_features.py; the disk is in test_bad_disk.py."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openpyxl
import pytest

from distmer.config import DataConfig, SyntheticConfig
from distmer.datasets import load_manifest, synthetic
from distmer.types import KeyFrames
from harness import command, toy
from tests.fixtures import dataset_layouts as layouts
from tests.saying import Said, Say, home, on_maps, overrides, run, settings


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three people, two clips each, in the official layouts: frames in which a face is found."""
    return synthetic.ensure(
        SyntheticConfig(subjects=3, clips_per_subject=2), tmp_path_factory.mktemp("faces")
    )


@pytest.fixture
def official(faces: Path, tmp_path: Path) -> Path:
    """A copy of the faces, to damage."""
    return Path(shutil.copytree(faces, tmp_path / "official"))


@pytest.fixture
def own(faces: Path, tmp_path: Path) -> Path:
    """A manifest.csv of one's own on the same frames: three people, six sound clips."""
    root = tmp_path / "own"
    manifest = load_manifest(DataConfig(protocol="seed382", root=str(faces)), tmp_path / "nothing")
    rows = ["subject,clip,label,onset,apex"]
    for clip in manifest.clips:
        assert isinstance(clip.source, KeyFrames)
        folder = root / clip.dataset / clip.name
        folder.mkdir(parents=True)
        for name, frame in (("onset", clip.source.onset), ("apex", clip.source.apex)):
            shutil.copy(frame, folder / f"{name}.jpg")
        place = f"{clip.dataset}/{clip.name}"
        rows.append(
            f"{clip.dataset},{clip.name},{manifest.classes[clip.label]},{place}/onset.jpg,{place}/apex.jpg"
        )
    (root / "manifest.csv").write_text("\n".join(rows) + "\n")
    return root


def add_rows(own: Path, *rows: str) -> None:
    with (own / "manifest.csv").open("a") as file:
        file.writelines(f"{row}\n" for row in rows)


def on_own(own: Path) -> list[str]:
    return ["data.protocol=folder", f"data.root={own}"]


def sound_frame(own: Path) -> Path:
    return next(own.glob("*/*/onset.jpg"))


# Settings: told before anything is started, exit status 2.


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        (["train.epoch=3"], r"configuration: train.epoch is not a setting; did you mean 'epochs'?"),
        (["trian.epochs=3"], r"trian is not a setting; did you mean 'train'?"),
        (["train.epochs=many"], r"train.epochs: input should be a whole number, not 'many'"),
        (["train.lr=.nan"], r"train.lr: input should be a finite number"),
        (["seeds=0"], r"seeds: input should be a list, such as [a, b], not 0."),
        (["seeds=[]"], r"configuration: seeds must be distinct and at least one, not []."),
        (["train=3"], r"train: input should be a mapping of settings, such as {name: value}, not 3."),
        (["model.name=flow_kernel", "model.blocks=[]"], r"model.blocks: 1 or more are needed, not []."),
        (["seeds=[0,0]"], r"seeds must be distinct"),
        (["seeds=[-1]"], r"seeds.0: input should be greater than or equal to 0, not -1."),
        (["seeds=[99999999999999999999]"], r"seeds.0: input should be less than 9223372036854775808"),
        (["data"], r"--set data: write it as path.to.field=value."),
        (["model.name=atscn"], r"unknown model 'atscn'; did you mean 'atscnn'?"),
        (
            ["model.name=atscnn", "model.hiden=8"],
            r"model atscnn: model.hiden is not a setting; did you"
            r" mean 'hidden'?",
        ),
        (
            ["model.name=linear", "model.hidden=8"],
            r"model linear: model.hidden is not a setting; known: balanced, c, iterations, name, size,"
            r" streams.",
        ),
        (["model.name=atscnn", "model.size=8"], r"size must be at least 16 px for 4 stages, not 8"),
        (
            ["model.name=linear", "model.size=3"],
            r"model.size is 3 px, but its poolings need 4; raise"
            r" model.size.",
        ),
        (
            ["model.name=atscnn", "model.size=4096"],
            r"model.size: input should be less than or equal to"
            r" 512, not 4096.",
        ),
        (
            ["model.name=atscnn", "model.streams=[u,w]"],
            r"model.streams.1: input should be 'u', 'v',"
            r" 'strain', 'onset' or 'apex', not 'w'.",
        ),
        (
            ["data.protocol=seed328"],
            r"data.protocol: there is no protocol 'seed328'; did you mean"
            r" 'seed382'?",
        ),
        (
            ["data.protocol=/no/such.yaml"],
            r"/no/such.yaml: the protocol cannot be read (No such file or directory); name an existing"
            r" YAML file",
        ),
        (["data.roots.casme4=/x"], r"data.roots.casme4 is the folder of no data set of the protocol"),
        (
            ["evaluation.folds=group_kfold", "evaluation.k=5"],
            r"evaluation.k is 5, but there are 4 subjects; lower it, or use evaluation.folds=loso.",
        ),
        (
            ["evaluation.folds=cross_dataset"],
            r"cross_dataset needs at least 2 data sets, but the protocol"
            r" has only flowmaps; use loso.",
        ),
        (
            ["inputs.normalise=fixed"],
            r"hold no pixels, so a fixed scale is impossible; set"
            r" inputs.normalise=minmax.",
        ),
        (
            ["model.streams=[onset,apex]"],
            r"published flow maps, which hold no onset image; use the"
            r" channels u, v, strain.",
        ),
    ],
)
def test_a_setting_that_cannot_be(
    chosen: list[str], sentence: str, say: Say, maps: Path, tmp_path: Path
) -> None:
    said = run(say, *on_maps(maps), *chosen)
    assert said.code == 2
    assert said.sentence.startswith("bad input: ") and sentence in said.sentence
    assert said.out == ""
    assert not list(home(tmp_path).glob("runs/*")) and not command.ledger(home(tmp_path))


@pytest.mark.parametrize(
    "chosen", [["inputs.normalise=fixed"], ["model.streams=[onset,apex]"], ["evaluation.folds=cross_dataset"]]
)
def test_plan_tells_what_run_would(chosen: list[str], say: Say, maps: Path) -> None:
    said = say("plan", *settings(*on_maps(maps), *chosen))
    assert (said.code, said.sentence) == (2, run(say, *on_maps(maps), *chosen).sentence)


def test_a_plan_looks_at_no_other_workspace_than_the_one_that_is_named(
    say: Say, maps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.yaml").write_text("name: mine\n")
    monkeypatch.setenv("DISTMER_HOME", "ftp://nowhere")
    here = str(tmp_path / "here")
    said = say("plan", str(tmp_path / "a.yaml"), "--workspace", here, *settings(*on_maps(maps)))
    assert said.code == 0, said.err


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("train: {epoch: 3}\n", "a.yaml: train.epoch is not a setting; did you mean 'epochs'?"),
        ("train: [", "a.yaml: not valid YAML"),
        ("- 1\n", "a.yaml: a configuration is a mapping of settings, not a list."),
        (
            "extends: no.yaml\n",
            "no.yaml: the configuration cannot be read (No such file or directory);"
            " name an existing YAML file, or one",
        ),
        ("extends: [a, b]\n", "a.yaml: extends names one configuration file, not ['a', 'b']."),
        ("1: 2\n", "a.yaml: 1: keys should be strings"),
        (b"name: \xff\xfe\n", "a.yaml: the configuration is not UTF-8 text (byte 6); save it as UTF-8."),
    ],
)
def test_a_configuration_file_that_cannot_be(
    text: str | bytes, sentence: str, say: Say, tmp_path: Path
) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    said = say("run", str(path), "--local")
    assert said.code == 2
    assert sentence in said.sentence


# Where the data lie.


@pytest.mark.parametrize(
    ("chosen", "parts"),
    [
        (
            [],
            [
                "no folder is given for CASME II",
                "data.root",
                "--set data.root=",
                "DISTMER_DATA",
                "data.roots.casme2",
            ],
        ),
        (
            ["data.root=/no/where"],
            ["/no/where: the folder for CASME II is not there", "--set data.root=", "DISTMER_DATA"],
        ),
        (
            ["data.roots.casme2=/no/where"],
            ["/no/where: the folder for CASME II is not there", "--set data.roots.casme2="],
        ),
    ],
)
@pytest.mark.parametrize("verb", [["run", "--local"], ["plan"], ["data", "check"], ["features", "--local"]])
def test_no_data(verb: list[str], chosen: list[str], parts: list[str], say: Say) -> None:
    said = say(*verb, *settings("data.protocol=casme2", *chosen))
    assert said.code == 2
    assert all(part in said.sentence for part in parts), said.sentence


def test_a_data_folder_of_the_environment_that_is_not_there(
    say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTMER_DATA", "/no/where")
    said = run(say, "data.protocol=casme2")
    assert said.code == 2
    assert (
        "/no/where: the folder for CASME II is not there; correct data.root" in said.sentence
        and "DISTMER_DATA" in said.sentence
    )


def test_the_wrong_sheet_and_a_missing_column(say: Say, tmp_path: Path) -> None:
    root = layouts.casme2(
        tmp_path / "casme2", header=[c if c != "ApexFrame" else "ApexFrm" for c in layouts.CASME2_HEADER]
    )
    said = run(say, "data.protocol=casme2", f"data.root={root}")
    assert said.code == 2
    assert "CASME2-coding-20140508.xlsx: row 1 of worksheet 'Sheet1'" in said.sentence
    assert "lacks the column 'ApexFrame' (did you mean 'ApexFrm'?); rename the column," in said.sentence
    (root / "CASME2-coding-20140508.xlsx").write_text("not a sheet")
    assert (
        "cannot be read as an Excel sheet" in run(say, "data.protocol=casme2", f"data.root={root}").sentence
    )
    (root / "CASME2-coding-20140508.xlsx").unlink()
    layouts.xlsx(root / "SAMM_Micro_FACS_Codes_v2.xlsx", [layouts.SAMM_HEADER])
    said = run(say, "data.protocol=casme2", f"data.root={root}")
    assert (said.code, "the coding sheet is not there; looked for" in said.sentence) == (2, True)
    assert "found CASME2_RAW_selected, SAMM_Micro_FACS_Codes_v2.xlsx" in said.sentence


def test_an_unknown_column_of_ones_own_manifest(say: Say, own: Path) -> None:
    path = own / "manifest.csv"
    path.write_text(path.read_text().replace("subject,clip,label", "subject,clip,lable", 1))
    said = run(say, *on_own(own))
    assert said.code == 2
    assert (
        f"{path}: row 1 of UTF-8 text separated by commas looks like the header but lacks the column 'label'"
        " (did you mean 'lable'?); rename the column" in said.sentence
    )


# Rows and frames: a row in `failed`, and the run goes on.


def failed(said: Said) -> dict[str, str]:
    return {entry["clip"]: entry["reason"] for entry in said.json["failed"]}


def test_rows_that_cannot_be_used_are_listed_and_the_run_goes_on(say: Say, official: Path) -> None:
    sheet = official / "CASME2" / "CASME2-coding-20140508.xlsx"
    book = openpyxl.load_workbook(sheet)
    page = book.active
    titles = {str(cell.value): cell.column for cell in page[1]}
    sound = {name: page.cell(2, column).value for name, column in titles.items()}

    def row(number: int, **cells: Any) -> None:
        for name, column in titles.items():
            page.cell(number, column, cells.get(name, sound[name]))

    row(10, Filename="EP90_01", ApexFrame=int(sound["OnsetFrame"]) - 1)
    row(11, Filename="../../SAMM/006")
    row(12, Filename="EP90_03")
    row(13, Filename="EP90_04", ApexFrame="/")
    row(14, Subject=9, Filename="EP90_05")
    book.save(sheet)
    shutil.copytree(
        official / "CASME2/CASME2_RAW_selected/sub01/EP51_01f",
        official / "CASME2/CASME2_RAW_selected/sub01/EP90_03",
    )
    (official / f"CASME2/CASME2_RAW_selected/sub01/EP90_03/img{sound['OnsetFrame']}.jpg").unlink()
    chosen = ["data.protocol=seed382", f"data.root={official}"]
    said = run(say, *chosen)
    assert (said.code, said.json["status"]) == (0, "complete"), said.err
    reasons = failed(said)
    assert sorted(reason.split(":")[0] for reason in reasons.values()) == [
        f"{sheet.name} row {n}" for n in range(10, 15)
    ]
    assert (
        "comes before the onset" in reasons["casme2/sub01/EP90_01"]
        and "correct the row" in reasons["casme2/sub01/EP90_01"]
    )
    assert "would leave the data root; correct the row." in reasons["casme2/sub01/../../SAMM/006"]
    assert (
        "is not in" in reasons["casme2/sub01/EP90_03"]
        and "unpack it again" in reasons["casme2/sub01/EP90_03"]
    )
    assert "set data.missing_apex to midpoint or max-flow" in reasons["casme2/sub01/EP90_04"]
    assert (said.json["clips_used"], said.json["clips_expected"], said.json["folds"]) == (6, 11, 3)
    assert "counts-mismatch" in said.json["stamps"]
    report = say("data", "check", *settings(*chosen))  # sub09's one clip has no frames: no fold, and said
    assert report.code == 0
    assert "Subjects without a usable clip, which make no fold:\n  casme2/sub09\n" in report.out
    assert f"casme2/sub01/EP90_01: {sheet.name} row 10: the apex" in report.out


def test_frames_that_cannot_be_used_are_listed_and_the_run_goes_on(say: Say, own: Path) -> None:
    bad = own / "bad"
    bad.mkdir()
    face = cv2.imread(str(sound_frame(own)), cv2.IMREAD_GRAYSCALE)
    assert face is not None
    (bad / "garbage.jpg").write_bytes(b"no image at all")
    (bad / "cut.png").write_bytes(cv2.imencode(".png", face)[1].tobytes()[:200])
    (bad / "empty.jpg").write_bytes(b"")
    cv2.imwrite(
        str(bad / "noface.png"), np.random.default_rng(0).integers(0, 255, (240, 320), dtype=np.uint8)
    )
    cv2.imwrite(str(bad / "deep.png"), face.astype(np.uint16) * 257)
    cv2.imwrite(str(bad / "small.png"), face[::2, ::2])
    good = sound_frame(own).relative_to(own)
    add_rows(
        own,
        f"casme,garbage,negative,bad/garbage.jpg,{good}",
        f"casme,cut,negative,{good},bad/cut.png",
        f"casme,empty,negative,{good},bad/empty.jpg",
        "casme,noface,negative,bad/noface.png,bad/noface.png",
        f"casme,deep,negative,bad/deep.png,{good}",
        f"casme,small,negative,{good},bad/small.png",
        f"casme,missing,negative,{good},bad/nowhere.png",
        f"casme,outside,negative,{good},../../x.png",
        f"casme,../leaves,negative,{good},{good}",
        "alone,noface,negative,bad/noface.png,bad/noface.png",
    )
    chosen = on_own(own)
    said = run(say, *chosen)
    assert (said.code, said.json["status"]) == (0, "complete"), said.err
    expected = {
        "casme/garbage": "row 8: garbage.jpg: not an image that OpenCV can decode, or cut short; copy it"
        " again",
        "casme/cut": "row 9: cut.png: not an image",
        "casme/empty": "empty.jpg: the file is empty; copy it again.",
        "casme/noface": "row 11: noface.png: no face",
        "casme/deep": "it is 8-bit, the onset 16-bit; all frames of a clip must have one depth.",
        "casme/small": "row 13: small.png: it has",
        "casme/missing": "row 14: the apex 'bad/nowhere.png' is not an image file in",
        "casme/outside": "row 15: ",
        "casme/../leaves": "row 16: the clip name '../leaves' would leave the data root; correct the row.",
        "alone/noface": "row 17: noface.png: no face",
    }
    reasons = failed(said)
    assert reasons.keys() == {f"folder/{clip}" for clip in expected}
    for clip, reason in expected.items():
        assert "manifest.csv row " in reasons[f"folder/{clip}"] and reason in reasons[f"folder/{clip}"]
    assert (said.json["clips_used"], said.json["clips_expected"]) == (6, 16)
    assert said.json["folds"] == 3  # a person of whom nothing can be used makes no fold
    assert (
        json.loads((Path(said.json["run_dir"]) / "results.json").read_text())["failed"] == said.json["failed"]
    )
    again = run(say, *chosen)  # what cannot be used is not extracted again, and not forgotten
    assert (again.code, again.json["failed"]) == (0, said.json["failed"])
    listed = say("features", "--local", *settings(*chosen))
    assert listed.out.count("not usable: ") == len(expected)


def test_no_clip_can_be_used(say: Say, own: Path) -> None:
    for frame in own.glob("*/*/onset.jpg"):
        frame.write_bytes(b"no image at all")
    said = run(say, *on_own(own))
    assert said.code == 2
    assert (
        "not one clip can be used" in said.sentence and "The first of 6 that failed: folder/" in said.sentence
    )
    assert ": onset.jpg: not an image" in said.sentence and "manifest.csv row " in said.sentence


def test_one_class_only(say: Say, own: Path) -> None:
    path = own / "manifest.csv"
    head, *rows = path.read_text().splitlines()
    one = [",".join([*row.split(",")[:2], "happy", *row.split(",")[3:]]) for row in rows]
    path.write_text("\n".join([head, *one]) + "\n")
    said = run(say, *on_own(own))
    assert said.code == 2
    assert (
        "protocol folder: all 6 usable clips are 'happy'; training needs two classes or more."
        in said.sentence
    )
    checked = say("data", "check", *overrides(*on_own(own)))  # it trains nothing
    assert checked.code == 0 and "happy" in checked.out, checked.err
    # the other class is lost in the loading …
    add_rows(own, f"p9,c,sad,{sound_frame(own).relative_to(own)},bad.png")
    assert run(say, *on_own(own)).code == 2
    (own / "bad.png").write_bytes(b"no image")  # … or in the extraction
    said = run(say, *on_own(own))
    assert said.code == 2
    assert (
        "the 6 usable clips show one class only" in said.sentence
        and "manifest.csv row 8: bad.png: not an image" in said.sentence
    )


def test_a_fold_with_one_class_to_train_on_fails_alone(say: Say, tmp_path: Path) -> None:
    maps = toy.write_flowmaps(tmp_path / "maps", subjects=3, each=3)
    for subject in ("sub01", "sub02"):
        for label in ("1", "2"):
            shutil.rmtree(maps / subject / "u_test" / label)
    said = run(say, *on_maps(maps))
    assert (said.code, said.json["status"]) == (3, "partial")
    assert len(command.ledger(home(tmp_path))) == 2
    (fold,) = said.json["failed"]
    assert fold["fold"] == "flowmaps/sub03"
    assert (
        "its training clips show one class only, so nothing can be learned; use more subjects."
        in fold["reason"]
    )
    shutil.rmtree(maps / "sub03")
    said = run(say, *on_maps(maps))
    assert said.code == 2  # and where nothing else is left, there is no run


def test_track_needs_a_run_folder(say: Say, tmp_path: Path) -> None:
    said = say("track", str(tmp_path))
    assert said.code == 2
    assert (
        "no config.yaml in it, so it is not a run folder; give one below <workspace>/runs." in said.sentence
    )
