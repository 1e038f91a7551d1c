"""`distmer score`: predictions that other code made, scored as distmer scores its own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from distmer.config import Config, EvaluationConfig, Named, parse
from distmer.config_layers import Layer, load_layers, merge_layers
from distmer.evaluation.every import every_score
from distmer.evaluation.imported import Imported, import_predictions, in_order
from distmer.evaluation.named import PUBLISHED, chosen
from distmer.evaluation.summary import summarise
from distmer.experiment.comparison import Entry
from distmer.experiment.results_file import Results
from distmer.report.document import Document, Facts
from distmer.report.tables import metric_table, percent
from distmer.types import BadInput, JsonValue

if TYPE_CHECKING:
    import pandas as pd

_READ = "a .csv, a .tsv or a .parquet file"


def named_metrics(options: Sequence[str] | Layer) -> tuple[Named, ...]:
    """The metrics of ``--metric``, or of a call in Python: each a name, a reference (to a file below the
    current folder), or a mapping with options. Without any: all that are usually published. BadInput for one
    that is not YAML."""
    given = options if isinstance(options, Layer) else [f"evaluation.metrics=[{', '.join(options)}]"]
    layers = load_layers(None, given, workspace=Path.cwd())
    where = options.origin if isinstance(options, Layer) else "--metric"
    return parse(Config, merge_layers(layers), where).evaluation.metrics or PUBLISHED


def read_predictions(path: Path) -> Imported:
    """The predictions in a CSV file (commas, semicolons or tabs) or a Parquet file. BadInput if it cannot be
    read."""
    import pandas as pd

    try:
        if path.suffix.lower() == ".parquet":
            frame = pd.read_parquet(path)
        else:
            with path.open(encoding="utf-8-sig") as file:
                separator = max(",;\t", key=file.readline().count)
            frame = pd.read_csv(path, sep=separator, encoding="utf-8-sig", dtype=str, keep_default_na=False)
    except FileNotFoundError as error:
        raise BadInput(f"{path}: there is no such file; give {_READ} of predictions.") from error
    except (ValueError, OSError, UnicodeDecodeError, pd.errors.ParserError) as error:
        said = " ".join(str(error).split())
        raise BadInput(
            f"{path}: it cannot be read as a table ({said}); give {_READ} of predictions."
        ) from error
    return from_frame(frame, str(path))


def from_frame(frame: pd.DataFrame, where: str) -> Imported:
    """The predictions in a table, without the row numbers that pandas by default writes into a CSV file.
    ``where``: how messages name the table."""
    numbers = [name for name in frame.columns if str(name) in ("", "Unnamed: 0", "index")]
    return import_predictions(frame.drop(columns=numbers), where)


def imported_entry(path: Path, beside: Entry | None, evaluation: EvaluationConfig) -> Entry:
    """A file of predictions as a row of a comparison. ``beside`` is a run with which it is compared: the
    classes get the run's numbers, and the data are named as the run's."""
    found = read_predictions(path)
    if beside is not None and beside.results is not None:
        found = in_order(found, beside.results.classes)
    summary = summarise(found.predictions, found.folds, found.labels, found.classes, evaluation)
    on = beside.on if beside is not None else "one table"
    results = Results.model_validate(
        {
            **summary.to_json(),
            "model": path.name,
            "dataset": on,
            "folds": len(set(found.predictions.fold_ids)),
            "clips_used": summary.n,
            "clips_expected": summary.n,
            "selection": "not known: made by other code",
            "confidence": evaluation.confidence,
            "seconds": 0.0,
            "fold_seconds": 0.0,
            "status": "complete",
            "digest": hashlib.sha256(path.read_bytes()).hexdigest(),
            "run_dir": str(path),
        }
    )
    note = "; ".join(("made by other code", *found.warnings))
    return Entry(path.name, on, note, results, found.predictions)


def score_report(
    found: Imported, title: str, resamples: int, confidence: float, metrics: Sequence[Named] = PUBLISHED
) -> tuple[Document, JsonValue]:
    """All scores with intervals and floors: as a document, and as what ``--json`` prints."""
    classes = len(found.classes)
    used, given = chosen(metrics, classes), (found.predictions, found.folds, found.labels)
    scored = every_score(*given, used, classes, resamples, confidence)
    clips, subjects = set(found.labels), {str(subject) for subject in found.predictions.subjects}
    facts = (
        ("intervals", f"{percent(confidence)}, bootstrap over subjects"),
        ("clips", f"{len(clips)} of {len(subjects)} subjects"),
        ("classes", ", ".join(found.classes)),
        ("folds", str(len(set(found.predictions.fold_ids)))),
        ("seeds", str(len(set(found.predictions.seed_N.tolist())))),
    )
    document = Document(title, found.warnings, (metric_table(scored), Facts(facts)))
    rows = [asdict(row) for row in scored]
    return document, {"file": title, "warnings": list(found.warnings), "scores": rows}
