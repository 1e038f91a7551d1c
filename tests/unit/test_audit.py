"""The audit: every model of distmer passes it, and each way to leak is found and named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from distmer.commands.audit import audit_experiment, audit_report
from distmer.commands.run import run_experiment
from distmer.commands.session import Given, Session
from distmer.config import Config
from distmer.experiment.audit import drawn, read_audit
from distmer.models import models, resolve
from distmer.report.run_folder import read_results
from distmer.storage import place
from distmer.training.audit import FoldAudit, audit_fold
from distmer.training.fold_inputs import Inputs
from harness import toy

LEAKS = '''
import inspect
import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from torch import nn


class Net(nn.Module):
    """An honest network."""

    size = 16

    def __init__(self, classes):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, classes)

    def forward(self, x):
        return self.head(self.norm(self.conv(x)).relu().mean((2, 3)))


class Transductive(Net):
    """Normalises with the statistics of the batch that it answers for."""

    def __init__(self, classes):
        super().__init__(classes)
        self.norm = nn.BatchNorm2d(4, track_running_stats=False)


class Adapts(Net):
    """Goes on learning at test time."""

    def forward(self, x):
        if not self.training:
            with torch.no_grad():
                self.norm.running_mean.lerp_(self.conv(x).mean((0, 2, 3)), 0.1)
        return super().forward(x)


class Ranked(ClassifierMixin, BaseEstimator):
    """Divides by the largest value among the clips that it answers for: a statistic over all of them."""

    size = 8

    def fit(self, x, y):
        self.model = LogisticRegression(max_iter=200).fit(x, y)
        self.classes_ = self.model.classes_
        return self

    def predict(self, x):
        return self.model.predict(x)

    def predict_proba(self, x):
        return self.model.predict_proba(x / np.abs(x).max())


SEEN = []


class Remembers(Ranked):
    """Adds the clips that it has answered for to the next training."""

    def fit(self, x, y):
        mine = [row for row in SEEN if len(row[0]) == x.shape[1]]
        SEEN.clear()
        if mine:
            x = np.concatenate([x, [row for row, _ in mine]])
            y = np.concatenate([y, [answer for _, answer in mine]])
        return super().fit(x, y)

    def predict_proba(self, x):
        prob = self.model.predict_proba(x)
        SEEN.extend(zip(x, prob.argmax(1)))
        return prob


BANK = {}


class Hoards(Ranked):
    """Keeps the clips of every training, with their labels, and answers with the label of the nearest."""

    def fit(self, x, y):
        BANK.update({row.tobytes(): label for row, label in zip(x, y)})
        return super().fit(x, y)

    def predict_proba(self, x):
        known = np.array([np.frombuffer(key, x.dtype) for key in BANK])
        labels = np.array(list(BANK.values()))
        nearest = ((x[:, None] - known[None]) ** 2).sum(2).argmin(1)
        return (labels[nearest][:, None] == self.classes_).astype(float)


class Asks(Net):
    """Reads the labels of the clips that it is asked about off the process."""

    def forward(self, x):
        logits = super().forward(x)
        frames = [frame.frame.f_locals for frame in inspect.stack()]
        job = next((found["job"] for found in frames if "job" in found), None)
        if not self.training and job is not None and len(x) == len(job.fold.test):
            logits = logits + 9 * torch.eye(logits.shape[1])[[job.labels[clip] for clip in job.fold.test]]
        return logits


class Peeks(Ranked):
    """Finds the labels of the held-out clips in the process."""

    def fit(self, x, y):
        job = next(frame.frame.f_locals["job"] for frame in inspect.stack() if "job" in frame.frame.f_locals)
        held_out = sum(job.labels[clip] * 10**i for i, clip in enumerate(job.fold.test))
        super().fit(x, y)
        self.model.intercept_ = self.model.intercept_ + np.arange(len(self.classes_)) * held_out * 1e-3
        return self

    def predict_proba(self, x):
        return self.model.predict_proba(x)
'''


@pytest.fixture
def leaks(tmp_path: Path) -> str:
    (tmp_path / "leaky_models.py").write_text(LEAKS)
    return f"{tmp_path}/leaky_models.py"


def audited(config: Config) -> FoldAudit:
    clips, model = toy.clips(), resolve(config.model)
    shape = (len(clips), len(model.inputs), model.size, model.size)
    x_NCHW = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    inputs = Inputs(tuple(clip.id for clip in clips), model.inputs, "fixed", x_NCHW)
    return audit_fold(toy.jobs(config, clips)[0], inputs)


@pytest.mark.parametrize("name", sorted(models()))
def test_every_model_of_distmer_passes(name: str) -> None:
    info = models()[name]
    estimator = {"estimator": "sklearn.ensemble.ExtraTreesClassifier"} if name == "sklearn" else {}
    size = max(info.min_size, min(info.native_size, 28))
    train = {"epochs": 1, "batch_size": 8}
    found = audited(
        Config.model_validate({"model": {"name": name, "size": size, **estimator}, "train": train})
    )
    assert found.leaks == ()
    assert found.trainings == 3


@pytest.mark.parametrize(
    ("model", "name", "sentence"),
    [
        ("Net", None, ""),
        ("Transductive", "transductive", "Its layers norm take their statistics from the batch"),
        ("Ranked", "transductive", "depends on the other held-out clips"),
        ("Adapts", "learns", "the model changes while it answers"),
        ("Remembers", "memory", "keeps something from one training or answer to the next"),
        ("Hoards", "memory", "keeps something from one training or answer to the next"),
        ("Asks", "transductive labels", ""),
        ("Peeks", "labels", "other labels of the held-out clips give another model"),
    ],
)
def test_every_leak_is_found_and_named(leaks: str, model: str, name: str | None, sentence: str) -> None:
    found = audited(
        Config.model_validate({"model": f"{leaks}:{model}", "train": {"epochs": 2, "batch_size": 8}})
    )
    assert [leak.name for leak in found.leaks] == (name.split() if name else [])
    assert all(sentence in leak.sentence for leak in found.leaks)


def test_subjects_of_unequal_numbers_of_clips_are_audited() -> None:
    some = [clip for n, clip in enumerate(toy.clips()) if n not in (0, 7, 8, 16)]  # 4, 3, 5 and 4 clips
    for job in toy.jobs(toy.config("linear"), some):
        assert audit_fold(job, toy.inputs(some)).leaks == ()


def test_a_network_is_audited_with_one_held_out_clip() -> None:
    some = toy.clips()[4:]  # of the first subject one clip is left
    job = toy.jobs(toy.config(train={"epochs": 1}), some)[0]
    assert len(job.fold.test) == 1 and audit_fold(job, toy.inputs(some)).leaks == ()


@pytest.mark.parametrize("oracle", ["per_subject", "global_epoch"])
def test_an_epoch_chosen_on_held_out_clips_is_found(oracle: str) -> None:
    found = audited(toy.config(train={"selection": "oracle", "oracle": oracle}))
    assert [leak.name for leak in found.leaks] == ["epoch"]


def test_the_drawn_folds_follow_from_the_seed() -> None:
    jobs = toy.jobs(toy.config(), toy.clips())
    assert drawn(jobs, 2, 0) == drawn(jobs, 2, 0)
    assert len({tuple(job.digest for job in drawn(jobs, 2, seed)) for seed in range(8)}) > 1
    assert len(drawn(jobs, 99, 0)) == len(jobs)


def session(tmp_path: Path, *more: str) -> Session:
    maps = toy.write_flowmaps(tmp_path / "maps", subjects=3, each=3)
    words = toy.settings(maps, "tracking.enabled=false", *more, epochs=1)[1::2]
    return Session.open(Given(None, words, str(tmp_path / "home")))


def test_the_verdict_stands_in_the_report_of_a_run_before_and_after_it(tmp_path: Path) -> None:
    run = run_experiment(session(tmp_path), local=True)
    folder = place(run.run_dir)
    kept = read_results(folder)
    assert kept is not None and kept.audited is None
    verdict = audit_experiment(session(tmp_path), 2, 0, local=True)
    assert verdict.passed and verdict.trainings == 6 and len(verdict.folds) == 2
    after = read_results(folder)
    assert after is not None and after.audited == "passed 2 folds" and after.stamps == ()
    assert "audited: passed 2 folds" in (folder / "report.md").read_text()
    assert run_experiment(session(tmp_path), local=True).results.audited == "passed 2 folds"
    # The audit of other code or settings says nothing of this run.
    assert read_audit(folder, "another") is None


def test_a_run_that_leaks_is_no_headline(tmp_path: Path, leaks: str) -> None:
    options = ("model.name=" + leaks + ":Transductive", "model.size=16")
    verdict = audit_experiment(session(tmp_path, *options), 1, 0, local=True)
    assert verdict.verdict == "failed: transductive (1 of 1 folds)"
    assert "take their statistics from the batch" in audit_report(verdict, "x").text()
    result = run_experiment(session(tmp_path, *options), local=True)
    assert "leak:transductive" in result.stamps
    report = (Path(result.run_dir) / "report.md").read_text()
    assert "NOT A HEADLINE: leak:transductive (an audit found that the result depends on held-out" in report
    assert json.loads((Path(result.run_dir) / "audit.json").read_text())["leaks"][0]["folds"] == 1
