"""`distmer plugins`: what is nameable is listed, also what installed packages announce."""

from __future__ import annotations

import sys
from pathlib import Path

from distmer.commands.plugins import list_plugins
from distmer.functions import AUGMENTATION, LOSS, METRIC
from distmer.models import models
from distmer.plugins import shipped
from distmer.report.table import Table
from tests.imports import forget
from tests.saying import Say


def cells(kind: str) -> dict[str, tuple[str, ...]]:
    (table,) = list_plugins(kind).parts
    assert isinstance(table, Table)
    return {row.cells[0]: tuple(row.cells[1:]) for row in table.rows}


def test_every_name_of_ours_is_listed_with_its_options() -> None:
    assert cells("models").keys() == models().keys()
    for kind, of in (("losses", LOSS), ("augmentations", AUGMENTATION), ("metrics", METRIC)):
        found = cells(kind)
        assert found.keys() == shipped(of.group).keys()
        assert all(origin == "distmer" and what for origin, what, _ in found.values())
    assert cells("losses")["focal"][2] == "gamma=2.0"
    assert "hidden=1024" in cells("models")["atscnn"][2]


def test_what_a_package_announces_is_listed_and_what_is_broken_says_why(tmp_path: Path, say: Say) -> None:
    (tmp_path / "listed_lab.py").write_text(
        'def kappa(confusion_xKK, weight: float = 0.5):\n    """Cohen\'s kappa."""\n    return 0\n'
    )
    info = tmp_path / "listed_lab-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: listed-lab\nVersion: 1.2\n")
    (info / "top_level.txt").write_text("listed_lab\n")
    (info / "RECORD").write_text("listed_lab.py,,\n")
    (info / "entry_points.txt").write_text(
        "[distmer.metrics]\nkappa = listed_lab:kappa\ngone = listed_lab:gone\n"
    )
    sys.path.append(str(tmp_path))
    forget(tmp_path)
    found = cells("metrics")
    assert found["kappa"] == ("listed-lab 1.2", "Cohen's kappa.", "weight=0.5")
    assert found["gone"][1].startswith("cannot be used: ") and "has no 'gone'" in found["gone"][1]
    assert "listed-lab 1.2" in say("plugins").out
    refused = say("plugins", "metrc")
    assert refused.code == 2 and "did you mean 'metrics'?" in refused.sentence
