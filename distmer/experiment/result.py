"""What a run came to: scores as a pure function of the plan and the folds, and its JSON."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from distmer.evaluation.metrics import scores
from distmer.evaluation.summary import Summary, summarise
from distmer.experiment.plan import Plan
from distmer.models import parameters
from distmer.training.fit import as_predictions
from distmer.types import FoldFailure, FoldJob, FoldResult, JsonValue, Predictions

# The fields of `Summary.to_json` that are there, as null, where nothing was scored.
SCORES = ("uar", "uar_ci", "uf1", "uf1_ci", "uar_foldmean", "uf1_foldmean", "floors", "per_dataset", "confusion")
MIXED_DEVICES = "mixed-devices"
NOT_REACHED = "not reached: the run was stopped before it"
NOT_ASKED = "not asked for: the run was of other folds alone"


@dataclass(frozen=True, slots=True, eq=False)
class RunResult:
    """A run's end. ``only``: the ids of the folds that were asked for, where it was not all of them.

    ``status`` is complete; some-folds (all that were asked for are done, and others are not); partial (folds
    failed or were not reached); or failed (no fold at all).
    """

    plan: Plan
    folds: tuple[FoldResult, ...]  # in plan order
    failures: tuple[FoldFailure, ...]
    predictions: Predictions | None
    summary: Summary | None
    seconds: float
    run_dir: str
    mlflow_run_id: str | None = None
    only: frozenset[str] = frozenset()

    @property
    def stamps(self) -> tuple[str, ...]:
        """What a reader of the score must know: the plan's stamps, and what came out of training."""
        return (*self.plan.stamps, *mixed_devices(self.folds))

    @property
    def missing(self) -> int:
        """Folds that were asked for and are neither finished nor failed: the run was stopped before them."""
        return sum(self._asked(job) for job in self._open)

    @property
    def status(self) -> str:
        if not self.folds and self.failures:
            return "failed"
        if self.failures or self.missing:
            return "partial"
        return "some-folds" if self._open else "complete"

    @property
    def _open(self) -> list[FoldJob]:
        done = {f.digest for f in (*self.folds, *self.failures)}
        return [job for job in self.plan.jobs if job.digest not in done]

    def _asked(self, job: FoldJob) -> bool:
        return not self.only or job.fold.id in self.only

    @property
    def reasons(self) -> list[dict[str, str]]:
        """Every clip and fold that is not in the score, with its reason."""
        clips = [{"clip": f.clip, "reason": f.reason} for f in self.plan.failures]
        folds = [{"fold": f.fold_id, "seed": str(f.seed), "reason": f.reason} for f in self.failures]
        left = [(job, NOT_REACHED if self._asked(job) else NOT_ASKED) for job in self._open]
        undone = [{"fold": job.fold.id, "seed": str(job.seed), "reason": reason} for job, reason in left]
        return [*clips, *folds, *undone]

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
            "digest": plan.digest,
            "run_dir": self.run_dir,
            "mlflow_run_id": self.mlflow_run_id,
        }


def mixed_devices(folds: Sequence[FoldResult]) -> tuple[str, ...]:
    """The stamp of a score whose folds were trained on several kinds of device: a GPU is another type of machine."""
    return (MIXED_DEVICES,) if len({fold.device for fold in folds}) > 1 else ()


def conclude(
    plan: Plan,
    folds: Sequence[FoldResult],
    failures: Sequence[FoldFailure],
    seconds: float,
    run_dir: str,
    only: Collection[str] = (),
) -> RunResult:
    """Gather folds (in any order) into the run's result, in the plan's order. ``only``: see `RunResult`."""
    by_digest = {fold.digest: fold for fold in folds}
    ordered = tuple(by_digest[job.digest] for job in plan.jobs if job.digest in by_digest)
    if plan.selection == "oracle:global_epoch":
        ordered = _best_common_epoch(plan, ordered)
    predictions = Predictions.concat([fold.predictions for fold in ordered]) if ordered else None
    summary = None if predictions is None else summarise(predictions, plan.folds, plan.labels, plan.classes, plan.config.evaluation)
    return RunResult(plan, ordered, tuple(failures), predictions, summary, seconds, run_dir, only=frozenset(only))


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
