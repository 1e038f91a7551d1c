"""What docs/python.md shows is what happens; and a notebook's class on Ray gives the bits of this process."""

from __future__ import annotations

import doctest
from pathlib import Path

import pandas as pd
import pytest

import distmer as dm
from harness import command, toy
from tests.unit.test_api_source import HELPER, IMPORTS, NET, Notebook

pytestmark = pytest.mark.slow

PAGE = command.ROOT / "docs" / "python.md"


@pytest.fixture(autouse=True)
def _surroundings(one_ray: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISTMER_DATA", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DISTMER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAY_ADDRESS", one_ray)


def test_every_example_of_the_page_runs_and_says_what_it_shows() -> None:
    text = PAGE.read_text()
    names = {"__name__": "__main__"}
    page = doctest.DocTestParser().get_doctest(text, names, PAGE.name, str(PAGE), 0)
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    found = runner.run(page, out=said.append)
    assert found.failed == 0, "".join(said)
    assert found.attempted == text.count("\n>>> ") > 30


def test_a_class_of_a_notebook_travels_to_the_workers(tmp_path: Path) -> None:
    """Written down with what it uses, it is the same model on Ray: the same digests, the same bits."""
    clips = dm.load("flowmaps", root=toy.write_flowmaps(tmp_path / "maps", subjects=4))
    net = Notebook(IMPORTS, HELPER, NET)["Net"]
    found = [
        dm.loso(
            clips,
            model=net,
            train={"epochs": 3, "batch_size": 8},
            inputs={"normalise": "minmax"},
            evaluation={"bootstrap": 100},
            cluster={"in_flight": 1},  # one worker: each takes seconds to start
            executor=executor,
            workspace=tmp_path / executor,
            progress=False,
        )
        for executor in ("local", "ray")
    ]
    assert [run.status for run in found] == ["complete", "complete"]
    assert found[0].results.digest == found[1].results.digest
    here, there = (run.predictions.to_pandas() for run in found)
    pd.testing.assert_frame_equal(here, there, check_exact=True)
