"""Where a model looks: the mean maps of each class, their folder, tables and figures.

Maps and landmarks are means over clips, in the aligned face frame, so they show no person.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from distmer.report.axes import place_axes, place_text
from distmer.report.svg import INK, MUTED, plain_text, svg
from distmer.report.table import Column, Row, Table
from distmer.storage import Place, delete, files, write
from distmer.types import BadInput, FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FOLDER, ABOUT, MAPS, CLIPS = "explanation", "explanation.json", "maps.safetensors", "clips.csv"
TRAINED, UNTRAINED = "trained", "untrained"
SHAPE, MOVED = "landmarks", "moved"  # names among the arrays
_PICTURES = "looks-"  # how the names of the figures begin
_STRONGEST = 4.0  # times the weight of a flat map
_RGB = (0.70, 0.29, 0.05)  # of the maps: seen on white, on black, and in grey
# Lines through the 68 landmarks: first, last, whether closed.
_LINES = (
    *((0, 16, False), (17, 21, False), (22, 26, False), (27, 30, False), (31, 35, False)),
    *((36, 41, True), (42, 47, True), (48, 59, True), (60, 67, True)),
)

Share = tuple[float, float, float]  # a mean over clips, and the ends of its interval over subjects


class Inside(BaseModel):
    """How much of a method's maps lies where the face really moved. ``difference`` is trained minus
    untrained."""

    model_config = ConfigDict(frozen=True)
    method: str
    trained: Share
    untrained: Share | None = None
    difference: Share | None = None


class About(BaseModel):
    """What the maps are of, and their numbers.

    ``of``: the digest of the run's plan, or the identity of the kept model. ``whose``: which clips a class
    stands for. ``untrained``: what the second row of maps is of, "" where there is none. ``channels``: the
    mean weights of CBAM's channel attention, by side, class and stream. ``regions``: the share of the maps in
    a region of the face, by side, method, class and region. ``area``: the share of the frame that moved.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    of: str
    title: str
    whose: str
    untrained: str
    classes: tuple[str, ...]
    clips: tuple[int, ...] = ()
    methods: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()
    channels: dict[str, tuple[tuple[float, ...], ...]] = {}
    regions: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    region_areas: dict[str, float] = {}
    inside: tuple[Inside, ...] = ()
    area: Share | None = None
    confidence: float = 0.95


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """The maps of a run or a kept model.

    ``arrays``: ``trained/METHOD`` and ``untrained/METHOD`` are map_KHW, a map for each class, which sums to 1
    (to 0 where the class has no map); ``landmarks`` is the mean shape (68, 2) in px of the maps; ``moved`` is
    map_KHW, the share of the clips of a class that really moved there.
    """

    about: About
    arrays: Mapping[str, FloatArray]

    def map(self, side: str, method: str, k: int) -> FloatArray | None:
        """The mean map of a class, if it has one."""
        maps_KHW = self.arrays.get(f"{side}/{method}")
        return None if maps_KHW is None or not maps_KHW[k].any() else maps_KHW[k]


def write_explanation(folder: Place, explanation: Explanation, clips_csv: str) -> None:
    """Write a JSON file, arrays, and a table of the clips into ``folder``. An earlier one is replaced,
    and its figures are deleted."""
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(x, np.float32) for name, x in explanation.arrays.items()}
    delete(folder / FOLDER / ABOUT)  # it comes last: no reader finds numbers of one beside maps of another
    if (folder / FOLDER / MAPS).is_file():  # else pictures of such names are somebody's own
        for name in files(folder / "figures", ".png"):
            if name.startswith(_PICTURES):
                delete(folder / "figures" / name)
    write(folder / FOLDER / CLIPS, clips_csv.encode())
    write(folder / FOLDER / MAPS, save(arrays))
    write(folder / FOLDER / ABOUT, explanation.about.model_dump_json(indent=1).encode())


def read_explanation(folder: Place, of: str) -> Explanation | None:
    """The explanation of the plan ``of`` in a folder, or None. BadInput where it cannot be read."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        about = About.model_validate_json((folder / FOLDER / ABOUT).read_bytes())
        arrays = load((folder / FOLDER / MAPS).read_bytes())
    except FileNotFoundError:
        return None
    except (ValidationError, SafetensorError) as error:
        why = " ".join(str(error).split())[:160]
        raise BadInput(f"{folder / FOLDER} cannot be read ({why}); explain the run again.") from error
    return Explanation(about, arrays) if about.of == of else None


def looks(folder: Place, of: str) -> dict[str, Callable[[], Figure]]:
    """Name → the figure of a class that has clips, from a folder; drawn when called."""
    found = read_explanation(folder, of)
    if found is None:
        return {}
    names = [re.sub(r"[^0-9A-Za-z]+", "-", name).strip("-") for name in found.about.classes]
    alone = all(names) and len(set(names)) == len(names)
    named = [name if alone else f"{k}-{name}".rstrip("-") for k, name in enumerate(names)]
    return {f"{_PICTURES}{named[k]}": partial(figure, found, k) for k, _ in _shown(found)}


def figure(found: Explanation, k: int) -> Figure:
    """The maps of class ``k`` as a figure on white."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=_size(found))
    _draw(found, k, "#1f2933", "#667380", drawn)
    plain_text(drawn)
    return drawn


def drawings_svg(found: Explanation) -> list[tuple[str, str]]:
    """Class → its maps as SVG in the colours of a page."""
    width, height = _size(found)
    return [
        (name, svg(partial(_draw, found, k, INK, MUTED), width, height, f"looks{k}"))
        for k, name in _shown(found)
    ]


def tables(about: About) -> list[Table]:
    """Every table that there is: where the face really moved, by region, and CBAM's channel attention."""
    found = [_inside_table(about, about.area)] if about.inside and about.area is not None else []
    found += [_regions_table(about)] if about.regions else []
    return found + ([_channels_table(about)] if about.channels else [])


def _inside_table(about: About, area: Share) -> Table:
    """How much of the maps lies where the face really moved."""
    rows = [(one.method, one.trained, one.untrained, one.difference) for one in about.inside]
    sides = ["trained", *((about.untrained, "difference") if about.untrained else ())]
    cells = [Row([name, *map(_share, shares[: len(sides)])]) for name, *shares in rows]
    flat = Row(["a flat map", _share(area), *("" for _ in sides[1:])], style="dim")
    columns = [Column("map"), *(Column(side, right=True) for side in sides)]
    return Table(columns, [*cells, flat], "share of a map where the face really moved")


def _regions_table(about: About) -> Table:
    """How much of the maps lies in a region of the face."""
    names = list(about.region_areas)
    columns = [Column("class"), Column("map"), *(Column(name, right=True) for name in names)]
    rows: list[Row] = []
    for k, name in enumerate(about.classes):
        for method in about.methods:
            sides = [about.regions.get(side, {}).get(method, {}).get(name) for side in (TRAINED, UNTRAINED)]
            if about.clips[k] and sides[0]:
                shares = [_beside([side[region] for side in sides if side]) for region in names]
                rows.append(Row([name, method, *shares]))
    rows.append(Row(["", "a flat map", *(f"{about.region_areas[name]:.2f}" for name in names)], style="dim"))
    return Table(columns, rows, f"share of a map by region of the face; regions overlap{_with(about)}")


def _channels_table(about: About) -> Table:
    """The mean weights of CBAM's channel attention."""
    columns = [Column("class"), *(Column(name, right=True) for name in about.streams)]
    rows: list[Row] = []
    for k, name in enumerate(about.classes):
        if about.clips[k]:
            sides = [about.channels[side][k] for side in (TRAINED, UNTRAINED) if side in about.channels]
            rows.append(Row([name, *map(_beside, zip(*sides, strict=True))]))
    return Table(columns, rows, f"CBAM, channel: mean weight of a stream's channels{_with(about)}")


def _with(about: About) -> str:
    return f" (with {about.untrained})" if about.untrained else ""


def _beside(values: Sequence[float]) -> str:
    """A number of the trained model, and in brackets that of the untrained one."""
    return f"{values[0]:.2f}" + (f" ({values[1]:.2f})" if len(values) > 1 else "")


def _share(value: Share | None) -> str:
    if value is None:
        return ""
    interval = f" [{value[1]:.3f}, {value[2]:.3f}]" if value[1] < value[2] else ""  # one subject has none
    return f"{value[0]:.3f}{interval}"


def caption(about: About) -> str:
    """A caption: what the maps show, in words."""
    words = (
        "Mean maps in the aligned face frame; the lines are the mean of the clips' landmarks. A map that is"
        f" the same everywhere has one faint shade; the strongest is {_STRONGEST:.0f} times as much or more."
        " The first map is of the input alone."
    )
    if about.untrained:
        words += (
            f" The second row is of a model with {about.untrained}: what it shows too, the model has not"
            " learned."
        )
    return words + (" Dashed: where the faces of the class really moved most often." if about.inside else "")


def _shown(found: Explanation) -> list[tuple[int, str]]:
    return [(k, name) for k, name in enumerate(found.about.classes) if found.about.clips[k]]


_PANEL, _GAP, _LEFT, _HEAD, _NAMES = 1.7, 0.12, 0.95, 0.62, 0.28  # inches


def _size(found: Explanation) -> tuple[float, float]:
    columns, rows = len(found.about.methods), 2 if found.about.untrained else 1
    return max(6.4, _LEFT + columns * (_PANEL + _GAP) + 0.1), _HEAD + _NAMES + rows * (_PANEL + _GAP)


def _draw(found: Explanation, k: int, ink: str, muted: str, drawn: Figure) -> None:
    about = found.about
    clips = "1 clip" if about.clips[k] == 1 else f"{about.clips[k]} clips"
    title = f"Where the model looks: {about.classes[k]}"
    place_text(drawn, 0.1, 0.2, title, color=ink, fontsize=12, fontweight="bold")
    place_text(drawn, 0.1, 0.44, f"{about.title} · {clips} {about.whose}", color=muted, fontsize=9)
    for row, side in enumerate((TRAINED, UNTRAINED) if about.untrained else (TRAINED,)):
        top = _HEAD + _NAMES + row * (_PANEL + _GAP)
        label = "trained" if side == TRAINED else about.untrained.replace(" ", "\n")
        place_text(drawn, 0.1, top + _PANEL / 2, label, color=ink, fontsize=9.5)
        for column, method in enumerate(about.methods):
            left = _LEFT + column * (_PANEL + _GAP)
            if row == 0:
                place_text(drawn, left, top - 0.12, method, color=ink, fontsize=9.5)
            if f"{side}/{method}" in found.arrays:  # the input has no untrained side
                panel = place_axes(drawn, left, top, _PANEL, _PANEL)
                _panel(panel, found, k, found.map(side, method, k), ink, muted)


def _panel(axes: Axes, found: Explanation, k: int, map_HW: FloatArray | None, ink: str, muted: str) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(muted)
        spine.set_linewidth(0.6)
    if map_HW is None:
        middle = {"ha": "center", "va": "center", "transform": axes.transAxes}
        axes.text(0.5, 0.5, "no map", color=muted, fontsize=9, **middle)
        return
    side = len(map_HW)
    rgba_HW4 = np.empty((*map_HW.shape, 4))
    rgba_HW4[..., :3] = _RGB
    rgba_HW4[..., 3] = np.clip(map_HW * map_HW.size / _STRONGEST, 0, 1)
    axes.imshow(rgba_HW4, interpolation="bilinear")
    if SHAPE in found.arrays:
        points_L2 = found.arrays[SHAPE]
        for first, last, closed in _LINES:
            line_P2 = points_L2[[*range(first, last + 1), *([first] if closed else [])]]
            axes.plot(line_P2[:, 0], line_P2[:, 1], color=ink, linewidth=0.8)
    if MOVED in found.arrays and found.arrays[MOVED][k].any():
        moved_HW = found.arrays[MOVED][k]
        level = float(moved_HW.max()) / 2
        axes.contour(moved_HW, levels=[level], colors=[ink], linewidths=0.9, linestyles="dashed")
    axes.set_xlim(-0.5, side - 0.5)
    axes.set_ylim(side - 0.5, -0.5)
