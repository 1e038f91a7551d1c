"""What people see of a run: the JSON's numbers, loud stamps, counted failures, and nothing on stdout while it
runs."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from distmer.costs.table import models_text
from distmer.experiment.events import Event, FoldFinished, Observers, Step
from distmer.experiment.result import RunResult
from distmer.experiment.results_file import Results
from distmer.report.figures import drawings
from distmer.report.jsonl import JsonLines
from distmer.report.live import LiveProgress
from distmer.report.plan import plan_text
from distmer.report.table import Row, Table
from distmer.report.tables import clock, run_report, score_table
from tests import factories


class Clock:
    """A clock that moves ``step`` seconds each time it is read."""

    def __init__(self, step: float) -> None:
        self.time, self.step = 0.0, step

    def __call__(self) -> float:
        self.time += self.step
        return self.time


def lines_of(events: list[Event], step: float = 1.0, every: float = 5.0) -> list[str]:
    sink = io.StringIO()
    with Observers([LiveProgress(Console(file=sink, width=60), every, Clock(step))]) as live:
        for event in events:
            live(event)
    return sink.getvalue().splitlines()


def result_text(result: RunResult, *, colour: bool = False) -> str:
    return run_report(result.results).text(colour=colour)


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_every_number_of_the_table_is_the_jsons(seeds: tuple[int, ...]) -> None:
    result = factories.result(factories.plan(seeds=seeds))
    tree = json.loads(json.dumps(result.to_json()))
    table = score_table(Results.model_validate(tree))
    assert table is not None
    pairs = _with_owner(table)
    rows = {(row.cells[0], owner.cells[0] if row.indent else ""): row.cells for owner, row in pairs}
    low, high = tree["uf1_ci"]
    assert rows["pooled", ""][1] == f"{tree['uar']:.4f}"
    assert rows["pooled", ""][4] == f"[{low:.4f}, {high:.4f}]"
    assert rows["mean over folds", ""][3] == f"{tree['uf1_foldmean']:.4f}"
    assert rows["floor, constant", "pooled"][1] == f"{tree['floors']['constant']['uar']:.4f}"
    stratified = tree["floors"]["stratified"]["uf1_foldmean"]
    assert rows["floor, stratified", "mean over folds"][3] == f"{stratified:.4f}"
    assert rows["ones, 14 clips", ""][1] == f"{tree['per_dataset']['ones']['uar']:.4f}"
    expected = [row.cells[1] for row in table.rows]
    for text in (result_text(result), run_report(result.results).markdown()):
        shown = [
            line
            for line in text.splitlines()
            if re.search(
                r"^\W*(pooled|floor|mean"
                r" over|ones|twos)|nbsp",
                line,
            )
        ]
        assert [re.search(r"\d\.\d{4}", line)[0] for line in shown] == expected  # type: ignore[index]
    assert ("standard deviation" in result_text(result)) == (len(seeds) > 1)


def _with_owner(table: Table) -> list[tuple[Row, Row]]:
    """Each row with the row whose floor it is."""
    owner, pairs = table.rows[0], []
    for row in table.rows:
        owner = owner if row.indent else row
        pairs.append((owner, row))
    return pairs


def test_results_json_alone_gives_the_same_table() -> None:
    result = replace(factories.result(factories.plan(), failed=1), mlflow_run_id="f00")
    assert run_report(Results.model_validate_json(json.dumps(result.to_json()))).text() == result_text(result)
    assert "f00" in result_text(result) and result.run_dir in result_text(result)


def test_the_parameters_of_an_ensemble_are_those_of_all_its_networks() -> None:
    one, three = (
        factories.result(factories.plan(model={"name": "atscnn"}, train={"ensemble": n})).results.parameters
        for n in (1, 3)
    )
    assert one and three == 3 * one


def test_a_stamped_run_is_no_headline_anywhere() -> None:
    plan = factories.plan(
        model={"name": "atscnn"}, train={"selection": "oracle"}, expected={"ones": {"negative": 99}}
    )
    result = factories.result(plan)
    report = run_report(result.results)
    planned = plan_text(plan, 0, "", 0, "about 1:30", "each fold a task", "/x")
    for text in (report.text(), report.markdown(), report._repr_html_(), planned):
        assert re.search(r"NOT A HEADLINE: oracle:per_subject .*counts-mismatch", text), text
    for draw in drawings(result).values():
        figure = draw()
        assert any("NOT A HEADLINE: oracle:per_subject" in text.get_text() for text in figure.texts)
    assert "NOT A HEADLINE" in lines_of(factories.events(result))[0]
    assert "HEADLINE" not in result_text(factories.result(factories.plan()))


def test_failures_are_shown_and_the_rest_is_counted() -> None:
    plan = factories.plan(people=(("ones", 15),), lost=3)
    text = result_text(factories.result(plan, failed=9, unreached=1))
    assert "PARTIAL: 5 of 15 folds are in this score" in text
    assert "5 of 15 done, 9 failed, 1 not reached" in text
    assert "25 of 75 used" in text
    assert "not in the score: 13" in text and "… and 3 more in results.json" in text
    assert text.count("ValueError: the loss is not finite") == 7
    none = result_text(factories.result(plan, failed=15))
    assert "FAILED: none of the 15 folds finished" in none and "UAR" not in none


def test_reasons_and_paths_are_neither_markup_nor_folded() -> None:
    result = factories.result(factories.plan(), run_dir="/very" * 40)
    odd = replace(
        result, failures=(factories.failure(result.plan.jobs[0], "[red]KeyError: [/] 'x' " + "long " * 40),)
    )
    assert "/very" * 40 in result_text(odd) and "[red]KeyError: [/] 'x'" in result_text(odd)


def test_colour_is_only_there_when_asked_for() -> None:
    result = factories.result(factories.plan(), failed=1)
    assert "\x1b[" not in result_text(result)
    assert (
        re.sub(r"\x1b\[[0-9;]*m", "", result_text(result, colour=True)).split() == result_text(result).split()
    )


def test_the_plan_and_the_models_are_listed() -> None:
    plan, how = factories.plan(seeds=(0, 1)), "each fold a task of its own"
    text = plan_text(plan, 7, "by 2 processes of this machine", 5, "about 1:30", how=how, run_dir="/runs/x")
    assert (
        "6 × 2 seeds = 12: 5 in the ledger already, 7 to train" in text
        and "about 1:30" in text
        and "features of 7 are still to be extracted, by 2 processes of this machine" in text
    )
    assert "each fold a task of its own" in text
    row = {
        "name": "toy",
        "title": "A toy",
        "kind": "classical",
        "parameters": None,
        "size": 8,
        "inputs": ["u"],
        "citation": "Me, 1999",
    }
    assert "toy: A toy" in models_text([{**row, "options": {"c": 1}}]) and "c=1" in models_text(
        [{**row, "options": {"c": 1}}]
    )


def test_every_figure_is_drawn_and_names_model_data_and_selection() -> None:
    result = factories.result(factories.plan(model={"name": "atscnn"}), epochs=3)
    figures = {name: draw() for name, draw in drawings(result).items()}
    assert set(figures) == {"confusion", "subjects", "curves"}
    for figure in figures.values():
        figure.savefig(io.BytesIO(), format="png")
        words = " ".join(text.get_text() for text in figure.texts)
        assert "atscnn on hand-made" in words and "selection: fixed" in words


def test_plain_progress_counts_failures_and_what_is_left() -> None:
    result = factories.result(factories.plan(people=(("ones", 8),)), failed=2)
    lines = lines_of(factories.events(result, cached=2))
    assert lines[0].startswith("linear on hand-made: 8 folds (2 in the ledger already), 39 of 40 clips")
    assert sum("failed: ValueError: the loss is not finite" in line for line in lines) == 2
    assert any(
        re.search(
            r"folds 4/8 · \d+:\d\d elapsed · 2 cached · about \d+:\d\d left · UAR so far"
            r" 0\.\d{3}",
            line,
        )
        for line in lines
    )
    assert re.match(
        r"partial: 6 of 8 folds done, 2 from the ledger, 2 failed · 0:12 · UAR 0\.\d{4}", lines[-1]
    )


def test_many_folds_are_a_line_every_few_seconds() -> None:
    result = factories.result(factories.plan(people=(("ones", 40),)), failed=10)
    lines = lines_of(factories.events(result), step=0.5)
    assert 4 <= sum(line.startswith("folds") for line in lines) <= 10
    assert sum("failed: ValueError" in line for line in lines) == 3
    assert "10 failed" in lines[-1]


def test_folds_from_the_ledger_are_no_pace() -> None:
    result = factories.result(factories.plan(people=(("ones", 20),)))
    events = factories.events(result, cached=18)
    lines = lines_of(events[:-2], step=10.0)  # one fresh fold, one to come
    assert [line for line in lines if line.startswith("folds")] == [lines[-1]] and "about 0:10 left" in lines[
        -1
    ]


def test_steps_have_progress_and_an_end() -> None:
    steps: list[Event] = [
        Step("extracting features", done, 100, cached=20, failed=done // 50) for done in range(20, 101)
    ]
    lines = lines_of(steps)
    assert lines[0] == "extracting features 20/100 · 0:01 elapsed · 20 cached"
    assert "extracting features 25/100" in lines[1] and "left" in lines[1]
    assert lines[-1].startswith("extracting features 100/100") and lines[-1].endswith("20 cached · 2 failed")
    assert len(lines) < 25


def test_a_terminal_gets_a_bar_with_the_counts() -> None:
    sink = io.StringIO()
    result = factories.result(factories.plan(), failed=1)
    with Observers([LiveProgress(Console(file=sink, force_terminal=True, width=140))]) as live:
        for event in factories.events(result, cached=2):
            live(event)
    assert "6/6" in sink.getvalue() and "2 cached · 1 failed" in re.sub(
        r"\x1b\[[0-9;?]*[a-zA-Z]", "", sink.getvalue()
    )


def test_progress_writes_nothing_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    with Observers([LiveProgress()]) as live:
        for event in factories.events(factories.result(factories.plan(), failed=1)):
            live(event)
    captured = capsys.readouterr()
    assert captured.out == "" and "partial: 5 of 6 folds done" in captured.err


def test_events_are_whole_json_lines(tmp_path: Path) -> None:
    result = factories.result(factories.plan(), failed=1)
    log = JsonLines(tmp_path / "new" / "events.jsonl")
    for event in [Step("extracting features", 3, 4), *factories.events(result, cached=1)]:
        log(event)
    rows = [json.loads(line) for line in (tmp_path / "new" / "events.jsonl").read_text().splitlines()]
    assert [row["event"] for row in rows] == [
        "step",
        "run_started",
        *["fold_finished"] * 5,
        "fold_failed",
        "run_ended",
    ]
    assert rows[2]["cached"] and not rows[3]["cached"] and "Traceback" in rows[-2]["traceback"]
    assert rows[-1]["status"] == "partial" and all(row["at"] for row in rows)


def test_a_log_that_cannot_be_written_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    log = JsonLines(tmp_path / "file" / "events.jsonl")
    plan = factories.plan()
    for job in plan.jobs:
        log(FoldFinished(factories.fold(plan, job), cached=False))
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize(("seconds", "text"), [(7, "0:07"), (751.4, "12:31"), (11109, "3:05:09")])
def test_seconds_are_read_as_a_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
