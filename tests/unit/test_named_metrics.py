"""Metrics that a configuration names: what is asked of one, and where its numbers come up."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn import metrics as sk

from distmer.config import EvaluationConfig, FeatureConfig, ModelConfig, Named, TrainConfig
from distmer.evaluation.named import HEADLINE, PUBLISHED, Metric, chosen
from distmer.evaluation.paired import compare
from distmer.experiment.results_file import Results
from distmer.features.methods import try_methods
from distmer.functions import METRIC
from distmer.models import resolve
from distmer.plugins import shipped
from distmer.report.run_folder import read_results
from distmer.report.tables import run_report
from distmer.storage import place
from distmer.tracking.items import Metric as Number
from distmer.tracking.items import score_metrics
from distmer.training.tryout import try_out
from distmer.types import BadInput
from tests import factories
from tests.saying import Say

OWN = '''
import numpy as np


def kappa(confusion_xKK):
    """Cohen's kappa."""
    n_x = confusion_xKK.sum((-2, -1))
    agreed_x = np.trace(confusion_xKK, axis1=-2, axis2=-1) / n_x
    by_chance_x = (confusion_xKK.sum(-1) * confusion_xKK.sum(-2)).sum(-1) / n_x**2
    room_x = 1 - by_chance_x
    return np.where(room_x > 0, (agreed_x - by_chance_x) / np.where(room_x > 0, room_x, 1), 0)


def kappa_of_one(confusion_KK):
    n = confusion_KK.sum()
    by_chance = (confusion_KK.sum(1) * confusion_KK.sum(0)).sum() / n**2
    return 0.0 if by_chance == 1 else (np.trace(confusion_KK) / n - by_chance) / (1 - by_chance)


class Recall:
    """The recall of one class."""

    def __init__(self, of: int = 0):
        self.of = of

    def __call__(self, confusion_xKK):
        return confusion_xKK[..., self.of, self.of] / np.maximum(confusion_xKK[..., self.of, :].sum(-1), 1)


def fbeta(confusion_xKK, beta: float = 1.0):
    hit = np.diagonal(confusion_xKK, axis1=-2, axis2=-1)
    true, said = confusion_xKK.sum(-1), confusion_xKK.sum(-2)
    return ((1 + beta**2) * hit / np.maximum(beta**2 * true + said, 1)).mean(-1)


def percent(confusion_xKK):
    return 100 * kappa(confusion_xKK)


def undefined(confusion_xKK):
    hit = np.diagonal(confusion_xKK, axis1=-2, axis2=-1)
    return (hit / confusion_xKK.sum(-1)).mean(-1)


def each_class(confusion_xKK):
    return np.diagonal(confusion_xKK, axis1=-2, axis2=-1) / np.maximum(confusion_xKK.sum(-1), 1)


def fifth(confusion_xKK):
    return confusion_xKK[..., 4, 4] / np.maximum(confusion_xKK.sum((-2, -1)), 1)


def no_default(confusion_xKK, weight):
    return 0
'''


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "own_metrics.py").write_text(OWN)
    (tmp_path / "own_namesake.py").write_text("from own_metrics import kappa as mcc\n")
    sys.path.append(str(tmp_path))
    return tmp_path


def further(*named: object, classes: int = 3) -> tuple[Metric, ...]:
    cfg = EvaluationConfig.model_validate({"metrics": named})
    return chosen(cfg.metrics, classes)[len(HEADLINE) :]


@pytest.mark.parametrize("named", PUBLISHED, ids=lambda named: named.name)
def test_every_metric_of_ours_takes_any_leading_axes_and_stays_within_one(named: Named) -> None:
    metric = next(m for m in chosen(PUBLISHED, 4) if m.name == named.name)
    confusion_ABKK = np.random.default_rng(0).integers(0, 3, (6, 5, 4, 4))
    confusion_ABKK[0] = 0
    confusion_ABKK[1, :, 1:] = 0
    for in_fold in (False, True):
        score_AB = metric(confusion_ABKK, in_fold=in_fold)
        assert score_AB.shape == (6, 5) and (score_AB[0] == 0).all()
        alone = [[float(metric(c_KK, in_fold=in_fold)) for c_KK in c_BKK] for c_BKK in confusion_ABKK]
        np.testing.assert_array_equal(score_AB, alone)
        assert np.abs(score_AB).max() <= 1


def test_what_ships_is_what_is_usually_published() -> None:
    assert {named.name for named in PUBLISHED} == set(shipped(METRIC.group))
    assert [metric.title for metric in chosen((), 3)] == ["UAR", "UF1"]
    assert [metric.title for metric in chosen((*HEADLINE, Named(name="mcc")), 3)] == ["UAR", "UF1", "MCC"]


def test_a_function_of_one_matrix_scores_stacks_as_one_of_any_axes_does(own: Path) -> None:
    stacks, one = further("own_metrics:kappa", "own_metrics:kappa_of_one")
    assert (stacks.one_by_one, one.one_by_one) == (False, True)
    confusion_ABKK = np.random.default_rng(1).integers(0, 3, (20, 30, 3, 3))
    np.testing.assert_allclose(stacks(confusion_ABKK), one(confusion_ABKK), atol=1e-12)
    true = np.repeat(np.arange(3), confusion_ABKK[0, 0].sum(1))
    said = np.concatenate([np.repeat(np.arange(3), row) for row in confusion_ABKK[0, 0]])
    assert stacks(confusion_ABKK)[0, 0] == pytest.approx(sk.cohen_kappa_score(true, said))


def test_options_are_part_of_the_name(own: Path) -> None:
    metrics = further(
        "own_metrics:fbeta",
        {"name": "own_metrics:fbeta", "beta": 2},
        {"name": "own_metrics:Recall", "of": 1},
    )
    assert [metric.name for metric in metrics] == ["fbeta", "fbeta beta=2", "Recall of=1"]
    confusion_KK = np.array([[3, 1, 0], [0, 2, 2], [1, 0, 1]])
    assert float(metrics[2](confusion_KK)) == 0.5
    assert float(metrics[0](confusion_KK)) == pytest.approx(float(chosen((), 3)[1](confusion_KK)))


@pytest.mark.parametrize(
    ("named", "said"),
    [
        (["mc"], r"unknown metric 'mc'; did you mean 'mcc'\?"),
        (["own_metrics:kapa"], r"has no 'kapa'; did you mean 'kappa'\?"),
        (["own_metrics:no_default"], "its parameter 'weight' has no default"),
        ([{"name": "mcc", "beta": 2}], "evaluation.metrics.beta is not a setting"),
        (["mcc", "own_namesake:mcc"], "two metrics are called 'mcc'"),
        (["mcc", "distmer.evaluation.named:mcc"], "two metrics are called 'mcc'"),
        (["own_metrics:percent"], r"metric percent: its value is -?\d.* return a number from -1 to 1"),
        (["own_metrics:undefined"], "metric undefined: its value is nan for the confusion matrix"),
        (["own_metrics:each_class"], r"it answered with the shape \(\d+, 3\); return one number for each"),
        (["own_metrics:fifth"], r"raised IndexError .*own_metrics.py, line \d+"),
    ],
    ids=str,
)
def test_a_metric_that_cannot_be_used_is_one_sentence(own: Path, named: list[object], said: str) -> None:
    with pytest.raises(BadInput, match=said) as error:
        further(*named)
    assert "\n" not in str(error.value)


def test_the_numbers_of_a_run_are_those_of_its_predictions(own: Path) -> None:
    """Accuracy pooled, in each fold, its spread over seeds, and as MLflow is given it."""
    named = {"metrics": ["accuracy", {"name": "own_metrics:fbeta", "beta": 2}], "bootstrap": 100}
    plan = factories.plan(seeds=(0, 1), evaluation=named)
    result = factories.result(plan)
    results = Results.model_validate(json.loads(json.dumps(result.to_json(), allow_nan=False)))
    assert list(results.metrics) == ["accuracy", "fbeta beta=2"]
    p, found = result.predictions, results.metrics["accuracy"]
    assert p is not None
    right = pd.DataFrame(
        {"hit": p.y_true_N == p.y_pred_N, "seed": p.seed_N, "fold": p.fold_ids, "true": p.y_true_N}
    )
    by_seed = right.groupby("seed").hit.mean()
    assert found.pooled == pytest.approx(by_seed.mean()) and found.pooled_sd == pytest.approx(by_seed.std())
    assert found.foldmean == pytest.approx(right.groupby(["seed", "fold"]).hit.mean().mean())
    assert found.pooled_ci is not None and found.pooled_ci[0] < found.pooled < found.pooled_ci[1]
    # Class 0 is the majority everywhere: a constant predictor answers with it.
    assert found.floors["constant"].pooled == pytest.approx((right.true == 0).mean())
    numbers = {item.name: item.value for item in score_metrics(results.to_json()) if isinstance(item, Number)}
    assert numbers["metrics.accuracy.pooled"] == found.pooled
    assert numbers["metrics.accuracy.pooled.low"] == found.pooled_ci[0]
    assert "metrics.fbeta beta=2.floors.stratified.foldmean" in numbers
    for text in (run_report(results).text(), run_report(results).markdown()):
        assert f"{found.pooled:.4f}" in text and "fbeta beta=2" in text


def test_a_metric_is_in_the_runs_identity_and_in_no_folds(own: Path) -> None:
    def digests(*named: object) -> tuple[str, list[str]]:
        plan = factories.plan(evaluation={"metrics": named, "bootstrap": 100})
        return plan.digest, [job.digest for job in plan.jobs]

    plain, accuracy, kappa = digests(), digests("accuracy"), digests("own_metrics:kappa")
    assert plain[1] == accuracy[1] == kappa[1]
    assert len({plain[0], accuracy[0], kappa[0]}) == 3
    (own / "own_metrics.py").write_text(f"{OWN}\nanother = 1\n")
    del sys.modules["own_metrics"]
    assert digests("own_metrics:kappa")[0] != kappa[0]


def test_further_metrics_are_tested_in_pairs() -> None:
    plan = factories.plan(evaluation={"bootstrap": 100})
    a, b = (
        factories.Predictions.concat([factories.fold(plan, job, skill).predictions for job in plan.jobs])
        for skill in (0.9, 0.1)
    )
    found = compare(a, b, 3, 500, metrics=further("accuracy", "mcc"))
    own = np.mean(a.y_true_N == a.y_pred_N) - np.mean(b.y_true_N == b.y_pred_N)
    assert found.metrics["accuracy"].value == pytest.approx(own)
    assert found.metrics["mcc"].ci.lo < found.metrics["mcc"].value < found.metrics["mcc"].ci.hi
    assert compare(a, a, 3, 100, metrics=further("mcc")).metrics["mcc"].p == 1
    plain = compare(a, b, 3, 500)
    assert (plain.uar_p, plain.uf1_ci) == (found.uar_p, found.uf1_ci)


def test_a_users_metric_from_the_configuration_to_the_paired_test(own: Path, say: Say, maps: Path) -> None:
    """One file beside the configuration: in a run, in `distmer score`, in a comparison of configurations and
    of finished runs."""
    tree = {
        "plugins": ["./own_metrics.py"],
        "data": {"protocol": "flowmaps", "root": str(maps)},
        "inputs": {"normalise": "minmax"},
        "model": {"name": "linear", "size": 8},
        "evaluation": {
            "metrics": ["uar", "mcc", "kappa", "./own_metrics.py:kappa_of_one"],
            "bootstrap": 100,
            "permute_labels": 0,
        },
        "tracking": {"enabled": False},
    }
    (own / "c.yaml").write_text(yaml.safe_dump(tree))
    ran = say("run", str(own / "c.yaml"), "--local", "--json")
    assert ran.code == 0, ran.err
    written = json.loads(ran.out.splitlines()[-1])
    assert list(written["metrics"]) == ["mcc", "kappa", "kappa_of_one"]
    kappa, of_one = (written["metrics"][name] for name in ("kappa", "kappa_of_one"))
    assert abs(kappa["pooled"]) < 1 and kappa["pooled_ci"] == pytest.approx(of_one["pooled_ci"])
    assert (kappa["pooled"], kappa["foldmean"]) == pytest.approx((of_one["pooled"], of_one["foldmean"]))
    kept = read_results(place(written["run_dir"]))
    assert kept is not None and kept.metrics["kappa"].pooled == written["metrics"]["kappa"]["pooled"]
    assert "kappa_of_one" in (Path(written["run_dir"]) / "report.md").read_text()

    table = pd.read_parquet(Path(written["run_dir"]) / "predictions.parquet")
    table = table[["dataset", "subject", "clip_id", "fold", "y_true", "y_pred"]]
    table.to_csv(own / "mine.csv", index=False)
    reference = f"{own}/own_metrics.py:kappa"
    scored = say("score", str(own / "mine.csv"), "--json", "--metric", reference, "--metric", "mcc")
    rows = json.loads(scored.out)["scores"]
    assert [(row["metric"], row["over"]) for row in rows[:4]] == [
        (name, "pooled") for name in ("UAR", "UF1", "kappa", "MCC")
    ]
    assert rows[2]["value"] == pytest.approx(written["metrics"]["kappa"]["pooled"])
    assert rows[6]["value"] == pytest.approx(written["metrics"]["kappa"]["foldmean"])
    assert say("score", str(own / "mine.csv"), "--metric", "kapa").code == 2

    compared = say("compare", str(own / "c.yaml"), "--local", "--set", "compare.models=[linear, svm]")
    assert compared.code == 0, compared.err
    assert "The same tests by further metrics:" in compared.out and compared.out.count("kappa_of_one") == 3
    beside = say(
        *("compare", written["run_dir"], str(own / "mine.csv"), "--set", "tracking.enabled=false"),
        *("--set", f"evaluation.metrics=['{reference}']"),
    )
    assert beside.code == 0, beside.err
    folder = Path(beside.out.split("tables: ")[1].strip())
    assert pd.read_csv(folder / "pairs.csv").kappa_p_holm.tolist() == [1]
    refused = say("run", str(own / "c.yaml"), "--local", "--set", "evaluation.metrics=[percent]")
    assert refused.code == 2 and "metric percent: its value is" in refused.err


def test_the_examples_of_the_page_run(own: Path) -> None:
    """What docs/own-code.md shows of each kind of function passes a user's trial."""
    page = (Path(__file__).parents[2] / "docs" / "own-code.md").read_text()
    (own / "page_lab.py").write_text("\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)))
    train = {
        "loss": {"name": "page_lab:Smooth", "amount": 0.2},
        "augment": [{"name": "page_lab:dim", "by": 0.3}],
    }
    try_out(resolve(ModelConfig()), TrainConfig.model_validate(train))
    assert not further("page_lab:kappa")[0].one_by_one
    features = {"flow": {"name": "page_lab:equalised", "contrast": 3}, "strain": "page_lab:divergence"}
    try_methods(FeatureConfig.model_validate(features))
