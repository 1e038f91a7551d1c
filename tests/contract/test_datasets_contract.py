"""What every registered data set must keep. A new one needs a hand-made layout in
tests/fixtures/dataset_layouts.py, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from distmer.config import DataConfig
from distmer.datasets import check_report, datasets, load_manifest, protocol_names
from distmer.datasets.base import ReadOptions
from distmer.datasets.protocols import errata_of, label_table, load_protocol
from distmer.types import BadInput
from tests.fixtures.further_layouts import EVERY_LAYOUT as LAYOUTS

SETS = sorted(datasets())
OPTIONS = ReadOptions(missing_apex="midpoint")


def test_every_data_set_has_a_layout_to_be_tested_on() -> None:
    assert set(SETS) == set(LAYOUTS), "write its layout in tests/fixtures/further_layouts.py"


@pytest.mark.parametrize("name", SETS)
def test_it_says_what_it_is(name: str) -> None:
    info = datasets()[name]
    assert info.name == name == name.lower() and info.title and info.citation and info.folders
    assert name in protocol_names(), "each data set has a protocol of its own name"


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("policy", ["midpoint", "max-flow"])
def test_rows_are_usable_absolute_and_repeatable(name: str, policy: str, tmp_path: Path) -> None:
    root = LAYOUTS[name](tmp_path)
    everything = datasets()[name].read(root, ReadOptions(missing_apex=policy))
    rows = [row for row in everything if not row.aside]
    assert rows and all(row.source and not row.problem for row in rows), [row.problem for row in rows]
    for row in rows:
        assert row.subject == row.subject.strip() and row.emotion == row.emotion.lower() and row.where
        for image in row.source.images:
            assert Path(image).is_absolute() and Path(image).is_file() and Path(image).is_relative_to(root)
    assert everything == datasets()[name].read(root, ReadOptions(missing_apex=policy))


@pytest.mark.parametrize("name", SETS)
def test_its_protocol_loads_and_every_clip_has_an_id_of_three_parts(name: str, tmp_path: Path) -> None:
    manifest = load_manifest(
        DataConfig(protocol=name, root=str(LAYOUTS[name](tmp_path)), missing_apex="midpoint"),
        tmp_path / "unused",
    )
    assert not manifest.failures
    assert all(clip.id.count("/") == 2 for clip in manifest.clips)
    assert (
        len({clip.label for clip in manifest.clips}) > 1
        and len({clip.subject_key for clip in manifest.clips}) > 1
    )
    assert check_report(manifest).startswith(f"Protocol {name}: ")
    assert not (tmp_path / "unused").exists()


@pytest.mark.parametrize("name", SETS)
def test_an_empty_root_is_bad_input_that_names_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as error:
        datasets()[name].read(tmp_path, OPTIONS)
    assert str(error.value).startswith(f"{tmp_path}: ") and "\n" not in str(error.value)


@pytest.mark.parametrize("name", SETS)
def test_a_root_is_recognised_alone_and_below_a_common_one(name: str, tmp_path: Path) -> None:
    info = datasets()[name]
    for label in info.folders:
        root = LAYOUTS[name](_made(tmp_path / label / label))
        alone, below = (
            load_manifest(
                DataConfig(protocol=name, root=str(r), missing_apex="midpoint"), tmp_path / "unused"
            )
            for r in (root, root.parent)
        )
        assert alone.clips == below.clips


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("name", protocol_names())
def test_every_built_in_protocol_is_sound(name: str) -> None:
    protocol = load_protocol(name, datasets())
    assert protocol.name == name and protocol.title and protocol.source
    for dataset, part in protocol.sets.items():
        assert set(label_table(protocol, dataset).values()) == set(protocol.classes)
        assert all(entry.source for entry in part.exclude)
        assert not part.expected or set(part.expected) == set(protocol.classes)
        assert all(erratum.source for errata in errata_of(protocol, dataset).values() for erratum in errata)
