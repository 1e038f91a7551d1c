"""The weights of folds, kept beside the ledger: they answer as the fold did, and change nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distmer.config import Config
from distmer.evaluation.folds import make_folds
from distmer.experiment.ledger import Ledger
from distmer.experiment.local import attempt
from distmer.experiment.plan import fold_jobs
from distmer.models import resolve
from distmer.storage import files, place
from distmer.training.fit import fit_fold
from distmer.training.runtime import repeatable
from distmer.training.tryout import try_out
from distmer.training.weights import ARRAYS, unpack_fold
from distmer.types import BadInput, FoldJob, FoldResult
from harness import toy
from tests.saying import Say

KEEP = ("--set", "train.keep_weights=true")
AVERAGED: dict[str, Any] = {"train": {"ensemble": 2}, "inputs": {"symmetric": True, "standardise": True}}


def jobs(config: Config) -> list[FoldJob]:
    clips = toy.clips()
    labels, keys = {c.id: c.label for c in clips}, {c.id: c.id for c in clips}
    folds = make_folds(clips, config.evaluation)
    return list(fold_jobs(config, resolve(config.model), folds, labels, keys, config.seeds, 3))


def keeping(config: Config) -> Config:
    return config.model_copy(update={"train": config.train.model_copy(update={"keep_weights": True})})


@pytest.mark.parametrize("model", ["atscnn", "linear"])
def test_a_fold_is_the_same_fold_whether_its_weights_are_kept_or_not(model: str) -> None:
    plain, kept = jobs(toy.config(model)), jobs(keeping(toy.config(model)))
    assert [job.digest for job in plain] == [job.digest for job in kept]
    assert [job.spec for job in plain] == [job.spec for job in kept]
    assert {job.keep_weights for job in kept} == {True}


@pytest.mark.parametrize(
    ("model", "more", "where"),
    [
        ("atscnn", {}, "s3"),
        ("atscnn", AVERAGED, "disk"),
        ("linear", {}, "disk"),
        ("svm", {"inputs": AVERAGED["inputs"]}, "s3"),
    ],
)
def test_kept_weights_answer_as_the_fold_did_to_the_bit(
    model: str, more: dict[str, Any], where: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    ledger = Ledger(place(request.getfixturevalue("remote")) if where == "s3" else tmp_path)
    inputs = toy.inputs(toy.clips())
    job = jobs(keeping(toy.config(model, **more)))[0]
    trained = attempt(job, inputs)
    assert isinstance(trained, FoldResult), trained
    assert np.array_equal(trained.predictions.prob_NK, fit_fold(job, inputs).predictions.prob_NK)
    stored = ledger.put(trained)
    assert not stored.weights  # they lie in the ledger, and not in the memory of the run
    found = ledger.get(job.digest)
    assert found is not None and found.kept == stored.kept
    again = unpack_fold(job, ledger.weights(found), found.epochs)
    with repeatable(1):
        answers_NK = again.predict(inputs.take(job.fold.test))
    assert np.array_equal(answers_NK, trained.predictions.prob_NK)


def test_weights_that_are_damaged_or_gone_are_refused_in_one_sentence(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    trained = attempt(jobs(keeping(toy.config()))[0], toy.inputs(toy.clips()))
    assert isinstance(trained, FoldResult)
    stored = ledger.put(trained)
    (path,) = tmp_path.rglob(f"*.{ARRAYS}")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(BadInput, match=r"arrays\.safetensors: these weights are damaged .* run again"):
        ledger.weights(stored)
    path.unlink()
    with pytest.raises(BadInput, match=r"arrays\.safetensors: the weights of this fold are not there"):
        ledger.weights(stored)


@pytest.mark.parametrize("model", ["atscnn", "linear"])
def test_folds_without_weights_are_trained_again_to_the_same_numbers(
    model: str, maps: Path, say: Say, tmp_path: Path
) -> None:
    more = ["tracking.enabled=false", "evaluation.bootstrap=100"]
    given = toy.settings(maps, *more, *([] if model == "atscnn" else [f"model.name={model}"]))
    first = say("run", *given, "--local")
    assert first.code == 0, first.err
    ledger = Ledger(place(str(tmp_path / "home" / "ledger")))
    digests = [Path(name).stem for name in files(ledger.folder, ".parquet")]
    before = ledger.known(digests)
    assert not any(result.kept for result in before.values())
    planned = say("plan", *given, *KEEP).out
    assert "4 in the ledger already, 4 to train, 4 of them again, to the same numbers" in planned, planned
    assert say("run", *given, *KEEP, "--local").code == 0
    after = ledger.known(digests)
    assert all(ledger.weights(result) for result in after.values())
    for digest, result in before.items():
        assert np.array_equal(result.predictions.prob_NK, after[digest].predictions.prob_NK)
    assert "0 to train" in say("plan", *given, *KEEP).out
    assert len(list((tmp_path / "home" / "runs").iterdir())) == 1  # it is the same run


@pytest.mark.parametrize("command", ["fit", "audit"])
def test_a_command_that_keeps_no_weights_of_folds_refuses_the_setting(
    command: str, maps: Path, say: Say, tmp_path: Path
) -> None:
    given = toy.settings(maps, "tracking.enabled=false", "model.name=linear")
    refused = say(command, "--local", *given, *KEEP)
    assert refused.code == 2 and "train.keep_weights keeps the weights of the folds" in refused.sentence
    assert refused.sentence.endswith("set it to false.") and not (tmp_path / "home").exists()


def test_a_fold_that_answers_otherwise_keeps_its_answers_and_gets_no_weights(
    maps: Path, say: Say, tmp_path: Path
) -> None:
    more = ["tracking.enabled=false", "evaluation.bootstrap=100", "model.name=linear"]
    given = toy.settings(maps, *more)
    assert say("run", *given, "--local").code == 0
    ledger = Ledger(place(str(tmp_path / "home" / "ledger")))
    digest = Path(next(iter(files(ledger.folder, ".parquet")))).stem
    found = ledger.get(digest)
    assert found is not None
    elsewhere = replace(
        found, predictions=replace(found.predictions, prob_NK=found.predictions.prob_NK[:, ::-1])
    )
    ledger.put(elsewhere)
    said = say("run", *given, *KEEP, "--local")
    assert said.code == 0
    assert any("its weights are not kept" in line and "otherwise" in line for line in said.log), said.log
    after = ledger.get(digest)
    assert after is not None and not after.kept
    assert np.array_equal(after.predictions.prob_NK, elsewhere.predictions.prob_NK)
    assert sum(bool(ledger.known([Path(name).stem])) for name in files(ledger.folder, ".parquet")) == 4


def test_weights_that_cannot_be_kept_are_told_before_anything_is_trained(
    maps: Path, say: Say, tmp_path: Path
) -> None:
    config = toy.config(train={"selection": "oracle", "keep_weights": True})
    with pytest.raises(BadInput, match="leave one of the two out"):
        try_out(resolve(config.model), config.train)
    sweep = toy.sweep_file(tmp_path, maps)
    assert "a sweep keeps no weights" in say("plan", str(sweep), *KEEP).err
