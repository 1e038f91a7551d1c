"""Networks of torchvision and timm. Neither need be installed: what needs one is skipped without it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from distmer.config import ModelConfig, TrainConfig
from distmer.config_layers import load_config, load_settings
from distmer.experiment.plan import fold_jobs
from distmer.models import ResolvedModel, models, parameters, resolve
from distmer.training.tryout import try_out
from distmer.types import BadInput
from harness import toy
from tests.saying import Say

PACKAGES = ("torchvision", "timm")
there = pytest.mark.parametrize(
    "package",
    [
        pytest.param(name, marks=pytest.mark.skipif(name not in models(), reason=f"{name} is not installed"))
        for name in PACKAGES
    ],
)


def model(name: str, /, **options: object) -> ResolvedModel:
    return resolve(ModelConfig.model_validate({"name": name, "size": 32, **options}))


def written(path: Path, state: Mapping[str, Any]) -> str:
    torch.save(dict(state), path)
    return str(path)


@pytest.mark.parametrize("package", PACKAGES)
def test_without_its_package_the_sentence_has_the_command(package: str) -> None:
    if package in models():
        pytest.skip(f"{package} is installed")
    with pytest.raises(BadInput, match=f"the package {package} is not installed; pip install {package}"):
        model(package)


def test_a_path_of_weights_lies_beside_the_file_that_names_it(tmp_path: Path) -> None:
    """In the section, in a row, in a sweep's choices, by `--set`; an option of another meaning is left."""
    lab = tmp_path / "lab"
    lab.mkdir()
    (lab / "c.yaml").write_text("model: {name: torchvision, weights: ./r.pth}\n")
    read = load_config(lab / "c.yaml", (), workspace=tmp_path, environ={})
    assert read.model.options["weights"] == str(lab / "r.pth")
    read = load_config(lab / "c.yaml", ["model.weights=s.safetensors"], workspace=tmp_path, environ={})
    assert read.model.options["weights"] == str(Path.cwd() / "s.safetensors")
    (lab / "c.yaml").write_text(
        "compare: {rows: {a: {model.weights: ./r.pth}}}\n"
        "sweep: {space: {model.weights: {choice: [./r.pth]}}}\n"
    )
    _, tree = load_settings(lab / "c.yaml", (), workspace=tmp_path, environ={})
    assert tree["compare"]["rows"]["a"] == {"model.weights": str(lab / "r.pth")}
    assert tree["sweep"]["space"] == {"model.weights": {"choice": [str(lab / "r.pth")]}}
    (lab / "c.yaml").write_text("model: {name: ./mine.py:Net, weights: balanced}\n")
    assert (
        load_config(lab / "c.yaml", (), workspace=tmp_path, environ={}).model.options["weights"] == "balanced"
    )


@there
@pytest.mark.parametrize("streams", [["u"], ["u", "v", "strain"], ["u", "v", "strain", "onset", "apex"]])
def test_any_number_of_channels_and_classes(package: str, streams: list[str]) -> None:
    found = model(package, streams=streams, arch="resnet18")
    assert found.inputs == tuple(streams)
    net = found.build(4).eval()
    first = next(layer for layer in net.modules() if isinstance(layer, nn.Conv2d))
    assert first.in_channels == len(streams)
    assert net(torch.zeros(2, len(streams), 32, 32)).shape == (2, 4)
    assert parameters(found, 4) == sum(p.numel() for p in net.parameters())
    try_out(found, TrainConfig())


@there
def test_weights_of_a_file_are_spread_over_the_channels_and_the_classifier_is_fresh(
    package: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    source = model(package).build(1000).eval()
    path = written(tmp_path / "a.pth", {"state_dict": source.state_dict()})
    gray_B1HW = torch.rand(2, 1, 32, 32)
    features: dict[str, torch.Tensor] = {}

    def features_of(net: nn.Module, channels: int) -> torch.Tensor:
        head = [layer for layer in net.modules() if isinstance(layer, nn.Linear)][-1]
        with head.register_forward_pre_hook(lambda _, given: features.update(last=given[0])):
            net(gray_B1HW.expand(2, channels, 32, 32))
        return features["last"]

    expected_BD = features_of(source, 3)
    for streams in (["u"], ["u", "v", "strain"], ["u", "v", "strain", "onset", "apex"]):
        net = model(package, weights=path, streams=streams).build(3).eval()
        torch.testing.assert_close(features_of(net, len(streams)), expected_BD, rtol=1e-4, atol=1e-4)
        assert net(gray_B1HW.expand(2, len(streams), 32, 32)).shape == (2, 3)
    if find_spec("safetensors"):
        path = str(tmp_path / "a.safetensors")
        import_module("safetensors.torch").save_file(source.state_dict(), path)
    same = model(package, weights=path).build(1000).eval()
    assert torch.equal(same(gray_B1HW.expand(2, 3, 32, 32)), source(gray_B1HW.expand(2, 3, 32, 32)))


@there
def test_the_content_of_the_weights_is_the_identity_and_their_place_is_not(
    package: str, tmp_path: Path
) -> None:
    clips = toy.clips()
    labels = {clip.id: clip.label for clip in clips}
    config = toy.config("linear")
    folds = toy.make_folds(clips, config.evaluation)

    def digests(path: str) -> list[str]:
        found = model(package, weights=path)
        assert found.spec["options"]["package"].startswith(f"{package} ")
        jobs = fold_jobs(config, found, folds, labels, dict.fromkeys(labels, "key"), (0,), 3)
        assert json.loads(json.dumps(jobs[0].spec["model"]))["options"]["weights"] == path
        return [job.digest for job in jobs]

    torch.manual_seed(0)
    state = model(package).build(3).state_dict()
    first = written(tmp_path / "a.pth", state)
    moved = tmp_path / "b.pth"
    moved.write_bytes(Path(first).read_bytes())
    assert digests(first) == digests(str(moved))
    spec = model(package, weights=str(moved)).spec
    edited = written(moved, {name: value + 1 for name, value in state.items()})
    assert digests(first) != digests(edited)
    # A worker whose file or package is another one refuses the fold.
    with pytest.raises(BadInput, match=r"weights_sha256 is .* here, and not"):
        model(package, **{**spec["options"], "weights": edited})
    with pytest.raises(BadInput, match=r"package is .* here, and not"):
        model(package, package=f"{package} 0.1")


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("run",))


@there
def test_what_cannot_be_used_is_one_sentence(package: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    other = written(tmp_path / "other.pth", nn.Linear(2, 3).state_dict())
    torch.save({"x": _Evil()}, tmp_path / "evil.pth")
    (tmp_path / "broken.pth").write_bytes(b"nothing")
    for options, said in (
        ({"arch": "resnet19"}, "has no network 'resnet19'; did you mean 'resnet1"),
        ({"params": {"pretrained": True}}, "params cannot hold pretrained"),
        ({"weights": str(tmp_path / "none.pth")}, "there is no file"),
        ({"weights": str(tmp_path / "a.txt")}, "give one that ends in .safetensors, .pth or .pt"),
        ({"weights": other}, "are not the weights of resnet18"),
        ({"weights": str(tmp_path / "evil.pth")}, "it holds more than tensors, or is broken"),
        ({"weights": str(tmp_path / "broken.pth")}, "it holds more than tensors, or is broken"),
        ({"params": {"widht": 3}}, "building it raised TypeError"),
        ({"arch": "vit_b_16" if package == "torchvision" else "vit_tiny_patch16_224"}, "224"),
    ):
        with pytest.raises(BadInput) as error:
            try_out(model(package, **options), TrainConfig())
        assert said in str(error.value), options
        assert "\n" not in str(error.value)


@there
def test_from_a_configuration_to_scores(package: str, say: Say, maps: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    written(tmp_path / "own.pth", model(package).build(7).state_dict())
    tree = {
        "data": {"protocol": "flowmaps", "root": str(maps)},
        "inputs": {"normalise": "minmax"},
        "model": {"name": package, "arch": "resnet18", "size": 32, "weights": "./own.pth"},
        "train": {"epochs": 1, "batch_size": 8},
        "tracking": {"enabled": False},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    ended = say("run", str(tmp_path / "c.yaml"), "--local", "--json")
    assert ended.code == 0, ended.err
    result = json.loads(ended.out.splitlines()[-1])
    assert result["status"] == "complete" and result["options"]["weights_sha256"]
    again = say("run", str(tmp_path / "c.yaml"), "--local", "--json")
    assert "(4 in the ledger already)" in again.err
