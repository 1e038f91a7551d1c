"""MLflow's pages: a saved view of the list of runs, and the address of the page that compares runs.

MLflow keeps saved views as tags of the experiment; a version that does not know them ignores the tag.
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Sequence

KEY = "distmer"
COLUMNS = (
    *("params.`model`", "params.`dataset`", "metrics.`uar`", "metrics.`uar.low`", "metrics.`uar.high`"),
    *("metrics.`uf1`", "metrics.`floors.constant.uar`", "tags.`distmer.stamps`", "tags.`distmer.audited`"),
    *("metrics.`folds_done`", "attributes.`Dataset`"),
)


def experiment_tags(now: float) -> dict[str, str]:
    """The tags of a new experiment: the saved view. ``now``: s since 1970."""
    state = {
        "searchFilter": "",
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "selectedColumns": COLUMNS,
        "columnOrder": COLUMNS,
    }
    moment = int(now * 1000)
    view = {"name": KEY, "createdAt": moment, "updatedAt": moment, "state": json.dumps(state)}
    return {f"mlflow.sharedViewState.{KEY}": json.dumps(view)}


def side_by_side(uri: str, experiment: str, run_ids: Sequence[str]) -> str | None:
    """The address of MLflow's page with these runs side by side; None without a server or with one run."""
    if not uri.startswith(("http://", "https://")) or len(run_ids) < 2:
        return None
    parts = urllib.parse.urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]  # without a user and a password: the address is printed
    query = {"runs": _list(run_ids), "experiments": _list([experiment])}
    page = f"{parts.scheme}://{host}{parts.path.rstrip('/')}"
    return f"{page}/#/compare-runs?{urllib.parse.urlencode(query)}"


def _list(names: Sequence[str]) -> str:
    return json.dumps(list(names), separators=(",", ":"))  # a blank would become a plus sign
