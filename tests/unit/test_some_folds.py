"""`--fold`: some folds of a run, as asked, is neither a whole run nor one that somebody stopped."""

from __future__ import annotations

import json
from pathlib import Path

from distmer.experiment.results_file import FoldLeftOut
from tests import factories
from tests.saying import Say, on_maps, settings
from tests.unit.test_report import lines_of


def test_one_fold_as_asked_is_no_failure_and_the_whole_run_goes_on_from_it(say: Say, maps: Path) -> None:
    words = ["run", "--local", "--json", *settings(*on_maps(maps))]
    one = say(*words, "--fold", "flowmaps/sub02")
    assert (one.code, one.json["status"]) == (0, "some-folds")
    assert {row["fold"] for row in one.json["failed"]} == {
        "flowmaps/sub01",
        "flowmaps/sub03",
        "flowmaps/sub04",
    }
    assert all(row["reason"].startswith("not asked for") for row in one.json["failed"])
    assert "1 of 4 folds, as asked: the score is of these alone" in one.out
    assert "stopped" not in one.out + one.err and "not reached" not in one.out + one.err
    assert "folds 1/1" in one.err and "some-folds: 1 of 4 folds done, as asked, 0 failed" in one.err
    kept = Path(one.json["run_dir"]) / "results.json"
    assert json.loads(kept.read_text())["status"] == "some-folds"
    assert say("track", one.json["run_dir"]).code == 2  # no MLflow to write to, but the folder is made again
    assert json.loads(kept.read_text())["status"] == "some-folds"
    two = say(*words, "--fold", "flowmaps/sub02", "--fold", "flowmaps/sub04")
    assert (two.code, two.json["status"], two.json["clips_used"]) == (0, "some-folds", 6)
    whole = say(*words)
    assert (whole.code, whole.json["status"], whole.json["failed"]) == (0, "complete", [])
    assert "(2 in the ledger already)" in whole.err


def test_a_fold_that_was_asked_for_and_failed_or_was_not_reached_makes_the_run_partial() -> None:
    plan = factories.plan()
    first, *_, last = (job.fold.id for job in plan.jobs)
    assert (
        factories.result(plan, failed=1, unreached=2, only=[first, plan.jobs[1].fold.id]).status == "partial"
    )
    stopped = factories.result(plan, unreached=2, only=[first, last])
    assert (stopped.status, stopped.missing) == ("partial", 1)
    folds = [row for row in stopped.left_out if isinstance(row, FoldLeftOut)]
    assert [row.reason[:11] for row in folds] == ["not asked f", "not reached"]
    lines = lines_of(factories.events(stopped))
    assert lines[-1].startswith("partial: 4 of 6 folds done, 0 failed, 1 not reached")
