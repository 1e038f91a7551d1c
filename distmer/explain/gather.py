"""The maps of single clips, and what becomes of them: mean maps of a class, and shares by region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from distmer.evaluation.stats import mean_by_subject
from distmer.explain.maps import INPUT, channel_attention, input_map, maps_of
from distmer.features.inputs import resize
from distmer.report.explanation import (
    MOVED,
    SHAPE,
    TRAINED,
    UNTRAINED,
    About,
    Explanation,
    Inside,
    Share,
)
from distmer.report.table import csv_text
from distmer.saved.measured import MaskArray, regions_of
from distmer.training.fit import Fitted
from distmer.types import FloatArray, IntArray, SubjectKey

SIDE = 64  # px of a kept map
MOVED_FROM = 0.5  # of a clip's largest motion: from there on, skin counts as moved

Key = tuple[str, str]  # side, method


@dataclass(frozen=True, slots=True, eq=False)
class ClipMaps:
    """The maps of a clip for the class ``target``, and the class that the model answered. Each map sums to 1,
    or to 0 where the method found nothing. ``channels`` holds CBAM's weight of each stream, by side."""

    clip: str
    target: int
    answer: int
    maps: Mapping[Key, FloatArray]
    channels: Mapping[str, FloatArray]


def look(
    clips: Sequence[str],
    fitted: Fitted,
    untrained: Fitted | None,
    x_NCHW: FloatArray,
    target_N: IntArray,
    blank_1C11: FloatArray,
) -> list[ClipMaps]:
    """The maps of clips, and those of an untrained counterpart if there is one. ``x_NCHW`` are inputs that
    are not yet standardised."""
    found: dict[Key, FloatArray] = {(TRAINED, INPUT): _even(input_map(x_NCHW, blank_1C11))}
    channels: dict[str, FloatArray] = {}
    for side, model in ((TRAINED, fitted), (UNTRAINED, untrained)):
        if model is None:
            continue
        maps = maps_of(model, x_NCHW, target_N, blank_1C11)
        found |= {(side, method): _even(map_NHW) for method, map_NHW in maps.items()}
        weight_NS = channel_attention(model, x_NCHW)
        if weight_NS is not None:
            channels[side] = weight_NS
    answer_N = fitted.predict(x_NCHW.copy()).argmax(axis=1)
    return [
        ClipMaps(
            clip,
            int(target_N[n]),
            int(answer_N[n]),
            {key: map_NHW[n] for key, map_NHW in found.items()},
            {side: weight_NS[n] for side, weight_NS in channels.items()},
        )
        for n, clip in enumerate(clips)
    ]


def _even(map_NHW: FloatArray) -> FloatArray:
    """Maps of `SIDE` px that sum to 1 each."""
    small_NHW = np.maximum(resize(np.ascontiguousarray(map_NHW, np.float32), SIDE), 0).astype(np.float64)
    total_N11 = small_NHW.sum(axis=(1, 2), keepdims=True)
    return small_NHW / np.where(total_N11 > 0, total_N11, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a folder says of the maps in it; see `distmer.report.explanation.About`."""

    of: str
    title: str
    whose: str
    untrained: str
    classes: tuple[str, ...]
    streams: tuple[str, ...]
    confidence: float = 0.95
    resamples: int = 2000


def gathered(
    source: Source,
    looked: Sequence[ClipMaps],
    shape_L2: FloatArray | None,
    motion: Mapping[str, FloatArray] | None,
) -> tuple[Explanation, str]:
    """The mean maps of each class with their numbers, and a table of the clips as CSV.

    ``shape_L2`` are the mean landmarks of the clips, from 0 to 1 of the frame, or None; ``motion`` is how far
    the skin of each clip really moves, clip id → length_HW of `SIDE` px, where that is known.
    """
    keys = sorted({key for one in looked for key in one.maps})
    methods = tuple(dict.fromkeys(method for side, method in (*_firsts(keys), *keys)))
    arrays: dict[str, FloatArray] = {}
    for side, method in keys:
        maps = [
            [one.maps[side, method] for one in looked if one.target == k] for k in range(len(source.classes))
        ]
        arrays[f"{side}/{method}"] = np.stack([_mean(own) for own in maps])
    masks: dict[str, MaskArray] = {}
    if shape_L2 is not None:
        arrays[SHAPE] = shape_L2 * (SIDE - 1)
        masks = regions_of(arrays[SHAPE].astype(np.float64), SIDE)
        masks["elsewhere"] = ~np.logical_or.reduce(list(masks.values()))
    moved = (
        None if motion is None else {clip: x_HW >= MOVED_FROM * x_HW.max() for clip, x_HW in motion.items()}
    )
    if moved is not None:
        own = [[moved[one.clip] for one in looked if one.target == k] for k in range(len(source.classes))]
        arrays[MOVED] = np.stack([np.mean(one, axis=0) if one else np.zeros((SIDE, SIDE)) for one in own])
    about = About(
        of=source.of,
        title=source.title,
        whose=source.whose,
        untrained=source.untrained if any(side == UNTRAINED for side, _ in keys) else "",
        classes=source.classes,
        clips=tuple(len({one.clip for one in looked if one.target == k}) for k in range(len(source.classes))),
        methods=methods,
        streams=source.streams if looked and looked[0].channels else (),
        channels=_channels(source, looked),
        regions=_regions(source, arrays, keys, masks),
        region_areas={name: float(mask_HW.mean()) for name, mask_HW in masks.items()},
        inside=() if moved is None else _inside(source, looked, moved, methods),
        area=None if moved is None else _area(source, looked, moved),
        confidence=source.confidence,
    )
    return Explanation(about, arrays), _csv(source, looked, methods, masks, moved)


def _firsts(keys: Sequence[Key]) -> list[Key]:
    return [key for key in keys if key[1] == INPUT]


def _mean(maps: Sequence[FloatArray]) -> FloatArray:
    """The mean of the maps that are not empty."""
    full = [map_HW for map_HW in maps if map_HW.any()]
    return np.mean(full, axis=0) if full else np.zeros((SIDE, SIDE))


def _channels(source: Source, looked: Sequence[ClipMaps]) -> dict[str, tuple[tuple[float, ...], ...]]:
    found: dict[str, tuple[tuple[float, ...], ...]] = {}
    for side in dict.fromkeys(side for one in looked for side in one.channels):
        own = [[one.channels[side] for one in looked if one.target == k] for k in range(len(source.classes))]
        found[side] = tuple(tuple(np.mean(one, axis=0).tolist()) if one else () for one in own)
    return found


def _regions(
    source: Source, arrays: Mapping[str, FloatArray], keys: Sequence[Key], masks: Mapping[str, MaskArray]
) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    found: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for side, method in keys if masks else ():
        maps_KHW = arrays[f"{side}/{method}"]
        found.setdefault(side, {})[method] = {
            name: {region: float(maps_KHW[k][mask_HW].sum()) for region, mask_HW in masks.items()}
            for k, name in enumerate(source.classes)
            if maps_KHW[k].any()
        }
    return found


def _shares(looked: Sequence[ClipMaps], moved: Mapping[str, MaskArray], key: Key) -> FloatArray:
    """value_N: the share of each clip's map where it moved; NaN where it has no map."""
    maps = [one.maps.get(key) for one in looked]
    return np.array(
        [
            np.nan if map_HW is None or not map_HW.any() else map_HW[moved[one.clip]].sum()
            for one, map_HW in zip(looked, maps, strict=True)
        ]
    )


def _inside(
    source: Source, looked: Sequence[ClipMaps], moved: Mapping[str, MaskArray], methods: Sequence[str]
) -> tuple[Inside, ...]:
    rows: list[Inside] = []
    for method in methods:
        trained_N = _shares(looked, moved, (TRAINED, method))
        untrained_N = _shares(looked, moved, (UNTRAINED, method))
        more: dict[str, Share] = {}
        if not np.isnan(trained_N - untrained_N).all():
            more = {"untrained": _share(source, looked, untrained_N)}
            more["difference"] = _share(source, looked, trained_N - untrained_N)
        if not np.isnan(trained_N).all():
            rows.append(Inside(method=method, trained=_share(source, looked, trained_N), **more))
    return tuple(rows)


def _area(source: Source, looked: Sequence[ClipMaps], moved: Mapping[str, MaskArray]) -> Share:
    return _share(source, looked, np.array([moved[one.clip].mean() for one in looked]))


def _share(source: Source, looked: Sequence[ClipMaps], value_N: FloatArray) -> Share:
    subjects = [SubjectKey.of(one.clip) for one in looked]
    mean, interval = mean_by_subject(value_N, subjects, source.resamples, source.confidence, seed=0)
    return mean, interval.lo, interval.hi


def _csv(
    source: Source,
    looked: Sequence[ClipMaps],
    methods: Sequence[str],
    masks: Mapping[str, MaskArray],
    moved: Mapping[str, MaskArray] | None,
) -> str:
    """A row a clip (and seed): what it was explained for, the answer, and the shares of the trained maps."""
    columns = ["clip", "class", "answer"]
    columns += [
        f"{method}: {part}" for method in methods for part in (*masks, *(("moved",) if moved else ()))
    ]
    rows: list[list[object]] = []
    for one in looked:
        row: list[object] = [one.clip, source.classes[one.target], source.classes[one.answer]]
        for method in methods:
            map_HW = one.maps.get((TRAINED, method), np.zeros((SIDE, SIDE)))
            parts = [*masks.values(), *((moved[one.clip],) if moved else ())]
            row += [f"{map_HW[mask_HW].sum():.4f}" if map_HW.any() else "" for mask_HW in parts]
        rows.append(row)
    return csv_text(columns, rows)
