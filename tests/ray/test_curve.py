"""A learning curve on Ray, and one that was stopped: the numbers of the one that was neither."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import command, toy
from tests.within import within

pytestmark = pytest.mark.slow


def settings(root: Path) -> list[str]:
    maps = toy.write_flowmaps(root / "maps", subjects=5, each=3)
    more = [part for one in ("curve.shares=[0.5, 1.0]", "curve.draws=2") for part in ("--set", one)]
    return [*toy.settings(maps, "tracking.enabled=false", "evaluation.bootstrap=100"), *more]


def test_a_curve_on_ray_is_the_curve_without_it(one_ray: str, tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    here = within("curve", *chosen, "--local", "--json", home=tmp_path / "here")
    one = ["--set", "cluster.in_flight=1"]  # one worker: each takes seconds to start
    there = within("curve", *chosen, *one, "--json", home=tmp_path / "there", RAY_ADDRESS=one_ray)
    assert (here.code, there.code) == (0, 0), here.err + there.err
    assert here.json == there.json and there.json["status"] == "complete"
    assert command.ledger(tmp_path / "here").keys() == command.ledger(tmp_path / "there").keys()


def test_a_curve_that_was_stopped_goes_on_from_there(tmp_path: Path) -> None:
    chosen = [*settings(tmp_path), "--local", "--json"]
    first = command.stopped("curve", *chosen, at="SIGINT 3", home=tmp_path / "home")
    kept = command.ledger(tmp_path / "home")
    assert (first.code, first.json["status"], first.json["missing"], len(kept)) == (3, "partial", 11, 3)
    whole = within("curve", *chosen, home=tmp_path / "home")
    assert whole.code == 0 and whole.json["missing"] == 0
    after = command.ledger(tmp_path / "home")
    assert len(after) == 14 and kept.items() <= after.items()
    undisturbed = within("curve", *chosen, home=tmp_path / "other")
    assert undisturbed.json == whole.json
