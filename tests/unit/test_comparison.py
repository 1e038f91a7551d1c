"""Comparisons: rows upon a base, what does not fit is a row that says so, and "better" only where a corrected
test says so."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from distmer.commands.compare import compare_runs, plan_of_comparison, run_comparison
from distmer.commands.session import Given
from distmer.experiment.comparison import Entry, conclude_comparison, expand
from distmer.experiment.results_file import Results
from distmer.models import models
from distmer.report.comparison import (
    LOOK,
    comparison_files,
    comparison_report,
    hard_frame,
    pair_frame,
    score_frame,
)
from distmer.report.plan import PlannedRow, rows_text, time_text
from distmer.types import BadInput, Predictions
from harness import toy

TRAIN = "train: {epochs: 3, batch_size: 8, lr: 0.003}\n"
BASE = """
data: {{protocol: flowmaps, root: {root}}}
inputs: {{normalise: minmax}}
model: {{name: atscnn, size: 16, hidden: 16}}
train: {{epochs: 3, batch_size: 8, lr: 0.003}}
tracking: {{enabled: false}}
compare:
"""


def labels(tree: dict[str, Any]) -> dict[str, str]:
    return {row.label: row.note for row in expand(tree, "c.yaml")[1]}


def test_all_means_every_registered_model_at_the_size_it_can_take() -> None:
    tree = {"compare": {"models": "all", "size": 1}}
    section, rows = expand(tree, "c.yaml")
    assert {row.label for row in rows} == set(models())
    for row in rows:
        info = models()[row.label]
        assert row.config is not None, row.note
        if info.kind == "torch":
            assert row.config.model.options["size"] == info.min_size
            assert row.note == f"maps enlarged to {info.min_size} px"
        assert row.config.tracking.folds == "steps"
    assert section.reference is None


def test_rows_lie_upon_the_base_and_upon_a_model_of_their_name() -> None:
    tree = {
        "seeds": [0, 1],
        "model": {"name": "atscnn", "size": 16},
        "compare": {
            "models": ["linear"],
            "rows": {"linear": {"seeds": [7]}, "relu": {"model.activation": "relu"}},
        },
    }
    rows = {row.label: row.config for row in expand(tree, "c.yaml")[1]}
    assert rows["linear"] is not None and rows["relu"] is not None
    assert (rows["linear"].model.name, rows["linear"].seeds) == ("linear", (7,))
    assert (rows["relu"].model.options, rows["relu"].seeds) == ({"size": 16, "activation": "relu"}, (0, 1))


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"rows": {}}, "neither models nor rows"),
        ({"models": ["atscn"]}, "unknown model 'atscn'; did you mean 'atscnn'"),
        ({"rows": {"full": {}}, "reference": "ful"}, "unknown row to refer to 'ful'; did you mean 'full'"),
        ({"row": {}}, "compare.row is not a setting; did you mean 'rows'"),
        ({"models": "linear"}, r"compare\.models: input should be a list, such as \[a, b\], not 'linear'"),
    ],
)
def test_what_cannot_be_compared_is_told(section: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        expand({"compare": section}, "c.yaml")


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"rows": {"good": {}, "bad": {"model.activatoin": "relu"}}}, "did you mean 'activation'"),
        ({"rows": {"good": {}, "bad": {"train.epoch": 2}}}, "row bad: train.epoch is not a setting"),
        (
            {"models": ["linear"], "over": {"maps": {"data.rot": "x"}}},
            "row linear over maps: data.rot is not a setting; did you mean 'root'",
        ),
        ({"models": ["linear"], "resamples": 0}, "compare.resamples: "),
    ],
)
def test_a_misspelt_setting_stops_a_comparison_before_it_begins(section: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=re.escape(words)):
        expand({"compare": section}, "c.yaml")


def test_a_row_that_fits_one_of_several_data_sets_is_left_out_of_the_others(tmp_path: Path) -> None:
    over = {"maps": {"data.protocol": "flowmaps"}, "faces": {}, "none": None}
    section = {"rows": {"fast": {"model.name": "linear", "data.synthetic.subjects": 4}}, "over": over}
    on = {row.on: row.note for row in expand({"compare": section}, "c.yaml")[1]}
    assert on["faces"] == "" and "data.synthetic.subjects" in on["maps"] and set(on) == {"maps", "faces"}


def test_a_setting_of_the_command_line_that_no_row_takes_is_refused(tmp_path: Path) -> None:
    path, home = tmp_path / "c.yaml", str(tmp_path / "home")
    path.write_text("compare: {models: [linear, svm], rows: {net: {model.name: ststnet, train.epochs: 2}}}\n")
    for words, said in (
        ("model.name=svm", "model.name has no effect"),
        ("train.epochs=9", "train.epochs has no effect"),
        ("compare.rows.nett=null", "compare.rows.nett=null leaves out a row that is not there; did you mean"),
        ("sweep.trials=3", "it has both a compare and a sweep section"),
    ):
        with pytest.raises(BadInput, match=re.escape(said)):
            plan_of_comparison(Given(path, (words,), home))
    # a row may need what the command line says
    path.write_text("compare: {rows: {one: {}, other: {model.c: 1.0}}}\n")
    words = ("model.name=linear", "data.synthetic.subjects=3")
    assert "other" in plan_of_comparison(Given(path, words, home))


RESULTS = Results.model_validate(
    {
        **{"uar": 0.5, "uf1": 0.5, "uar_foldmean": 0.5, "uf1_foldmean": 0.5, "floors": {}, "per_dataset": {}},
        **{"model": "toy", "dataset": "toy", "selection": "fixed", "status": "complete", "seeds": [0]},
        **{"clips_used": 90, "clips_expected": 90, "folds": 15, "seconds": 15.0, "fold_seconds": 15.0},
        **{"classes": ["a", "b", "c"], "run_dir": "/runs/x"},
    }
)


def entry(label: str, accuracy: float, seed: int, on: str = "", subjects: int = 15) -> Entry:
    truth = np.arange(90) % 3
    rng = np.random.default_rng(seed)
    said = np.where(rng.random(90) < accuracy, truth, (truth + 1) % 3)
    clips = tuple(f"toy/s{i % subjects}/c{i}" for i in range(90))
    predictions = Predictions(
        clips, truth, said, np.eye(3)[said], tuple(c.split("/")[1] for c in clips), np.zeros(90, int)
    )
    return Entry(label, on, "", RESULTS, predictions)


def test_better_is_said_only_where_the_corrected_test_holds() -> None:
    comparison = conclude_comparison(
        "c", [entry("good", 0.95, 0), entry("fair", 0.9, 1), entry("bad", 0.2, 2)], None, 2000
    )
    verdicts = {(p.a, p.b): p.verdict() for p in comparison.pairs}
    assert verdicts == {
        ("good", "fair"): "no difference shown",
        ("good", "bad"): "good is better",
        ("fair", "bad"): "fair is better",
    }
    assert all(p.uar_holm >= p.difference.uar_p for p in comparison.pairs)
    text = comparison_report(
        conclude_comparison("c", [entry("a", 1, 0), entry("b", 0, 1)], None, 4000)
    ).text()
    assert "<0.001" in text and "0.000 " not in text  # a permutation test never gives 0
    assert "1 paired permutation test over subjects:" in text
    to_one = conclude_comparison(
        "c", [entry("good", 0.95, 0), entry("fair", 0.9, 1), entry("bad", 0.2, 2)], "bad", 2000
    )
    assert {(p.a, p.b) for p in to_one.pairs} == {("bad", "good"), ("bad", "fair")}
    apart = conclude_comparison("c", [entry("good", 0.95, 0, "x"), entry("bad", 0.2, 2, "y")], None, 100)
    assert apart.pairs == ()  # other clips: nothing is paired
    assert "nothing is tested: no two rows are of the same data" in comparison_report(apart).text(width=140)
    stopped = conclude_comparison("c", [entry("a", 1, 0), Entry("b", "", "not reached")], None, 100)
    assert "nothing is tested: fewer than two rows have a score" in comparison_report(stopped).text(width=140)


def test_an_interval_is_printed_with_its_own_confidence() -> None:
    """The table for a paper said "95 % CI" of all intervals, and a confidence of .975 was printed as 98%."""
    rows = [entry("good", 0.95, 0), entry("bad", 0.2, 2)]

    def told(*levels: float, of_tests: float) -> tuple[str, str, float]:
        own = [
            replace(row, results=RESULTS.model_copy(update={"confidence": level}))
            for row, level in zip(rows, levels, strict=True)
        ]
        found = conclude_comparison("c", own, None, 2000, confidence=of_tests)
        width = found.pairs[0].difference.uar_ci.hi - found.pairs[0].difference.uar_ci.lo
        return comparison_files(found)["scores.tex"], comparison_report(found).text(width=140), width

    tex, text, narrow = told(0.5, 0.5, of_tests=0.5)
    assert "50\\,\\% CI" in tex and "95" not in tex.split("midrule")[0]
    assert "50%, bootstrap over subjects" in text
    tex, text, wide = told(0.975, 0.9, of_tests=0.95)
    assert "good (97.5\\,\\% CI)" in tex and "bad (90\\,\\% CI)" in tex
    assert "90% and 97.5%, of the differences 95%" in text
    assert narrow < wide / 2


@pytest.mark.parametrize("subjects", [4, 5, 6])
def test_what_few_subjects_cannot_show_is_said(subjects: int) -> None:
    rows = [entry("good", 1.0, 0, subjects=subjects), entry("bad", 0.0, 1, subjects=subjects)]
    comparison = conclude_comparison("c", rows, None, 10_000)
    least = f"with {subjects} subjects no test can come below p = {2 / 2**subjects:.3g}"
    text = comparison_report(comparison).text(width=140)
    assert (least in text) == (comparison.pairs[0].difference.uar_p > 0.05) == (subjects < 6)
    assert "nothing is tested" not in text


def test_clips_that_every_row_and_seed_got_wrong_are_listed_and_no_others() -> None:
    rows = [entry("one", 0.6, 0), entry("other", 0.6, 1)]
    twice = rows[1].predictions
    assert twice is not None and rows[0].predictions is not None
    right = replace(twice, y_pred_N=np.where(np.arange(90) == 7, twice.y_true_N, twice.y_pred_N))
    again = replace(right, seed_N=np.ones(90, int))  # a second seed, with clip 7 right
    rows[1] = replace(rows[1], predictions=Predictions.concat([twice, again]))
    wrong = [p.y_true_N != p.y_pred_N for p in (rows[0].predictions, twice, again)]
    expected = {f"toy/s{i % 15}/c{i}" for i in np.flatnonzero(np.all(wrong, axis=0))}
    other = entry("apart", 0.0, 2, "elsewhere")  # one answer a clip says nothing
    comparison = conclude_comparison("c", [*rows, other], None, 200)
    clip = min(expected)
    frame = hard_frame(replace(comparison, motion={("", clip): 0.25}))
    assert set(frame["clip"]) == expected and 0 < len(expected) < 60 and set(frame["on"]) == {""}
    row = frame[frame["clip"] == clip].iloc[0]
    number = int(clip.rpartition("c")[2])
    classes = RESULTS.classes
    assert (row["class"], row["answers"]) == (classes[number % 3], f"{classes[(number + 1) % 3]} 3")
    assert row.motion_px == 0.25
    text = comparison_report(comparison).text(width=140)
    moved = comparison_report(replace(comparison, motion={("", clip): 0.25})).text(width=140)
    assert LOOK in moved and LOOK not in text  # where there is motion, there are frames
    assert f"{len(expected)} clips that every row and seed got wrong (of 90 clips, 3 answers each" in text
    alone = conclude_comparison("c", [other], None, 200)
    assert hard_frame(alone).empty and "every row and seed" not in comparison_report(alone).text()


def test_rows_on_other_labels_are_a_note_and_the_others_are_tested() -> None:
    real, fair = entry("real", 0.95, 0), entry("fair", 0.9, 1)
    two_classes = RESULTS.model_copy(update={"classes": ("a", "b")})
    assert real.predictions is not None
    turned = replace(real.predictions, y_true_N=(real.predictions.y_true_N + 1) % 3)
    others = [
        Entry("chance", "", "", RESULTS, turned),
        Entry("two classes", "", "", two_classes, real.predictions),
        Entry("one person", "", "", RESULTS, real.predictions.take(np.arange(90) % 15 == 0)),
        Entry("half", "", "", RESULTS, real.predictions.take(np.arange(90) < 45)),
    ]
    comparison = conclude_comparison("c", [real, fair, *others], "real", 100)
    assert [pair.b for pair in comparison.pairs] == ["fair", "half"]
    report = comparison_report(comparison)
    csv = pair_frame(comparison).to_csv()
    for text in (report.text(width=140), report.markdown(), report._repr_html_(), csv):
        flat = " ".join(text.split())
        assert "real and chance were scored against other labels: clip toy/s0/c0" in flat
        assert "real and two classes tell different classes apart" in flat
        assert "at least two subjects" in flat
    assert "on the 45 clips that both predicted with every seed; 45 more do not count" in report.markdown()


def test_a_comparison_is_found_again_wherever_its_runs_lie() -> None:
    def placed(home: str, digest: str = "0" * 64) -> str:
        results = RESULTS.model_copy(update={"digest": digest, "run_dir": f"{home}/runs/{digest[:12]}"})
        unfit = Entry("x", "", f"not applicable: {home}/c.yaml")
        return conclude_comparison(
            "c", [replace(entry("good", 0.9, 0), results=results), unfit], None, 100
        ).digest

    assert placed("/home/ada") == placed("s3://bucket/elsewhere")
    assert placed("/home/ada") != placed("/home/ada", "1" * 64)


def test_from_a_configuration_to_the_tables_and_again_from_the_runs(tmp_path: Path) -> None:
    root = toy.write_flowmaps(tmp_path / "maps")
    path = tmp_path / "c.yaml"
    rows = "  models: [linear, atscnn]\n  rows: {gray: {model.streams: [onset, apex]}}\n  resamples: 200\n"
    path.write_text(BASE.format(root=root) + rows)
    home = str(tmp_path / "home")

    def planned() -> list[str]:
        text = plan_of_comparison(Given(path, (), home))
        assert re.search(r"gray +not applicable", text)
        return next(line.split()[1:] for line in text.splitlines() if line.split()[:1] == ["atscnn"])

    folds, to_train, seconds, _ = planned()
    assert folds == to_train == "5" and float(seconds) > 0
    comparison, folder = run_comparison(Given(path, (), home), local=True)
    assert planned() == ["5", "0", "0.0", "0:00"]
    assert {e.label: e.predictions is not None for e in comparison.entries} == {
        "linear": True,
        "atscnn": True,
        "gray": False,
    }
    assert comparison.exit_status == 0
    kept = {"comparison.md", "comparison.json", "scores.csv", "pairs.csv", "subjects.csv", "scores.tex"}
    kept |= {"always_wrong.csv"}
    assert {p.name for p in folder.iterdir()} == {*kept, "report.html"}
    frame = pd.read_csv(folder / "scores.csv").set_index("row")
    report, files = comparison_report(comparison), comparison_files(comparison)
    for e in comparison.entries[:2]:
        assert e.results is not None
        assert frame.loc[e.label, "uar"] == pytest.approx(e.results.uar)
        texts = (report.text(width=140), report._repr_html_(), files["comparison.md"], files["scores.tex"])
        for text in texts:
            assert f"{e.results.uar:.4f}" in text
    assert "hold no onset image" in frame.loc["gray", "note"]
    # The same command again trains nothing and lands in the same place; the folders of its runs give the same
    # scores.
    ledger = {p: p.stat().st_mtime_ns for p in (tmp_path / "home" / "ledger").glob("*/*.parquet")}
    again, same_folder = run_comparison(Given(path, (), home), local=True)
    assert same_folder == folder
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "home" / "ledger").glob("*/*.parquet")} == ledger
    run_dirs = [Path(e.scored.run_dir) for e in again.entries if e.scored]
    for words, said in (
        (["train.epochs=3"], "train.epochs has no effect on runs that are finished"),
        (["compare.reference=lin"], "unknown row to refer to 'lin'"),
    ):
        with pytest.raises(BadInput, match=said):
            compare_runs(run_dirs, Given(None, words, home))
    how = ["compare.resamples=200", "evaluation.confidence=0.9"]
    narrower = compare_runs(run_dirs, Given(None, how, home))[0]
    assert narrower.resamples == 200
    assert narrower.digest != compare_runs(run_dirs, Given(None, how[:1], home))[0].digest
    from_runs, _ = compare_runs(run_dirs, Given(workspace=home))
    assert list(score_frame(from_runs)["uar"]) == [e.scored.uar for e in again.entries if e.scored]
    assert from_runs.pairs[0].difference.uar == again.pairs[0].difference.uar
    # The folders of an older version, moved and renamed, are the same comparison.
    moved = [path.rename(tmp_path / f"run {n}") for n, path in enumerate(run_dirs)]
    for folder in moved:
        older = json.loads((folder / "results.json").read_text())
        del older["digest"]
        (folder / "results.json").write_text(json.dumps(older))
    assert compare_runs(moved, Given(workspace=home))[0].digest == from_runs.digest


def test_the_plan_of_a_comparison_adds_up_what_is_to_be_trained() -> None:
    rows = [
        PlannedRow("mine on casme2", 12, 6, 10.0),
        PlannedRow("mine on samm", 12, 3, 40.0),
        PlannedRow("gone", note="not applicable: no"),
    ]
    text = rows_text("c", rows, 7, time_text(180.0, 9, 2))
    lines = [line.split() for line in text.splitlines()]
    assert ["mine", "on", "casme2", "12", "6", "10.0", "1:00"] in lines
    assert ["mine", "on", "samm", "12", "3", "40.0", "2:00"] in lines
    assert ["gone", "not", "applicable:", "no"] in lines
    assert (
        "of 7 clips are still to be extracted" in text
        and "about 1:30 with 2 folds at once, 3:00 one after the other" in text
    )


def test_finished_runs_on_other_labels_are_refused(tmp_path: Path) -> None:
    root = toy.write_flowmaps(tmp_path / "maps")
    path = tmp_path / "c.yaml"
    rows = "  rows: {real: {}, chance: {evaluation.permute_labels: 1}}\n  resamples: 100\n"
    path.write_text(
        BASE.format(root=root).replace("atscnn, size: 16, hidden: 16", "linear").replace(TRAIN, "") + rows
    )
    comparison, _ = run_comparison(Given(path, (), str(tmp_path / "home")), local=True)
    assert (comparison.pairs, len(comparison.untested), comparison.exit_status) == ((), 1, 0)
    run_dirs = [Path(e.scored.run_dir) for e in comparison.entries if e.scored]
    one, other = (folder.name[:6] for folder in run_dirs)
    with pytest.raises(
        BadInput, match=f"linear {one} and linear {other} were scored against other labels: clip flowmaps/"
    ):
        compare_runs(run_dirs, Given(None, ["tracking.enabled=false"]))


def test_a_folder_that_holds_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no finished run lies here"):
        compare_runs([tmp_path], Given())


def test_without_a_section_it_is_said_first_that_all_models_are_compared(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "c.yaml"
    for section, said in (("", True), ("compare: {models: [linear]}", False)):
        path.write_text(f"data: {{protocol: flowmaps, root: {tmp_path}/none}}\n{section}\n")
        caplog.clear()
        comparison, _ = run_comparison(
            Given(path, ("tracking.enabled=false",), str(tmp_path / "home")), local=True
        )
        assert len(comparison.entries) == (len(models()) if said else 1)
        assert (f"so all {len(models())} models are compared" in caplog.text) == said


TOY_MODEL = """
from torch import nn

from distmer.models.base import ModelInfo, Options


class ToyOptions(Options):
    size: int = 8


MODEL = ModelInfo(
    name="toy",
    title="A toy",
    citation="none",
    kind="torch",
    options=ToyOptions,
    inputs=lambda options: ("u", "v"),
    build=lambda options, classes: nn.Sequential(nn.Flatten(), nn.Linear(2 * options.size**2, classes)),
    min_size=1,
    native_size=8,
)
"""


def test_a_model_in_one_file_is_listed_tested_and_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is put where the package's folder walk looks; nothing else is touched."""
    import distmer.models
    from distmer.commands.models import list_models

    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "toy.py").write_text(TOY_MODEL)
    monkeypatch.setattr(distmer.models, "__path__", [*distmer.models.__path__, str(tmp_path / "models")])
    distmer.models._found.cache_clear()
    try:
        assert "toy" in {row["name"] for row in list_models()}
        assert "toy" in labels({"compare": {"models": "all"}})
        root = toy.write_flowmaps(tmp_path / "maps")
        path = tmp_path / "c.yaml"
        path.write_text(BASE.format(root=root) + "  models: [linear, toy]\n  resamples: 200\n")
        comparison, _ = run_comparison(Given(path, (), str(tmp_path / "home")), local=True)
        parameters = {e.label: e.results.parameters for e in comparison.entries if e.results}
        assert parameters == {"linear": None, "toy": 2 * 64 * 3 + 3}
    finally:
        distmer.models._found.cache_clear()
        sys.modules.pop("distmer.models.toy", None)
