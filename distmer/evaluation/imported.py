"""Predictions that were made by other code: a table is read, checked, and turned into the values that are
scored.

So a laboratory that has its own models can score them as distmer scores its own, with floors and with
intervals.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from distmer.registry import nearest
from distmer.types import BadInput, FloatArray, Fold, IntArray, Predictions, SubjectKey

if TYPE_CHECKING:
    import pandas as pd

# The names that a column may have, in lower case and without anything but letters and digits.
_COLUMNS = {
    "clip": ("clip", "clipid", "clipname", "video", "sample"),
    "subject": ("subject", "subjectid", "sub", "participant"),
    "y_true": ("ytrue", "true", "truth", "label", "target"),
    "y_pred": ("ypred", "pred", "predicted", "prediction"),
    "dataset": ("dataset", "database"),
    "fold": ("fold", "foldid", "split"),
    "seed": ("seed", "run"),
}
_PROBABILITY = re.compile(r"(?:prob|proba|probability|p)[_ .:-]+(.+)", re.IGNORECASE)
_WANTED = (
    "clip, subject, y_true, and y_pred or one column prob_CLASS for each class; also dataset, fold and seed"
)


@dataclass(frozen=True, slots=True, eq=False)
class Imported:
    """Predictions of other code, ready to be scored.

    ``classes`` are the class names, to which the numbers in ``predictions`` refer. ``folds`` has the split
    that the table tells of (without a column ``fold``: one subject a fold), and ``labels`` the true class of
    each clip. ``warnings`` are sentences about what makes a score of this table doubtful.
    """

    predictions: Predictions
    classes: tuple[str, ...]
    folds: tuple[Fold, ...]
    labels: Mapping[str, int]
    warnings: tuple[str, ...]


def import_predictions(frame: pd.DataFrame, where: str) -> Imported:
    """The predictions in a table, one row a clip (and seed).

    Parameters
    ----------
    frame
        Columns ``clip``, ``subject``, ``y_true``, and ``y_pred`` or one probability a class (``prob_CLASS``),
        in any order and spelling of case; ``dataset``, ``fold`` and ``seed`` where there are several. Classes
        may be numbers or names.
    where
        What the table is called in messages.

    Raises
    ------
    BadInput
        For a column that is missing, twice there or unknown; an empty cell; a clip with two true classes or
        two subjects; a probability that is none.
    """
    named, prob_columns = _columns([str(column) for column in frame.columns], where)
    if not len(frame):
        raise BadInput(f"{where}: the table has no rows; give one row for each clip.")
    text = {name: _cells(frame, column, where) for name, column in named.items()}
    prob = {name: _numbers(frame, column, where) for name, column in prob_columns.items()}
    classes = _classes(text, prob, where)
    number = {name: index for index, name in enumerate(classes)}
    y_true_N = np.array([number[name] for name in text["y_true"]])
    prob_NK, y_pred_N, warnings = _answers(text, prob, classes, where)
    subjects = _subjects(text, where)
    ids, repeated = _clip_ids(text, subjects, y_true_N, where)
    seed_N = _seeds(text, where)
    folds_of = text.get("fold") or [str(subject) for subject in subjects]
    predictions = Predictions(tuple(ids), y_true_N, y_pred_N, prob_NK, tuple(folds_of), seed_N)
    warnings += repeated
    warnings += _split_subjects(subjects, folds_of, where)
    true_K = np.bincount(y_true_N, minlength=len(classes))
    warnings += [
        f"{where}: no clip is truly of class {name!r}; its recall and F1 are 0 and count in UAR and UF1."
        for name, n in zip(classes, true_K, strict=True)
        if n == 0
    ]
    labels = dict(zip(ids, y_true_N.tolist(), strict=True))
    return Imported(predictions, classes, _folds(ids, subjects, folds_of), labels, tuple(warnings))


def in_order(found: Imported, classes: Sequence[str]) -> Imported:
    """The same predictions with the classes numbered as in ``classes``, which are those of a run that they
    are compared with. Where the table has the numbers 0 to K-1, they mean the run's classes. As they are
    where nothing fits."""
    if found.classes == tuple(str(k) for k in range(len(classes))):
        return replace(found, classes=tuple(classes))
    if sorted(found.classes) != sorted(classes):
        return found
    to_K = np.array([classes.index(name) for name in found.classes])
    p = found.predictions
    prob_NK = p.prob_NK[:, np.argsort(to_K)]
    predictions = replace(p, y_true_N=to_K[p.y_true_N], y_pred_N=to_K[p.y_pred_N], prob_NK=prob_NK)
    labels = {clip: int(to_K[label]) for clip, label in found.labels.items()}
    return replace(found, predictions=predictions, classes=tuple(classes), labels=labels)


def _columns(names: Sequence[str], where: str) -> tuple[dict[str, str], dict[str, str]]:
    """Our name → the table's column, and class → the column of its probability."""
    known = {spelling: name for name, spellings in _COLUMNS.items() for spelling in spellings}
    named, prob, unknown = dict[str, str](), dict[str, str](), list[str]()
    for column in names:
        name = known.get(re.sub(r"[\W_]", "", column.lower()))
        found = _PROBABILITY.fullmatch(column.strip())
        into, key = (named, name) if name else (prob, found[1].strip() if found else None)
        if key is None:
            unknown.append(column)
        elif key in into:
            raise BadInput(
                f"{where}: columns {into[key]!r} and {column!r} both say {key}; remove one of them."
            )
        else:
            into[key] = column
    if unknown:
        hint = nearest(unknown[0], _COLUMNS)
        raise BadInput(
            f"{where}: unknown column {', '.join(map(repr, unknown))} ({hint}) Remove it, or give {_WANTED}."
        )
    missing = [name for name in ("clip", "subject", "y_true") if name not in named]
    if missing or ("y_pred" not in named and not prob):
        missing += [] if "y_pred" in named or prob else ["y_pred"]
        raise BadInput(f"{where}: the column {', '.join(missing)} is missing; the columns are {_WANTED}.")
    return named, prob


def _cells(frame: pd.DataFrame, column: str, where: str) -> list[str]:
    """The cells of a column as text; whole numbers without a decimal point, which an empty cell elsewhere
    adds."""
    values = frame[column].tolist()
    cells = ["" if value is None or value != value else str(value).strip() for value in values]
    if "" in cells:
        raise BadInput(
            f"{where}, row {cells.index('') + 2}: the cell in column {column!r} is empty; fill it in."
        )
    return [re.sub(r"^(-?\d+)\.0$", r"\1", cell) for cell in cells]


def _numbers(frame: pd.DataFrame, column: str, where: str) -> FloatArray:
    try:
        values_N = np.array([float(value) for value in frame[column].tolist()])
    except (TypeError, ValueError) as error:
        raise BadInput(
            f"{where}: column {column!r} holds something that is no number ({error}); correct it."
        ) from error
    bad = ~((values_N >= 0) & (values_N <= 1))
    if bad.any():
        row = int(np.argmax(bad))
        raise BadInput(
            f"{where}, row {row + 2}: {values_N[row]} in column {column!r} is no probability; give 0 to 1."
        )
    return values_N


def _classes(text: Mapping[str, list[str]], prob: Mapping[str, FloatArray], where: str) -> tuple[str, ...]:
    """All classes that occur anywhere, in the order of their numbers or of the alphabet."""
    found = {*text["y_true"], *text.get("y_pred", ()), *prob}
    if prob and (without := sorted({*text["y_true"], *text.get("y_pred", ())} - prob.keys())):
        raise BadInput(
            f"{where}: class {without[0]!r} has no column prob_{without[0]}; give one for each"
            " class, or none."
        )
    if len(found) < 2:
        raise BadInput(f"{where}: only one class occurs, {min(found)!r}; there is nothing to tell apart.")
    numbers = all(re.fullmatch(r"-?\d+", name) for name in found)
    return tuple(sorted(found, key=int) if numbers else sorted(found))


def _answers(
    text: Mapping[str, list[str]], prob: Mapping[str, FloatArray], classes: Sequence[str], where: str
) -> tuple[FloatArray, IntArray, list[str]]:
    """prob_NK, y_pred_N, and a warning where the two do not agree: then y_pred counts."""
    given = [classes.index(name) for name in text.get("y_pred", ())]
    if not prob:
        return np.eye(len(classes))[given], np.array(given), []
    prob_NK: FloatArray = np.stack([prob[name] for name in classes], axis=1)
    if not given:
        return prob_NK, prob_NK.argmax(axis=1), []
    differ = sum(float(row_K[k]) < float(row_K.max()) for row_K, k in zip(prob_NK, given, strict=True))
    said = (
        f"{where}: in {differ} of {len(given)} rows y_pred is not the class of the largest probability;"
        " y_pred counts."
    )
    return prob_NK, np.array(given), [said] if differ else []


def _subjects(text: Mapping[str, list[str]], where: str) -> list[SubjectKey]:
    """Of each row. Without a column ``dataset``, a subject may be written ``dataset/subject``."""
    keys: list[SubjectKey] = []
    for row, subject in enumerate(text["subject"]):
        dataset, slash, name = subject.rpartition("/")
        if "dataset" in text:
            given = text["dataset"][row]
            dataset, name = given, subject.removeprefix(f"{given}/")
        elif not slash:
            dataset = "data"
        if "/" in dataset or "/" in name:
            raise BadInput(f"{where}, row {row + 2}: subject {subject!r} has a slash in it; leave it out.")
        keys.append(SubjectKey(dataset, name))
    return keys


def _clip_ids(
    text: Mapping[str, list[str]], subjects: Sequence[SubjectKey], y_true_N: IntArray, where: str
) -> tuple[list[str], list[str]]:
    """The id of each row's clip; a warning where a clip is predicted several times with one seed: each time
    counts."""
    ids = [_clip_id(clip, subject) for clip, subject in zip(text["clip"], subjects, strict=True)]
    truth: dict[str, int] = {}
    times: Counter[tuple[str, str]] = Counter()
    seeds = text.get("seed") or [""] * len(ids)
    distinct: list[str] = []
    for row, (clip, label, seed) in enumerate(zip(ids, y_true_N.tolist(), seeds, strict=True)):
        if truth.setdefault(clip, label) != label:
            raise BadInput(
                f"{where}, row {row + 2}: clip {clip} has another y_true above; correct one of the two rows."
            )
        times[clip, seed] += 1
        distinct.append(clip if times[clip, seed] == 1 else f"{clip} (time {times[clip, seed]})")
    many = [clip for (clip, _), n in times.items() if n > 1]
    said = (
        f"{where}: {len(set(many))} clips are predicted more than once ({', '.join(many[:3])}); each time"
        " counts."
    )
    return distinct, [said] if many else []


def _clip_id(clip: str, subject: SubjectKey) -> str:
    return clip if clip.startswith(f"{subject}/") else f"{subject}/{clip}"


def _seeds(text: Mapping[str, list[str]], where: str) -> IntArray:
    seeds = text.get("seed")
    if seeds is None:
        return np.zeros(len(text["clip"]), dtype=np.int64)
    if all(re.fullmatch(r"\d+", seed) for seed in seeds):
        return np.array([int(seed) for seed in seeds])
    raise BadInput(f"{where}: column seed must hold whole numbers, 0 or above; number the repetitions.")


def _split_subjects(subjects: Sequence[SubjectKey], folds: Sequence[str], where: str) -> list[str]:
    of_subject: defaultdict[SubjectKey, set[str]] = defaultdict(set)
    for subject, fold in zip(subjects, folds, strict=True):
        of_subject[subject].add(fold)
    split = sorted(str(subject) for subject, own in of_subject.items() if len(own) > 1)
    said = (
        f"{where}: {len(split)} of {len(of_subject)} subjects are tested in several folds"
        f" ({', '.join(split[:3])}), so"
        " each of these folds has trained on its own test subject; the score is not subject-independent."
    )
    return [said] if split else []


def _folds(ids: Sequence[str], subjects: Sequence[SubjectKey], folds: Sequence[str]) -> tuple[Fold, ...]:
    """The folds of the table. Trained on are the clips of all other subjects, as far as the table knows them;
    a fold that leaves none, such as a single test set, is not among them: what it was trained on is
    unknown."""
    found: list[Fold] = []
    rows = list(zip(ids, subjects, folds, strict=True))
    for name in sorted(set(folds)):
        tested = {subject for _, subject, fold in rows if fold == name}
        test = tuple(sorted({clip for clip, _, fold in rows if fold == name}))
        train = tuple(sorted({clip for clip, subject, _ in rows if subject not in tested}))
        if train:
            found.append(Fold(name, train, test))
    return tuple(found)
