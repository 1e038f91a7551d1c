"""The sweep's loop without Ray: whatever order trainings end in, searchers and schedulers hear the same, and choose the same."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from distmer.app import Session
from distmer.app_sweep import _plan
from distmer.experiment.backend import LocalBackend
from distmer.experiment.ledger import Ledger
from distmer.experiment.local import attempt
from distmer.experiment.prepare import extract_missing
from distmer.experiment.run import Report
from distmer.experiment.space import Space
from distmer.experiment.sweep import RungScore, Search, SweepPlan, SweepResult
from distmer.experiment.sweep_events import TrialReported
from distmer.experiment.tuning import Ended, Proposed, Sweep, WentOn, Word
from distmer.storage import Store
from distmer.training.data import Inputs
from distmer.types import FoldJob
from distmer.workspace import Workspace
from tests import toy


class Shuffled:
    """Workers that finish in an order of their own; ``failing``: the folds of these trials' settings raise."""

    def __init__(self, seed: int, room: int) -> None:
        self._rng, self._room, self._pending = random.Random(seed), room, list[tuple[FoldJob, Inputs]]()

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
        return [attempt(*self._pending.pop(self._rng.randrange(len(self._pending))))]

    def close(self) -> None:
        self._pending.clear()


class Halving:
    """A scheduler that remembers: a trial goes on if it is not below the median of what was reported before it at its budget.
    It takes its time, too: a word may come many turns after what it answers."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._rng, self._words = space, random.Random(seed), deque[Word]()
        self._studies: dict[str, Any] = {}
        self._seen: dict[tuple[str, int], list[float]] = {}
        self._trials: dict[tuple[str, int], Any] = {}
        self._left: dict[str, int] = {}
        self._last: dict[str, int] = {}

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

    def words(self) -> Sequence[Word]:
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
        self._studies[search].tell(trial, None if report is None else report.uar, state=None if report else 3)
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
    sweep = Sweep(plan, lambda: (Halving(plan.space, seed), Shuffled(seed, room)), Ledger(Store(home)), inputs, [heard.append], at_once)
    return sweep.run(more.get("recorded", {}), str(home)), heard


def reported(heard: list[Any], search: str) -> list[tuple[int, RungScore]]:
    return [(event.index, event.score) for event in heard if isinstance(event, TrialReported) and event.search == search]


def comparable(result: SweepResult) -> Any:
    tree = result.to_json()
    return [[outcome.trials for outcome in result.outcomes], tree["chosen"], tree["uar"], tree["confusion"], tree["counts"]]


def test_no_order_of_endings_changes_what_is_found(planned: tuple[SweepPlan, Any], tmp_path: Path) -> None:
    first, heard = run(planned, tmp_path / "0", seed=0)
    assert first.status == "complete"
    assert first.counts["stopped"] > 0
    for seed, room, at_once in ((1, 1, 1), (2, 2, 2), (3, 30, 2), (4, 3, 1)):
        other, told = run(planned, tmp_path / str(seed), seed, room, at_once)
        assert comparable(other) == comparable(first)
        for search in ("group-1", "group-2"):
            assert reported(told, search) == reported(heard, search)


def test_what_is_in_ledger_and_records_is_not_trained_again(planned: tuple[SweepPlan, Any], tmp_path: Path) -> None:
    first, _ = run(planned, tmp_path, seed=0)
    again, _ = run(planned, tmp_path, seed=5)  # the ledger alone
    assert (again.trained, comparable(again)) == (0, comparable(first))

    def refuse() -> Any:
        raise AssertionError("nothing is left to do")

    plan, inputs = planned
    records = {outcome.search.id: outcome for outcome in first.outcomes}
    read = Sweep(plan, refuse, Ledger(Store(tmp_path)), inputs, [], 1).run(records, str(tmp_path))
    assert comparable(read) == comparable(first)


def test_the_choice_is_the_best_of_those_that_went_through(planned: tuple[SweepPlan, Any], tmp_path: Path) -> None:
    result, _ = run(planned, tmp_path, seed=0)
    for outcome in result.outcomes:
        whole = [trial for trial in outcome.trials if trial.state == "complete"]
        assert outcome.chosen is not None
        assert outcome.chosen.rungs[-1].uar == max(trial.rungs[-1].uar for trial in whole)
        held = set(outcome.search.outer[0].test)
        assert not any(held & {*fold.train, *fold.test} for rung in outcome.search.rungs for fold in rung.folds)
