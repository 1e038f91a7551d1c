"""examples/notebook.ipynb is executed by a kernel, as a person does; and what a kernel alone can show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from harness import command, toy

pytestmark = pytest.mark.slow

NOTEBOOK = command.ROOT / "examples" / "notebook.ipynb"


def execute(notebook: Any, home: Path) -> Any:
    """Run all cells in a kernel of its own, in an empty folder; raises what a cell raises."""
    home.mkdir()
    client = nbclient.NotebookClient(
        notebook, timeout=command.PATIENCE, kernel_name="python3", resources={"metadata": {"path": str(home)}}
    )
    environ = command.environment(home / "home", PYTHONPATH=str(command.ROOT))
    client.execute(env=environ)
    return notebook


def shown(cell: Any, kind: str) -> str:
    """What a cell displays of a kind, or prints."""
    texts = [output.get("data", {}).get(kind, "") for output in cell.outputs]
    printed = [output.get("text", "") for output in cell.outputs if kind == "text/plain"]
    return "\n".join("".join(text) for text in (*texts, *printed))


def test_the_example_runs_and_shows_what_it_says(tmp_path: Path) -> None:
    committed = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in committed.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)  # no path of anybody's machine
    done = execute(committed, tmp_path / "there")
    cells = {cell.source.splitlines()[-1]: cell for cell in done.cells if cell.cell_type == "code"}
    assert "4 subjects" in shown(cells["clips"], "text/plain") and "<table>" in shown(
        cells["clips"], "text/html"
    )
    run = shown(cells["small"], "text/html")
    assert "pooled" in run and "data:image/png;base64," in run
    assert '<progress value="4" max="4">' in run and "UAR so far" in run  # the bar, as it ended
    assert shown(cells['small.figures()["curves"]'], "image/png")
    assert "True" in shown(cells["again.scores.equals(small.scores)"], "text/plain").splitlines()
    assert "(4 in the ledger already)" in shown(cells["again.scores.equals(small.scores)"], "text/plain")
    (run_of_it,) = (tmp_path / "there" / "home" / "code").iterdir()
    assert "def squash(x):" in run_of_it.read_text()
    assert "difference" in shown(cells['dm.compare({"logistic": logistic, "small": small})'], "text/html")


def test_a_mistake_is_one_sentence_and_the_stop_button_keeps_what_is_finished(tmp_path: Path) -> None:
    """SIGINT is what the stop button sends to a kernel."""
    maps = toy.write_flowmaps(tmp_path / "maps", subjects=4, each=3)
    cells = [
        f"import distmer as dm\nclips = dm.load('flowmaps', root={str(maps)!r})",
        "try:\n    dm.loso(clips, model='linea')\nexcept dm.BadInput:\n    get_ipython().showtraceback()",
        "from sklearn.dummy import DummyClassifier",
        "class Stopping(DummyClassifier):\n    def fit(self, x, y):\n        import stopping\n"
        "        stopping.after(4)\n        return super().fit(x, y)",
        "run = dm.loso(clips, Stopping, inputs={'normalise': 'minmax'}, evaluation={'bootstrap': 100})\n"
        "import json\nprint(json.dumps([run.status, len(run.predictions), len(run.results.failed)]))",
    ]
    there = tmp_path / "there"
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
    (tmp_path / "stopping.py").write_text(
        "import os, signal\nfits = []\n\n\ndef after(number):\n    fits.append(1)\n"
        "    if len(fits) == number:  # the first was the trial\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
    )
    notebook.cells[0].source = f"import sys\nsys.path.append({str(tmp_path)!r})\n" + notebook.cells[0].source
    done = execute(notebook, there)
    (error,) = [output for output in done.cells[1].outputs if output.output_type == "error"]
    assert error.traceback == [f"BadInput: {error.evalue}"] and "did you mean 'linear'?" in error.evalue
    status, predictions, left_out = json.loads(shown(done.cells[4], "text/plain").strip().splitlines()[-1])
    assert (status, predictions, left_out) == ("partial", 6, 2)
    assert "2 of 4 folds" in shown(done.cells[4], "text/plain")
