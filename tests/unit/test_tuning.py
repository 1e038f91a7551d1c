"""The sweep's loop without Ray: whatever order trainings end in, searchers and schedulers hear the same, and
choose the same."""

from __future__ import annotations

import io
import json
import random
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import pytest
from optuna.trial import TrialState
from rich.console import Console

from distmer.commands.session import Session
from distmer.commands.sweep import _begin, _hours, _keep, _plan, _whole_fold, _worth_keeping
from distmer.config_layers import merge
from distmer.experiment.events import Observers
from distmer.experiment.ledger import Ledger
from distmer.experiment.local import LocalBackend, attempt
from distmer.experiment.plan import build_plan
from distmer.experiment.prepare import extract_missing
from distmer.experiment.results_file import Results
from distmer.experiment.run import Report
from distmer.features import hashes
from distmer.features.frames import frame_digest
from distmer.report.live_sweep import SweepProgress
from distmer.report.page import page_of
from distmer.report.sweep import chosen_files, sweep_report
from distmer.sweep.events import TrialReported
from distmer.sweep.loop import Sweep
from distmer.sweep.plan import RungScore, Search, SweepPlan, feature_digest, plan_sweep
from distmer.sweep.result import SweepResult
from distmer.sweep.space import Space
from distmer.sweep.workers import Decision, Ended, Proposed, WentOn
from distmer.tracking.items import Child, Metric, Text
from distmer.tracking.sweep_items import sweep_result_items, trial_items
from distmer.training.fold_inputs import Inputs
from distmer.types import BadInput, FoldFailure, FoldJob
from distmer.workspace import Workspace
from harness import toy


class Shuffled:
    """Workers that finish in an order of their own."""

    def __init__(self, seed: int, room: int, lose: bool = False) -> None:
        """``lose``: the worker of the first fold dies, and its retries too."""
        self._rng, self._room, self._pending = random.Random(seed), room, list[tuple[FoldJob, Inputs]]()
        self._lose = lose

    @property
    def room(self) -> int:
        return self._room - len(self._pending)

    def share(self, inputs: Inputs) -> Inputs:
        return inputs

    def submit(self, job: FoldJob, shared: Inputs) -> None:
        self._pending.append((job, shared))

    def reports(self, seconds: float) -> list[Report]:
        if not self._pending or self._rng.random() < 0.3:
            return []
        job, inputs = self._pending.pop(self._rng.randrange(len(self._pending)))
        if self._lose:
            self._lose = False
            return [FoldFailure(job.digest, job.fold.id, job.seed, "the worker was lost", lost=True)]
        return [attempt(job, inputs)]

    def close(self) -> None:
        self._pending.clear()


class Halving:
    """A scheduler that remembers: a trial goes on if it is not below the median of what was reported before
    it at its budget. It takes its time, too: a word may come many turns after what it answers."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._rng, self._words = space, random.Random(seed), deque[Decision]()
        self._studies: dict[str, Any] = {}
        self._seen: dict[tuple[str, int], list[float]] = {}
        self._trials: dict[tuple[str, int], Any] = {}
        self._left: dict[str, int] = {}
        self._last: dict[str, int] = {}

    most = 5  # searches at once

    def begin(self, search: Search) -> None:
        self._studies[search.id], self._left[search.id] = self._space.study(), self._space.sweep.wanted
        self._last[search.id] = search.rungs[-1].budget
        for _ in range(min(self._space.sweep.concurrent, self._space.sweep.wanted)):
            self._propose(search.id)

    def _propose(self, search: str) -> None:
        if self._left[search]:
            self._left[search] -= 1
            trial, setting = self._space.ask(self._studies[search])
            self._trials[search, trial.number] = trial
            self._words.append(Proposed(search, trial.number, setting))

    def decisions(self) -> Sequence[Decision]:
        return [self._words.popleft() for _ in range(self._rng.randint(0, len(self._words)))]

    def deliver(self, search: str, index: int, report: RungScore | None) -> None:
        trial = self._trials[search, index]
        if report is not None:
            seen = self._seen.setdefault((search, report.budget), [])
            poor = bool(seen) and report.uar < median(seen)
            seen.append(report.uar)
            trial.report(report.uar, report.budget)
            if not poor and report.budget < self._last[search]:
                self._words.append(WentOn(search, index, report.budget))
                return
        self._studies[search].tell(
            trial, None if report is None else report.uar, state=None if report else TrialState.FAIL
        )
        self._words.append(Ended(search, index))
        self._propose(search)

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> tuple[SweepPlan, Any]:
    folder = tmp_path_factory.mktemp("sweep")
    maps = toy.write_flowmaps(folder / "maps", subjects=6)
    tree: dict[str, Any] = {
        "data": {"protocol": "flowmaps", "root": str(maps)},
        "inputs": {"normalise": "minmax"},
        "model": {"name": "linear", "size": 16},
        "evaluation": {"folds": "group_kfold", "k": 2, "permute_labels": 1},  # so that trials differ
        "sweep": {
            "space": {"model.c": {"loguniform": [1e-5, 10]}, "inputs.standardise": {"choice": [True, False]}},
            "trials": 7,
            "concurrent": 3,
        },
    }
    space = Space.read(tree, "sweep")
    session = Session(space.base(), Workspace(folder / "home"))
    manifest = session.manifest()

    def extract(own: Session, features: Any) -> Any:
        return extract_missing(manifest, features, own.config.features, LocalBackend(), [])

    plan, found = _plan(session, space, manifest, extract)
    (features,) = found.values()
    ids = [clip.id for clip in plan.base.clips]
    return plan, lambda config, model: features.inputs(ids, model, config.inputs)


def run(
    planned: tuple[SweepPlan, Any], home: Path, seed: int, room: int = 5, at_once: int = 2, **more: Any
) -> tuple[SweepResult, list[Any]]:
    plan, inputs = planned
    heard: list[Any] = []
    sweep = Sweep(
        plan,
        lambda: (Halving(plan.space, seed), Shuffled(seed, room)),
        Ledger(home),
        inputs,
        [heard.append],
        at_once,
    )
    return sweep.run(more.get("recorded", {}), str(home)), heard


@pytest.fixture(scope="module")
def undisturbed(
    planned: tuple[SweepPlan, Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[SweepResult, list[Any], Path]:
    """What one sweep found, what it told, and its ledger."""
    home = tmp_path_factory.mktemp("undisturbed")
    return *run(planned, home, seed=0), home


def reported(heard: list[Any], search: str) -> list[tuple[int, RungScore]]:
    return [
        (event.index, event.score)
        for event in heard
        if isinstance(event, TrialReported) and event.search == search
    ]


def comparable(result: SweepResult) -> Any:
    tree = result.to_json()
    return [
        [outcome.trials for outcome in result.outcomes],
        tree["chosen"],
        tree["uar"],
        tree["confusion"],
        tree["counts"],
    ]


def test_no_order_of_endings_changes_what_is_found(
    planned: tuple[SweepPlan, Any], undisturbed: tuple[SweepResult, list[Any], Path], tmp_path: Path
) -> None:
    first, heard, _ = undisturbed
    assert first.status == "complete"
    assert first.counts["stopped"] > 0
    for seed, room, at_once in ((1, 1, 1), (2, 30, 2), (3, 3, 1)):
        other, told = run(planned, tmp_path / str(seed), seed, room, at_once)
        assert comparable(other) == comparable(first)
        for search in ("group-1", "group-2"):
            assert reported(told, search) == reported(heard, search)


def test_what_is_in_ledger_and_records_is_not_trained_again(
    planned: tuple[SweepPlan, Any], undisturbed: tuple[SweepResult, list[Any], Path]
) -> None:
    first, _, home = undisturbed
    again, _ = run(planned, home, seed=5)  # the ledger alone
    assert (again.trained, comparable(again)) == (0, comparable(first))

    def refuse() -> Any:
        raise AssertionError("nothing is left to do")

    plan, inputs = planned
    records = {outcome.search.id: outcome for outcome in first.outcomes}
    read = Sweep(plan, refuse, Ledger(home), inputs, [], 1).run(records, str(home))
    assert comparable(read) == comparable(first)


def test_what_fails_for_good_is_kept_and_what_was_lost_is_tried_again(
    planned: tuple[SweepPlan, Any], tmp_path: Path
) -> None:
    plan, inputs = planned

    def some(config: Any, model: Any) -> Inputs:
        if config.inputs.standardise:
            raise BadInput("the maps do not fit")
        return inputs(config, model)

    for lost in (False, True):
        heard: list[Any] = []
        both = (Halving(plan.space, 0), Shuffled(0, 5, lose=lost))
        ledger = Ledger(tmp_path / str(lost))
        sweep = Sweep(plan, lambda both=both: both, ledger, inputs if lost else some, [heard.append], 2)
        result = sweep.run({}, "folder")
        failed = [trial for outcome in result.outcomes for trial in outcome.trials if trial.state == "failed"]
        if lost:
            assert len(failed) == 1
            # the search may have chosen otherwise with it
            assert (failed[0].lost, result.status) == (True, "partial")
        else:
            assert {trial.setting["inputs.standardise"] for trial in failed} == {True}
            assert all("the maps do not fit" in trial.reason and not trial.lost for trial in failed)
            assert result.status == "complete"
        kept = [_worth_keeping(outcome) for outcome in result.outcomes]
        assert kept == [not any(trial.lost for trial in outcome.trials) for outcome in result.outcomes]


@pytest.mark.parametrize(
    ("base", "space", "change"),
    [
        (
            {"model": {"name": "linear", "size": 16}},
            {"model.name": {"choice": ["linear", "ststnet"]}},
            {"train": {"epochs": 7}},
        ),
        (
            {"model": {"name": "ststnet"}},
            {"train.schedule": {"choice": ["constant", "step"]}},
            {"train": {"step_epochs": 7}},
        ),
        ({"model": {"name": "linear", "size": 16}}, {"model.c": {"choice": [1, 2]}}, {"sweep": {"seed": 1}}),
        (
            {"model": {"name": "linear", "size": 16}},
            {"model.c": {"choice": [1, 2]}},
            {"cluster": {"in_flight": 3}},
        ),
    ],
)
def test_what_acts_in_a_trial_alone_is_part_of_the_sweep(
    planned: Any, base: dict[str, Any], space: Any, change: dict[str, Any]
) -> None:
    plan, _ = planned
    digests = set()
    for more in ({}, change):
        tree = merge({**base, "data": {"protocol": "flowmaps"}, "sweep": {"space": space}}, more)
        other = Space.read(tree, "s")
        config, model = other.config({})
        config = config.model_copy(update={"evaluation": plan.base.config.evaluation})
        (keys,) = plan.keys.values()
        rebased = build_plan(config, plan.base.manifest, model, keys, [])
        digests.add(plan_sweep(other, rebased, plan.keys).digest)
    assert len(digests) == (1 if "cluster" in change else 2)


def test_searched_features_are_extracted_once_and_scored_on_what_all_can_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    monkeypatch.setattr(hashes, "frame_digest", lambda path: hashed.append(path) or frame_digest(path))
    tree: dict[str, Any] = {
        "data": {"synthetic": {"subjects": 4, "clips_per_subject": 4, "seed": 3}},
        "features": {"size": 32},
        "model": {"name": "linear", "size": 16},
        "evaluation": {"folds": "group_kfold", "k": 2},
        "sweep": {
            "space": {"features.flow": {"choice": ["dis", "farneback"]}},
            "searcher": "grid",
            "inner_folds": 2,
        },
    }
    space = Space.read(tree, "sweep")
    session = Session(space.base(), Workspace(tmp_path / "home"))
    manifest = session.manifest()
    extracted: list[int] = []

    def extract(own: Session, features: Any) -> Any:
        extracted.append(len(features.missing))
        return extract_missing(manifest, features, own.config.features, LocalBackend(), [])

    plan, found = _plan(session, space, manifest, extract)
    # a frame is read once for all settings
    assert len(plan.keys) == 2 and len(hashed) == len(set(hashed)) > 0
    again, _ = _plan(session, space, manifest, extract)
    assert (again.digest, extracted[2:]) == (plan.digest, [0, 0])
    ids = [clip.id for clip in plan.base.clips]
    lost = {failure.clip for some in found.values() for failure in some.failures}
    assert lost.isdisjoint(ids)

    def inputs(config: Any, model: Any) -> Any:
        return found[feature_digest(config.features)].inputs(ids, model, config.inputs)

    ledger = Ledger(tmp_path / "ledger")
    sweep = Sweep(plan, lambda: (Halving(space, 1), Shuffled(1, 3)), ledger, inputs, [], 1)
    result = sweep.run({}, str(tmp_path))
    assert result.status == "complete"
    assert {trial.setting["features.flow"] for outcome in result.outcomes for trial in outcome.trials} == {
        "dis",
        "farneback",
    }
    files = chosen_files(result)
    assert "flow:\n    name: " in files["chosen/group-1.yaml"]
    assert ("chosen/clips.txt" in files) == bool(plan.base.failures)


def test_the_choice_is_the_best_of_those_that_went_through(
    undisturbed: tuple[SweepResult, list[Any], Path],
) -> None:
    result, _, _ = undisturbed
    for outcome in result.outcomes:
        whole = [trial for trial in outcome.trials if trial.state == "complete"]
        assert outcome.chosen is not None
        assert outcome.chosen.rungs[-1].uar == max(trial.rungs[-1].uar for trial in whole)
        held = set(outcome.search.outer[0].test)
        assert not any(
            held & {*fold.train, *fold.test} for rung in outcome.search.rungs for fold in rung.folds
        )


def test_a_setting_that_cannot_be_is_no_part_of_the_estimate_and_is_counted(
    planned: tuple[SweepPlan, Any],
) -> None:
    plan, _ = planned
    space = {"model.size": {"choice": [16, 32]}, "model.channels": {"choice": [[4, 8], [4, 8, 8, 8, 16]]}}
    tree: dict[str, Any] = {"data": {"protocol": "flowmaps"}, "sweep": {"searcher": "grid", "space": space}}
    some = replace(plan, space=Space.read(tree, "s"))
    few = some.space.foreseen()
    assert [seconds is None for seconds in (_whole_fold(some, setting) for setting in few)] == [
        False,
        True,
        False,
        False,
    ]
    told = _hours(some, some.searches, 0, 1, 0)["estimate"]
    assert told.endswith("if no trial is stopped; 1 of the 4 settings that were tried cannot be used")


def test_what_is_shown_kept_and_tracked_of_a_sweep(
    undisturbed: tuple[SweepResult, list[Any], Path],
) -> None:
    result, heard, home = undisturbed
    tree = json.loads(json.dumps(result.to_json()))
    results = Results.model_validate(tree)
    assert results.to_json() == tree
    assert {"mode", "inner", "optimism", "chosen", "counts", "trained", "parameters", "digest"} <= set(tree)
    assert (results.mode, results.selection, results.trained) == ("nested", "sweep:nested", result.trained)
    report = sweep_report(result)
    optimism = f"{results.inner.uar - results.uar:+.4f}" if results.inner and results.uar is not None else ""
    for text in (report.text(width=120), report.markdown(), report._repr_html_()):
        assert "NOT A HEADLINE: labels-permuted" in text and optimism in text and "group-2" in text
        assert all(f"{chosen['uar']:.4f}" in text for chosen in tree["chosen"])
    items = list(sweep_result_items(result))
    metrics = {item.name: item.value for item in items if isinstance(item, Metric)}
    assert (metrics["uar"], metrics["inner_uf1"]) == (tree["uar"], tree["inner"]["uf1"])
    assert metrics["trials"] == 14 and metrics["stopped"] == result.counts["stopped"] > 0
    outcome = result.outcomes[0]
    folds = list(Ledger(home).known(outcome.trials[0].folds).values())
    (trial,) = trial_items(outcome.trials[0], folds, result.plan, fold_runs=True)
    assert isinstance(trial, Child) and sum(isinstance(item, Child) for item in trial.items) == len(folds) > 0
    (text,) = [item.text for item in trial.items if isinstance(item, Text)]
    table = pd.read_csv(io.StringIO(text))
    assert len(table["digest"]) == len(folds) and {"uar", "uf1", "seconds", "epochs", "clips"} <= set(table)
    sink = io.StringIO()
    with Observers([SweepProgress(Console(file=sink, width=60))]) as live:
        for event in heard:
            live(event)
    lines = sink.getvalue().splitlines()
    assert "2 searches of 7 trials, at most 42 trainings · NOT A HEADLINE: labels-permuted" in lines[0]
    assert any(line.startswith("trials 0/14 · 0:00 elapsed · 1 running") for line in lines)
    chosen = outcome.chosen
    assert chosen is not None
    assert f"group-1: trial {chosen.index}, inner UAR {chosen.rungs[-1].uar:.3f}" in lines


def test_the_page_of_a_sweep_shows_what_was_searched_and_chosen(
    undisturbed: tuple[SweepResult, list[Any], Path], tmp_path: Path
) -> None:
    result, heard, _ = undisturbed
    folder = tmp_path / "sweep"
    _begin(folder, result.plan)
    for event in heard:
        _keep(folder)(event)
    page = (folder / "report.html").read_text()
    assert page == page_of(folder)
    shown = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    results = result.results
    assert results.inner and results.optimism and results.chosen
    assert f"{results.inner.uar:.4f} {results.uar:.4f} {results.optimism.uar:+.4f}" in shown
    for row in results.chosen:
        setting = f"model.c = {row['setting']['model.c']:.3g}"
        assert f"{row['search']} {row['trial']} {setting}" in shown and f"{row['uar']:.4f}" in shown
    counts = result.counts
    assert f"{counts['complete']} complete, {counts['stopped']} stopped by the scheduler" in shown
    assert "1e-05 to 10, on a logarithmic scale" in shown and "one of true, false" in shown
    assert "labels-permuted" in shown and "distmer sweep sweep.yaml" in shown
    assert page.count("<svg") == 3 and "it is mostly noise" in shown  # history, coordinates, importance
