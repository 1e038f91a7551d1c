"""The folds for a cross-validation of your own: as row numbers, and as a splitter of scikit-learn."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

import numpy as np
from sklearn.model_selection import LeaveOneGroupOut

from distmer.config import EvaluationConfig, parse
from distmer.evaluation import folds
from distmer.types import BadInput, Clip, IntArray, KeyFrames, SubjectKey


def make_folds(subjects: Iterable[Any], k: int | None = None) -> list[tuple[IntArray, IntArray]]:
    """The folds of an experiment, as row numbers: no subject is in the training and in the test rows.

    Parameters
    ----------
    subjects
        The subject of each row. ``sub01`` of CASME and ``sub01`` of CASME II are two people, so where there
        are several data sets, write them ``casme/sub01`` and ``casme2/sub01``, as `distmer.features` does.
    k
        None: each fold holds out one subject (LOSO). Otherwise ``k`` folds of whole subjects, each with about
        as many rows.

    Returns
    -------
    list of (train_N, test_N)
        In the order of the subjects, as `distmer.loso` has them.

    Raises
    ------
    BadInput
        There are fewer than two subjects, or fewer than ``k``; or a subject is empty.

    Examples
    --------
    >>> import distmer as dm
    >>> for train_N, test_N in dm.make_folds(["sub02", "sub01", "sub02", "sub03"]):
    ...     print(train_N, test_N)
    [0 2 3] [1]
    [1 3] [0 2]
    [0 1 2] [3]
    """
    rows = [_row(number, key) for number, key in enumerate(subject_keys(subjects))]
    number = {clip.id: n for n, clip in enumerate(rows)}
    how = {} if k is None else {"folds": "group_kfold", "k": k}
    split = folds.make_folds(rows, parse(EvaluationConfig, how, "dm.make_folds"))
    return [(_numbers(fold.train, number), _numbers(fold.test, number)) for fold in split]


class LeaveOneSubjectOut(LeaveOneGroupOut):
    """`make_folds` as a splitter of scikit-learn: for ``cross_val_predict``, ``GridSearchCV`` and the like.

    The ``groups`` are the subjects.

    Examples
    --------
    >>> import distmer as dm, numpy as np
    >>> from sklearn.model_selection import cross_val_predict
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> x, y, subjects = np.eye(6), [0, 1, 0, 1, 0, 1], ["a", "a", "b", "b", "c", "c"]
    >>> cross_val_predict(KNeighborsClassifier(1), x, y, groups=subjects, cv=dm.LeaveOneSubjectOut()).shape
    (6,)
    """

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Generator[tuple[Any, Any]]:
        """(train_N, test_N) of each fold. BadInput without ``groups``."""
        yield from make_folds(_given(groups))

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """How many folds there are: as many as subjects. BadInput without ``groups``."""
        return len(set(subject_keys(_given(groups))))


def subject_keys(subjects: Iterable[Any]) -> list[SubjectKey]:
    """From texts ``dataset/subject``, or only a subject if there is one data set."""
    keys: list[SubjectKey] = []
    for subject in subjects:
        dataset, slash, name = str(subject).partition("/")
        keys.append(SubjectKey(dataset, name) if slash else SubjectKey("data", dataset))
    return keys


def _row(number: int, key: SubjectKey) -> Clip:
    """A row as a clip: what the folds are made of."""
    frames = KeyFrames("", "")
    return Clip(key.dataset, key.subject, f"{number:09d}", 0, "", frames, f"subjects, row {number}")


def _numbers(ids: Iterable[str], number: dict[str, int]) -> IntArray:
    return np.array(sorted(number[clip] for clip in ids))


def _given(groups: Any) -> Any:
    if groups is None:
        raise BadInput("LeaveOneSubjectOut needs the subject of each row; give them as groups=subjects.")
    return groups
