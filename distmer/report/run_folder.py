"""The run's folder: settings and plan at the start, scores, predictions and figures at the end. It can be
rebuilt from the ledger."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pydantic import ValidationError

from distmer.evaluation.summary import pooled_uar
from distmer.experiment.ledger import predictions_table, table_predictions
from distmer.experiment.plan import Plan, acting_settings
from distmer.experiment.result import RunResult
from distmer.experiment.results_file import Results
from distmer.features.store import Stored
from distmer.report.axes import ready_to_draw
from distmer.report.curves import curves_json
from distmer.report.document import Document
from distmer.report.explanation import looks
from distmer.report.fonts import legible
from distmer.report.shown import content_of, is_shown, keep_shown
from distmer.report.tables import run_report
from distmer.storage import Place, csv_text, write
from distmer.types import BadInput, Predictions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROUNDING = 1e-6


def read_results(run_dir: Place) -> Results | None:
    """``results.json`` of a run or a sweep; None if it is not there. BadInput if it cannot be read."""
    try:
        results = Results.model_validate_json((run_dir / "results.json").read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        why = error.errors()[0]
        what = f"{'.'.join(map(str, why['loc']))}: {why['msg']}"
        raise BadInput(
            f"{run_dir}/results.json cannot be read ({what}); if another version of distmer wrote it, use"
            " that version, else run the same command again."
        ) from error
    if not results.digest:  # an early version did not write it; the folder's name begins with it
        known = planned_digest(run_dir) if (run_dir / "plan.json").exists() else run_dir.name
        results = results.model_copy(update={"digest": known})
    return results


def read_folder(run_dir: Place) -> tuple[Results, Predictions]:
    """``results.json`` and the predictions of a finished run. BadInput if one of them is not there, cannot be
    read, or says something else than the other."""
    results = read_results(run_dir)
    predictions = None if results is None or results.uar is None else read_predictions(run_dir, results)
    if results is None or predictions is None:
        lacking = "no finished run lies here (results.json and predictions.parquet)"
        raise BadInput(f"{run_dir}: {lacking}; finish it first.")
    return results, predictions


def read_predictions(run_dir: Place, results: Results) -> Predictions | None:
    """The predictions of a run or a sweep with these results; None if they are not there.

    BadInput if they cannot be read, or have another UAR: a run was killed between writing the two files, or
    one of them was edited.
    """
    path = run_dir / "predictions.parquet"
    again = "run the same command again"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        predictions = table_predictions(pq.read_table(io.BytesIO(data)))
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:160]
        raise BadInput(f"{path} cannot be read ({why}); {again}.") from error
    try:
        uar = pooled_uar(predictions, len(results.classes))
    except ValueError:  # no prediction, or a class that is none of the results'
        uar = None
    if uar is None or results.uar is None or abs(uar - results.uar) > _ROUNDING:
        found = "none" if uar is None else f"{uar:.4f}"
        said = "none" if results.uar is None else f"{results.uar:.4f}"
        raise BadInput(
            f"{run_dir}: results.json has UAR {said}, but predictions.parquet gives {found}, so the two are"
            f" not of one run; {again}."
        )
    return predictions


def begin_folder(run_dir: Place, plan: Plan, stored: Mapping[str, Stored]) -> None:
    """Write the run's settings, its clips with the feature store's notes, and the digests of its folds."""
    settings = acting_settings(plan.config, plan.model)
    write(run_dir / "config.yaml", yaml.safe_dump(settings, sort_keys=False).encode())
    write(run_dir / "clips.csv", _clips_csv(plan, stored).encode())
    folds = [{"digest": job.digest, "fold": job.fold.id, "seed": job.seed} for job in plan.jobs]
    whole = {"digest": plan.digest, "data": plan.data_digest, "folds": folds}
    write(run_dir / "plan.json", json.dumps(whole, indent=1).encode())


def _clips_csv(plan: Plan, stored: Mapping[str, Stored]) -> str:
    """The usable clips, each with its class, what was noted of it (by its loader and in its onset), and the
    frame that the max-flow search took for the apex."""
    rows = [
        (
            clip.id,
            clip.subject_key,
            plan.classes[plan.labels[clip.id]],
            "; ".join(filter(None, (clip.note, stored[clip.id].note))),
            stored[clip.id].apex_file,
        )
        for clip in plan.clips
    ]
    return csv_text([("clip", "subject", "label", "note", "apex"), *rows])


def finish_folder(run_dir: Place, result: RunResult) -> None:
    """Write predictions, curves, figures, the report and ``results.json``, and last the page of all this.

    Where the folder shows this result already, only the report and ``results.json`` are written.
    """
    results, content = result.results, content_of(run_dir, result)
    if is_shown(run_dir, content):
        write_results(run_dir, results)
        return
    from distmer.report.figures import drawings  # matplotlib takes half a second to load
    from distmer.report.page import NAME, write_page

    write_predictions(run_dir, result.predictions)
    write(run_dir / "curves.json", curves_json(result.folds))
    figures = {**drawings(result), **looks(run_dir, result.plan.digest)}
    write_figures(run_dir, figures, dpi=150)
    write_results(run_dir, results)
    write_page(run_dir)
    # of another language, a font may have been installed by the next time
    if json.dumps(results.to_json(), ensure_ascii=False).isascii():
        of_predictions = () if result.predictions is None else ("predictions.parquet",)
        drawn = (f"figures/{name}.png" for name in figures)
        keep_shown(run_dir, content, [NAME, "curves.json", *of_predictions, *drawn])


def write_figures(folder: Place, drawings: Mapping[str, Callable[[], Figure]], **how: Any) -> None:
    """Draw and write ``figures/<name>.png``. ``how``: arguments for matplotlib's ``savefig``."""
    ready_to_draw()
    for name, draw in drawings.items():
        buffer = io.BytesIO()
        legible(draw()).savefig(buffer, format="png", **how)
        write(folder / "figures" / f"{name}.png", buffer.getvalue())


def write_predictions(folder: Place, predictions: Predictions | None) -> None:
    """``predictions.parquet``, which a comparison reads, if anything was predicted."""
    if predictions is not None:
        buffer = io.BytesIO()
        pq.write_table(predictions_table(predictions), buffer)
        write(folder / "predictions.parquet", buffer.getvalue())


def write_results(folder: Place, results: Results, report: Document | None = None) -> None:
    """The report (by default that of a run) and ``results.json``. They are written again once the MLflow run
    is known."""
    write(folder / "report.md", (report or run_report(results)).markdown().encode())
    write(folder / "results.json", json.dumps(results.to_json(), indent=1).encode())


def planned_digest(run_dir: Place) -> str:
    """The digest of the plan that a run's folder was made for. BadInput if it keeps none."""
    return str(planned(run_dir)["digest"])


def planned(run_dir: Place) -> Mapping[str, Any]:
    """``plan.json``; its ``digest`` is that of the plan. BadInput if the folder has none."""
    try:
        tree: dict[str, Any] = json.loads((run_dir / "plan.json").read_bytes())
        _ = tree["digest"]
        return tree
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{run_dir}: no readable plan.json in it, so it is not a run folder; give one below"
            " <workspace>/runs."
        ) from error
