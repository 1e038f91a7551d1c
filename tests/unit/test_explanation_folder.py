"""What `distmer explain` keeps in a folder: nothing of an earlier explanation lies beside the new one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from distmer.commands.explain import explain_kept, explain_run
from distmer.report import explanation
from distmer.report.explanation import (
    About,
    Explanation,
    Inside,
    looks,
    read_explanation,
    tables,
    write_explanation,
)
from distmer.report.run_folder import write_figures
from distmer.types import BadInput


def explained(classes: tuple[str, ...], clips: tuple[int, ...]) -> Explanation:
    about = About(
        of="abc", title="", whose="", untrained="", classes=classes, clips=clips, methods=("occlusion",)
    )
    return Explanation(about, {"trained/occlusion": np.ones((len(classes), 4, 4)) / 16})


def pictures(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "figures").iterdir())


def test_the_figures_of_an_earlier_explanation_are_not_taken_for_those_of_this_one(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "confusion.png").write_bytes(b"")
    for clips, there in (((1, 0), "looks-calm.png"), ((0, 1), "looks-glad.png")):
        write_explanation(tmp_path, explained(("calm", "glad"), clips), "")
        write_figures(tmp_path, looks(tmp_path, "abc"), dpi=20)
        assert pictures(tmp_path) == ["confusion.png", there]


def test_pictures_of_somebody_elses_are_left(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "looks-nice.png").write_bytes(b"mine")
    write_explanation(tmp_path, explained(("calm", "glad"), (1, 0)), "")
    assert pictures(tmp_path) == ["looks-nice.png"]


@pytest.mark.parametrize(
    ("classes", "clips"),
    [(("正面A", "负面A"), (1, 1)), (("积极", "消极", "1"), (1, 1, 1)), (("a b", "a-b"), (1, 1))],
)
def test_each_class_has_a_figure_of_its_own(
    classes: tuple[str, ...], clips: tuple[int, ...], tmp_path: Path
) -> None:
    write_explanation(tmp_path, explained(classes, clips), "")
    assert len(looks(tmp_path, "abc")) == sum(clips)


def test_an_explanation_that_was_broken_off_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_explanation(tmp_path, explained(("calm", "glad"), (1, 0)), "")
    whole = explanation.write

    def killed(path: Path, data: bytes) -> None:
        if path.name == explanation.ABOUT:
            raise KeyboardInterrupt
        whole(path, data)

    monkeypatch.setattr(explanation, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        write_explanation(tmp_path, explained(("calm", "glad"), (0, 1)), "")
    assert read_explanation(tmp_path, "abc") is None  # and not the old numbers beside the new maps


def test_the_maps_of_some_clips_do_not_take_the_place_of_those_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("{}")
    for explain in (
        lambda: explain_run(tmp_path, None, "casme/sub01/EP51_1", tmp_path),  # type: ignore[arg-type]
        lambda: explain_kept(None, ["clip"], tmp_path),  # type: ignore[arg-type]
    ):
        with pytest.raises(BadInput, match="the folder of a run; give --out another"):
            explain()
    with pytest.raises(BadInput, match="this is a file; give --out a folder"):
        explain_kept(None, ["clip"], tmp_path / "plan.json")  # type: ignore[arg-type]


def test_a_single_subject_has_no_interval() -> None:
    one = Inside(method="occlusion", trained=(0.25, 0.25, 0.25))
    about = explained(("calm", "glad"), (1, 0)).about.model_copy(
        update={"inside": (one,), "area": (0.1, 0.05, 0.2)}
    )
    (table,) = tables(about)
    assert [row.cells[1] for row in table.rows] == ["0.250", "0.100 [0.050, 0.200]"]
