"""What a sweep may search, and how a mistake in it is told before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distmer.config_layers import load_settings
from distmer.experiment.plan import acting_settings
from distmer.sweep.plan import budgets
from distmer.sweep.space import Space
from distmer.types import BadInput

BASE: dict[str, Any] = {"data": {"protocol": "flowmaps"}, "model": {"name": "atscnn", "size": 28}}
RATE = {"train.lr": {"loguniform": ["1e-5", 1e-2]}}


def read(space: dict[str, Any], base: dict[str, Any] | None = None, **sweep: Any) -> Space:
    return Space.read({**BASE, **(base or {}), "sweep": {"space": space, **sweep}}, "s.yaml")


@pytest.mark.parametrize(
    ("space", "sweep", "said"),
    [
        (
            {"train.lrr": {"choice": [0.1]}},
            {},
            "sweep.space.train.lrr cannot be 0.1: train.lrr is not a setting; did you mean 'lr'?",
        ),
        (
            {"model.chanels": {"choice": [[4, 8]]}},
            {},
            "model.chanels is not a setting; did you mean 'channels'?",
        ),
        ({"trian.lr": {"choice": [0.1]}}, {}, "did you mean 'train'?"),
        (
            {"train.keep_weights": {"choice": [True, False]}},
            {},
            "sweep.space.train.keep_weights cannot be searched: it changes no number",
        ),
        (
            {"data.root": {"choice": ["a"]}},
            {},
            "sweep.space.data.root cannot be searched, only features, inputs, model, train",
        ),
        (
            {"model.activation": {"choice": ["selu", "swish"]}},
            {},
            "sweep.space.model.activation cannot be 'swish'",
        ),
        (
            {"train.momentum": {"choice": [0.0, 0.9]}},
            {},
            "train.momentum acts only where train.optimiser is sgd, but train.optimiser is adam",
        ),
        ({"train.lr": {"loguniform": [0.1, 0.01]}}, {}, "loguniform takes a lower and a higher end"),
        ({"train.lr": {"loguniform": [0, 0.01]}}, {}, "loguniform needs ends above 0"),
        (
            {"train.lr": {"log": [0.1, 0.2]}},
            {},
            "sweep.space.train.lr.log is not a setting; known: choice, integer",
        ),
        ({"train.lr": {"choice": [0.1], "uniform": [0.1, 0.2]}}, {}, "give exactly one of choice, uniform"),
        ({"train.epochs": {"choice": [5, 5]}}, {}, "a choice is listed twice"),
        ({"features.size": {"integer": [64, 128]}}, {}, "sweep.space.features.size must be a choice"),
        (
            {"train.lr": {"uniform": [0.1, 0.2]}},
            {"searcher": "grid"},
            "grid needs train.lr as a choice or an integer",
        ),
        (
            {"train.epochs": {"choice": [5, 9]}},
            {"searcher": "grid", "trials": 3},
            "trials acts only where searcher is random or tpe, but searcher is grid; leave trials out",
        ),
        (RATE, {"scheduler": "none", "grace": 2}, "grace acts only where scheduler is asha"),
        (
            {"train.epochs": {"choice": [5, 9]}},
            {"rungs": "epochs"},
            "sweep.space.train.epochs cannot be searched too",
        ),
        (RATE, {"rungs": "epochs", "grace": 500}, "sweep.grace is 500 epochs, but train.epochs is 200"),
        (RATE, {"rungs": "epochs", "mode": "oracle"}, "rungs: epochs goes with nested or flat"),
        ({}, {}, "space names no setting to search"),
        ({"train.epochs": {"choice": [1, 1.0]}}, {}, "a choice is listed twice"),
        (
            {"model": {"choice": [{"name": "linear"}, {"name": "svm"}]}},
            {},
            "sweep.space.model is a whole section",
        ),
        (
            {"train.lr": {"choice": [0.1]}, "train.lr.x": {"choice": [1]}},
            {},
            "sweep.space.train.lr.x lies within sweep.space.train.lr",
        ),
        (RATE, {"grace": 4}, "grace is 4 folds, but there are 3 inner folds"),
        (RATE, {"scheduler": "none", "reduction": 3}, "reduction acts only where scheduler is asha"),
        (RATE, {"mode": "oracle", "inner_folds": 3}, "inner_folds acts only where mode is nested or flat"),
        ({"model.name": {"choice": ["atscnn", "svm"]}}, {"rungs": "epochs"}, "svm is fitted in one go"),
        (RATE, {"mode": "nestd"}, "sweep.mode: input should be 'nested', 'flat' or 'oracle'"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(space: dict[str, Any], sweep: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput) as told:
        read(space, **sweep)
    assert said in str(told.value)
    assert str(told.value).startswith("s.yaml: ")
    assert "\n" not in str(told.value)


def test_oracle_is_asked_for_by_name_only() -> None:
    with pytest.raises(BadInput, match=r"sweep.mode: oracle by name"):
        read(RATE, {"train": {"selection": "oracle"}})


def test_a_value_that_goes_with_some_others_is_no_mistake() -> None:
    space = read({"train.momentum": {"choice": [0.0, 0.9]}, "train.optimiser": {"choice": ["sgd", "adam"]}})
    # the same training as without momentum
    config, model = space.config({"train.momentum": 0.9, "train.optimiser": "adam"})
    assert "momentum" not in acting_settings(config, model)["train"]


def test_a_grid_is_every_combination_once() -> None:
    streams = [["u", "v"], ["u", "v", "strain"]]
    space = read({"model.streams": {"choice": streams}, "train.epochs": {"integer": [3, 5]}}, searcher="grid")
    assert space.sweep.wanted == 6
    assert [tuple(s.values()) for s in space.foreseen()] == [
        (some, epochs) for some in streams for epochs in (3, 4, 5)
    ]


@pytest.mark.parametrize("searcher", ["random", "tpe"])
def test_what_is_foreseen_is_what_is_drawn_whatever_is_told(searcher: str) -> None:
    space = read({**RATE, "train.batch_size": {"loginteger": [8, 64]}}, searcher=searcher, trials=10, seed=3)
    foreseen = space.foreseen()
    study = space.study()
    for n, expected in enumerate(foreseen):
        trial, setting = space.ask(study)
        assert setting == expected
        study.tell(trial, float(n % 4))
    assert len({tuple(s.values()) for s in foreseen}) == 10
    assert all(1e-5 <= s["train.lr"] <= 1e-2 and 8 <= s["train.batch_size"] <= 64 for s in foreseen)
    assert (
        read(
            {**RATE, "train.batch_size": {"loginteger": [8, 64]}}, searcher=searcher, trials=10, seed=4
        ).foreseen()
        != foreseen
    )


def test_epochs_before_each_report() -> None:
    sweep = read(RATE, rungs="epochs", grace=3, reduction=3).sweep
    assert budgets(sweep, 30) == [3, 9, 27, 30]
    assert budgets(sweep, 27) == [3, 9, 27]
    assert budgets(read(RATE, rungs="epochs").sweep, 90) == [10, 20, 40, 80, 90]
    assert budgets(read(RATE, rungs="epochs", scheduler="none").sweep, 90) == [90]


def test_null_leaves_a_setting_out_that_a_file_searches() -> None:
    path = Path(__file__).parents[2] / "configs" / "sweep-ablations.yaml"
    words = ["sweep.space.model.attention=null"]
    tree = load_settings(path, words, workspace=Path("/ws"), environ={})[1]
    searched = Space.read(tree, str(path)).sweep.space
    assert "model.attention" not in searched and "model.streams" in searched
