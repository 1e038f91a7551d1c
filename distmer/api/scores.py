"""Predictions of other code: `distmer.score`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distmer.api.naming import reference
from distmer.api.settings import layer
from distmer.commands.score import from_frame, named_metrics, read_predictions, score_report
from distmer.report.document import Document
from distmer.types import JsonValue
from distmer.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd


class Scored:
    """Predictions of other code, scored.

    Attributes
    ----------
    warnings : list of str
        What makes a score of this table doubtful: a subject in several folds, a clip predicted twice.
    report : Document
        All scores as a text, as Markdown, and as HTML in a notebook.
    """

    def __init__(self, report: Document, found: JsonValue) -> None:
        self.report, self._found = report, found
        self.warnings: list[str] = list(report.warnings)

    @property
    def scores(self) -> pd.DataFrame:
        """One row a metric and way of averaging: ``value``, ``sd`` over seeds, ``lo`` and ``hi`` of the
        interval, and the floors."""
        import pandas as pd

        rows = [
            {
                **{key: row[key] for key in ("metric", "over", "value", "sd")},
                **(row["interval"] or {"lo": None, "hi": None}),
                **{f"floor_{name}": value for name, value in row["floors"].items()},
            }
            for row in self._found["scores"]
        ]
        return pd.DataFrame(rows)

    def to_json(self) -> JsonValue:
        """What ``distmer score --json`` prints."""
        return self._found

    def __repr__(self) -> str:
        row = self._found["scores"][0]
        warned = f"; {len(self.warnings)} warnings" if self.warnings else ""
        return f"<Scored {self.report.title}: {row['over']} {row['metric']} {row['value']:.4f}{warned}>"

    def _repr_html_(self) -> str:
        return self.report._repr_html_()


def score(
    predictions: pd.DataFrame | str | Path,
    *,
    metrics: Sequence[Any] = (),
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Scored:
    """Score predictions that other code made, in the same way as distmer's own.

    Parameters
    ----------
    predictions
        A table with one row a clip, or the path of one (``.csv``, ``.tsv``, ``.parquet``): columns ``clip``,
        ``subject``, ``y_true``, and ``y_pred`` or a column ``prob_CLASS`` for each class; ``dataset``,
        ``fold`` and ``seed`` where there are several.
    metrics
        As in a configuration's ``evaluation.metrics``; each may also be a function of yours. Without any: all
        that are usually published.
    resamples
        Of the bootstrap over subjects.
    confidence
        Of the intervals.

    Raises
    ------
    BadInput
        A column is missing or unknown, or a cell cannot be used.

    Examples
    --------
    >>> import distmer as dm, pandas as pd
    >>> frame = pd.DataFrame({"clip": ["a", "b", "c", "d"], "subject": ["s1", "s1", "s2", "s2"],
    ...                       "y_true": ["neg", "pos", "neg", "pos"], "y_pred": ["neg", "pos", "neg", "neg"]})
    >>> dm.score(frame)
    <Scored table: pooled UAR 0.7500>
    """
    if isinstance(predictions, str | Path):
        found, title = read_predictions(Path(predictions)), str(predictions)
    else:
        found, title = from_frame(predictions, "table"), "table"
    code = partial(reference, call="dm.score", workspace=Workspace.find(None, os.environ))
    named = named_metrics(layer("dm.score", code=code, evaluation={"metrics": metrics}))
    return Scored(*score_report(found, title, resamples, confidence, named))
