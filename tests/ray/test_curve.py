"""A learning curve and a price list on Ray: the numbers of the ones without it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import command, toy
from tests.within import within

pytestmark = pytest.mark.slow


def test_a_curve_on_ray_is_the_curve_without_it(one_ray: str, tmp_path: Path) -> None:
    maps = toy.write_flowmaps(tmp_path / "maps", subjects=5, each=3)
    more = [part for one in ("curve.shares=[0.5, 1.0]", "curve.draws=2") for part in ("--set", one)]
    chosen = [*toy.settings(maps, "tracking.enabled=false", "evaluation.bootstrap=100"), *more]
    here = within("curve", *chosen, "--local", "--json", home=tmp_path / "here")
    there = within("curve", *chosen, "--json", home=tmp_path / "there", RAY_ADDRESS=one_ray)
    assert (here.code, there.code) == (0, 0), here.err + there.err
    assert here.json == there.json and there.json["status"] == "complete"
    assert command.ledger(tmp_path / "here").keys() == command.ledger(tmp_path / "there").keys()
