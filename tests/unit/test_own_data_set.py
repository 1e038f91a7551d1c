"""A data set of a user's own, named in a protocol: by file, and by an installed package's entry point."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from distmer.types import BadInput
from tests.fixtures.dataset_layouts import frames
from tests.fixtures.dataset_loading import load

SOURCE = """
from distmer.datasets import Annotation, DatasetInfo
from distmer.types import KeyFrames

def read(root, options):
    rows = []
    for subject in sorted(p for p in root.iterdir() if p.is_dir()):
        for emotion in ("joy", "anger"):
            pair = KeyFrames(str(subject / emotion / "1.jpg"), str(subject / emotion / "2.jpg"))
            rows.append(Annotation(subject.name, emotion, emotion, str(subject), source=pair))
    return rows

LAB = DatasetInfo("labset", "Our clips", "none", ("LAB",), (), read)
BROKEN = DatasetInfo("brokenset", "Our clips", "none", ("LAB",), (), lambda root, options: [1 / 0])
TAKEN = DatasetInfo("casme2", "Our clips", "none", ("LAB",), (), read)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data, the code, and a protocol for each of its names."""
    (tmp_path / "lab_of_this_test.py").write_text(SOURCE)
    for subject in ("p1", "p2"):
        for emotion in ("joy", "anger"):
            frames(tmp_path / "LAB" / subject / emotion, (1, 2), "{}.jpg")
    for name in ("LAB", "BROKEN", "TAKEN", "SOURCE", "read"):
        protocol(tmp_path, f"./lab_of_this_test.py:{name}", name)
    return tmp_path


def protocol(folder: Path, key: str, name: str) -> str:
    part = {"labels": {"good": ["joy"], "bad": ["anger"]}, "expected": {"good": 2, "bad": 2}}
    tree = {"source": "a test", "classes": ["good", "bad"], "sets": {key: part}}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(tree))
    return str(path)


def test_a_data_set_of_a_file_beside_the_protocol(folder: Path) -> None:
    manifest = load(str(folder / "LAB.yaml"), folder)
    assert [clip.id for clip in manifest.clips] == [
        f"labset/p{n}/{e}" for n in (1, 2) for e in ("anger", "joy")
    ]
    assert manifest.expected == {"labset": {"good": 2, "bad": 2}}
    elsewhere = load(str(folder / "LAB.yaml"), None, roots={"labset": str(folder / "LAB")})
    assert elsewhere.clips == manifest.clips


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "BROKEN",
            r"py:BROKEN: reading .* raised ZeroDivisionError .*lab_of_this_test\.py, line",
        ),
        ("TAKEN", r"has the name 'casme2'; give it a name of its own"),
        ("read", r"lab_of_this_test:read is a function; make it a distmer\.datasets\.DatasetInfo"),
        ("SOURCE", r"lab_of_this_test\.py has no 'SOURCE'"),
    ],
)
def test_what_is_wrong_with_it_is_one_sentence(folder: Path, name: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        load(str(folder / f"{name}.yaml"), folder)


def test_a_data_set_that_an_installed_package_announces(folder: Path) -> None:
    info = folder / "labpack-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: labpack\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[distmer.datasets]\nourset = lab_of_this_test:LAB\n")
    sys.path.append(str(folder))
    assert len(load(protocol(folder, "ourset", "announced"), folder).clips) == 4
    with pytest.raises(BadInput, match=r"sets\.oursett is not a data set"):
        load(protocol(folder, "oursett", "misspelt"), folder)
