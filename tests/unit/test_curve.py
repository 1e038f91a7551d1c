"""Learning curves: which subjects a share takes, what is shared with the run itself, and what a curve may
say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distmer.experiment.curve import CurveConfig, CurvePlan, conclude_curve, plan_curve
from distmer.report.curve import conclusions, curve_json, curve_report
from distmer.types import BadInput, FoldResult, SubjectKey
from tests import factories
from tests.saying import Say, home, on_maps, settings


def curve_plan(people: int = 8, each: int = 5, **section: Any) -> CurvePlan:
    plan = factories.plan((("ones", people),), each, lost=0, seeds=(0, 1))
    keys = {clip.id: f"key of {clip.id}" for clip in plan.clips}
    return plan_curve(plan, keys, CurveConfig.model_validate(section))


def folds_of(curve: CurvePlan, skill: Any) -> dict[str, FoldResult]:
    return {part.job.digest: factories.fold(curve.plan, part.job, skill=skill(part)) for part in curve.parts}


def test_shares_take_whole_subjects_and_lie_within_one_another() -> None:
    curve = curve_plan(shares=[0.25, 0.5, 1.0], draws=4)
    of: dict[tuple[str, int, float], set[SubjectKey]] = {}
    for part in curve.parts:
        fold = part.job.fold
        people = {SubjectKey.of(clip) for clip in fold.train}
        of[fold.id, part.draw, part.share] = people
        whole = next(one for one in curve.plan.folds if one.id == fold.id)
        assert fold.test == whole.test
        assert set(fold.train) == {clip for clip in whole.train if SubjectKey.of(clip) in people}
        assert len({curve.plan.labels[clip] for clip in fold.train}) > 1
    sizes = {share: {len(own) for (_, _, s), own in of.items() if s == share} for share in (0.25, 0.5, 1.0)}
    assert sizes == {0.25: {2}, 0.5: {4}, 1.0: {7}}
    for (fold_id, draw, share), people in of.items():
        if share == 0.25:
            assert people < of[fold_id, draw, 0.5]
    smallest = {frozenset(own) for (fold_id, _, share), own in of.items() if share == 0.25}
    assert len(smallest) > 8  # draws and folds differ


def test_the_whole_share_is_the_run_itself_and_other_draws_are_others() -> None:
    curve = curve_plan(shares=[0.5, 1.0], draws=2)
    whole = {part.job.digest for part in curve.parts if part.share == 1}
    assert whole == {job.digest for job in curve.plan.jobs}
    assert whole.isdisjoint(part.job.digest for part in curve.parts if part.share < 1)
    assert curve_plan(shares=[0.5, 1.0], draws=2).digest == curve.digest
    assert curve_plan(shares=[0.5, 1.0], draws=2, seed=1).digest != curve.digest


@pytest.mark.parametrize("share", [0.1, 0.3, 0.7])
def test_rounding_never_adds_a_subject(share: float) -> None:
    curve = curve_plan(people=11, shares=[share], draws=1)  # 10 training subjects
    assert {len({SubjectKey.of(c) for c in part.job.fold.train}) for part in curve.parts} == {
        round(10 * share)
    }


def test_a_share_that_shows_one_class_only_is_refused() -> None:
    with pytest.raises(BadInput, match="1 of 7 training subjects, who show one class only; raise"):
        curve_plan(each=1, shares=[0.1])
    with pytest.raises(BadInput, match=r"train\.selection is oracle"):
        plan = factories.plan(model={"name": "ststnet"}, train={"selection": "oracle"}, lost=0)
        plan_curve(plan, {clip.id: "key" for clip in plan.clips}, CurveConfig())


def test_a_curve_that_rises_says_so_and_one_that_does_not_says_less() -> None:
    section = {"shares": [0.25, 0.5, 1.0], "draws": 3, "resamples": 500}
    curve = curve_plan(people=16, each=6, **section)
    skills = {0.25: 0.0, 0.5: 0.2, 1.0: 1.0}
    rising = curve_json(conclude_curve(curve, folds_of(curve, lambda part: skills[part.share]), ()))
    assert [point["whole"] for point in rising["points"]] == [6, 6, 2]  # draws × seeds
    assert rising["points"][-1]["uar"] == 1.0 and rising["points"][0]["uar"] < 0.5
    assert rising["status"] == "complete"
    assert conclusions(rising) == [
        "UAR and UF1 rose from 50 % to 100 % of the training subjects: this model would very likely gain from"
        " more subjects."
    ]
    flat = curve_json(conclude_curve(curve, folds_of(curve, lambda part: 0.6), ()))
    assert "No rise is shown" in conclusions(flat)[0]
    each = rising["points"][0]["uar_each"]
    assert np.isclose(np.mean(each), rising["points"][0]["uar"]) and len(each) == 6
    assert "50 % to 100 %" in curve_report(rising).markdown()


def test_a_repetition_with_a_failed_fold_is_left_out_of_its_share_alone() -> None:
    curve = curve_plan(shares=[0.5, 1.0], draws=2)
    folds = folds_of(curve, lambda part: 0.8)
    lost = next(part.job for part in curve.parts if part.share == 0.5 and part.draw == 1)
    del folds[lost.digest]
    found = conclude_curve(curve, folds, [factories.failure(lost)])
    assert [(point.whole, point.wanted) for point in found.points] == [(3, 4), (2, 2)]
    assert (found.status, found.missing) == ("partial", 0)
    stopped = conclude_curve(curve, {}, ())
    assert (stopped.status, stopped.points[0].summary) == ("partial", None)
    assert curve_report(curve_json(stopped)).warnings
    every = [factories.failure(part.job) for part in curve.parts]
    assert conclude_curve(curve, {}, every).status == "failed"


def test_the_command_draws_goes_on_from_the_ledger_and_its_folder_makes_the_page(
    say: Say, maps: Path, tmp_path: Path
) -> None:
    chosen = settings(*on_maps(maps), "curve.draws=2", "curve.shares=[0.5, 1.0]", "curve.resamples=200")
    planned = say("plan", *chosen).out.splitlines()
    to_train = [int(line.split()[-3]) for line in planned if "of the subjects" in line]
    first = say("curve", "--local", "--json", *chosen)
    assert first.code == 0, first.err
    assert sum(to_train) == len(list((home(tmp_path) / "ledger").rglob("*.parquet")))
    assert "nothing to train" in say("plan", *chosen).out
    (folder,) = (home(tmp_path) / "curves").iterdir()
    found = json.loads((folder / "curve.json").read_text())
    assert json.loads(first.out.splitlines()[-1]) == found
    run = say("run", "--local", "--json", *settings(*on_maps(maps)))
    assert "4 from the ledger" in run.out + run.err  # the whole share is the run
    assert json.loads(run.out.splitlines()[-1])["uar"] == found["points"][-1]["uar"]
    entries = {path: path.stat().st_mtime_ns for path in (home(tmp_path) / "ledger").rglob("*.parquet")}
    again = say("curve", "--local", *chosen)
    assert again.code == 0
    assert entries == {p: p.stat().st_mtime_ns for p in (home(tmp_path) / "ledger").rglob("*.parquet")}
    page = (folder / "report.html").read_text()
    (folder / "report.html").unlink()
    assert say("report", str(folder)).code == 0 and (folder / "report.html").read_text() == page
    assert "Learning curve: linear on flowmaps" in page and (folder / "figures" / "curve.png").is_file()
    assert say("index").code == 0
    assert f'href="curves/{folder.name}/report.html"' in (home(tmp_path) / "index.html").read_text()
    repeated = say("curve", str(folder / "curve.yaml"), "--local", "--json")
    assert json.loads(repeated.out.splitlines()[-1])["digest"] == found["digest"]


def test_a_rise_far_from_the_end_and_a_stopped_curve_say_nothing_of_the_end() -> None:
    tree: dict[str, Any] = {"missing": 0, "rises": [{"low": 0.25, "high": 1.0}]}
    for key in ("uar", "uf1"):
        tree["rises"][0] |= {f"{key}_p_holm": 0.001, f"{key}_difference": 0.2}
    assert "too long" in conclusions(tree)[0] and "gain from more subjects" not in conclusions(tree)[0]
    tree["rises"][0]["low"] = 0.5
    assert "would very likely gain from more subjects" in conclusions(tree)[0]
    assert conclusions({**tree, "missing": 1}) == [
        "Nothing can be concluded before all trainings are finished."
    ]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("curve.shares=[0.1, 0.2, 1]", "0.1 and 0.2 of 3 training subjects are equally many (1)"),
        ("compare.models=all", "it compares several experiments; give it to `distmer compare`"),
        ("curve.shares=[0.5, 0.25]", "shares rise"),
        ("curve.shares=[0.5, 1.5]", "shares are above 0"),
        ("curve.draw=3", "curve.draw is not a setting; did you mean 'draws'"),
        ("curv.draws=3", "curv is not a setting; did you mean 'curve'"),
    ],
)
def test_what_is_no_curve_is_told(say: Say, maps: Path, setting: str, words: str) -> None:
    said = say("curve", "--local", *settings(*on_maps(maps), setting))
    assert said.code == 2 and words in said.sentence


def test_a_curve_is_not_run_as_something_else(say: Say, maps: Path) -> None:
    said = say("run", "--local", *settings(*on_maps(maps), "curve.draws=2"))
    assert said.code == 2 and "it draws a learning curve; give it to `distmer curve`" in said.sentence
