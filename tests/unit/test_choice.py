"""Which setting of a sweep a model is fitted with, and that several seeds are not taken for one."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distmer.saved.choice import most_chosen
from distmer.storage import place, write
from harness import toy
from tests.saying import Say

ROWS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from([0.5, 0.6, 0.7])), min_size=1, max_size=12
).map(
    lambda rows: [
        {"search": f"s{n}", "setting": {"train.lr": 1, "model.name": name}, "uar": uar, "uf1": 1 - uar}
        for n, (name, uar) in enumerate(rows)
    ]
)


@given(ROWS)
def test_the_setting_of_most_searches_is_taken_and_of_equals_the_better(rows: list[dict]) -> None:
    search, setting, votes = most_chosen(rows, "uar")
    of = {name: [row for row in rows if row["setting"]["model.name"] == name] for name in "abcd"}
    own = of[setting["model.name"]]
    assert votes == len(own) == max(map(len, of.values())) and search == own[0]["search"]
    means = [sum(row["uar"] for row in some) / votes for some in of.values() if len(some) == votes]
    assert sum(row["uar"] for row in own) / votes == pytest.approx(max(means))


def test_the_metric_of_the_sweep_decides_between_equals() -> None:
    rows = [
        {"search": "one", "setting": {"a": 1}, "uar": 0.9, "uf1": 0.1},
        {"search": "two", "setting": {"a": 2}, "uar": 0.8, "uf1": 0.2},
    ]
    assert most_chosen(rows, "uar")[0] == "one" and most_chosen(rows, "uf1")[0] == "two"
    keys = [{**rows[0], "setting": {"a": 1, "b": 2}}, rows[1], {**rows[0], "setting": {"b": 2, "a": 1}}]
    assert most_chosen(keys, "uar")[2] == 2  # the order of the names is no other setting


def test_several_seeds_are_refused_before_anything_is_done(say: Say, maps: Path, tmp_path: Path) -> None:
    settings = toy.settings(maps, "model.name=linear", "tracking.enabled=false", "evaluation.bootstrap=100")
    refused = say("fit", "--local", *settings, "--set", "seeds=[3, 4]", "--out", str(tmp_path / "model"))
    assert refused.code == 2 and not (tmp_path / "model").exists() and not (tmp_path / "home").exists()
    assert "seeds: there are 2 (3, 4)" in refused.sentence and "--set 'seeds=[3]'" in refused.sentence
    # the remedy in the sentence works, and its score comes from the ledger of the run with both
    say("run", "--local", *settings, "--set", "seeds=[3, 4]")
    again = say("run", "--local", "--json", *settings, "--set", "seeds=[3]")
    assert again.code == 0 and "4 from the ledger" in again.err
    fitted = say("fit", "--local", *settings, "--set", "seeds=[3]", "--out", str(tmp_path / "model"))
    assert fitted.code == 0 and f"{again.json['uar']:.4f}" in (tmp_path / "model" / "README.md").read_text()


def test_a_configuration_may_lie_on_an_object_store(say: Say, maps: Path, remote: str) -> None:
    for name in ("base", "run"):
        text = "model: {name: linear}\n" if name == "base" else "extends: base.yaml\nseeds: [7]\n"
        write(place(f"{remote}/{name}.yaml"), text.encode())
    settings = toy.settings(maps, "model.name=linear", "tracking.enabled=false")
    planned = say("plan", f"{remote}/run.yaml", *settings)
    assert planned.code == 0 and planned.out == say("plan", *settings, "--set", "seeds=[7]").out
    absent = say("plan", f"{remote}/absent.yaml", *settings)
    assert absent.code == 2 and f"{remote}/absent.yaml: the configuration cannot be read" in absent.sentence


def test_a_model_is_registered_where_there_is_a_registry(say: Say, maps: Path, tmp_path: Path) -> None:
    settings = toy.settings(maps, "model.name=linear", "tracking.enabled=false")
    nowhere = say("fit", "--local", *settings, "--register", "faces")
    assert nowhere.code == 2 and "tracking.enabled is false" in nowhere.sentence
    for name in ("a/b", "a:b", " "):
        named = say("fit", "--local", *toy.settings(maps, "model.name=linear"), "--register", name)
        assert named.code == 2 and "has no / and no : in it" in named.sentence
    assert not (tmp_path / "home").exists()


def test_a_folder_that_is_no_sweep_is_one_sentence(say: Say, maps: Path, tmp_path: Path) -> None:
    settings = toy.settings(maps, "model.name=linear", "tracking.enabled=false", "evaluation.bootstrap=100")
    run_dir = say("run", "--local", "--json", *settings).json["run_dir"]
    given = say("fit", "--local", run_dir)
    assert given.code == 2 and f"distmer fit {run_dir}/config.yaml" in given.sentence
    assert "so it is not a run, sweep" in say("fit", "--local", str(maps)).sentence
