"""A run that is all cached: what shows it already is left as it is, and whatever is lacking is made again."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from harness.command import environment
from tests.within import loso

pytestmark = pytest.mark.slow

TINY = ("model.name=linear", "data.synthetic.subjects=3", "data.synthetic.clips_per_subject=3")
ARGUMENTS = ("--local", "--json", *(part for setting in TINY for part in ("--set", setting)))
AGAIN = """
import sys
from distmer.cli import main
try:
    main(["run", *sys.argv[1:]])
except SystemExit as end:
    heavy = [name for name in ("mlflow", "matplotlib", "sklearn", "ray") if name in sys.modules]
    print("loaded:", *heavy)
    raise
"""


def test_a_cached_run_loads_nothing_to_say_the_same_and_mends_what_is_lost(tmp_path: Path) -> None:
    first = loso(*ARGUMENTS, home=tmp_path).json
    run_dir, run_id = Path(first["run_dir"]), first["mlflow_run_id"]
    page, figure = run_dir / "report.html", run_dir / "figures" / "confusion.png"
    before = {path: path.stat().st_mtime_ns for path in (page, figure)}
    database = tmp_path / "mlflow.db"

    def again() -> str:
        """What the same command loads of the heavy packages."""
        command = [sys.executable, "-c", AGAIN, *ARGUMENTS]
        done = subprocess.run(command, env=environment(tmp_path), check=True, capture_output=True, text=True)
        return done.stdout.splitlines()[-1]

    def runs() -> list[tuple[str, str]]:
        asked = "SELECT run_uuid, lifecycle_stage FROM runs ORDER BY start_time"
        with closing(sqlite3.connect(database)) as connection:
            return connection.execute(asked).fetchall()

    assert again() == "loaded:"
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert json.loads((run_dir / "results.json").read_bytes())["mlflow_run_id"] == run_id
    assert runs() == [(run_id, "active")]

    drawn = figure.read_bytes()
    figure.write_bytes(b"scribbled over")
    assert "matplotlib" in again() and figure.read_bytes() == drawn

    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE runs SET lifecycle_stage = 'deleted'")
        connection.commit()
    assert "mlflow" in again()
    assert [stage for _, stage in runs()] == ["deleted", "active"]
