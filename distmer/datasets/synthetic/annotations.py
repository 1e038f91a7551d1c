"""The annotations of the embedded data set: its subjects, clips, emotions and action units, made before any
frame. Everything random is drawn from a named stream, so a clip's movement does not depend on how many clips
came before it."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass

import numpy as np

from distmer.config import SyntheticConfig

CLASSES = ("negative", "positive", "surprise")
CLASS_RATIO = (5, 4, 3)
DATASETS = ("casme", "casme2", "samm")

# The vocabulary of each set's own sheet, by class, and a word of it that lies outside the three-class
# protocols.
EMOTIONS: dict[str, tuple[tuple[str, ...], ...]] = {
    "casme": (("disgust", "repression"), ("happiness",), ("surprise",)),
    "casme2": (("disgust", "repression"), ("happiness",), ("surprise",)),
    "samm": (("Anger", "Contempt"), ("Happiness",), ("Surprise",)),
}
OUTSIDE = {"casme": "tense", "casme2": "others", "samm": "Other"}

# FACS action units by emotion; a letter makes one one-sided, as the sheets write it. Combinations usual for
# the emotion in EMFACS (Friesen & Ekman 1983) and in the sheets of the real sets, picked by hand: their
# frequencies are not measured.
RECIPES: dict[str, tuple[tuple[str, ...], ...]] = {
    "disgust": (("4", "9"), ("4", "7", "9"), ("4", "7"), ("9", "10")),
    "repression": (("15", "17"), ("4", "15"), ("4", "17")),
    "anger": (("4", "7"), ("4", "5", "7"), ("4",)),
    "contempt": (("4", "L14"), ("4", "R14"), ("7", "15")),
    "happiness": (("12",), ("6", "12"), ("6", "12", "25")),
    "surprise": (("1", "2"), ("1", "2", "5"), ("1", "2", "26")),
    "tense": (("20",), ("7", "14")),
    "others": (("14",), ("20", "17")),
    "other": (("45",), ("20", "25")),
}
EXTRAS = ("5", "7", "14", "17", "20", "25", "45")  # movements that do not depend on the emotion


@dataclass(frozen=True, slots=True)
class Difficulty:
    """How different the classes are. ``amplitude`` is the range of the peak displacement in px at 95 px
    between the eyes."""

    amplitude: tuple[float, float]
    atypical: float  # share of each class's clips that move like another class
    extra: float  # chance of a movement that does not depend on the emotion
    habit: float  # chance of the subject's own habitual movement
    sway: float  # px, standard deviation of the head's drift from onset to offset


DIFFICULTIES = {
    "easy": Difficulty(amplitude=(1.6, 3.2), atypical=0.04, extra=0.05, habit=0.10, sway=0.5),
    "default": Difficulty(amplitude=(1.0, 2.6), atypical=0.20, extra=0.15, habit=0.20, sway=0.8),
    "hard": Difficulty(amplitude=(0.6, 1.7), atypical=0.25, extra=0.25, habit=0.30, sway=1.0),
}


@dataclass(frozen=True, slots=True)
class AnnotatedClip:
    """One row of a sheet and its frames. ``label`` is the class, None outside the protocols' classes."""

    dataset: str
    subject: str  # as the folders write it without a prefix: 01, 006
    subject_index: int  # over all three sets
    name: str
    emotion: str
    label: int | None
    units: tuple[str, ...]  # the action units performed, as the sheet lists them
    amplitude: float  # px at the peak
    onset: int
    apex: int
    offset: int


def stream(*tags: int | str) -> np.random.Generator:
    """A generator of its own for every list of tags: hashed, because NumPy's seeding takes [s, i] and [s, i,
    0] for one."""
    key = hashlib.sha256("\x1f".join(map(str, tags)).encode()).digest()
    return np.random.default_rng(int.from_bytes(key, "little"))


def annotated_clips(options: SyntheticConfig) -> tuple[AnnotatedClip, ...]:
    """Every clip, in the order of sets, subjects and names. The clips outside the three classes stand last of
    their subject."""
    labels = _labels_by_subject(options)
    sets = _sets_of_subjects(options.subjects)
    performed = _atypical(options, labels)
    clips: list[AnnotatedClip] = []
    for index, own in enumerate(labels):
        dataset = sets[index]
        local = sets[:index].count(dataset)
        for k, label in enumerate(own):
            clips.append(_clip(options, dataset, index, local, k, label, performed[index, k]))
        if index % 2 == 0:
            clips.append(_clip(options, dataset, index, local, len(own), None, None))
    return tuple(clips)


def expected_counts(options: SyntheticConfig) -> dict[str, dict[str, int]]:
    """Clips of the three classes: data set → class → number."""
    counts = Counter((clip.dataset, clip.label) for clip in annotated_clips(options))
    return {dataset: {name: counts[dataset, k] for k, name in enumerate(CLASSES)} for dataset in DATASETS}


def expected_subjects(options: SyntheticConfig) -> dict[str, int]:
    """Subjects with at least one clip of the three classes: data set → number."""
    subjects = {(clip.dataset, clip.subject) for clip in annotated_clips(options) if clip.label is not None}
    return {dataset: sum(1 for d, _ in subjects if d == dataset) for dataset in DATASETS}


def _sets_of_subjects(subjects: int) -> list[str]:
    """Subject → data set: three runs as even as can be, each subject in one set only."""
    return [DATASETS[k] for k, size in enumerate(_shares(subjects, (1, 1, 1))) for _ in range(size)]


def _shares(total: int, weights: tuple[float, ...]) -> list[int]:
    """``total`` split in proportion to ``weights`` by largest remainder; earlier ones win ties."""
    exact = [total * w / sum(weights) for w in weights]
    parts = [int(x) for x in exact]
    for k in sorted(range(len(exact)), key=lambda k: (parts[k] - exact[k], k))[: total - sum(parts)]:
        parts[k] += 1
    return parts


def _labels_by_subject(options: SyntheticConfig) -> list[list[int]]:
    """Subject → class of each clip. The totals are exact; subjects differ in number and mix, and some have no
    surprise."""
    rng = stream(options.seed, "people")
    n = options.subjects
    sparse = {index for index in range(n) if index % 6 == 4}  # as in SAMM and CASME: 1 to 3 clips
    spare = options.subjects * options.clips_per_subject - 2 * n
    weights = tuple(0.12 if p in sparse else w for p, w in enumerate(rng.uniform(0.6, 1.4, n).tolist()))
    sizes = [2 + more for more in _shares(spare, weights)]
    owner = np.repeat(np.arange(n), sizes)
    labels = _interleaved(_shares(len(owner), CLASS_RATIO))
    for _ in range(len(owner) // 3):
        a, b = rng.integers(0, len(owner), 2)
        labels[a], labels[b] = labels[b], labels[a]
    for k in np.flatnonzero(np.isin(owner, list(sparse))):
        if labels[k] == 2:
            others = [j for j in range(len(owner)) if owner[j] not in sparse and labels[j] != 2]
            j = int(rng.choice(others))
            labels[k], labels[j] = labels[j], labels[k]
    return [[labels[k] for k in np.flatnonzero(owner == index)] for index in range(n)]


def _interleaved(quota: list[int]) -> list[int]:
    """Class indices spread as evenly as the quota allows, so that every subject's mix is near the whole's."""
    slots = [((k + 0.5) / size, label) for label, size in enumerate(quota) for k in range(size)]
    return [label for _, label in sorted(slots)]


def _atypical(options: SyntheticConfig, labels: list[list[int]]) -> dict[tuple[int, int], int]:
    """(subject, clip) → the class whose movement it performs. An exact share of each class moves like another
    one: it bounds what any model can reach, and keeps the difficulty alike from seed to seed."""
    share = DIFFICULTIES[options.difficulty].atypical
    performed = {(p, k): label for p, own in enumerate(labels) for k, label in enumerate(own)}
    for label in range(len(CLASSES)):
        rng = stream(options.seed, "atypical", label)
        own = [(index, k) for index, k in performed if labels[index][k] == label]
        for turn, index in enumerate(rng.permutation(len(own))[: round(share * len(own))]):
            performed[own[index]] = (label + 1 + turn % 2) % len(CLASSES)
    return performed


def _clip(
    options: SyntheticConfig,
    dataset: str,
    index: int,
    local: int,
    number: int,
    label: int | None,
    performed: int | None,
) -> AnnotatedClip:
    """Clip ``number`` of subject ``index``, who is number ``local`` of the data set."""
    rng = stream(options.seed, "clip", index, number)
    level = DIFFICULTIES[options.difficulty]
    emotion = OUTSIDE[dataset] if label is None else str(rng.choice(EMOTIONS[dataset][label]))
    shown = (
        emotion if performed is None or performed == label else str(rng.choice(EMOTIONS[dataset][performed]))
    )
    recipes = RECIPES[shown.lower()]
    units = list(recipes[int(rng.integers(len(recipes)))])
    if rng.random() < level.extra:
        units.append(str(rng.choice(EXTRAS)))
    if rng.random() < level.habit:
        units.append(str(stream(options.seed, "habit", index).choice(EXTRAS)))
    onset, apex, offset = _numbers(dataset, rng)
    subject = f"{local + 6:03d}" if dataset == "samm" else f"{local + 1:02d}"
    return AnnotatedClip(
        dataset=dataset,
        subject=subject,
        subject_index=index,
        name=_name(dataset, subject, number),
        emotion=emotion,
        label=label,
        units=tuple(dict.fromkeys(units)),
        amplitude=float(rng.uniform(*level.amplitude)),
        onset=onset,
        apex=apex,
        offset=offset,
    )


def _numbers(dataset: str, rng: np.random.Generator) -> tuple[int, int, int]:
    """Frame numbers of onset, apex and offset as cut from a longer recording: 7 to 9 consecutive frames."""
    low, high = {"casme": (31, 400), "casme2": (20, 280), "samm": (400, 9000)}[dataset]
    onset = int(rng.integers(low, high))
    rise = int(rng.integers(3, 6))
    fall = 3 if rise == 5 else int(rng.integers(3, 5))
    return onset, onset + rise, onset + rise + fall


def _name(dataset: str, subject: str, number: int) -> str:
    """The clip's name in the set's own form, with episodes the real sets do not have: no published erratum or
    exclusion fits it."""
    episode, take = number // 4, number % 4 + 1
    if dataset == "samm":
        return f"{subject}_{8 + episode}_{take}"
    return f"EP{51 + episode}_{take}" if dataset == "casme" else f"EP{51 + episode}_{take:02d}f"
