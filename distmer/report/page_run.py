"""The page of a run: scores, who and what is hard, how it learned, its settings, how to repeat it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml

from distmer.evaluation.stats import confusions_by_subject
from distmer.experiment.results_file import ClipLeftOut, Results
from distmer.report.citations import citations
from distmer.report.document import Facts
from distmer.report.explanation import Explanation, caption, drawings_svg, tables
from distmer.report.html import render
from distmer.report.kept import KeptRun
from distmer.report.settings import settings_of
from distmer.report.svg import curves_svg
from distmer.report.tables import headline, run_report, what_is_left_out
from distmer.types import Predictions


@dataclass(frozen=True, slots=True)
class SubjectView:
    """A subject: the mean number of right answers over the seeds, and the recall of each class."""

    name: str
    n: int
    correct: float
    recalls: Sequence[float | None]

    @property
    def accuracy(self) -> float:
        return self.correct / self.n


@dataclass(frozen=True, slots=True)
class ClipView:
    """A clip: its truth, the most frequent answer over the seeds, and the mean probabilities of both."""

    id: str
    truth: str
    answer: str
    prob_answer: float
    prob_truth: float
    right: int
    seeds: int
    note: str


def run_page(kept: KeptRun) -> str:
    """The page of a run as HTML."""
    return render("run.html", **run_values(kept))


def run_values(kept: KeptRun) -> dict[str, Any]:
    """The values for the template of a run. The page of a sweep adds its own."""
    results = kept.results
    report = run_report(results)
    facts = [row for part in report.parts if isinstance(part, Facts) for row in part.rows]
    facts = [row for row in facts if row[0] != "results"]  # a path on one machine, and the page travels
    return {
        "title": report.title,
        "pills": _pills(kept),
        "warnings": report.warnings,
        "results": results,
        "headline": headline(results),
        "facts": [*_times(kept), *facts],
        "confusion": _shares(results),
        "subjects": subjects(results, kept.predictions),
        "curves": curves_svg(kept.curves) if kept.curves else "",
        "trained": bool(kept.settings.get("train")) and results.uar is not None,
        "clips": clips(results, kept.predictions, kept.notes),
        "looks": _looks(kept.explanation),
        "seeds": len(results.seeds),
        "left_out": _left_out(kept),
        "settings": settings_of(kept.settings, results.options),
        "environment": _environment(kept.environment),
        "command": _command(kept),
        "configuration": yaml.safe_dump(dict(kept.settings), sort_keys=False, allow_unicode=True),
        "citations": citations(results.model.split(", "), results.dataset, results.per_dataset or ()),
    }


def subjects(results: Results, predictions: Predictions | None) -> list[SubjectView]:
    """Every subject, the hardest first."""
    recalls = _recalls(predictions, len(results.classes)) if predictions else {}
    blank = [None] * len(results.classes)
    views = [
        SubjectView(row.subject, row.n, row.correct, recalls.get(row.subject, blank))
        for row in results.per_subject or ()
    ]
    return sorted(views, key=lambda view: (view.accuracy, -view.n, view.name))


def _recalls(predictions: Predictions, classes: int) -> dict[str, list[float | None]]:
    """Subject → the recall of each class over all seeds; None for a class without a clip."""
    subjects, confusion_SPKK = confusions_by_subject(predictions, classes)
    found: dict[str, list[float | None]] = {}
    for subject, own_KK in zip(subjects, confusion_SPKK.sum(0), strict=True):
        n_K = own_KK.sum(1)
        found[str(subject)] = [float(own_KK[k, k] / n) if n else None for k, n in enumerate(n_K)]
    return found


def clips(results: Results, predictions: Predictions | None, notes: Mapping[str, str]) -> list[ClipView]:
    """Every clip, the most often wrong first; among those, the lowest probability of the true class first."""
    if predictions is None:
        return []
    rows: dict[str, list[int]] = {}
    for place, clip in enumerate(predictions.clip_ids):
        rows.setdefault(clip, []).append(place)
    views: list[ClipView] = []
    for clip, places in rows.items():
        answers_S, truth = predictions.y_pred_N[places], int(predictions.y_true_N[places[0]])
        answer = int(np.bincount(answers_S).argmax())
        prob_K = predictions.prob_NK[places].mean(axis=0)
        views.append(
            ClipView(
                id=clip,
                truth=results.classes[truth],
                answer=results.classes[answer],
                prob_answer=float(prob_K[answer]),
                prob_truth=float(prob_K[truth]),
                right=int((answers_S == truth).sum()),
                seeds=len(places),
                note=notes.get(clip, ""),
            )
        )
    return sorted(views, key=lambda view: (view.right / view.seeds, view.prob_truth, view.id))


def _shares(results: Results) -> list[tuple[str, int, list[tuple[float, int]]]]:
    """The rows of the confusion matrix: the true class, its count, and share and count of each answer."""
    return [
        (name, sum(row), [(count / max(1, sum(row)), count) for count in row])
        for name, row in zip(results.classes, results.confusion or (), strict=False)
    ]


def _looks(found: Explanation | None) -> dict[str, Any]:
    """Where the models look: a drawing for each class, its caption, and the tables of numbers."""
    if found is None:
        return {}
    return {"drawings": drawings_svg(found), "caption": caption(found.about), "tables": tables(found.about)}


def _pills(kept: KeptRun) -> list[tuple[str, bool]]:
    """The labels beside the title. True: the label must not be overlooked."""
    results = kept.results
    pills = [(results.status, results.status in ("partial", "failed"))]
    pills += [(stamp, True) for stamp in results.stamps]
    pills += [] if results.stamps else [("no stamp", False)]
    if results.audited:
        pills.append((f"audit: {results.audited}", not results.audited.startswith("passed")))
    return [*pills, (f"{'sweep' if results.mode else 'run'} {results.digest[:12]}", False)]


def _times(kept: KeptRun) -> list[tuple[str, str]]:
    began, ended = (moment[:16].replace("T", " ") for moment in kept.times)
    return [("first begun", f"{began} UTC"), ("last ended", f"{ended} UTC")] if began else []


def _left_out(kept: KeptRun) -> list[tuple[str, str, str]]:
    """Everything that is not in the score: what it is, why, and the traceback where there is one."""
    rows: list[tuple[str, str, str]] = []
    for row in kept.results.failed:
        fold = ("", "") if isinstance(row, ClipLeftOut) else (row.fold, row.seed)
        rows.append((what_is_left_out(row), row.reason, kept.tracebacks.get(fold, "")))
    return rows


def _environment(tree: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The rows of ``environment.json``, without those that are not known."""
    names = {"commit": "commit", "python": "Python", "platform": "platform", "cpus": "CPU cores"}
    names |= {"device": "processor or GPU", "requirements": "SHA-256 of requirements.lock"}
    rows = [(words, str(tree[name])) for name, words in names.items() if tree.get(name) not in (None, "")]
    if tree.get("dirty"):
        rows.insert(1, ("changed since the commit", "yes: files that git tracks differ from it"))
    return [*rows, *((name, str(text)) for name, text in (tree.get("libraries") or {}).items())]


def _command(kept: KeptRun) -> str:
    """The command that makes the same run from the configuration below it."""
    if kept.results.mode:
        return "distmer sweep sweep.yaml"
    command = "distmer run config.yaml"
    if kept.results.status == "some-folds" and kept.predictions is not None:
        command += "".join(
            f" --fold {shlex.quote(fold)}" for fold in dict.fromkeys(kept.predictions.fold_ids)
        )
    return command
