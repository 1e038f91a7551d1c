"""The run's folder: settings and plan at the start, scores, predictions and figures at the end. Rebuilt from the ledger at will."""

from __future__ import annotations

import io
import json

import pyarrow.parquet as pq
import yaml

from distmer.experiment.ledger import predictions_table, table_predictions
from distmer.experiment.plan import Plan, acting_settings
from distmer.experiment.result import RunResult
from distmer.remote import Place
from distmer.report.figures import run_figures
from distmer.report.tables import to_markdown
from distmer.storage import Store
from distmer.types import BadInput, JsonValue, Predictions


def read_folder(run_dir: Place) -> tuple[dict[str, JsonValue], Predictions]:
    """``results.json`` and the predictions of a finished run. BadInput where either is not there."""
    folder = Store(run_dir)
    try:
        results = json.loads(folder.read("results.json"))
        table = pq.read_table(io.BytesIO(folder.read("predictions.parquet")))
    except FileNotFoundError as error:
        raise BadInput(f"{run_dir}: no finished run lies here (results.json and predictions.parquet); finish it first.") from error
    return results, table_predictions(table)


def begin_folder(run_dir: Place, plan: Plan) -> None:
    """Keep what the run is: its settings and the identities of its folds."""
    folder = Store(run_dir)
    folder.write("config.yaml", yaml.safe_dump(acting_settings(plan.config, plan.model), sort_keys=False).encode())
    folds = [{"digest": job.digest, "fold": job.fold.id, "seed": job.seed} for job in plan.jobs]
    folder.write("plan.json", json.dumps({"digest": plan.digest, "data": plan.data_digest, "folds": folds}, indent=1).encode())


def finish_folder(run_dir: Place, result: RunResult) -> None:
    """Write predictions, figures, and last the report and ``results.json``."""
    folder = Store(run_dir)
    write_predictions(folder, result.predictions)
    for name, figure in run_figures(result).items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=150)
        folder.write(f"figures/{name}.png", buffer.getvalue())
    write_results(run_dir, result)


def write_predictions(folder: Store, predictions: Predictions | None) -> None:
    """``predictions.parquet``, which a comparison reads, if anything was predicted."""
    if predictions is not None:
        buffer = io.BytesIO()
        pq.write_table(predictions_table(predictions), buffer)
        folder.write("predictions.parquet", buffer.getvalue())


def write_results(run_dir: Place, result: RunResult) -> None:
    """The report and ``results.json``: again once the MLflow run is known."""
    folder = Store(run_dir)
    folder.write("report.md", to_markdown(result).encode())
    folder.write("results.json", json.dumps(result.to_json(), indent=1).encode())


def planned_digest(run_dir: Place) -> str:
    """The digest of the plan that a run's folder was made for. BadInput where it keeps none."""
    try:
        return str(json.loads(Store(run_dir).read("plan.json"))["digest"])
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise BadInput(f"{run_dir}: no readable plan.json in it, so it is no run folder; give one below <workspace>/runs.") from error
