"""The maps of single clips, the mean maps of each class, and their shares by region."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from distmer.evaluation.stats import mean_by_subject
from distmer.explain.maps import INPUT, channel_attention, input_map, maps_of
from distmer.features.inputs import resize
from distmer.report.explanation import MOVED, SHAPE, TRAINED, UNTRAINED, About, Explanation, Inside, Share
from distmer.saved.measured import MaskArray, regions_of
from distmer.storage import csv_text
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
    """The maps of clips, and those of an untrained counterpart if there is one. ``x_NCHW`` are inputs before
    they are standardised."""
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


def gathered(
    about: About,
    looked: Sequence[ClipMaps],
    shape_L2: FloatArray | None,
    motion: Mapping[str, FloatArray] | None,
    resamples: int = 2000,
) -> tuple[Explanation, str]:
    """The mean maps of each class with their numbers, and a table of the clips as CSV.

    ``about`` says what the maps are of; the numbers are filled in here. ``shape_L2`` are the mean landmarks
    of the clips, from 0 to 1 of the frame, or None. ``motion`` is the true motion of the skin, if it is
    known: clip id → length_HW of `SIDE` px. Intervals are from ``resamples`` of the subjects.
    """
    by_class = [[one for one in looked if one.target == k] for k in range(len(about.classes))]
    keys = sorted({key for one in looked for key in one.maps})
    methods = tuple(dict.fromkeys(method for _, method in sorted(keys, key=lambda key: key[1] != INPUT)))
    arrays = {
        "/".join(key): np.stack([_mean([one.maps[key] for one in own]) for own in by_class]) for key in keys
    }
    masks: dict[str, MaskArray] = {}
    if shape_L2 is not None:
        arrays[SHAPE] = shape_L2 * (SIDE - 1)
        masks = regions_of(arrays[SHAPE].astype(np.float64), SIDE)
        masks["elsewhere"] = ~np.logical_or.reduce(list(masks.values()))
    numbers: dict[str, object] = {
        "untrained": about.untrained if any(side == UNTRAINED for side, _ in keys) else "",
        "clips": tuple(len({one.clip for one in own}) for own in by_class),
        "methods": methods,
        "streams": about.streams if looked and looked[0].channels else (),
        "channels": _channels(by_class),
        "regions": _regions(about.classes, arrays, keys, masks),
        "region_areas": {name: float(mask_HW.mean()) for name, mask_HW in masks.items()},
    }
    moved = None
    if motion is not None:
        moved = {clip: x_HW >= MOVED_FROM * x_HW.max() for clip, x_HW in motion.items()}
        own_masks = [[moved[one.clip] for one in own] for own in by_class]
        arrays[MOVED] = np.stack(
            [np.mean(one, axis=0) if one else np.zeros((SIDE, SIDE)) for one in own_masks]
        )
        subjects = [SubjectKey.of(one.clip) for one in looked]

        def share(value_N: FloatArray) -> Share:
            mean, interval = mean_by_subject(value_N, subjects, resamples, about.confidence, seed=0)
            return mean, interval.lo, interval.hi

        numbers["inside"] = _inside(looked, moved, methods, share)
        numbers["area"] = share(np.array([moved[one.clip].mean() for one in looked]))
    found = Explanation(about.model_copy(update=numbers), arrays)
    return found, _csv(about.classes, looked, methods, masks, moved)


def _mean(maps: Sequence[FloatArray]) -> FloatArray:
    """The mean of the maps that are not empty."""
    full = [map_HW for map_HW in maps if map_HW.any()]
    return np.mean(full, axis=0) if full else np.zeros((SIDE, SIDE))


def _channels(by_class: Sequence[Sequence[ClipMaps]]) -> dict[str, tuple[tuple[float, ...], ...]]:
    """The mean weights of CBAM's channel attention, by side, class and stream."""
    sides = dict.fromkeys(side for own in by_class for one in own for side in one.channels)
    return {
        side: tuple(
            tuple(np.mean([one.channels[side] for one in own], axis=0).tolist()) if own else ()
            for own in by_class
        )
        for side in sides
    }


def _regions(
    classes: Sequence[str],
    arrays: Mapping[str, FloatArray],
    keys: Sequence[Key],
    masks: Mapping[str, MaskArray],
) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    found: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for side, method in keys if masks else ():
        maps_KHW = arrays[f"{side}/{method}"]
        found.setdefault(side, {})[method] = {
            name: {region: float(maps_KHW[k][mask_HW].sum()) for region, mask_HW in masks.items()}
            for k, name in enumerate(classes)
            if maps_KHW[k].any()
        }
    return found


def _shares(looked: Sequence[ClipMaps], moved: Mapping[str, MaskArray], key: Key) -> FloatArray:
    """value_N: the share of each clip's map where it moved; NaN where it has no map."""
    empty_HW = np.zeros((SIDE, SIDE))
    maps = [(one.clip, one.maps.get(key, empty_HW)) for one in looked]
    return np.array([map_HW[moved[clip]].sum() if map_HW.any() else np.nan for clip, map_HW in maps])


def _inside(
    looked: Sequence[ClipMaps],
    moved: Mapping[str, MaskArray],
    methods: Sequence[str],
    share: Callable[[FloatArray], Share],
) -> tuple[Inside, ...]:
    rows: list[Inside] = []
    for method in methods:
        trained_N = _shares(looked, moved, (TRAINED, method))
        untrained_N = _shares(looked, moved, (UNTRAINED, method))
        more: dict[str, Share] = {}
        if not np.isnan(trained_N - untrained_N).all():
            more = {"untrained": share(untrained_N), "difference": share(trained_N - untrained_N)}
        if not np.isnan(trained_N).all():
            rows.append(Inside(method=method, trained=share(trained_N), **more))
    return tuple(rows)


def _csv(
    classes: Sequence[str],
    looked: Sequence[ClipMaps],
    methods: Sequence[str],
    masks: Mapping[str, MaskArray],
    moved: Mapping[str, MaskArray] | None,
) -> str:
    """A row a clip (and seed): what it was explained for, the answer, and the shares of the trained maps."""
    names = [*masks, *(["moved"] if moved else [])]
    columns = ["clip", "class", "answer", *(f"{method}: {name}" for method in methods for name in names)]
    rows: list[list[object]] = []
    for one in looked:
        row: list[object] = [one.clip, classes[one.target], classes[one.answer]]
        for method in methods:
            map_HW = one.maps.get((TRAINED, method), np.zeros((SIDE, SIDE)))
            parts = [*masks.values(), *((moved[one.clip],) if moved else ())]
            row += [f"{map_HW[mask_HW].sum():.4f}" if map_HW.any() else "" for mask_HW in parts]
        rows.append(row)
    return csv_text([columns, *rows])
