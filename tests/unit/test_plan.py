"""Identity: what changes a fold's digest, and what must not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from distmer.config import Config
from distmer.datasets.check import check_report
from distmer.experiment.plan import Plan, build_plan
from distmer.models import resolve
from distmer.types import BadInput, ClipFailure, Manifest
from harness import toy

CLIPS = toy.clips()
KEYS = {clip.id: f"key of {clip.id}" for clip in CLIPS}


def plan(
    cfg: Config | None = None,
    keys: dict[str, str] = KEYS,
    unusable: tuple[ClipFailure, ...] = (),
    **sections: Any,
) -> Plan:
    cfg = cfg or toy.config(**sections)
    manifest = Manifest("toy", ("a", "b", "c"), tuple(reversed(CLIPS)))
    return build_plan(cfg, manifest, resolve(cfg.model), keys, unusable)


def test_the_same_frames_under_two_subjects_are_stamped() -> None:
    assert "same-frames" not in plan().stamps
    keys = {clip.id: f"key of {clip.id}" for clip in CLIPS}
    twice = [clip.id for clip in CLIPS if clip.subject == CLIPS[0].subject][:2]
    assert "same-frames" not in plan(keys={**keys, twice[1]: keys[twice[0]]}).stamps  # of one subject
    other = next(clip.id for clip in CLIPS if clip.subject != CLIPS[0].subject)
    assert "same-frames" in plan(keys={**keys, other: keys[CLIPS[0].id]}).stamps


def test_a_class_that_one_fold_tests_alone_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    plan()
    assert not caplog.records
    one = CLIPS[0].subject
    clips = tuple(replace(c, label=2 if c.subject == one and c.label == 2 else c.label % 2) for c in CLIPS)
    manifest, cfg = Manifest("toy", ("a", "b", "c"), clips), toy.config()
    build_plan(cfg, manifest, resolve(cfg.model), KEYS, ())
    assert f"all clips of the class 'c' are in the test of the fold {CLIPS[0].subject_key}" in caplog.text
    assert len(caplog.records) == 1 and f"  c: {CLIPS[0].subject_key}" in check_report(manifest)


def digests(p: Plan) -> list[str]:
    return [job.digest for job in p.jobs]


@pytest.mark.parametrize(
    "sections",
    [
        {"train": {"epochs": 11}},
        {"train": {"augment": ["mirror"]}},
        {"train": {"augment": [{"name": "shift", "px": 3}]}},
        {"train": {"loss": "focal"}},
        {"train": {"threads": 2}},
        {"train": {"selection": "inner"}},
        {"train": {"schedule": "step"}},
        {"model": {"name": "atscnn", "size": 16, "hidden": 17}},
        {"inputs": {"standardise": True}},
        {"evaluation": {"permute_labels": 1}},
        {"cluster": {"workers_per_fold": 2}},
        {"cluster": {"gpus_per_fold": 0.5}},
        {"seeds": (1,)},
    ],
    ids=str,
)
def test_what_can_change_the_numbers_changes_every_fold(sections: dict[str, Any]) -> None:
    if "seeds" in sections:
        changed = plan(toy.config().model_copy(update=sections))
    elif "model" in sections:
        changed = plan(Config.model_validate({**toy.config().model_dump(), **sections}))
    else:
        changed = plan(**sections)
    assert not set(digests(plan())) & set(digests(changed))


@pytest.mark.parametrize(
    "sections",
    [
        {"cluster": {"in_flight": 1, "retries": 0, "workers_per_fold": 1, "checkpoint_after": 1.0}},
        {"tracking": {"enabled": False}},
        {"evaluation": {"bootstrap": 100}},
        {"train": {"inner_folds": 4, "oracle": "global_epoch"}},  # idle under selection: fixed
        {"train": {"step_epochs": 2, "step_factor": 0.5}},  # idle under schedule: constant
        {"train": {"loss": "distmer.training.losses:ce"}},  # one thing by its other name
        {"data": {"root": "/elsewhere"}},
    ],
    ids=str,
)
def test_what_cannot_change_the_numbers_changes_none(sections: dict[str, Any]) -> None:
    assert digests(plan()) == digests(plan(**sections))


def test_a_default_written_out_is_the_default() -> None:
    spelled = toy.config().model_dump()
    spelled["model"]["activation"] = "selu"
    assert digests(plan()) == digests(plan(Config.model_validate(spelled)))


def test_a_metric_that_every_run_has_and_notes_are_no_part_of_a_runs_identity() -> None:
    plain = plan()
    for metrics in (["uar"], ["uf1", "distmer.evaluation.named:uar"]):
        assert plan(evaluation={"metrics": metrics}).digest == plain.digest
    assert plan(evaluation={"metrics": ["accuracy"]}).digest != plain.digest
    notes = {CLIPS[0].id: "2 faces found in 1.png, the best-scoring one is used"}
    noted = build_plan(plain.config, plain.manifest, plain.model, KEYS, (), notes)
    assert noted.digest == plain.digest and noted.notes == notes


def test_a_clips_features_are_part_of_every_fold_that_uses_it_and_a_lost_clip_is_counted() -> None:
    other = {**KEYS, CLIPS[0].id: "mended"}
    # in LOSO every fold trains on it or tests it
    assert not set(digests(plan())) & set(digests(plan(keys=other)))
    lost = plan(unusable=(ClipFailure(CLIPS[0].id, "no face"),))
    assert len(lost.clips) == len(CLIPS) - 1
    assert lost.manifest.clips_expected == len(CLIPS)
    assert all(CLIPS[0].id not in (*f.train, *f.test) for f in lost.folds)
    assert plan().digest != lost.digest


def test_seeds_multiply_jobs_and_nothing_else() -> None:
    cfg = toy.config().model_copy(update={"seeds": (0, 5)})
    both = plan(cfg)
    assert len(both.jobs) == 2 * len(both.folds) == 8
    assert digests(both)[:4] == digests(plan())  # a seed added trains only its own folds


def test_classical_models_know_no_epochs_and_no_oracle() -> None:
    one, other = toy.config("linear"), toy.config("linear", train={"epochs": 3, "selection": "oracle"})
    assert digests(plan(one)) == digests(plan(other))
    assert plan(other).stamps == ()
    assert plan(other).selection == "fixed"


def test_stamps_name_what_a_reader_must_know() -> None:
    assert plan(train={"selection": "oracle"}).stamps == ("oracle:per_subject",)
    assert plan(evaluation={"permute_labels": 3}).stamps == ("labels-permuted",)


def test_one_class_is_bad_input() -> None:
    unusable = tuple(ClipFailure(c.id, "gone") for c in CLIPS if c.label != 0)
    with pytest.raises(BadInput, match="show one class only"):
        plan(unusable=unusable)


def test_what_is_idle_for_a_model_or_a_scale_is_no_part_of_identity() -> None:
    linear = plan(toy.config("linear"))
    assert digests(linear) == digests(
        plan(toy.config("linear", train={"threads": 2}, cluster={"workers_per_fold": 2}))
    )
    unscaled = plan(inputs={"normalise": "none"})
    assert digests(unscaled) == digests(plan(inputs={"normalise": "none", "flow_scale": 3.0}))
    assert not set(digests(plan())) & set(digests(plan(inputs={"flow_scale": 3.0})))


def test_runs_that_read_differently_have_folders_of_their_own() -> None:
    cfg = toy.config()
    names, expected = ("x", "y", "z"), {"toy": {"a": 99, "b": 0, "c": 0}}
    manifests = [
        Manifest("toy", ("a", "b", "c"), tuple(CLIPS)),
        Manifest("other", ("a", "b", "c"), tuple(CLIPS)),
        Manifest("toy", names, tuple(CLIPS)),
        Manifest("toy", ("a", "b", "c"), tuple(CLIPS), expected=expected),
    ]
    plans = [build_plan(cfg, manifest, resolve(cfg.model), KEYS, ()) for manifest in manifests]
    assert len({p.digest for p in plans}) == 4
    assert len({tuple(digests(p)) for p in plans}) == 1  # and share every fold
