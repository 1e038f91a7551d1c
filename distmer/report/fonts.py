"""Fonts for names in any script: matplotlib's own font has no Chinese characters, and would draw boxes."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

# Parts of the names of fonts that are tried first, because reading all installed fonts takes seconds.
_LIKELY = (
    "notosanscjk", "notosanssc", "sourcehansans", "wqy", "wenquanyi", "msyh", "yahei", "simhei", "pingfang",
    "heitisc", "hiraginosans", "arialunicode", "notosans", "droidsansfallback", "sans",
)  # fmt: skip
_BOX = "□"


def legible(figure: Figure) -> Figure:
    """Give each text of a figure a font that has its characters, if the usual font lacks them.

    If no installed font has them, they are drawn as boxes, and one warning names the remedy.
    """
    from matplotlib.text import Text

    texts = [text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text()]
    lacking = {text: set(text.get_text()) - _usual() for text in texts if not text.get_text().isascii()}
    wanted = frozenset().union(*lacking.values())
    if not wanted:
        return figure
    family = _family_with(wanted)
    for text, characters in lacking.items():
        if characters and family is not None:
            text.set_fontfamily([*text.get_fontfamily(), family])
        elif characters:
            text.set_text(_boxed(text.get_text()))
    if family is None:
        # an axis writes the texts of its ticks again when it is drawn
        for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
            labels = [label.get_text() for label in axis.get_ticklabels()]
            boxed = [_boxed(label) for label in labels]
            if boxed != labels:
                axis.set_ticks(axis.get_ticklocs(), boxed)
    return figure


def _boxed(text: str) -> str:
    return "".join(one if one in _usual() else _BOX for one in text)


@cache
def _usual() -> frozenset[str]:
    from matplotlib.font_manager import findfont

    return _characters(findfont("DejaVu Sans")) | frozenset("\n\t\r")


@cache
def _characters(path: str) -> frozenset[str]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(map(chr, FT2Font(path).get_charmap()))
    except (OSError, RuntimeError):  # a font file that FreeType cannot read
        return frozenset()


@cache
def _family_with(wanted: frozenset[str]) -> str | None:
    """The first installed family that has all of these characters."""
    found = next((family for family, path in _fonts() if wanted <= _characters(path)), None)
    if found is None:
        shown = " ".join(sorted(wanted)[:12])
        log.warning(
            "no installed font has the characters %s, which figures show as boxes; install one that has them"
            " (Debian and Ubuntu: apt install fonts-noto-cjk, elsewhere a .ttf file in ~/.fonts) and draw the"
            " figures again with distmer track or the same run.",
            shown,
        )
    return found


def _fonts() -> Iterator[tuple[str, str]]:
    """(family, file) of the fonts that matplotlib knows, likely ones first, then of those that were installed
    since it last looked."""
    from matplotlib import font_manager

    known: dict[str, str] = {}  # a file of several families by its first
    for font in font_manager.fontManager.ttflist:
        known.setdefault(font.fname, font.name)
    for path, name in sorted(known.items(), key=lambda font: _rank(font[1], font[0])):
        if not _is_last_resort(name):
            yield name, path
    for path in sorted(font_manager.findSystemFonts(), key=lambda path: _rank(path)):
        if path not in known and not _is_last_resort(path):
            before = len(font_manager.fontManager.ttflist)
            try:
                font_manager.fontManager.addfont(path)
            except (OSError, RuntimeError):
                continue
            yield font_manager.fontManager.ttflist[before].name, path


def _rank(name: str, path: str = "") -> tuple[int, bool, str]:
    """A sort key: likely families first, and within a family the regular face first."""
    plain = re.sub(r"[\W_]", "", name.lower())
    place = next((n for n, part in enumerate(_LIKELY) if part in plain), len(_LIKELY))
    return place, "regular" not in f"{name}{path}".lower(), name


def _is_last_resort(name: str) -> bool:
    """Whether a font only has a box for each script. matplotlib and macOS come with such a font."""
    return "lastresort" in name.lower().replace(" ", "")
