"""Published flow maps (STSTNet, HTNet): one RGB image a clip, R = u, G = v, B = optical strain, each min-max
scaled.

Layout ``<subject>/u_test/<label>/<subject>_<clip> .png`` (with a blank before .png), label 0 negative, 1
positive, 2 surprise. ``u_train`` beside it has the maps of all others, and is ignored here. A composite
folder mixes subjects of several sets (s1, sub01, 006); a protocol with ``parts`` makes data sets of them
(`parted`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from distmer.datasets.base import DatasetInfo, ReadOptions, by_number
from distmer.datasets.frame_files import IMAGES
from distmer.datasets.sheets import Annotation
from distmer.datasets.text import listing, natural, tidy
from distmer.storage import Place, below
from distmer.types import BadInput, FlowMap

_CLASSES = {"0": "negative", "1": "positive", "2": "surprise"}


def read(root: Place, options: ReadOptions) -> list[Annotation]:
    """Every map under some subject's u_test. There is no frame, so the missing-apex policy and errata do not
    apply."""
    subjects = [p for p in by_number(root) if (p / "u_test").is_dir() or (p / "u_train").is_dir()]
    if not subjects:
        there = listing(p.name for p in root.iterdir())
        raise BadInput(
            f"{root}: no flow maps are there; looked for <subject>/u_test/<0|1|2>/, found {there}."
        )
    return [row for subject in subjects for row in _of_subject(root, subject)]


def _of_subject(root: Place, subject: Place) -> list[Annotation]:
    own = subject / "u_test"
    if not own.is_dir():
        where = below(subject, root) or subject.name
        problem = f"{where}: it has u_train but no u_test, the subject's own maps; copy u_test too."
        return [Annotation(subject.name, "u_test", "", where, problem=problem)]
    files = (
        p
        for folder in by_number(own)
        for p in folder.iterdir()
        if p.suffix.lower() in IMAGES and not p.name.startswith(".")
    )
    return [_row(root, subject.name, path) for path in sorted(files, key=lambda p: natural(p.name))]


def _row(root: Place, subject: str, path: Place) -> Annotation:
    where = below(path, root) or path.name
    clip = path.stem.strip().removeprefix(f"{subject}_") or path.stem
    label = tidy(path.parent.name)
    if label not in _CLASSES:
        problem = (
            f"{where}: the label folder {label!r} is none of 0 (negative), 1 (positive), 2 (surprise);"
            " rename it."
        )
        return Annotation(subject, clip, "", where, problem=problem)
    return Annotation(subject, clip, _CLASSES[label], where, source=FlowMap(str(path.absolute())))


def parted(rows: Sequence[Annotation], parts: Mapping[str, str]) -> list[Annotation]:
    """The rows of a folder that mixes several data sets, each with its own. A row that fits none, or several,
    has a problem.

    ``parts``: data set → regular expression of its subjects, in any case.
    """
    done: list[Annotation] = []
    for row in rows:
        fitting = [name for name, pattern in parts.items() if re.fullmatch(pattern, row.subject, re.I)]
        if len(fitting) == 1:
            done.append(replace(row, dataset=fitting[0]))
        else:
            spelled = ", ".join(f"{name} {pattern}" for name, pattern in parts.items())
            reason = (
                f"{row.where}: the spelling of the subject {row.subject!r} does not tell its data set"
                f" ({spelled}); rename its folder, or use data.protocol=flowmaps."
            )
            done.append(replace(row, problem=row.problem or reason, source=None))
    return done


DATASET = DatasetInfo(
    name="flowmaps",
    title="Published flow maps",
    citation="Liong, Gan, See, Khor, Huang: STSTNet. IEEE FG 2019, arXiv 1902.03634 (folders as its"
    " repository and HTNet's publish them)",
    folders=("flowmaps", "norm_u_v_os", "three_norm_u_v_os"),
    markers=(),
    read=read,
    fields=(),
)
