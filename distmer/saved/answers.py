"""What a kept model answers for a clip: probabilities, the motion, and whether the clip is like any clip of
the training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePath
from time import perf_counter
from typing import Any

from distmer.datasets.folder import DATASET
from distmer.experiment.backend import Backend
from distmer.features.featureset import FeatureSet, is_crop
from distmer.features.frames import ClipError
from distmer.features.landmarks import model_path
from distmer.features.pipeline import FeatureRequest, extract, frame_paths, unit_of
from distmer.features.row import FeatureRow
from distmer.saved.clips import Asked
from distmer.saved.measured import Motion, measure
from distmer.saved.model import SavedModel, as_told_here, motion
from distmer.types import ApexSearch, BadInput, JsonValue, RunError, SubjectKey

UNLIKE = 95.0  # a clip above this percentile (see `Answer`) is called unlike


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer for one clip.

    Attributes
    ----------
    clip : str
    interval : tuple of float, optional
        Of a window of a long video: its beginning and its end, s.
    reason : str
        Why there is no answer, as a sentence; "" where there is one.
    label : str
        The most probable class.
    probabilities : dict
        Class → probability. They rank the classes; they are not calibrated.
    onset, apex : str
        The frames that were compared.
    motion : Motion, optional
        None for published flow maps, which hold no px.
    distance : float
        To the nearest training clip: the root mean square difference of the motion maps that the model sees.
    percentile : float
        The percentage of training clips whose own distance, to the nearest clip of another subject, is less.
    seen : str
        The subject, if a manifest names one that was in the training; else "".
    given : str
        The label in the manifest. The model does not read it.
    notes : tuple of str
        What was noticed: several faces, a chosen apex.
    seconds : float
        The time that this clip took.
    """

    clip: str
    interval: tuple[float, float] | None = None
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
            "interval_s": None if self.interval is None else list(self.interval),
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


def answers(model: SavedModel, asked: Sequence[Asked], backend: Backend | None = None) -> Iterator[Answer]:
    """An answer for each clip, in their order. A clip that cannot be used is an answer with its reason.

    ``backend`` extracts the features of many clips; without one, each clip is done here before the next one.
    RunError where the backend gives up; what came before has been handed over.
    """
    if backend is None:
        yield from (answer(model, one) for one in asked)
        return
    ready: dict[int, Answer] = {}
    requests: list[FeatureRequest] = []
    for n, one in enumerate(asked):
        problem = _unfit(model, one)
        if problem or one.source is None:
            ready[n] = _answered(model, one, problem, None)
        else:
            requests.append(FeatureRequest(str(n), one.source))
    handed = 0
    for rows in chain([[]], backend.extract(requests, model.features)):
        for row in rows:
            n = int(row.clip_id)
            ready[n] = _answered(model, asked[n], row.error, row)
        while handed in ready:  # they come in any order
            yield ready.pop(handed)
            handed += 1


def answer(model: SavedModel, asked: Asked) -> Answer:
    """The answer for one clip, or the reason why there is none."""
    return _answered(model, asked, *features_of(model, asked))


def _answered(model: SavedModel, asked: Asked, problem: str, row: FeatureRow | None) -> Answer:
    """The answer from a clip's features, or ``problem`` where it has none."""
    started = perf_counter() - (0.0 if row is None else row.seconds)
    seen, perhaps = _seen(model, asked.subject)
    known: dict[str, Any] = {"clip": asked.name, "given": asked.label, "seen": seen}
    known |= {"interval": asked.interval}
    if row is None or row.status == "failed":
        reason = as_told_here(problem)
        return Answer(**known, reason=reason, probabilities={}, seconds=perf_counter() - started)
    features = as_set(row)
    prob_K = model.probabilities(features)[0]
    distance, percentile = model.training.distance(motion(features, model.inputs)[0])
    moved = None  # a published map has no px
    if row.unit == "px":
        moved = measure(row.channels["onset"], row.flow_HW2, model_path(model.features.landmarks))
    names = [PurePath(path).name for path in asked.source.images] if asked.source else []
    notes = [note for note in (asked.note, row.note, perhaps) if note]
    if distance == 0:
        notes.append("this very clip was in the training")
    return Answer(
        **known,
        label=model.classes[int(prob_K.argmax())],
        probabilities={name: float(p) for name, p in zip(model.classes, prob_K, strict=True)},
        onset=names[0],
        apex=row.apex_file or names[-1],
        motion=moved,
        distance=distance,
        percentile=percentile,
        notes=tuple(notes),
        seconds=perf_counter() - started,
    )


def _unfit(model: SavedModel, asked: Asked) -> str:
    """Why a clip cannot be answered for, as far as this is known before its frames are read; else ""."""
    source = asked.source
    if asked.problem or source is None:
        return asked.problem
    if unit_of(source) != model.manifest.unit:
        wants = "published flow maps" if model.manifest.unit == "minmax" else "frames of a face"
        return f"the model reads {wants}; give it such."
    if isinstance(source, ApexSearch) and not source.candidates:
        return "no frame comes after the onset; give the clip two frames or more."
    try:
        frame_paths(source, model.features)
    except ClipError as error:  # it has no such sequence as the model reads
        return str(error)
    return ""


def features_of(model: SavedModel, asked: Asked) -> tuple[str, FeatureRow | None]:
    """The reason why a clip has no features, or "" and its features."""
    problem = _unfit(model, asked)
    if problem or asked.source is None:
        return problem, None
    try:
        row = extract(FeatureRequest("clip/of/user", asked.source), model.features)
    except (BadInput, RunError) as error:  # of the landmark model or of an object store
        return str(error), None
    return row.error, row


def as_set(row: FeatureRow) -> FeatureSet:
    """The features of one clip as a set."""
    channels = {name: x_HW[None] for name, x_HW in row.channels.items()}
    crops = {name: channels.pop(name) for name in row.channels if is_crop(name)}
    return FeatureSet((row.clip_id,), (row.key,), row.unit, channels, crops)


def _seen(model: SavedModel, subject: SubjectKey | None) -> tuple[str, str]:
    """The subject, if it was in the training; and a note, if only somebody of the same name was."""
    if subject is None or str(subject) in model.manifest.subjects:
        return ("" if subject is None else str(subject)), ""
    same = [name for name in model.manifest.subjects if name.split("/")[1] == subject.subject]
    if subject.dataset != DATASET.name or not same:  # a manifest that names the data set is precise
        return "", ""
    return "", f"a subject of this name was in the training ({', '.join(same)}); a column dataset would tell"
