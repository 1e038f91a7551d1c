"""The run's folder: settings and plan at the start, scores, predictions and figures at the end. Rebuilt from the ledger at will."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping

import pyarrow.parquet as pq
import yaml

from distmer.config import Config
from distmer.experiment.ledger import predictions_table, table_predictions
from distmer.experiment.plan import Plan, acting_settings
from distmer.experiment.result import RunResult
from distmer.features.store import Stored
from distmer.models import ResolvedModel
from distmer.report.tables import to_markdown
from distmer.storage import Place, write
from distmer.types import BadInput, JsonValue, Predictions


def read_folder(run_dir: Place) -> tuple[dict[str, JsonValue], Predictions]:
    """``results.json`` and the predictions of a finished run. BadInput where either is not there."""
    try:
        results = json.loads((run_dir / "results.json").read_bytes())
        table = pq.read_table(io.BytesIO((run_dir / "predictions.parquet").read_bytes()))
    except FileNotFoundError as error:
        raise BadInput(f"{run_dir}: no finished run lies here (results.json and predictions.parquet); finish it first.") from error
    if "digest" not in results:  # a folder of before it was written there; its name begins with the digest
        kept = (run_dir / "plan.json").exists()
        results["digest"] = planned_digest(run_dir) if kept else run_dir.name
    return results, table_predictions(table)


def begin_folder(run_dir: Place, plan: Plan, stored: Mapping[str, Stored]) -> None:
    """Keep what the run is: its settings, its clips with what the feature store noted of them, and the identities of its folds."""
    write(run_dir / "config.yaml", _settings(plan.config, plan.model))
    write(run_dir / "clips.csv", _clips_csv(plan, stored).encode())
    folds = [{"digest": job.digest, "fold": job.fold.id, "seed": job.seed} for job in plan.jobs]
    whole = {"digest": plan.digest, "data": plan.data_digest, "folds": folds}
    write(run_dir / "plan.json", json.dumps(whole, indent=1).encode())


def _settings(config: Config, model: ResolvedModel) -> bytes:
    return yaml.safe_dump(acting_settings(config, model), sort_keys=False).encode()


def _clips_csv(plan: Plan, stored: Mapping[str, Stored]) -> str:
    """The usable clips: the class they are trained and tested as, and what was noticed of each: by its loader (an erratum, an apex taken
    from the middle), in its onset (several faces), and the frame that the max-flow search took for the apex."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("clip", "subject", "label", "note", "apex"))
    for clip in plan.clips:
        note = "; ".join(part for part in (clip.note, stored[clip.id].note) if part)
        table.writerow((clip.id, clip.subject_key, plan.classes[plan.labels[clip.id]], note, stored[clip.id].apex))
    return text.getvalue()


def finish_folder(run_dir: Place, result: RunResult) -> None:
    """Write predictions, figures, and last the report and ``results.json``."""
    from distmer.report.figures import run_figures  # matplotlib takes half a second to load, and is needed at the end only

    write_predictions(run_dir, result.predictions)
    for name, figure in run_figures(result).items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=150)
        write(run_dir / "figures" / f"{name}.png", buffer.getvalue())
    write_results(run_dir, result)


def write_predictions(folder: Place, predictions: Predictions | None) -> None:
    """``predictions.parquet``, which a comparison reads, if anything was predicted."""
    if predictions is not None:
        buffer = io.BytesIO()
        pq.write_table(predictions_table(predictions), buffer)
        write(folder / "predictions.parquet", buffer.getvalue())


def write_results(run_dir: Place, result: RunResult) -> None:
    """The report and ``results.json``: again once the MLflow run is known."""
    write(run_dir / "report.md", to_markdown(result).encode())
    write(run_dir / "results.json", json.dumps(result.to_json(), indent=1).encode())


def planned_digest(run_dir: Place) -> str:
    """The digest of the plan that a run's folder was made for. BadInput where it keeps none."""
    try:
        return str(json.loads((run_dir / "plan.json").read_bytes())["digest"])
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise BadInput(f"{run_dir}: no readable plan.json in it, so it is no run folder; give one below <workspace>/runs.") from error
