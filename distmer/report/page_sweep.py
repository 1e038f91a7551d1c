"""The page of a sweep: the page of its outer score, and what was searched, found and chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from distmer.config import parse
from distmer.report.html import render
from distmer.report.kept import KeptRun
from distmer.report.page_run import run_values
from distmer.report.settings import flatten, setting_text, short_settings, short_value
from distmer.report.svg import Line, history_svg, importance_svg, parallel_svg
from distmer.report.sweep import study
from distmer.sweep.plan import Trial
from distmer.sweep.space import Domain, SweepConfig

_ENOUGH = 20  # complete trials, below which an importance is called noise


def sweep_page(kept: KeptRun) -> str:
    """The page of a sweep as HTML. BadInput if this version cannot read its ``sweep:`` section."""
    sweep = parse(SweepConfig, kept.settings.get("sweep") or {}, f"{kept.folder}/sweep.yaml", "sweep")
    complete = [trial for trial in kept.trials if trial.state == "complete"]
    own = {
        "sweep": sweep,
        "space": [(name, _domain(domain)) for name, domain in sweep.space.items()],
        "searched": list(flatten({k: v for k, v in kept.settings["sweep"].items() if k != "space"}).items()),
        "history": history_svg(_history(kept.trials, sweep.metric), sweep.metric),
        "parallel": _parallel(complete, kept.chosen, sweep),
        "importance": importance_svg(_importances(complete, sweep)),
        "complete": len(complete),
        "enough": _ENOUGH,
        "chosen": [(row, short_settings(row["setting"])) for row in kept.results.chosen or ()],
    }
    return render("sweep.html", **run_values(kept), **own)


def _domain(domain: Domain) -> str:
    (form, values) = next(iter(domain.model_dump(mode="json", exclude_none=True).items()))
    if form == "choice":
        return f"one of {', '.join(setting_text(value) for value in values)}"
    kind = {"loguniform": ", on a logarithmic scale", "loginteger": ", whole, on a logarithmic scale"}
    return f"{values[0]:g} to {values[1]:g}{kind.get(form, ', whole' if form == 'integer' else '')}"


def _history(trials: Sequence[Trial], metric: str) -> dict[str, list[float | None]]:
    """Search → the validation scores of its trials in order; None for one that was stopped or failed."""
    scores: dict[str, list[float | None]] = {}
    for trial in trials:
        score = trial.score(metric) if trial.state == "complete" else None
        scores.setdefault(trial.search, []).append(score)
    return scores


def _parallel(trials: Sequence[Trial], chosen: frozenset[tuple[str, int]], sweep: SweepConfig) -> str:
    if len(trials) < 2:
        return ""
    scores = [trial.score(sweep.metric) or 0.0 for trial in trials]
    low, high = min(scores), max(scores)
    goodness = [(score - low) / (high - low) if high > low else 0.5 for score in scores]
    axes = [(name, _ticks(domain)) for name, domain in sweep.space.items()]
    axes.append((f"inner {sweep.metric.upper()}", [(0.0, f"{low:.3f}"), (1.0, f"{high:.3f}")]))
    lines: list[Line] = []
    for trial, good in zip(trials, goodness, strict=True):
        places = [_place(domain, trial.setting.get(name)) for name, domain in sweep.space.items()]
        lines.append(([*places, good], good, (trial.search, trial.index) in chosen))
    return parallel_svg(axes, lines)


def _ends(domain: Domain) -> tuple[float, float] | None:
    return domain.uniform or domain.loguniform or domain.integer or domain.loginteger


def _ticks(domain: Domain) -> list[tuple[float, str]]:
    ends = _ends(domain)
    values = ends if ends is not None else domain.choice or ()
    return [(_place(domain, value), short_value(value)) for value in values]


def _place(domain: Domain, value: Any) -> float:
    """The place of a value on its axis, 0 to 1; NaN, which leaves a gap, if the trial lacks the setting."""
    ends = _ends(domain)
    if ends is None:
        choice = list(domain.choice or ())
        return choice.index(value) / max(1, len(choice) - 1) if value in choice else math.nan
    if value is None:
        return math.nan
    scale = math.log if domain.loguniform or domain.loginteger else float
    low, high = scale(ends[0]), scale(ends[1])
    return (scale(value) - low) / (high - low)


def _importances(trials: Sequence[Trial], sweep: SweepConfig) -> Mapping[str, float]:
    """The share of each setting by fANOVA; empty if fewer than three trials differ."""
    if len({trial.score(sweep.metric) for trial in trials}) < 3 or len(sweep.space) < 2:
        return {}
    import optuna

    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return optuna.importance.get_param_importances(study(sweep, trials), evaluator=evaluator)
