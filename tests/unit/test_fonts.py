"""Chinese names in figures: a font that has them, or one warning and boxes."""

from __future__ import annotations

import io
import warnings

import matplotlib
import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure

from distmer.report import fonts
from distmer.report.fonts import legible

MADE_UP = "\U0001f9ff\ue0b0"  # an amulet and a private character: DejaVu has neither


@pytest.fixture(autouse=True)
def forgotten() -> None:
    fonts._family_with.cache_clear()


def drawn(title: str, ticks: list[str]) -> Figure:
    figure = Figure()
    axes = figure.add_axes((0.1, 0.1, 0.8, 0.8))
    axes.set_xticks(range(len(ticks)), ticks)
    axes.set_title(title)
    return figure


def saved(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def installed(*characters: str) -> bool:
    return any(set(characters) <= fonts._characters(path) for _, path in fonts._fonts())


@pytest.mark.skipif(not installed("高", "兴"), reason="no Chinese font is installed")
def test_a_font_with_the_characters_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    plain, chinese = drawn("UAR of happiness", ["a"]), drawn("UAR of 高兴", ["惊讶", "a"])
    before = saved(plain)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of each character that it has not
        image = saved(legible(chinese))
        assert saved(legible(plain)) == before
    assert image != saved(drawn("UAR of □□", ["□□", "a"])) and not caplog.records
    assert "Last Resort" not in str(chinese.axes[0].title.get_fontfamily())  # a font of boxes


def test_a_font_of_boxes_is_no_font_for_anything() -> None:
    assert not any("last resort" in family.lower() for family, _ in fonts._fonts())


def test_without_one_there_are_boxes_and_one_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    dejavu = font_manager.findfont("DejaVu Sans")
    monkeypatch.setattr(fonts, "_fonts", lambda: iter([("DejaVu Sans", dejavu)]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            figure = legible(drawn(f"of 高兴 {MADE_UP}", ["张三", "é"]))
            assert figure.axes[0].get_title() == "of □□ □□"
            saved(figure)
            assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["□□", "é"]
    assert len(caplog.records) == 1
    assert "install one that has them (Debian and Ubuntu: apt install fonts-noto-cjk" in caplog.text


def test_usual_names_change_nothing() -> None:
    family = list(matplotlib.rcParams["font.family"])
    figure = legible(drawn("Überraschung, joie, 1 × 2 – µ\nnext", ["a", "b"]))
    assert figure.axes[0].title.get_fontfamily() == family
