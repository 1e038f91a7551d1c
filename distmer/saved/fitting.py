"""A model trained on all clips of a plan, and its folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import yaml

from distmer.config import TrainConfig
from distmer.digests import digest
from distmer.experiment.plan import Plan, acting_settings, repeatable_settings, shared_spec
from distmer.experiment.prepare import Features
from distmer.experiment.results_file import Results
from distmer.features.landmarks import model_hash, model_path
from distmer.features.methods import portable
from distmer.features.pipeline import FEATURE_EPOCH, extraction
from distmer.models import ResolvedModel
from distmer.saved.card import card
from distmer.saved.choice import Choice
from distmer.saved.folder import CARD, CONFIG, FORMAT, Manifest, write_folder
from distmer.saved.model import CLASSES, Training, motion, names_as_array, versions
from distmer.storage import Place
from distmer.training.fit import Fitted, train_fold
from distmer.training.fold_inputs import Inputs
from distmer.training.runtime import SingleProcess, repeatable
from distmer.training.weights import modules_of, packed, require_same_answers, unpacked
from distmer.types import BadInput, FloatArray, Fold, FoldJob

EVERYONE = "everyone"  # the name of the fold that holds nobody out: its seed follows from it
_SCORE = (
    *("digest", "uar", "uar_ci", "uf1", "uf1_ci", "floors", "confidence"),
    *("folds", "seeds", "clips_used", "clips_expected", "selection", "stamps", "audited", "status"),
)


class _NobodyHeldOut(Fold):
    """All clips are trained on. A fold that is scored must hold somebody out; this one is not scored."""

    def __post_init__(self) -> None:
        if not self.train:
            raise BadInput("there is no clip to fit a model to.")


def require_one_seed(seeds: Sequence[int]) -> None:
    """BadInput for several seeds: a model that is kept is one training."""
    if len(seeds) > 1:
        raise BadInput(
            f"seeds: there are {len(seeds)} ({', '.join(map(str, seeds))}), and a model that is kept is one"
            f" training; choose one with --set 'seeds=[{seeds[0]}]' (distmer run with the same gives its"
            f" score, from the ledger), or average networks with train.ensemble={len(seeds)}."
        )


def fit_everyone(job: FoldJob, model: ResolvedModel, inputs: Inputs) -> Fitted:
    """Train a model on all clips, in this process. ``job``: from `job_of`."""
    train = TrainConfig.model_validate(job.spec["train"])
    runtime = SingleProcess(gpu=job.spec["device"] == "cuda")
    with repeatable(train.threads):
        fitted = train_fold(job, inputs, model, train, runtime)
    if isinstance(fitted.model, torch.nn.Module):  # where it will answer
        fitted.model.cpu()
    return fitted


def job_of(plan: Plan) -> FoldJob:
    """The training on all clips, with its identity.

    BadInput where the configuration has several seeds, chooses on held-out clips, or has its labels shuffled.
    """
    require_one_seed(plan.config.seeds)
    if plan.selection.startswith("oracle"):
        raise BadInput(
            "train.selection=oracle chooses the epoch on held-out clips, and a model that is kept holds"
            " nobody out; set it to fixed or inner."
        )
    if plan.config.evaluation.permute_labels is not None:
        raise BadInput(
            "evaluation.permute_labels shuffles the labels, to see chance; a model of them is of no use;"
            " leave it out."
        )
    clips = tuple(clip.id for clip in plan.clips)
    seed = plan.config.seeds[0]
    spec = {**shared_spec(plan.config, plan.model, len(plan.classes)), "workers": 1}
    spec |= {"seed": seed, "fold": EVERYONE, "data": plan.data_digest, "model": _model(plan)}
    spec |= {"class_names": list(plan.classes)}  # the answers of a kept model are names
    return FoldJob(digest(spec), _NobodyHeldOut(EVERYONE, clips, ()), seed, dict(plan.labels), spec)


def keep(
    folder: Place,
    plan: Plan,
    job: FoldJob,
    fitted: Fitted,
    inputs: Inputs,
    features: Features,
    results: Results | None,
    choice: Choice | None = None,
) -> Manifest:
    """Write a fitted model's folder. Before that, the model is packed and loaded again in memory, and must
    give the same answers for all training clips, to the bit.

    ``results``: of the run of the same configuration, if there is one, or of the sweep that made the
    ``choice``. BadInput where the model needs something that is not in its weights, or where the folder holds
    something else.
    """
    ids = [clip.id for clip in plan.clips]
    stored = features.store.load([(clip, features.keys[clip]) for clip in ids])
    subjects = tuple(str(clip.subject_key) for clip in plan.clips)
    known = Training.of(motion(stored, plan.config.inputs), subjects)
    more = {"motion_ND": known.motion_ND, "nearest_N": known.nearest_N, CLASSES: names_as_array(plan.classes)}
    own, classes = modules_of(plan.model), len(plan.classes)
    contents = packed(fitted, plan.model, classes, own, more)
    train = TrainConfig.model_validate(job.spec["train"])
    averaged: dict[str, Any] = {"members": train.ensemble, "symmetric": plan.config.inputs.symmetric}
    again, _ = unpacked(contents, plan.model, classes, fitted.epochs, own, **averaged)
    _require_same_answers(plan, fitted, again, inputs.take(ids), train.threads)
    counts = Counter(plan.labels[clip] for clip in ids)
    in_px = stored.unit == "px"
    cfg = plan.config.features
    manifest = Manifest(
        format=FORMAT,
        identity=job.digest,
        run=plan.digest,
        name=plan.config.name,
        model=_model(plan),
        kind=plan.model.info.kind,
        channels=plan.model.inputs,
        classes=plan.classes,
        unit=stored.unit,
        features=portable(cfg).model_dump(mode="json", exclude={"landmarks"}) if in_px else {},
        extraction=extraction(cfg) if in_px else {},
        feature_epoch=FEATURE_EPOCH if in_px else 0,
        landmarks=model_hash(model_path(cfg.landmarks)) if in_px else "",
        inputs=job.spec["inputs"],
        train=job.spec["train"],
        seed=job.seed,
        epochs=fitted.epochs,
        device=job.spec["device"],
        protocol=plan.manifest.protocol,
        subjects=tuple(sorted(set(subjects))),
        clips={name: counts[label] for label, name in enumerate(plan.classes)},
        clips_digest=plan.data_digest,
        code=job.spec["code"],
        libraries=versions(),
        score=_score(results, choice),
        files={},
    )
    contents[CONFIG] = yaml.safe_dump(
        repeatable_settings(acting_settings(plan.config, plan.model)), sort_keys=False
    ).encode()
    contents[CARD] = card(manifest, results, plan.model.info.citation).encode()
    return write_folder(folder, manifest, contents)


def _require_same_answers(
    plan: Plan, fitted: Fitted, again: Fitted, x_NCHW: FloatArray, threads: int
) -> None:
    with repeatable(threads):
        before_NK, after_NK = (np.asarray(one.predict(x_NCHW.copy())) for one in (fitted, again))
    if not np.isfinite(before_NK).all():
        raise BadInput(
            f"model {plan.model.info.name}: the training diverged (its probabilities are not numbers); lower"
            " train.lr."
        )
    require_same_answers(plan.model, before_NK, after_NK)


def _model(plan: Plan) -> dict[str, Any]:
    """The model with its options, but without the path of pretrained weights: their SHA-256 is among them."""
    options: dict[str, Any] = dict(plan.model.spec["options"])
    if options.get("weights_sha256"):
        del options["weights"]
    return {**plan.model.spec, "options": options}


def _score(results: Results | None, choice: Choice | None) -> dict[str, Any] | None:
    if results is None or results.uar is None:
        return None
    score = {name: value for name, value in results.to_json().items() if name in _SCORE}
    return score if choice is None else {**score, "setting": choice.to_json()}
