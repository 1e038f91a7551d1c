"""What a run came to: scores as a pure function of the plan and the folds, and the JSON that people and programs read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from distmer.evaluation.metrics import scores
from distmer.evaluation.summary import Summary, summarise
from distmer.experiment.plan import Plan
from distmer.models import parameters
from distmer.training.fit import as_predictions
from distmer.types import FoldFailure, FoldResult, JsonValue, Predictions

# The fields of `Summary.to_json` that are there, as null, where nothing was scored.
SCORES = ("uar", "uar_ci", "uf1", "uf1_ci", "uar_foldmean", "uf1_foldmean", "floors", "per_dataset", "confusion")
MIXED_DEVICES = "mixed-devices"
NOT_REACHED = "not reached: the run was stopped before it"


@dataclass(frozen=True, slots=True, eq=False)
class RunResult:
    """A run's end: ``status`` is complete, partial (folds failed or were not reached) or failed (no fold at all)."""

    plan: Plan
    folds: tuple[FoldResult, ...]  # in plan order
    failures: tuple[FoldFailure, ...]
    predictions: Predictions | None
    summary: Summary | None
    seconds: float
    run_dir: str
    mlflow_run_id: str | None = None

    @property
    def stamps(self) -> tuple[str, ...]:
        """What a reader of the score must know: the plan's stamps, and what came out of training."""
        return (*self.plan.stamps, *mixed_devices(self.folds))

    @property
    def missing(self) -> int:
        """Folds neither finished nor failed: the run was stopped before them."""
        return len(self.plan.jobs) - len(self.folds) - len(self.failures)

    @property
    def status(self) -> str:
        if not self.folds and self.failures:
            return "failed"
        return "partial" if self.failures or self.missing else "complete"

    @property
    def reasons(self) -> list[dict[str, str]]:
        """Every clip and fold that is not in the score, with its reason."""
        clips = [{"clip": f.clip, "reason": f.reason} for f in self.plan.failures]
        folds = [{"fold": f.fold_id, "seed": str(f.seed), "reason": f.reason} for f in self.failures]
        done = {f.digest for f in (*self.folds, *self.failures)}
        unreached = [{"fold": j.fold.id, "seed": str(j.seed), "reason": NOT_REACHED} for j in self.plan.jobs if j.digest not in done]
        return [*clips, *folds, *unreached]

    def to_json(self) -> dict[str, JsonValue]:
        """``results.json``: what `--json` prints as its last line."""
        plan = self.plan
        scored: dict[str, JsonValue] = self.summary.to_json() if self.summary else dict.fromkeys(SCORES)
        used = len(set(self.predictions.clip_ids)) if self.predictions else 0
        return {
            "model": plan.model.info.name,
            "options": plan.model.spec["options"],
            "parameters": parameters(plan.model, len(plan.classes)),
            "dataset": plan.manifest.protocol,
            "folds": len(plan.folds),
            "clips_used": used,
            "clips_expected": plan.manifest.clips_expected,
            **scored,
            "failed": self.reasons,
            "selection": plan.selection,
            "stamps": list(self.stamps),
            "seeds": list(plan.config.seeds),
            "classes": list(plan.classes),
            "confidence": plan.config.evaluation.confidence,
            "devices": sorted({f.device for f in self.folds}),
            "seconds": round(self.seconds, 3),
            "fold_seconds": round(sum(fold.seconds for fold in self.folds), 3),
            "status": self.status,
            "run_dir": self.run_dir,
            "mlflow_run_id": self.mlflow_run_id,
        }


def mixed_devices(folds: Sequence[FoldResult]) -> tuple[str, ...]:
    """The stamp of a score whose folds were trained on several kinds of device: a GPU is another type of machine."""
    return (MIXED_DEVICES,) if len({fold.device for fold in folds}) > 1 else ()


def conclude(plan: Plan, folds: Sequence[FoldResult], failures: Sequence[FoldFailure], seconds: float, run_dir: str) -> RunResult:
    """Gather folds (in any order) into the run's result, in the plan's order."""
    by_digest = {fold.digest: fold for fold in folds}
    ordered = tuple(by_digest[job.digest] for job in plan.jobs if job.digest in by_digest)
    if plan.selection == "oracle:global_epoch":
        ordered = _best_common_epoch(plan, ordered)
    predictions = Predictions.concat([fold.predictions for fold in ordered]) if ordered else None
    summary = None if predictions is None else summarise(predictions, plan.folds, plan.labels, plan.classes, plan.config.evaluation)
    return RunResult(plan, ordered, tuple(failures), predictions, summary, seconds, run_dir)


def _best_common_epoch(plan: Plan, folds: tuple[FoldResult, ...]) -> tuple[FoldResult, ...]:
    """The oracle that much published work is: one epoch for all folds of a seed, chosen by the pooled UAR on the test folds."""
    chosen: dict[str, FoldResult] = {}
    for seed in {fold.seed for fold in folds}:
        of_seed = [fold for fold in folds if fold.seed == seed]
        prob_ENK = np.concatenate([np.asarray(fold.epoch_prob_ENK) for fold in of_seed], axis=1)
        y_true = np.concatenate([fold.predictions.y_true_N for fold in of_seed])
        uar_E = [scores(y_true, prob_NK.argmax(axis=1), len(plan.classes)).uar for prob_NK in prob_ENK]
        best = int(np.argmax(uar_E))
        for fold in of_seed:
            own_NK = np.asarray(fold.epoch_prob_ENK)[best]
            predictions = as_predictions(fold.predictions.clip_ids, plan.labels, own_NK, fold.fold_id, seed)
            chosen[fold.digest] = replace(fold, predictions=predictions, epochs=best + 1)
    return tuple(chosen[fold.digest] for fold in folds)
