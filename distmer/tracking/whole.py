"""Whether MLflow holds a whole run already. SQLite's file is read directly, because loading MLflow takes two
seconds; to a server the run is written again.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from distmer.experiment.result import RunResult
from distmer.report.shown import content_of
from distmer.storage import place

CONTENT = "distmer.content"  # the tag that says what was written
_WHOLE = """
    SELECT r.run_uuid, r.artifact_uri FROM runs r JOIN experiments e ON e.experiment_id = r.experiment_id
    WHERE r.status = 'FINISHED' AND r.lifecycle_stage = 'active'
      AND e.lifecycle_stage = 'active' AND e.name = ?
      AND (SELECT value FROM tags t WHERE t.run_uuid = r.run_uuid AND t.key = 'distmer.run') = ?
      AND (SELECT value FROM tags t WHERE t.run_uuid = r.run_uuid AND t.key = 'distmer.status') = 'complete'
      AND (SELECT value FROM tags t WHERE t.run_uuid = r.run_uuid AND t.key = ?) = ?
"""


def written(result: RunResult) -> str:
    """The digest of what MLflow is told of a run, which is what its folder shows."""
    return content_of(place(result.run_dir), result)


def whole_run(uri: str, experiment: str, result: RunResult) -> str | None:
    """The id of the MLflow run that holds all of a complete result; None if there is no such run."""
    database = Path(uri.removeprefix("sqlite:///"))
    if not uri.startswith("sqlite:///") or result.status != "complete" or not database.is_file():
        return None
    asked = (experiment, result.plan.digest, CONTENT, written(result))
    address = f"{database.absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=1)) as connection:
            found = connection.execute(_WHOLE, asked).fetchall()
    except sqlite3.Error:  # locked, or of another version of MLflow: writing again will tell
        return None
    if len(found) != 1:
        return None
    run_id, files = found[0]
    folder = urlsplit(str(files))
    here = folder.scheme == "file" and (Path(unquote(folder.path)) / "results.json").is_file()
    return str(run_id) if here else None
