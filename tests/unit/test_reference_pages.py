"""The lists of settings and commands in the documentation, which are made from the code."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

from distmer.cli import main
from distmer.config import Config, Named
from distmer.idle import default_settings, sections

HOOK = Path(__file__).parents[2] / "docs" / "hooks" / "reference.py"


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_reference", HOOK)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def entries(page: str) -> dict[str, tuple[str, str]]:
    """Every entry of a list of definitions: its name, and what stands beside and below it."""
    found = re.findall(r"^`([^`]+)`(.*)\n:   (.*(?:\n    .*)*)", page, re.MULTILINE)
    return {name: (facts, text) for name, facts, text in found}


def test_every_setting_has_an_entry_with_a_text(reference: ModuleType) -> None:
    found = entries(reference.settings())
    leaves = {name if name in found else name.removesuffix(".name") for name in default_settings()}
    leaves |= {f"{key}.{name}" for key, kind in reference.OF_COMMANDS.items() for name in kind.model_fields}
    assert leaves <= set(found)
    assert [name for name, (_, text) in found.items() if not re.match(r"[A-Z`0]", text)] == []


def test_an_entry_has_bounds_default_and_when_it_acts(reference: ModuleType) -> None:
    found = entries(reference.settings())
    assert found["train.momentum"] == (
        " · a number, at least 0, below 1; default `0.0` { #train.momentum }",
        "The momentum. *It acts only where train.optimiser is sgd.*",
    )
    assert "`nearest` or `linear`; default `nearest`" in found["features.sampling"][0]
    assert "a path or an address; no default" in found["data.root"][0]
    assert "a whole number, at least 0 or `auto`; default `auto`" in found["cluster.workers_per_fold"][0]
    named = [name for name, field in sections(Config) if isinstance(field.default, Named) and "." in name]
    assert named and all("`{name: …}`" in found[name][0] for name in named)


def test_every_command_is_listed_with_its_help_and_options(reference: ModuleType) -> None:
    page = reference.commands()
    names = [name for name, _ in reference.leaves(main, "distmer")]
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == names
    assert {"distmer run", "distmer data look"} <= set(names)
    assert "look/&lt;protocol&gt;.html" in page  # a browser would take it for a tag
    assert [name for name, (_, text) in entries(page).items() if not text.strip()] == []


@pytest.mark.parametrize("group", [(), ("data",)])
def test_the_list_of_commands_says_of_each_one_what_it_does_in_a_whole_sentence(
    group: tuple[str, ...],
) -> None:
    """click cuts a first sentence that is too long for a line of 80 characters."""
    shown = CliRunner().invoke(main, [*group, "--help"], terminal_width=80).output
    listed = shown.partition("Commands:\n")[2].splitlines()
    assert listed and [line for line in listed if line.endswith("...") or len(line.split()) < 3] == []
