"""``results.json``: its keys stay the same, its schema is published, files of other versions are read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from distmer.experiment.results_file import ClipLeftOut, FoldLeftOut, Results
from distmer.report.run_folder import read_results
from distmer.types import BadInput
from tests import factories

SCHEMA = Path(__file__).parents[2] / "docs" / "results.schema.json"

# What every version has written of a run, in this order. Without a score the keys in SCORED are absent.
# fmt: off
KEYS = [
    "model", "options", "parameters", "dataset", "folds", "clips_used", "clips_expected", "implausible",
    "notes", "classes",
    "n", "seeds", "uar", "uar_ci", "uar_sd", "uf1", "uf1_ci", "uf1_sd", "resamples_lacking_a_class",
    "uar_foldmean", "uf1_foldmean", "floors", "per_dataset", "per_class", "per_subject", "confusion",
    "failed", "selection", "stamps", "confidence", "devices", "seconds", "fold_seconds", "status",
    "digest", "run_dir", "mlflow_run_id",
]
# fmt: on
SCORED = {"n", "uar_sd", "uf1_sd", "resamples_lacking_a_class", "per_class", "per_subject"}


def test_the_published_schema_is_that_of_the_model() -> None:
    """After a change: python -c "import json; from distmer.experiment.results_file import Results;
    print(json.dumps(Results.model_json_schema(), indent=1))" > docs/results.schema.json"""
    assert json.loads(SCHEMA.read_text()) == Results.model_json_schema()


def test_the_keys_of_a_run_and_their_order_stay_the_same() -> None:
    tree = factories.result(factories.plan(seeds=(0, 1)), failed=1).to_json()
    assert list(tree) == KEYS
    assert [list(row) for row in tree["failed"]] == [["clip", "reason"], ["fold", "seed", "reason"]]
    assert list(tree["floors"]) == ["constant", "stratified"]
    assert list(tree["floors"]["constant"]) == ["uar", "uf1", "uar_foldmean", "uf1_foldmean"]
    assert list(tree["per_dataset"]["ones"]) == ["uar", "uf1", "n"]
    assert list(tree["per_class"]["negative"]) == ["recall", "f1", "n"]
    assert list(tree["per_subject"][0]) == ["subject", "n", "correct", "recall"]
    assert isinstance(tree["per_dataset"]["ones"]["n"], int) and isinstance(tree["seeds"], list)
    unscored = factories.result(factories.plan(), failed=6).to_json()
    assert list(unscored) == [key for key in KEYS if key not in SCORED]
    assert unscored["uar"] is None and unscored["confusion"] is None


@pytest.mark.parametrize("failed", [0, 2, 6])
def test_what_was_written_is_read_again(failed: int) -> None:
    tree = json.loads(json.dumps(factories.result(factories.plan(), failed=failed, unreached=0).to_json()))
    results = Results.model_validate(tree)
    assert results.to_json() == tree
    assert results.fold_counts == (6 - failed, 6)
    assert [type(row) for row in results.failed] == [ClipLeftOut, *[FoldLeftOut] * failed]


def test_files_of_other_versions_are_read(tmp_path: Path) -> None:
    """One that lacks the digest, as early ones did, and one with a key of a later version."""
    tree = factories.result(factories.plan()).to_json()
    folder = tmp_path / "abc"
    folder.mkdir()
    assert read_results(folder) is None
    older = {key: value for key, value in tree.items() if key != "digest"}
    (folder / "results.json").write_text(json.dumps({**older, "of_tomorrow": 1}))
    results = read_results(folder)
    assert results is not None and (results.digest, results.uar) == ("abc", tree["uar"])
    (folder / "results.json").write_text('{"model": "x"}')
    with pytest.raises(BadInput, match=r"results\.json cannot be read \(dataset: Field required\)"):
        read_results(folder)
