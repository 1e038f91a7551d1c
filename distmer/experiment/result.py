"""What a run came to: scores as a pure function of the plan and the folds, and its JSON."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from distmer.datasets.check import kinds_of_note
from distmer.evaluation.metrics import scores
from distmer.evaluation.summary import Summary, summarise
from distmer.experiment.audit import Audit
from distmer.experiment.plan import Plan
from distmer.experiment.results_file import ClipLeftOut, FoldLeftOut, LeftOut, Results
from distmer.features.plausible import doubt_in
from distmer.models import parameters
from distmer.types import FoldFailure, FoldJob, FoldResult, JsonValue, Predictions

# The keys of `Summary.to_json` that are null where nothing was scored.
_SCORES = ("uar", "uar_ci", "uf1", "uf1_ci", "uar_foldmean", "uf1_foldmean")
_SCORES += ("floors", "per_dataset", "confusion")
MIXED_DEVICES = "mixed-devices"
NOT_REACHED = "not reached: the run was stopped before it"
NOT_ASKED = "not asked for: the run was of other folds alone"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Scored(ABC):
    """What the end of a run and of a sweep have in common: the trained folds, and their score."""

    folds: tuple[FoldResult, ...]  # in plan order
    failures: tuple[FoldFailure, ...]
    predictions: Predictions | None  # of all folds; None, like the summary, where no fold finished
    summary: Summary | None
    seconds: float
    run_dir: str
    mlflow_run_id: str | None = None

    @property
    @abstractmethod
    def results(self) -> Results:
        """What ``results.json`` holds."""

    def to_json(self) -> dict[str, JsonValue]:
        """``results.json``: what `--json` prints as its last line."""
        return self.results.to_json()

    def _results(self, plan: Plan, unscored: Collection[str], **own: JsonValue) -> Results:
        """``plan``: of the scored folds. ``unscored``: the keys that are null without a score."""
        return Results.model_validate(
            {
                **(self.summary.to_json() if self.summary else dict.fromkeys(unscored)),
                "dataset": plan.manifest.protocol,
                "folds": len(plan.folds),
                "clips_used": len(set(self.predictions.clip_ids)) if self.predictions else 0,
                "clips_expected": plan.manifest.clips_expected,
                "implausible": sum(bool(doubt_in(plan.notes.get(clip.id, ""))) for clip in plan.clips),
                "notes": _counted(plan),
                "seeds": plan.config.seeds,
                "classes": plan.classes,
                "confidence": plan.config.evaluation.confidence,
                "devices": sorted({fold.device for fold in self.folds}),
                "seconds": round(self.seconds, 3),
                "fold_seconds": round(sum(fold.seconds for fold in self.folds), 3),
                "run_dir": self.run_dir,
                "mlflow_run_id": self.mlflow_run_id,
                **own,
            }
        )


def _counted(plan: Plan) -> dict[str, int]:
    """The notes on the clips of a plan with their numbers, the most frequent first."""
    noted = [f"{clip.note}; {plan.notes.get(clip.id, '')}" for clip in plan.clips]
    notes = Counter(kind for note in noted for kind in dict.fromkeys(kinds_of_note(note)))
    return dict(notes.most_common())


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RunResult(Scored):
    """A run's end. ``only``: the ids of the folds that were asked for, if not all. ``audit``: its verdict.

    ``status`` is complete; some-folds (all that were asked for are done, and others are not); partial (folds
    failed or were not reached); or failed (no fold at all).
    """

    plan: Plan
    only: frozenset[str] = frozenset()
    audit: Audit | None = None

    @property
    def stamps(self) -> tuple[str, ...]:
        """What a reader of the score must know: the plan's stamps, and what training and audit have shown."""
        of_audit = self.audit.stamps if self.audit else ()
        return (*self.plan.stamps, *mixed_devices(self.folds), *of_audit)

    @property
    def missing(self) -> int:
        """Folds that were asked for and were not reached."""
        return sum(self._asked(job) for job in self._open)

    @property
    def stopped(self) -> bool:
        """Whether somebody stopped it before its end."""
        return self.missing > 0

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
    def left_out(self) -> list[LeftOut]:
        """Every clip and fold that is not in the score, with its reason."""
        clips = [ClipLeftOut(clip=f.clip, reason=f.reason) for f in self.plan.failures]
        folds = [FoldLeftOut(fold=f.fold_id, seed=str(f.seed), reason=f.reason) for f in self.failures]
        undone = [(job, NOT_REACHED if self._asked(job) else NOT_ASKED) for job in self._open]
        folds += [FoldLeftOut(fold=job.fold.id, seed=str(job.seed), reason=reason) for job, reason in undone]
        return [*clips, *folds]

    @property
    def results(self) -> Results:
        """What ``results.json`` holds."""
        return self._results(
            self.plan,
            _SCORES,
            model=self.plan.model.info.name,
            options=self.plan.model.spec["options"],
            parameters=_parameters(self.plan),
            failed=self.left_out,
            selection=self.plan.selection,
            stamps=self.stamps,
            **({"audited": self.audit.verdict} if self.audit else {}),
            status=self.status,
            digest=self.plan.digest,
        )


def _parameters(plan: Plan) -> int | None:
    """Of all networks of an ensemble; None for a classical model."""
    of_one = parameters(plan.model, len(plan.classes))
    return None if of_one is None else of_one * plan.config.train.ensemble


def mixed_devices(folds: Sequence[FoldResult]) -> tuple[str, ...]:
    """The stamp of a score whose folds were trained on several kinds of device."""
    return (MIXED_DEVICES,) if len({fold.device for fold in folds}) > 1 else ()


def score_folds(plan: Plan, folds: Sequence[FoldResult]) -> tuple[Predictions | None, Summary | None]:
    """The predictions of these folds together, and their scores; None where there is no fold."""
    if not folds:
        return None, None
    predictions = Predictions.concat([fold.predictions for fold in folds])
    return predictions, summarise(predictions, plan.folds, plan.labels, plan.classes, plan.config.evaluation)


def conclude(
    plan: Plan,
    folds: Sequence[FoldResult],
    failures: Sequence[FoldFailure],
    seconds: float,
    run_dir: str,
    only: Collection[str] = (),
    audit: Audit | None = None,
) -> RunResult:
    """The run's result from its folds, in any order. For ``only`` and ``audit`` see `RunResult`."""
    by_digest = {fold.digest: fold for fold in folds}
    ordered = tuple(by_digest[job.digest] for job in plan.jobs if job.digest in by_digest)
    if plan.selection == "oracle:global_epoch":
        ordered = _best_common_epoch(plan, ordered)
    predictions, summary = score_folds(plan, ordered)
    return RunResult(
        plan=plan,
        folds=ordered,
        failures=tuple(failures),
        predictions=predictions,
        summary=summary,
        seconds=seconds,
        run_dir=run_dir,
        only=frozenset(only),
        audit=audit,
    )


def at_epoch(fold: FoldResult, epoch: int) -> FoldResult:
    """The fold with its predictions after an epoch, counted from 0; −1 is the last."""
    prob_NK = np.asarray(fold.epoch_prob_ENK)[epoch]
    own = replace(fold.predictions, prob_NK=prob_NK, y_pred_N=prob_NK.argmax(axis=1))
    return replace(fold, predictions=own)


def _best_common_epoch(plan: Plan, folds: tuple[FoldResult, ...]) -> tuple[FoldResult, ...]:
    """The oracle of much published work: for all folds of a seed the epoch with the best pooled test UAR."""
    chosen: dict[str, FoldResult] = {}
    for seed in {fold.seed for fold in folds}:
        of_seed = [fold for fold in folds if fold.seed == seed]
        prob_ENK = np.concatenate([np.asarray(fold.epoch_prob_ENK) for fold in of_seed], axis=1)
        y_true = np.concatenate([fold.predictions.y_true_N for fold in of_seed])
        uar_E = [scores(y_true, prob_NK.argmax(axis=1), len(plan.classes)).uar for prob_NK in prob_ENK]
        best = int(np.argmax(uar_E))
        for fold in of_seed:
            chosen[fold.digest] = replace(at_epoch(fold, best), epochs=best + 1)
    return tuple(chosen[fold.digest] for fold in folds)
