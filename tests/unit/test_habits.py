"""The price list of dishonest habits: each habit does what its name says, its price is what arithmetic says,
and none of its numbers can be taken for an honest one."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from distmer.config import Config, EvaluationConfig, Named
from distmer.evaluation.metrics import scores
from distmer.evaluation.named import Metric, chosen
from distmer.experiment.plan import Plan, build_plan
from distmer.experiment.result import at_epoch
from distmer.habits import pricing
from distmer.habits.config import Case, HabitsConfig, expand
from distmer.habits.prices import (
    Price,
    Reported,
    best_seed,
    counts,
    mean_over_folds,
    mean_over_seeds,
    price,
)
from distmer.habits.pricing import Pricing
from distmer.habits.trainings import Splits, Trainings
from distmer.models import resolve
from distmer.training.fit import as_predictions, fit_fold
from distmer.training.fold_inputs import Inputs
from distmer.types import BadInput, Clip, FoldResult, Manifest, Predictions, SubjectKey
from harness import toy
from tests.saying import Say, home, on_maps

CFG = EvaluationConfig(bootstrap=500)
UAR, UF1 = chosen((), 3)


def plan_of(config: Config, clips: list[Clip]) -> Plan:
    manifest = Manifest("toy", ("negative", "positive", "surprise"), tuple(clips))
    return build_plan(config, manifest, resolve(config.model), keys_of(clips), ())


def keys_of(clips: list[Clip]) -> dict[str, str]:
    return {clip.id: f"key of {clip.id}" for clip in clips}


def trained_on(base: Inputs) -> Callable[[Trainings, str], list[FoldResult]]:
    return lambda own, what: [fit_fold(job, own.inputs(base)) for job in own.jobs]


def recognised(subjects: int = 9, each: int = 4) -> tuple[list[Clip], Inputs]:
    """Clips that show who is in them and nothing else, each person being of one class."""
    clips = [replace(clip, label=int(clip.subject[1:]) % 3) for clip in toy.clips(subjects, each)]
    rng = np.random.default_rng(3)
    face = {clip.subject: rng.normal(size=(3, toy.SIZE, toy.SIZE)) for clip in clips}
    x_NCHW = np.stack([face[clip.subject] + rng.normal(scale=0.2, size=(3, 16, 16)) for clip in clips])
    ids = tuple(clip.id for clip in clips)
    return clips, Inputs(ids, ("u", "v", "strain"), "fixed", x_NCHW.astype(np.float32))


def test_clip_wise_folds_recognise_the_person_and_honest_ones_cannot() -> None:
    clips, base = recognised()
    config = toy.config("linear")
    plan, fit = plan_of(config, clips), trained_on(base)
    splits = Splits(plan, keys_of(clips))
    honest = splits.loso(config, (0,))
    assert tuple(job.digest for job in honest.jobs) == tuple(job.digest for job in plan.jobs)
    dishonest = splits.clip_wise(config, (0,), 6, 0)
    tested = Counter(dishonest.real[clip] for job in dishonest.jobs for clip in job.fold.test)
    assert tested == Counter(dict.fromkeys(base.clip_ids, 1))  # each clip once
    job = dishonest.jobs[0]
    sides = [{SubjectKey.of(dishonest.real[c]) for c in side} for side in (job.fold.train, job.fold.test)]
    assert sides[0] & sides[1]
    scored = [own.predictions(fit(own, "")) for own in (honest, dishonest)]
    of_loso, of_clips = (scores(p.y_true_N, p.y_pred_N, 3).uar for p in scored)
    assert of_loso < 0.5 and of_clips == 1.0
    assert {SubjectKey.of(clip) for clip in scored[1].clip_ids} == {clip.subject_key for clip in clips}


def test_oversampling_before_the_split_balances_and_puts_copies_on_both_sides() -> None:
    clips = [clip for clip in toy.clips(6, 5) if clip.label == 0 or clip.name == "c0"]
    config = toy.config("linear")
    plan = plan_of(config, clips)
    own = Splits(plan, keys_of(clips)).oversampled(config, (0,), 5, 0)
    once = [clip for job in own.jobs for clip in job.fold.test]
    classes = Counter(plan.labels[own.real[clip]] for clip in once)
    assert len(set(classes.values())) == 1 and set(own.real.values()) == set(plan.labels)
    job = own.jobs[0]
    both = {own.real[c] for c in job.fold.train} & {own.real[c] for c in job.fold.test}
    assert both  # the very same clip


def test_normalising_over_all_clips_uses_the_held_out_ones_under_an_identity_of_its_own() -> None:
    clips = toy.clips(4, 5)
    base = toy.inputs(clips)
    config = toy.config("linear")
    splits = Splits(plan_of(config, clips), keys_of(clips))
    own = splits.over_all_clips(config, (0,))
    x_NCHW = own.inputs(base).x_NCHW
    assert np.allclose(x_NCHW.mean(axis=(0, 2, 3)), 0, atol=1e-5)
    assert np.allclose(x_NCHW.std(axis=(0, 2, 3)), 1, atol=1e-4)
    honest = {
        job.digest for of in (splits.loso(config, (0,)), splits.standardised(config, (0,))) for job in of.jobs
    }
    others = [split(config, (0,), 5, 0) for split in (splits.clip_wise, splits.oversampled)]
    for made in (own, *others):
        assert honest.isdisjoint(job.digest for job in made.jobs)


def test_looking_at_every_epoch_ends_at_the_honest_last_one() -> None:
    clips = toy.clips(4, 6)
    config = toy.config("atscnn", train={"epochs": 6})
    plan, fit = plan_of(config, clips), trained_on(toy.inputs(clips, noise=2.0))
    splits = Splits(plan, keys_of(clips))
    honest = fit(splits.loso(config, (0,)), "")
    looked = fit(splits.every_epoch(config, (0,)), "")
    for one, other in zip(honest, looked, strict=True):
        assert np.array_equal(one.predictions.prob_NK, at_epoch(other, -1).predictions.prob_NK)
    k = len(plan.classes)

    def right(folds: list[FoldResult]) -> int:
        return sum(int((f.predictions.y_true_N == f.predictions.y_pred_N).sum()) for f in folds)

    by_subject = [at_epoch(fold, pricing.most_accurate(fold)) for fold in looked]
    for epoch in range(6):  # no common epoch has more right than each fold's own best
        assert right([at_epoch(fold, epoch) for fold in looked]) <= right(by_subject)
    common = Predictions.concat([f.predictions for f in pricing.common_epoch(looked, UF1)])
    best = max(
        scores(p.y_true_N, p.y_pred_N, k).uf1
        for p in (Predictions.concat([at_epoch(fold, e).predictions for fold in looked]) for e in range(6))
    )
    assert scores(common.y_true_N, common.y_pred_N, k).uf1 == pytest.approx(best)


def predictions(rows: list[tuple[str, int, int, int]]) -> Predictions:
    """(subject, truth, answer, seed) a row."""
    ids = tuple(f"toy/{subject}/c{n}" for n, (subject, *_) in enumerate(rows))
    truth, answer, seed = (np.array([row[i] for row in rows]) for i in (1, 2, 3))
    prob_NK = np.eye(3)[answer]
    return Predictions(ids, truth, answer, prob_NK, tuple(row[0] for row in rows), seed)


def priced(score: Callable[[Metric], Any], metric: Metric, rows: list[tuple[str, int, int, int]]) -> Any:
    own = predictions(rows)
    subjects = sorted(set(own.subjects))
    honest = Reported(mean_over_seeds(UF1), counts(own, subjects, 3))
    return price("m", "h", "UF1", honest, replace(honest, score=score(metric)), CFG)


def test_the_price_of_a_way_of_reporting_is_what_arithmetic_says() -> None:
    # always "negative": UF1 of one class in three, and as many subjects with this class alone as not
    rows = [(f"s{s}", int(s > 3), 0, 0) for s in range(6) for _ in range(2)]
    accuracy, weighted = chosen((Named(name="accuracy"), Named(name="weighted_f1")), 3)[2:]
    f1 = 2 * 8 / (2 * 8 + 4)
    by_fold = priced(mean_over_folds, UF1, rows)
    assert by_fold.honest == pytest.approx(f1 / 3)
    assert by_fold.feigned == pytest.approx(4 / 6)  # 1 for each of the four, 0 for the two others
    assert priced(mean_over_seeds, accuracy, rows).feigned == pytest.approx(8 / 12)
    assert priced(mean_over_seeds, weighted, rows).feigned == pytest.approx(f1 * 8 / 12)
    assert by_fold.interval.lo < by_fold.gain < by_fold.interval.hi
    assert by_fold.stamp == "habit:h"


def test_the_best_seed_is_never_below_the_mean_and_equal_seeds_gain_nothing() -> None:
    rng = np.random.default_rng(0)
    rows = [
        (f"s{s}", t, int(rng.integers(3)), seed) for seed in range(5) for s in range(6) for t in (0, 1, 2)
    ]
    gained = priced(best_seed, UF1, rows)
    assert gained.gain > 0 and gained.interval.lo >= 0
    same = [(subject, truth, truth, seed) for subject, truth, _, seed in rows]
    assert (priced(best_seed, UF1, same).gain, priced(best_seed, UF1, same).interval.hi) == (0, 0)


def test_dropping_hard_clips_drops_those_of_least_probability() -> None:
    own = predictions([("s0", 0, 0, 0), ("s1", 1, 0, 0), ("s2", 2, 2, 0), ("s3", 1, 1, 0)])
    easy = pricing.without_hard(own, 0.25)
    assert len(easy) == 3 and own.clip_ids[1] not in easy.clip_ids


def test_tuning_is_priced_against_a_choice_that_has_not_seen_the_fold() -> None:
    clips, _ = recognised(6, 4)
    good, bad = (Config.model_validate({"model": {"name": "linear", "size": 16, "c": c}}) for c in (0.1, 1.0))
    plan = plan_of(good, clips)
    asked: list[Trainings] = []

    def planted(own: Trainings, what: str) -> list[FoldResult]:
        """Held-out subjects are answered for rightly under one setting, inner ones under the other."""
        asked.append(own)
        within = " inner-" in own.jobs[0].fold.id
        right = (own.config == good) != within
        folds: list[FoldResult] = []
        for job in own.jobs:
            y_true = np.array([job.labels[clip] for clip in job.fold.test])
            prob_NK = np.eye(3)[y_true if right else (y_true + 1) % 3]
            made = as_predictions(job.fold.test, job.labels, prob_NK, job.fold.id, job.seed)
            folds.append(FoldResult(job.digest, job.fold.id, job.seed, made, 0, {}, 1.0, "cpu"))
        return folds

    case = Case("linear", good, (good, bad))
    every = Pricing(case, _section(), Splits(plan, keys_of(clips)), planted).prices()
    found = [one for one in every if isinstance(one, Price) and one.habit.startswith(pricing.TUNED)]
    assert [(one.score, one.feigned, one.honest) for one in found] == [("UF1", 1.0, 0.0), ("UAR", 1.0, 0.0)]
    inner = [own for own in asked if " inner-" in own.jobs[0].fold.id]
    assert len(inner) == 2
    for own in inner:
        for job in own.jobs:
            outer = job.fold.id.rpartition(" ")[0]
            assert not any(str(SubjectKey.of(c)) == outer for c in (*job.fold.train, *job.fold.test))


def _section() -> HabitsConfig:
    model = {"settings": {"model.name": "linear"}, "tune": [{"model.c": 0.1}, {"model.c": 1}]}
    return HabitsConfig.model_validate(
        {"models": {"linear": model}, "seeds": 2, "retrained": 1, "clip_folds": 3, "inner_folds": 2}
    )


def written(tmp_path: Path, **changes: Any) -> Path:
    tree: dict[str, Any] = {
        "train": {"epochs": 1},
        "evaluation": {"bootstrap": 100},
        "habits": {
            "seeds": 2,
            "retrained": 1,
            "clip_folds": 3,
            "inner_folds": 2,
            "models": {
                "linear": {
                    "settings": {"model.name": "linear"},
                    "tune": [{"model.c": 0.001}, {"model.c": 0.1}],
                },
                "ststnet": {
                    "settings": {"model.name": "ststnet"},
                    "tune": [{"train.lr": 0.001}, {"train.lr": 0.01}],
                },
            },
        },
        **changes,
    }
    path = tmp_path / "habits.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def test_the_command_prices_every_habit_and_leaves_nothing_that_looks_like_a_run(
    say: Say, maps: Path, tmp_path: Path
) -> None:
    sets = [part for one in on_maps(maps) for part in ("--set", one)]
    planned = say("plan", str(written(tmp_path)), *sets).out.splitlines()
    to_train = [int(line.split()[-3]) for line in planned if re.match(r" *(linear|ststnet): ", line)]
    said = say("habits", str(written(tmp_path)), "--local", *sets)
    assert said.code == 0, said.out + said.err
    assert sum(to_train) == len(list((home(tmp_path) / "ledger").rglob("*.parquet")))
    assert "nothing to train" in say("plan", str(written(tmp_path)), *sets).out
    assert "NOT A HEADLINE" in said.out
    assert sorted(p.name for p in home(tmp_path).iterdir()) == ["features", "habits", "ledger"]
    (folder,) = (home(tmp_path) / "habits").iterdir()
    rows = list(csv.DictReader((folder / "habits.csv").open()))
    assert all(row["stamp"] == f"habit:{row['habit']}" for row in rows)
    of = {model: {row["habit"] for row in rows if row["model"] == model} for model in ("linear", "ststnet")}
    of_networks = {pricing.EPOCH_BY_SUBJECT, pricing.EPOCH_BY_FOLDS, f"{pricing.BEST_SEED} of 2"}
    assert of["ststnet"] - of["linear"] == of_networks  # logistic regression draws nothing
    assert len(of["linear"]) == 8
    for row in rows:
        gain = float(row["reported"]) - float(row["honest"])
        assert float(row["gain"]) == pytest.approx(gain, abs=2e-6)
    again = say("habits", str(written(tmp_path)), "--local", *sets)
    assert again.out == said.out
    # its own settings make the same list, and other settings one in another folder
    assert say("habits", str(folder / "habits.yaml"), "--local").out == said.out
    kept = (folder / "habits.csv").read_text()
    for other in ("inputs.symmetric=true", "evaluation.bootstrap=200", "evaluation.confidence=0.9"):
        assert str(folder) not in say("habits", str(written(tmp_path)), "--local", *sets, "--set", other).out
    assert (folder / "habits.csv").read_text() == kept
    # an honest run afterwards gets the honest score
    more = ["--set", "model.name=linear", "--set", "tracking.enabled=false"]
    run = json.loads(say("run", "--local", "--json", *sets, *more).out.splitlines()[-1])
    wanted = ("linear", pricing.CLIP_WISE, "UF1")
    clip_wise = next(row for row in rows if (row["model"], row["habit"], row["score"]) == wanted)
    assert run["uf1"] == pytest.approx(float(clip_wise["honest"]), abs=1e-6) and not run["stamps"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"inputs": {"standardise": True}}, "inputs.standardise is priced as a habit of its own"),
        ({"evaluation": {"folds": "group_kfold"}}, "priced against leave-one-subject-out"),
        ({"train": {"selection": "oracle"}}, "train.selection is oracle, which is one of the habits"),
    ],
)
def test_a_base_that_is_no_honest_one_is_refused(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    tree = yaml.safe_load(written(tmp_path, **changes).read_text())
    with pytest.raises(BadInput, match=words):
        expand(tree, "h.yaml")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("model.name=svm", "model.name has no effect"),
        ("habits.models.linear.settings.model.nam=svm", "model.nam is not a setting; did you mean 'name'"),
        ("seeds=[0, 1]", "habits.seeds says how many seeds are used"),
        ("evaluation.metrics=[accuracy]", "habits are priced in UAR and UF1"),
        ("habits.models={linear: null, ststnet: null}", "habits.models names no model"),
    ],
)
def test_a_setting_that_a_price_list_does_not_use_is_refused(
    say: Say, tmp_path: Path, setting: str, words: str
) -> None:
    said = say("habits", str(written(tmp_path)), "--local", "--set", setting)
    assert said.code == 2 and words in said.sentence


def test_a_price_list_is_no_configuration_of_a_run(say: Say, tmp_path: Path) -> None:
    said = say("run", str(written(tmp_path)), "--local")
    assert said.code == 2 and "it prices dishonest habits; give it to `distmer habits`" in said.sentence
    tree = yaml.safe_load(written(tmp_path).read_text())
    tree["habits"]["models"]["linear"]["settings"]["data.protocol"] = "casme"
    with pytest.raises(BadInput, match=r"data\.protocol cannot differ here"):
        expand(tree, "h.yaml")
