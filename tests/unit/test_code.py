"""Code is part of a fold's identity: as imported, all of it that has a say, the same wherever the fold is
trained."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grimp
import pytest

import distmer.models
from distmer.code import OF_KIND, OF_USERS, SHARED, code_of, digest_of_source
from distmer.config import ModelConfig
from distmer.experiment.local import LocalBackend
from distmer.experiment.plan import shared_spec
from distmer.models import models, resolve
from distmer.training.fit import fit_fold
from distmer.types import FoldBegun, FoldFailure, FoldResult, OtherCode
from harness import toy

_PACKAGES = ("distmer.training", "distmer.models", "distmer.features", "distmer.evaluation")
_NO_SAY = {
    "distmer.models": "it finds models and checks options, all of which a job spells out",
    "distmer.features.frames": "it decodes images, which FEATURE_EPOCH answers for",
    "distmer.features.video": "it decodes videos, likewise",
}
_GRAPH = grimp.build_graph("distmer")
# Imported for models of users alone, and part of the identity of their folds.
_GRAPH.remove_import(importer="distmer.models", imported="distmer.models._plugin")


@pytest.fixture
def model_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of a model's file under another name, where the walk through the models' folder finds it."""
    path = tmp_path / "models" / "edited.py"
    path.parent.mkdir()
    original = Path(distmer.models.__path__[0]) / "linear.py"
    path.write_text(original.read_text().replace('"linear"', '"edited"'))
    monkeypatch.setattr(distmer.models, "__path__", [*distmer.models.__path__, str(path.parent)])
    distmer.models._found.cache_clear()
    yield path
    distmer.models._found.cache_clear()
    sys.modules.pop("distmer.models.edited", None)


def module_of(name: str) -> str:
    return resolve(ModelConfig(name=name)).module


def code() -> dict[str, str]:
    """What a job of the edited model says of its code."""
    cfg = toy.config("edited")
    return shared_spec(cfg, resolve(cfg.model), 3)["code"]


def edit(path: Path) -> None:
    path.write_text(path.read_text() + "\nANOTHER_VERSION = True\n")
    os.utime(path, (2e9, 2e9))  # Python compares whole seconds before it compiles a file anew


def test_prose_and_layout_are_not_code() -> None:
    """Whatever may change a number moves the digest, and a comment, a docstring or a line break does not."""
    code = b"""
def scaled(x, scale=2.0, offset=None):
    total = x * scale
    return total if offset is None else total + offset
"""
    prose = b"""'''A module.'''\r
def scaled(  # a function
    x, scale=2.0,
    offset=None,
):
    "What it does."
    total = (x * scale)\r

    return total if offset is None else total + offset  # px
"""
    assert digest_of_source(prose) == digest_of_source(code)
    for part, other in [
        (b"2.0", b"2"),
        (b"x *", b"x +"),
        (b"is None", b"is not None"),
        (b"=None", b"=0"),
        (b"scale", b"s"),
    ]:
        assert part in code and digest_of_source(code.replace(part, other)) != digest_of_source(code)
    indented = code.replace(b"    return", b"    if total:\n        return")
    assert digest_of_source(indented) != digest_of_source(code)


def test_a_model_that_is_edited_meanwhile_keeps_the_identity_of_what_was_imported(model_file: Path) -> None:
    before = code()
    edit(model_file)
    assert code() == before
    importlib.reload(sys.modules["distmer.models.edited"])  # what autoreload does in a notebook
    after = code()
    assert [name for name in after if after[name] != before[name]] == ["distmer.models.edited"]


def test_a_shared_file_that_is_edited_meanwhile_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    before = code_of(module_of("atscnn"), "torch")
    assert before.keys() >= set(SHARED)

    def refuse(path: Path) -> bytes:
        raise AssertionError(f"{path} is read again")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert code_of(module_of("atscnn"), "torch") == before


@pytest.mark.parametrize("module", ["distmer.training.losses", "distmer.models.atscnn"])
def test_whoever_has_other_code_than_the_plan_refuses_the_fold(module: str) -> None:
    clips = toy.clips()
    job, *others = toy.jobs(toy.config(), clips)
    spec = {**job.spec, "code": {**job.spec["code"], module: "0" * 64}}
    planned_elsewhere = replace(job, spec=spec)
    with pytest.raises(OtherCode, match=rf"fold toy/s0: {module} on \S+ is not the version .* Use one"):
        fit_fold(planned_elsewhere, toy.inputs(clips))
    told = LocalBackend().train([planned_elsewhere, *others[:1]], toy.inputs(clips))
    failure, result = (report for report in told if not isinstance(report, FoldBegun))
    assert isinstance(failure, FoldFailure) and module in failure.reason
    assert failure.lost  # a sweep will try it again
    assert isinstance(result, FoldResult)


@pytest.mark.parametrize("name", [name for name in models() if name != "edited"])
def test_all_code_that_has_a_say_in_a_fold_is_in_its_identity(name: str) -> None:
    """A module that the fold's code imports, directly or not, is covered, or is named above with the
    reason."""
    own = module_of(name)
    reached = {own, "distmer.training.fit"}.union(
        *map(_GRAPH.find_upstream_modules, (own, "distmer.training.fit"))
    )
    with_a_say = {module for module in reached if module.startswith(_PACKAGES)} - _NO_SAY.keys()
    assert with_a_say <= code_of(own, models()[name].kind).keys()


def test_what_makes_a_model_of_a_users_class_is_in_its_identity() -> None:
    of_user = code_of("json", "torch", own=())
    assert of_user.keys() == {*SHARED, *OF_KIND["torch"], *OF_USERS}


def test_nothing_is_listed_that_no_fold_uses() -> None:
    of_fit = _GRAPH.find_upstream_modules("distmer.training.fit") | {"distmer.training.fit"}
    assert of_fit >= {*SHARED, *_NO_SAY}
    for kind, names in OF_KIND.items():
        own = [module_of(name) for name, info in models().items() if info.kind == kind]
        assert set[str]().union(*map(_GRAPH.find_upstream_modules, own)) >= set(names)
