"""Whatever a lab calls its classes, MLflow gets a name that it takes, and the name can be read back."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import _validate_metric, _validate_param, _validate_tag

from distmer.tracking.names import legal, original

# Surrogates are no text, and no file that we read gives one.
NAMES = st.text(st.characters(exclude_categories=("Cs",)), max_size=60)


@settings(deadline=None)
@given(NAMES)
@example("per_class.joy+ (3), sad?.recall")
@example("a//b")
@example("../x")
@example(".")
@example("")
@example("/")
@example("a/./b")
@example("_x2B_")
@example("__x2B_")
@example("_x2+")
@example("_x2/")
@example("x" * 60 + "é" * 60)
def test_a_legal_name_is_taken_and_read_back(name: str) -> None:
    text = legal(name)
    try:
        _validate_metric(text, 1.0, 0, 0)
        _validate_param(text, "x")
        _validate_tag(text, "x")
    except MlflowException as error:
        pytest.fail(f"{name!r} as {text!r}: {error}")
    assert original(text) == name


@pytest.mark.parametrize(
    "name", ["uar", "per_dataset.casme2.uf1", "fold.uar", "train.lr", "figures/confusion.png", "überraschung"]
)
def test_plain_names_are_not_touched(name: str) -> None:
    assert legal(name) == name


def test_a_long_name_is_cut_and_stays_its_own() -> None:
    names = {legal("+" * 200 + end) for end in "ab"}
    assert len(names) == 2 and all(len(name) <= 250 for name in names)
