"""What a kept model answers for a clip: probabilities, what was measured, and whether the clip is like
anything that the model was trained on.

A clip that cannot be used is an answer with its reason; the others are answered all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from time import perf_counter
from typing import Any

import numpy as np

from distmer.datasets.folder import DATASET
from distmer.features.featureset import FeatureSet, is_crop
from distmer.features.landmarks import model_path
from distmer.features.pipeline import FeatureRequest, extract, key_files, unit_of
from distmer.features.row import FeatureRow
from distmer.saved.clips import Asked, clips_of
from distmer.saved.measured import Motion, measure
from distmer.saved.model import SavedModel, motion
from distmer.storage import Place
from distmer.types import ApexSearch, BadInput, JsonValue, RunError, Source, SubjectKey

UNLIKE = 95.0  # percent of the training clips that are nearer to theirs: beyond it, a clip is called unlike


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer for one clip.

    Attributes
    ----------
    clip : str
    reason : str
        Why there is no answer, as a sentence; "" where there is one.
    label : str
        The most probable class.
    probabilities : dict
        Class → probability. They order the classes, and nobody has calibrated them.
    onset, apex : str
        The frames that were compared.
    motion : Motion, optional
        None for published flow maps, which hold no px.
    distance : float
        To the nearest training clip: the root mean square difference of the motion maps that the model sees.
    percentile : float
        How many of the training clips, in percent, are nearer to the nearest clip of another subject.
    seen : str
        The subject who was in the training, where a manifest tells who it is; else "".
    given : str
        The label in the manifest, which the model has not looked at.
    notes : tuple of str
        What was noticed: several faces, a chosen apex.
    seconds : float
        Wall time.
    """

    clip: str
    reason: str = ""
    label: str = ""
    probabilities: dict[str, float]
    onset: str = ""
    apex: str = ""
    motion: Motion | None = None
    distance: float | None = None
    percentile: float | None = None
    seen: str = ""
    given: str = ""
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def unlike(self) -> bool | None:
        """Whether the clip is unlike anything in the training; None without an answer."""
        return None if self.percentile is None else self.percentile > UNLIKE

    def to_json(self) -> dict[str, JsonValue]:
        """Every field by name, with the motion's own below ``motion``; null where there is none."""
        moved: JsonValue = None
        if self.motion is not None:
            moved = {"mean_px": self.motion.mean, "largest_px": self.motion.largest}
            moved |= {"most": self.motion.most, "px": self.motion.regions}
        return {
            "clip": self.clip,
            "reason": self.reason or None,
            "label": self.label or None,
            "probabilities": self.probabilities or None,
            "onset": self.onset or None,
            "apex": self.apex or None,
            "motion": moved,
            "distance": self.distance,
            "percentile": self.percentile,
            "unlike": self.unlike,
            "seen_in_training": self.seen or None,
            "given": self.given or None,
            "notes": list(self.notes),
            "seconds": round(self.seconds, 3),
        }


def answers(
    model: SavedModel, inputs: Sequence[Place | str], *, onset: str = "", apex: str = ""
) -> Iterator[Answer]:
    """An answer for each clip among the inputs, one after the other (`distmer.saved.clips.clips_of`)."""
    for asked in clips_of(inputs, model.manifest.unit, onset=onset, apex=apex):
        yield answer(model, asked)


def answer(model: SavedModel, asked: Asked) -> Answer:
    """The answer for one clip, or the reason why there is none."""
    started = perf_counter()
    seen, perhaps = _seen(model, asked.subject)
    known: dict[str, Any] = {"clip": asked.name, "given": asked.label, "seen": seen}
    problem, row = asked.problem, None
    if not problem and asked.source is not None:
        problem, row = _features(model, asked.source)
    if row is None or row.status == "failed":
        return Answer(**known, reason=problem, probabilities={}, seconds=perf_counter() - started)
    features = _as_set(row)
    prob_K = model.probabilities(features)[0]
    distance, percentile = model.training.distance(motion(features, model.inputs)[0])
    names = [PurePath(path).name for path in key_files(asked.source)] if asked.source else []
    notes = [note for note in (asked.note, row.note, perhaps) if note]
    if distance == 0:
        notes.append("this very clip was in the training")
    return Answer(
        **known,
        label=model.classes[int(prob_K.argmax())],
        probabilities={name: float(p) for name, p in zip(model.classes, prob_K, strict=True)},
        onset=names[0],
        apex=row.apex_file or names[-1],
        motion=_measured(model, row),
        distance=distance,
        percentile=percentile,
        notes=tuple(notes),
        seconds=perf_counter() - started,
    )


def _features(model: SavedModel, source: Source) -> tuple[str, FeatureRow | None]:
    """The features of a clip, or the reason why it has none."""
    if unit_of(source) != model.manifest.unit:
        wants = "published flow maps" if model.manifest.unit == "minmax" else "frames of a face"
        return f"the model reads {wants}; give it such.", None
    if isinstance(source, ApexSearch) and not source.candidates:
        return "no frame comes after the onset; give the clip two frames or more.", None
    try:
        row = extract(FeatureRequest("clip/of/user", source), model.features)
    except (BadInput, RunError) as error:  # of the landmark model or of an object store
        return str(error), None
    return row.error, row


def _as_set(row: FeatureRow) -> FeatureSet:
    channels = {name: x_HW[None] for name, x_HW in row.channels.items()}
    crops = {name: channels.pop(name) for name in row.channels if is_crop(name)}
    return FeatureSet((row.clip_id,), (row.key,), row.unit, channels, crops)


def _measured(model: SavedModel, row: FeatureRow) -> Motion | None:
    if row.unit != "px" or row.onset_HW is None or row.flow_HW2 is None:
        return None
    return measure(row.onset_HW, np.asarray(row.flow_HW2), model_path(model.features.landmarks))


def _seen(model: SavedModel, subject: SubjectKey | None) -> tuple[str, str]:
    """The subject, if it was in the training; and a note where only a name is known that is in it."""
    if subject is None or str(subject) in model.manifest.subjects:
        return ("" if subject is None else str(subject)), ""
    same = [name for name in model.manifest.subjects if name.split("/")[1] == subject.subject]
    if subject.dataset != DATASET.name or not same:  # a manifest that names the data set is precise
        return "", ""
    return "", f"a subject of this name was in the training ({', '.join(same)}); a column dataset would tell"
