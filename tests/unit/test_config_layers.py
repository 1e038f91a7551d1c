"""From files and ``--set`` to one configuration: no order matters, nothing is lost in silence, and every
setting acts or is refused."""

from __future__ import annotations

import itertools
import logging
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from distmer import config as settings_module
from distmer.config import Config
from distmer.config_layers import anchor_rule, load_config, load_layers, load_settings, merge, nested
from distmer.config_places import path_settings
from distmer.experiment.comparison import expand, unused
from distmer.idle import acting, sections
from distmer.models import is_network, resolve
from distmer.sweep.space import Space
from distmer.types import BadInput

ROOT = Path(__file__).parents[2]


def load(path: Path | None = None, *overrides: str) -> Config:
    return load_config(path, overrides, workspace=Path("/ws"), environ={}, is_network=is_network)


def written(folder: Path, text: str, name: str = "c.yaml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def refused(path: Path | None, *overrides: str) -> str:
    with pytest.raises(BadInput) as caught:
        load(path, *overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_order_of_overrides_does_not_matter(tmp_path: Path) -> None:
    path = written(tmp_path, "model: {name: atscnn, dropout: 0.1}\n")
    words = ("model.size=32", "model.name=ststnet", "train.epochs=3")
    found = {load(path, *order).model_dump_json() for order in itertools.permutations(words)}
    assert len(found) == 1 and load(path, *words).model.options == {"size": 32}


def test_options_of_a_model_are_kept_for_the_same_model_and_said_of_another(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path, "model: {dropout: 0.1}\n")
    # the model that the file means by naming none
    assert load(path, "model.name=atscnn").model.options == {"dropout": 0.1}
    assert not caplog.messages
    with caplog.at_level(logging.WARNING):
        assert load(path, "model.name=linear").model.options == {}
    assert caplog.messages == [
        f"model.dropout=0.1 of {path} belongs to atscnn and is not used for linear, which starts from its"
        " own defaults"
    ]


@pytest.mark.parametrize(
    "pair",
    [
        ("train.lr=0.1", "train.lr=0.2"),
        ("train={lr: 0.1}", "train.epochs=3"),
        ("train.epochs=3", "train={lr: 0.1}"),
        ("sweep.space.train.lr={choice: [0.1]}", "sweep.space.train.lr.choice=[0.2]"),
    ],
)
def test_two_overrides_of_the_same_thing_are_refused_with_both(pair: tuple[str, str]) -> None:
    said = refused(None, *pair)
    assert f"--set {pair[0]} and --set {pair[1]} both set " in said
    assert load(None, "train.lr=0.1", "train.lr=0.1").train.lr == 0.1


def test_a_value_in_place_of_a_section_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "train: 5\n")
    said = refused(path, "train.epochs=3")
    assert said.startswith(f"{path}: train is 5, but train.epochs is set")
    child = written(tmp_path, "extends: c.yaml\ntrain: {epochs: 3}\n", "child.yaml")
    assert refused(child).startswith(f"{path}: train is 5")
    for dotted in (
        {"train": 3, "train.lr": 1},
        {"train.lr": 1, "train": 3},
        {"model": {"size": 3}, "model.name": "linear"},
    ):
        with pytest.raises(BadInput, match=r"both set (train|model); keep one of them"):
            nested(dotted)


def test_a_setting_whose_key_has_dots_can_be_named() -> None:
    words = [
        "sweep.space.model.attention.choice=[cbam,none]",
        "sweep.space.train.lr={uniform: [0.1, 0.2]}",
        "sweep.trials=3",
    ]
    _, tree = load_settings(None, words, workspace=Path("/ws"), environ={})
    assert tree["sweep"]["space"] == {
        "model.attention": {"choice": ["cbam", "none"]},
        "train.lr": {"uniform": [0.1, 0.2]},
    }
    assert Space.read(tree, "c.yaml").sweep.trials == 3
    words = ["compare.rows.relu.model.activation=relu", "compare.over.large.features.size=64"]
    rows = expand(load_settings(None, words, workspace=Path("/ws"), environ={})[1], "c.yaml")[1]
    assert [(row.label, row.on, row.config and row.config.model.options) for row in rows] == [
        ("relu", "large", {"activation": "relu"})
    ]


def test_a_row_with_the_name_of_a_model_is_of_this_model() -> None:
    """Otherwise a row that is inherited without its model would be another model under this name."""
    words = ["compare.models=[linear]", "compare.rows.macnn.seeds=[0]"]
    tree = load_settings(None, words, workspace=Path("/ws"), environ={})[1]
    with pytest.raises(BadInput, match=r"row macnn: .* macnn is not among compare\.models"):
        expand(tree, "c.yaml")
    of_base = load_settings(
        None, ["model.name=svm", "compare.rows.svm={}"], workspace=Path("/ws"), environ={}
    )[1]
    assert [row.config and row.config.model.name for row in expand(of_base, "c.yaml")[1]] == ["svm"]
    left_out = load_settings(None, [words[0], "compare.rows.macnn=null"], workspace=Path("/ws"), environ={})[
        1
    ]
    assert [row.label for row in expand(left_out, "c.yaml")[1]] == ["linear"]
    named = load_settings(
        None, [*words, "compare.rows.macnn.model.name=macnn"], workspace=Path("/ws"), environ={}
    )
    assert [row.config and row.config.model.name for row in expand(named[1], "c.yaml")[1]] == [
        "linear",
        "macnn",
    ]


def test_a_row_begins_with_the_file_that_it_extends(tmp_path: Path) -> None:
    """Its code is beside that file, an option of another model's goes, and the row's own settings win."""
    (tmp_path / "lab").mkdir()
    net = "extends: base.yaml\nmodel: {name: ./net.py:Net}\ntrain: {lr: 0.01, epochs: 9}\n"
    written(tmp_path / "lab", net, "net.yaml")
    written(tmp_path / "lab", "data: {root: maps, protocol: flowmaps}\nname: base\n", "base.yaml")
    rows = "net: {extends: lab/net.yaml, train.epochs: 3}, b: {extends: lab/base.yaml, model.name: atscnn}"
    path = written(tmp_path, f"train: {{batch_size: 8}}\ncompare: {{rows: {{{rows}}}}}\n")

    def rows(*words: str) -> list[Config | None]:
        tree = load_settings(path, words, workspace=Path("/ws"), environ={})[1]
        return [row.config for row in expand(tree, str(path))[1]]

    with pytest.raises(BadInput, match=re.escape(str(tmp_path / "lab" / "net.py"))):
        rows()
    (atscnn,) = rows("compare.rows.net=null")
    assert atscnn is not None and atscnn.data.root == "/ws/maps"
    written(tmp_path / "lab", "model: {name: linear}\nseeds: [4]\n", "net.yaml")
    words = ["compare.rows.net.seeds=[5]", "compare.rows.b.train.epochs=4"]
    with pytest.raises(BadInput, match=r"row net: train\.epochs acts only where the model is a network"):
        rows(*words)
    (atscnn,) = rows("compare.rows.net=null", words[1])
    assert atscnn is not None
    assert (atscnn.train.epochs, atscnn.train.batch_size) == (4, 8)


def test_a_row_s_file_is_read_as_it_is_alone(tmp_path: Path) -> None:
    """Names become mappings before its layers are merged, its plugins define its names, and a row of a higher
    file that extends another file has nothing of the first."""
    (tmp_path / "mine.py").write_text("def own_loss(logits_NK, y_N, **_):\n    return logits_NK.mean()\n")
    written(tmp_path, "plugins: [./mine.py]\nmodel: ststnet\ntrain: {loss: own_loss, lr: 0.1}\n", "one.yaml")
    written(tmp_path, "extends: one.yaml\nmodel: {size: 28}\ntrain: {epochs: 7}\n", "two.yaml")
    written(tmp_path, "train: {epochs: 9}\n", "three.yaml")
    low = "compare: {rows: {a: {extends: two.yaml}, b: {extends: two.yaml}}}\n"
    written(tmp_path, low, "low.yaml")
    path = written(tmp_path, "extends: low.yaml\ncompare: {rows: {b: {extends: three.yaml}}}\n", "top.yaml")
    rows = load_settings(path, (), workspace=Path("/ws"), environ={})[1]["compare"]["rows"]
    _, alone = load_settings(tmp_path / "two.yaml", (), workspace=Path("/ws"), environ={})
    assert rows["a"]["extends"] == alone
    assert alone["model"] == {"name": "ststnet", "size": 28}
    assert alone["train"]["loss"]["name"].endswith("mine.py:own_loss")
    assert rows["b"]["extends"] == {"train": {"epochs": 9}}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("{extends: 3}", "c.yaml, row a: extends names one configuration file, not 3."),
        ("{extends: no.yaml}", "no.yaml: the configuration cannot be read"),
        ("{extends: c.yaml}", "c.yaml, row a: c.yaml compares several experiments; name the file of one"),
    ],
)
def test_a_row_that_extends_no_file_of_one_experiment_is_refused(
    tmp_path: Path, row: str, words: str
) -> None:
    path = written(tmp_path, f"compare: {{rows: {{a: {row}}}}}\n")
    with pytest.raises(BadInput, match=re.escape(words)):
        load_settings(path, (), workspace=Path("/ws"), environ={})
    with pytest.raises(BadInput, match=r"row a: extends belongs in a file"):
        expand({"compare": {"rows": {"a": {"extends": "c.yaml"}}}}, "call")


def test_a_misspelt_name_of_a_model_is_looked_for_among_all_names_of_its_level() -> None:
    with pytest.raises(BadInput, match=r"model\.nam is not a setting; did you mean 'name'\?"):
        resolve(load(None, "model.nam=linear").model)


IDLE = [
    ("evaluation.k=7", "evaluation.folds is group_kfold, but evaluation.folds is loso"),
    ("train.step_factor=0.5", "train.schedule is step, but train.schedule is constant"),
    ("train.momentum=0.9", "train.optimiser is sgd, but train.optimiser is adam"),
    ("train.inner_folds=4", "train.selection is inner, but train.selection is fixed"),
    ("train.oracle=global_epoch", "train.selection is oracle, but train.selection is fixed"),
    ("inputs.flow_scale=3", "inputs.normalise is fixed, but inputs.normalise is minmax"),
    ("data.root=/sets", "the data are not the embedded set's, but data.protocol is synthetic"),
    ("train.epochs=3", "the model is a network, but model.name is linear"),
    ("features.size=64", "the data are frames, but data.protocol is flowmaps"),
    ("data.synthetic.subjects=4", "the data are the embedded set's, but data.protocol is flowmaps"),
    ("cluster.local_cpus=2", "cluster.address is not given, but cluster.address is 10.0.0.1:6379"),
    ("tracking.experiment=mine", "tracking.enabled is true, but tracking.enabled is false"),
]
WITH = {
    "inputs.flow_scale=3": "inputs: {normalise: minmax}",
    "train.epochs=3": "model: {name: linear}",
    "features.size=64": "data: {protocol: flowmaps}",
    "data.synthetic.subjects=4": "data: {protocol: flowmaps}",
    "cluster.local_cpus=2": "cluster: {address: '10.0.0.1:6379'}",
    "tracking.experiment=mine": "tracking: {enabled: false}",
}


@pytest.mark.parametrize(("override", "reason"), IDLE, ids=[override for override, _ in IDLE])
def test_a_setting_that_does_nothing_is_refused(override: str, reason: str, tmp_path: Path) -> None:
    name, _, value = override.partition("=")
    base = written(tmp_path, WITH.get(override, "{}"))
    assert refused(base, override) == f"--set: {name} acts only where {reason}; leave {name} out."
    section, *rest = name.split(".")
    tree = nested({".".join(rest): value})
    child = written(tmp_path, f"extends: c.yaml\n{section}: {tree}\n", "child.yaml")
    assert refused(child) == f"{child}: {name} acts only where {reason}; leave {name} out."


def test_what_an_override_puts_out_of_use_is_said_and_a_default_spelled_out_is_no_fault(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        load(ROOT / "configs" / "demo.yaml", "model.name=linear")
    assert [message.split(" of ")[0] for message in caplog.messages] == [
        "model.size=64",
        "train.batch_size, train.lr, train.epochs",
    ]
    reason = "are not used: each acts only where the model is a network, but model.name is linear"
    assert caplog.messages[1].endswith(reason)
    assert all("linear" in message for message in caplog.messages)
    load(written(tmp_path, "evaluation: {folds: loso, k: 5}\nmodel: {name: linear}\ntrain: {epochs: 200}\n"))


def test_a_setting_that_some_row_or_some_trial_uses_is_no_fault(tmp_path: Path) -> None:
    base = "train: {epochs: 3, step_factor: 0.5}\ncompare:\n"
    used = written(tmp_path, base + "  models: [linear, atscnn]\n  rows: {atscnn: {train.schedule: step}}\n")
    layers = load_layers(used, (), workspace=Path("/ws"))
    assert unused(layers, expand(merge({}, layers[0].tree), "c.yaml")[1]) == []
    idle = written(tmp_path, base + "  models: [linear, atscnn]\n  rows: {linear: {train.epochs: 4}}\n")
    with pytest.raises(BadInput, match=r"row linear: train\.epochs acts only where the model is a network"):
        expand(load_layers(idle, (), workspace=Path("/ws"))[0].tree, "c.yaml")
    idle = written(tmp_path, base + "  models: [atscnn]\n")
    layers = load_layers(idle, (), workspace=Path("/ws"))
    rows = expand(layers[0].tree, "c.yaml")[1]
    with pytest.raises(
        BadInput,
        match=r"c\.yaml: train\.step_factor acts only where train\.schedule is"
        r" step",
    ):
        unused(layers, rows)
    sweep: dict[str, Any] = {
        "space": {"train.momentum": {"choice": [0.0, 0.9]}, "train.optimiser": {"choice": ["sgd", "adam"]}}
    }
    space = Space.read({"train": {"momentum": 0.5}, "sweep": sweep}, "c.yaml")
    assert space.acting()["train"]["momentum"] == 0.5
    with pytest.raises(
        BadInput,
        match=r"sweep\.space\.train\.lr cannot be searched: train\.lr acts only"
        r" where the model is a network",
    ):
        Space.read(
            {"model": {"name": "linear"}, "sweep": {"space": {"train.lr": {"choice": [0.1, 0.2]}}}}, "c.yaml"
        )


def test_what_is_kept_of_a_run_can_be_run_again(tmp_path: Path) -> None:
    config = load(ROOT / "configs" / "demo.yaml", "model.name=linear")
    import yaml

    kept = written(tmp_path, yaml.safe_dump(acting(config.model_dump(mode="json"), is_network)))
    assert load(kept).model == config.model and "train" not in yaml.safe_load(kept.read_text())


PATHS = """
data: {protocol: mine/own.yaml, root: sets, include: clips.txt, roots: {samm: SAMM}}
features: {landmarks: l.dat}
storage: {ledger: here}
tracking: {uri: 'sqlite:///mlflow/x.db?timeout=3'}
compare:
  rows: {a: {features.landmarks: l.dat, data: {include: c.txt}, data.roots.samm: SAMM}}
  over: {b: {data.root: other, data.protocol: casme2}}
sweep: {space: {features.landmarks: {choice: [one.dat, /abs/two.dat]}}}
"""


def test_every_path_of_a_configuration_is_anchored_wherever_it_stands(tmp_path: Path) -> None:
    _, tree = load_settings(written(tmp_path, PATHS), (), workspace=Path("/ws"), environ={})
    assert tree["data"] == {
        "protocol": "/ws/mine/own.yaml",
        "root": "/ws/sets",
        "include": "/ws/clips.txt",
        "roots": {"samm": "/ws/SAMM"},
    }
    assert (tree["features"]["landmarks"], tree["storage"]["ledger"]) == ("/ws/l.dat", "/ws/here")
    assert tree["tracking"]["uri"] == "sqlite:////ws/mlflow/x.db?timeout=3"
    assert tree["compare"]["rows"]["a"] == {
        "features.landmarks": "/ws/l.dat", "data": {"include": "/ws/c.txt"}, "data.roots.samm": "/ws/SAMM"
    }  # fmt: skip
    assert tree["compare"]["over"]["b"] == {"data.root": "/ws/other", "data.protocol": "casme2"}
    assert tree["sweep"]["space"]["features.landmarks"] == {"choice": ["/ws/one.dat", "/abs/two.dat"]}


def test_no_setting_that_is_a_path_lacks_its_mark() -> None:
    source = Path(settings_module.__file__).read_text()
    named = {
        name
        for name, _ in sections(Config)
        for line in re.findall(rf"(?m)^    {name.rpartition('.')[2]}: .*\n    \"{{3}}[^\"]*", source)
        if re.search(r"\b(str|ConfigPath)\b.*= ", line)
        and re.search(r"path|root|folder|file|uri|landmarks", line)
    }
    assert {"data.root", "data.include", "features.landmarks", "tracking.uri"} <= named
    marked = {name.removesuffix(".*") for name in path_settings()}
    assert named <= marked and marked >= {
        f"storage.{name}" for name in settings_module.StorageConfig.model_fields
    }


def test_the_folder_of_a_relative_path_is_told(tmp_path: Path) -> None:
    told = partial(anchor_rule, "data.root", workspace=Path("/ws"), environ={})
    own = written(tmp_path, "data: {root: maps}\n")
    assert told(own, []) == f" The relative path 'maps' in {own} is below the workspace, /ws."
    below = told(Path("demo"), ["data.root=x"])  # found by its name, as by `distmer run demo`
    assert below == f" The relative path 'x' of --set is below the current folder, {Path.cwd()}."
