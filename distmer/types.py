"""The frozen values that travel between the layers. They know no torch, no Ray, no MLflow and no disk."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.integer[Any]]

VIDEOS = (".avi", ".m4v", ".mkv", ".mov", ".mp4")  # frame 46 of such a file is named clip.mp4#46

JsonValue = Any  # str | int | float | bool | None | list | dict, nested


class _Sentence(Exception):
    """An error that is told in one sentence: a notebook shows no traceback of it, as a command does not."""

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


class BadInput(_Sentence):
    """Input of the user cannot be used. One sentence: file and row, what is wrong, and the remedy."""


class OtherCode(BadInput):
    """A process was given a fold that was planned with another version of the code."""


class RunError(_Sentence):
    """A full disk, a lost cluster. One sentence: what failed, where, what is kept, and the remedy."""


@dataclass(frozen=True, slots=True, order=True)
class SubjectKey:
    """A subject of a data set: "sub01" of CASME and "sub01" of CASME II are two subjects."""

    dataset: str
    subject: str

    @staticmethod
    @functools.lru_cache(maxsize=2**17)  # every fold of a leave-one-subject-out run asks it of every clip
    def of(clip_id: str) -> SubjectKey:
        """The subject of a clip, by its id ``dataset/subject/name``."""
        dataset, subject, _ = clip_id.split("/", 2)
        return SubjectKey(dataset, subject)

    def __str__(self) -> str:
        return f"{self.dataset}/{self.subject}"


@dataclass(frozen=True, slots=True)
class KeyFrames:
    """Onset and apex are known: two image files.

    ``course`` holds every frame from the onset to the offset (or to the apex) by number, for features that
    are a sequence. It is empty where the frames between are missing.
    """

    onset: str
    apex: str
    course: tuple[tuple[int, str], ...] = field(default=(), compare=False)

    @property
    def images(self) -> tuple[str, ...]:
        """The image files, the onset first."""
        return self.onset, self.apex


@dataclass(frozen=True, slots=True)
class ApexSearch:
    """The apex is not annotated, and is the candidate with the most motion from the onset (the policy
    ``max-flow``). ``course`` as in `KeyFrames`."""

    onset: str
    candidates: tuple[str, ...]
    course: tuple[tuple[int, str], ...] = field(default=(), compare=False)

    @property
    def images(self) -> tuple[str, ...]:
        """The image files, the onset first."""
        return self.onset, *self.candidates


@dataclass(frozen=True, slots=True)
class FlowMap:
    """A published map instead of frames: an RGB image of u, v and strain, min-max scaled for the clip."""

    image: str

    @property
    def images(self) -> tuple[str, ...]:
        return (self.image,)


Source = KeyFrames | ApexSearch | FlowMap


@dataclass(frozen=True, slots=True)
class Clip:
    """A micro-expression clip. ``label`` indexes the manifest's classes; paths in ``source`` are absolute."""

    dataset: str
    subject: str
    name: str
    label: int
    emotion: str  # as the sheet says, in lower case
    source: Source
    where: str  # file and row it came from, for messages
    note: str = ""  # what was done to it: an erratum applied, a mid-point apex

    def __post_init__(self) -> None:
        for part, value in (("data set", self.dataset), ("subject", self.subject), ("clip name", self.name)):
            if not value or "/" in value or "\\" in value or value in {".", ".."}:
                raise BadInput(
                    f"{self.where}: the {part} {value!r} is empty or would leave the data root;"
                    " correct the row."
                )

    @property
    def id(self) -> str:
        return f"{self.dataset}/{self.subject}/{self.name}"

    @property
    def subject_key(self) -> SubjectKey:
        return SubjectKey(self.dataset, self.subject)


@dataclass(frozen=True, slots=True)
class ClipFailure:
    """A clip, or a row of a sheet, that cannot be used, and why: a reason that a user can act on."""

    clip: str
    reason: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The clips of a protocol, and everything that did not become one.

    ``failures`` belong to the protocol and could not be used: they are counted beside every score.
    ``excluded`` do not belong to it (another emotion, a named exclusion): they are only reported.
    ``expected`` holds the published counts, data set → class → clips; ``expected_subjects`` data set →
    subjects. ``listed`` holds the published list of clips where there is one, data set → clip ids.
    ``problems`` are errors of the protocol, ``readings`` say what was read as what, ``editions`` which
    edition a sheet is, data set → sentence. ``pinned`` has the content digests that a list of clips demands,
    clip id → SHA-256, and ``changed`` what differs from such a list.
    """

    protocol: str
    classes: tuple[str, ...]
    clips: tuple[Clip, ...]
    failures: tuple[ClipFailure, ...] = ()
    excluded: tuple[ClipFailure, ...] = ()
    expected: Mapping[str, Mapping[str, int]] = field(default_factory=dict[str, Mapping[str, int]])
    expected_subjects: Mapping[str, int] = field(default_factory=dict[str, int])
    listed: Mapping[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    problems: tuple[str, ...] = ()
    readings: tuple[str, ...] = ()
    editions: Mapping[str, str] = field(default_factory=dict[str, str])
    pinned: Mapping[str, str] = field(default_factory=dict[str, str])
    changed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        seen: dict[str, str] = {}
        for clip in self.clips:
            if clip.id in seen:
                raise BadInput(
                    f"{clip.where}: clip {clip.id} is listed twice (first in {seen[clip.id]});"
                    " remove one of the rows."
                )
            seen[clip.id] = clip.where
            if not 0 <= clip.label < len(self.classes):
                raise BadInput(
                    f"{clip.where}: clip {clip.id} has label {clip.label}, outside the"
                    f" {len(self.classes)} classes."
                )

    @property
    def clips_expected(self) -> int:
        return len(self.clips) + len(self.failures)


@dataclass(frozen=True, slots=True)
class Fold:
    """A split of clip ids. ValueError where a subject is on both sides."""

    id: str
    train: tuple[str, ...]
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.train or not self.test:
            raise BadInput(
                f"fold {self.id}: it has {len(self.train)} training and {len(self.test)} test"
                " clips; both must be above 0."
            )
        shared = {SubjectKey.of(c) for c in self.train} & {SubjectKey.of(c) for c in self.test}
        if shared:
            raise ValueError(
                f"fold {self.id}: {', '.join(map(str, sorted(shared)))} stand in training and in test"
            )


@dataclass(frozen=True, slots=True)
class FoldJob:
    """One training, complete: the job and the inputs give the same result to the bit.

    ``spec`` is everything that can change the numbers (model with all defaults filled in, training, inputs,
    seed, split, labels, content keys of the features). Its ``digest`` is the fold's identity.
    """

    digest: str
    fold: Fold
    seed: int
    labels: Mapping[str, int]
    spec: Mapping[str, JsonValue]
    keep_weights: bool = False  # whether what was trained is wanted with the result; it changes no number


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Answers, one row a clip: every score is a pure function of them."""

    clip_ids: tuple[str, ...]
    y_true_N: IntArray
    y_pred_N: IntArray
    prob_NK: FloatArray
    fold_ids: tuple[str, ...]
    seed_N: IntArray

    def __post_init__(self) -> None:
        n = len(self.clip_ids)
        columns = (self.y_true_N, self.y_pred_N, self.prob_NK, self.fold_ids, self.seed_N)
        sizes = tuple(map(len, columns))
        if any(size != n for size in sizes):
            raise ValueError(f"predictions: {n} clip ids, but columns of {sizes} rows")

    def __len__(self) -> int:
        return len(self.clip_ids)

    @property
    def subjects(self) -> tuple[SubjectKey, ...]:
        return tuple(SubjectKey.of(c) for c in self.clip_ids)

    def take(self, rows_N: npt.NDArray[Any]) -> Predictions:
        """The rows selected by a boolean mask or an index array, in that order."""
        index = np.flatnonzero(rows_N) if rows_N.dtype == bool else rows_N
        return Predictions(
            tuple(self.clip_ids[i] for i in index),
            self.y_true_N[index],
            self.y_pred_N[index],
            self.prob_NK[index],
            tuple(self.fold_ids[i] for i in index),
            self.seed_N[index],
        )

    @classmethod
    def concat(cls, parts: list[Predictions]) -> Predictions:
        return cls(
            tuple(c for p in parts for c in p.clip_ids),
            np.concatenate([p.y_true_N for p in parts]),
            np.concatenate([p.y_pred_N for p in parts]),
            np.concatenate([p.prob_NK for p in parts]),
            tuple(f for p in parts for f in p.fold_ids),
            np.concatenate([p.seed_N for p in parts]),
        )


@dataclass(frozen=True, slots=True)
class FoldBegun:
    """A worker has taken the fold up."""

    digest: str
    fold_id: str
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class FoldResult:
    """A finished fold. ``curves`` maps a name to one value an epoch; ``epoch_prob_ENK`` is kept only under
    ``oracle``.

    ``weights`` are the files of what was trained, on their way to the ledger; ``kept`` are those that lie
    there, name → SHA-256. Both are empty where no weights were asked for.
    """

    digest: str
    fold_id: str
    seed: int
    predictions: Predictions
    epochs: int
    curves: Mapping[str, tuple[float, ...]]
    seconds: float
    device: str
    epoch_prob_ENK: FloatArray | None = None
    weights: Mapping[str, bytes] = field(default_factory=dict[str, bytes], repr=False)
    kept: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class FoldFailure:
    """A fold that failed: the reason in a sentence, and the traceback. ``lost``: another try may do better,
    because its worker died or had other code."""

    digest: str
    fold_id: str
    seed: int
    reason: str
    traceback: str = ""
    lost: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """UAR (mean recall) and UF1 (mean F1) over all classes, and the counts (rows: truth; columns: answer)."""

    uar: float
    uf1: float
    recall_K: FloatArray
    f1_K: FloatArray
    confusion_KK: IntArray

    @property
    def n(self) -> int:
        return int(self.confusion_KK.sum())


@dataclass(frozen=True, slots=True)
class Leak:
    """One way in which the fold's result depends on what it must not have seen."""

    name: str  # memory, pixels, labels, epoch, transductive, learns
    sentence: str


@dataclass(frozen=True, slots=True)
class FoldAudit:
    """The audit of one fold of one seed. ``difference``: the largest of a probability that is rounding."""

    fold: str
    leaks: tuple[Leak, ...]
    trainings: int  # that it took
    difference: float
