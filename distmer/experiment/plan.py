"""The plan of a run: folds × seeds as a flat list of jobs, each with its identity."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from distmer.code import code_of, digests_of
from distmer.config import Config, EvaluationConfig
from distmer.datasets import mismatches
from distmer.digests import canonical, digest, digest_of_list
from distmer.evaluation.folds import make_folds, permute_within_subjects
from distmer.evaluation.named import HEADLINE
from distmer.functions import METRIC, of_training, resolve
from distmer.idle import acting
from distmer.models import ResolvedModel
from distmer.plugins import own_modules
from distmer.types import BadInput, Clip, ClipFailure, Fold, FoldJob, JsonValue, Manifest

_log = logging.getLogger(__name__)

# Raised by hand when code that `distmer.code` does not list (a worker group's, say) changes results.
RESULT_EPOCH = 3


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A run, complete and identified: the same plan always has the same digest and run folder."""

    digest: str
    config: Config
    model: ResolvedModel
    manifest: Manifest
    clips: tuple[Clip, ...]  # usable: their features exist
    failures: tuple[ClipFailure, ...]  # of the protocol, and not usable
    labels: Mapping[str, int]  # clip id → class, permuted if the configuration says so
    folds: tuple[Fold, ...]
    jobs: tuple[FoldJob, ...]
    data_digest: str
    stamps: tuple[str, ...]  # what a reader of the score must know
    notes: Mapping[str, str] = field(default_factory=dict[str, str])  # clip id → what its extraction noticed

    @property
    def classes(self) -> tuple[str, ...]:
        return self.manifest.classes

    @property
    def selection(self) -> str:
        train = self.config.train
        if self.model.info.kind == "classical":
            return "fixed"
        return f"oracle:{train.oracle}" if train.selection == "oracle" else train.selection


def build_plan(
    config: Config,
    manifest: Manifest,
    model: ResolvedModel,
    keys: Mapping[str, str],
    unusable: Sequence[ClipFailure],
    notes: Mapping[str, str] | None = None,
) -> Plan:
    """The plan of a configuration on clips whose feature keys are known; ``unusable`` clips failed in
    extraction, and ``notes`` are what it noticed of others. They are no part of the identity.

    Raises BadInput when the remaining clips cannot be split as asked, or show one class only.
    """
    dropped = {failure.clip for failure in unusable}
    clips = tuple(sorted((c for c in manifest.clips if c.id not in dropped), key=lambda c: c.id))
    labels = {c.id: c.label for c in clips}
    if len(set(labels.values())) < 2:
        lost = ""
        if unusable:
            lost = f" The first of {len(unusable)} that failed: {unusable[0].clip}: {unusable[0].reason}"
        what = f"the {len(clips)} usable clips show one class only" if clips else "not one clip can be used"
        raise BadInput(f"protocol {manifest.protocol}: {what}; there is nothing to tell apart.{lost}")
    if config.evaluation.permute_labels is not None:
        labels = permute_within_subjects(labels, config.evaluation.permute_labels)
    folds = make_folds(clips, config.evaluation)
    jobs = fold_jobs(config, model, folds, labels, keys, config.seeds, len(manifest.classes))
    failures = (*manifest.failures, *unusable)
    shared = shared_frames(clips, keys)
    if shared:
        one, other = shared[0]
        _log.warning(
            "%d pairs of clips of different subjects have the same frames, %s and %s for one, so a subject is"
            " in training and test; correct the paths or leave one of each pair out.",
            len(shared),
            one.id,
            other.id,
        )
    for label, fold in classes_of_one_fold(folds, labels).items():
        _log.warning(
            "all clips of the class %r are in the test of the fold %s, whose model has then seen none of the"
            " class; correct the label if it is misspelt, else add clips of others or leave the class out.",
            manifest.classes[label],
            fold,
        )
    stamps = (*_stamps(config, model, manifest), *(("same-frames",) if shared else ()))
    identity = {
        "jobs": sorted(job.digest for job in jobs),
        "protocol": [manifest.protocol, list(manifest.classes)],
        "failures": sorted(f.clip for f in failures),
        "bootstrap": [config.evaluation.bootstrap, config.evaluation.confidence],
        "stamps": list(stamps),
        **_metrics(config.evaluation),
    }
    run, data = digest(identity), digest_of_data(keys, labels)
    return Plan(run, config, model, manifest, clips, failures, labels, folds, jobs, data, stamps, notes or {})


def digest_of_data(keys: Mapping[str, str], labels: Mapping[str, int]) -> str:
    """The digest of clips with their content and their labels."""
    return digest(sorted([c, keys[c], labels[c]] for c in labels))


def _metrics(evaluation: EvaluationConfig) -> dict[str, JsonValue]:
    """The metrics beside UAR and UF1: a part of the identity of a run, but of no fold."""
    headline = {named.name for named in HEADLINE}
    functions = [resolve(METRIC, named) for named in evaluation.metrics]
    functions = [f for f in functions if not (f.is_own and f.name in headline)]
    if not functions:
        return {}
    own = [module for f in functions if not f.is_own for module in own_modules(f.module)]
    return {"metrics": [f.setting for f in functions], "metric_code": digests_of(own)}


def fold_jobs(
    config: Config,
    model: ResolvedModel,
    folds: Sequence[Fold],
    labels: Mapping[str, int],
    keys: Mapping[str, str],
    seeds: Sequence[int],
    classes: int,
) -> tuple[FoldJob, ...]:
    """These folds, each with every seed, as jobs with identities; seed by seed."""
    shared = shared_spec(config, model, classes)
    written = {c: canonical([c, keys[c], label]) for c, label in labels.items()}

    def without_seed(fold: Fold) -> tuple[Fold, dict[str, JsonValue], dict[str, int]]:
        sides = {"train_clips": fold.train, "test_clips": fold.test}
        clips = {side: digest_of_list(written[c] for c in ids) for side, ids in sides.items()}
        return fold, {"fold": fold.id, **clips}, {c: labels[c] for c in (*fold.train, *fold.test)}

    def job(seed: int, fold: Fold, own: dict[str, JsonValue], own_labels: dict[str, int]) -> FoldJob:
        spec = {**shared, "seed": seed, **own}
        return FoldJob(digest(_without_place(spec)), fold, seed, own_labels, spec, config.train.keep_weights)

    of_folds = [without_seed(fold) for fold in folds]
    return tuple(job(seed, *of_fold) for seed in seeds for of_fold in of_folds)


def shared_spec(config: Config, model: ResolvedModel, classes: int) -> dict[str, JsonValue]:
    """The part of a fold's identity that all folds of a run share, with every default filled in."""
    settings = acting_settings(config, model)
    functions = of_training(config.train) if model.info.kind == "torch" else ()
    if functions:
        loss, *augment = [function.setting for function in functions]
        settings["train"] = {**settings["train"], "loss": loss, "augment": augment}
    packages = sorted({f.distribution for f in functions if f.distribution and not f.is_own})
    return {
        "result_epoch": RESULT_EPOCH,
        "classes": classes,
        "model": model.spec,
        "code": code_of(model.module, model.info.kind, [function.module for function in functions]),
        **({"packages": packages} if packages else {}),
        "channels": list(model.inputs),
        "train": settings["train"],
        "inputs": settings["inputs"],
        "workers": 1 if model.info.kind == "classical" else config.cluster.workers,
        "device": "cuda" if model.info.kind == "torch" and config.cluster.gpus_per_fold > 0 else "cpu",
    }


def acting_settings(config: Config, model: ResolvedModel) -> dict[str, Any]:
    """The configuration without the settings that do nothing here and so are in no fold's identity."""
    settings = acting(config.model_dump(mode="json"), lambda name: model.info.kind == "torch")
    return {"train": {}, **settings}


def repeatable_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of `acting_settings` those that scores depend on: without places, the cluster and MLflow."""
    kept = {name: value for name, value in settings.items() if name not in ("cluster", "tracking", "storage")}
    return {**kept, "data": {k: v for k, v in kept["data"].items() if k not in ("root", "roots")}}


def _without_place(spec: Mapping[str, JsonValue]) -> dict[str, Any]:
    """A fold's spec without the path of the weights, whose SHA-256 says what they are."""
    tree: dict[str, Any] = dict(spec)
    options = tree["model"]["options"]
    if options.get("weights_sha256"):
        options = {name: value for name, value in options.items() if name != "weights"}
        tree["model"] = {**tree["model"], "options": options}
    return tree


def shared_frames(clips: Sequence[Clip], keys: Mapping[str, str]) -> list[tuple[Clip, Clip]]:
    """Pairs of clips of different subjects whose frames are the same, byte for byte."""
    first: dict[str, Clip] = {}
    pairs = [(first.setdefault(keys[clip.id], clip), clip) for clip in clips]
    return [(one, other) for one, other in pairs if one.subject_key != other.subject_key]


def classes_of_one_fold(folds: Sequence[Fold], labels: Mapping[str, int]) -> dict[int, str]:
    """The classes whose clips are all tested in one fold, and its name."""
    tested: dict[int, set[str]] = {}
    for fold in folds:
        for clip in fold.test:
            tested.setdefault(labels[clip], set()).add(fold.id)
    return {label: next(iter(names)) for label, names in sorted(tested.items()) if len(names) == 1}


def _stamps(config: Config, model: ResolvedModel, manifest: Manifest) -> tuple[str, ...]:
    oracle = config.train.selection == "oracle" and model.info.kind == "torch"
    stamps = {
        f"oracle:{config.train.oracle}": oracle,
        "labels-permuted": config.evaluation.permute_labels is not None,
        "counts-mismatch": bool(mismatches(manifest)),
        "lock-mismatch": bool(manifest.changed),
    }
    return tuple(stamp for stamp, holds in stamps.items() if holds)
