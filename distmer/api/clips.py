"""Clips and their features: what `distmer.load` and `distmer.features` give."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distmer.api.naming import reference
from distmer.api.settings import Executor, Section, is_local, layer, text_of
from distmer.commands.session import Given, Session
from distmer.datasets import mismatches
from distmer.datasets.check import by_class
from distmer.experiment.events import Observers
from distmer.experiment.prepare import extract_missing
from distmer.features.inputs import model_inputs
from distmer.report.document import Document, Facts, Lines
from distmer.report.live import LiveProgress
from distmer.report.table import Column, Row, Table
from distmer.types import BadInput, ClipFailure, FloatArray, FlowMap, IntArray, KeyFrames, Manifest, Source
from distmer.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Clips:
    """The clips of a protocol, as `distmer.load` found them.

    ``manifest`` holds them, and what could not be used, with reasons. ``data`` are the settings that they
    were found with, and ``workspace`` is the folder (or the address) that runs on them are written below.
    """

    manifest: Manifest
    data: Mapping[str, Any]
    workspace: str

    def __len__(self) -> int:
        return len(self.manifest.clips)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the labels."""
        return self.manifest.classes

    @property
    def subjects(self) -> list[str]:
        """Every subject, as ``dataset/subject``."""
        return [str(key) for key in sorted({clip.subject_key for clip in self.manifest.clips})]

    def to_pandas(self) -> pd.DataFrame:
        """One row for each clip: ``clip`` (its id), ``dataset``, ``subject`` (as ``dataset/subject``),
        ``label`` (the class), ``emotion`` (as the sheet says), ``onset`` and ``apex`` (paths; there is no
        apex before the max-flow search, and a published flow map has neither), ``frames`` (the paths of all
        frames from onset to offset, or of the map), ``where`` (file and row), ``note`` (what was changed)."""
        import pandas as pd

        rows = [
            {
                "clip": clip.id,
                "dataset": clip.dataset,
                "subject": str(clip.subject_key),
                "label": self.classes[clip.label],
                "emotion": clip.emotion,
                **_paths(clip.source),
                "where": clip.where,
                "note": clip.note,
            }
            for clip in self.manifest.clips
        ]
        return pd.DataFrame(rows)

    @property
    def report(self) -> Document:
        """How many clips each class has in each data set, and which clips cannot be used, and why."""
        manifest = self.manifest
        columns = [Column("data set"), *(Column(name, right=True) for name in (*self.classes, "all"))]
        rows = [
            Row([name, *(str(n) for n in row.values()), str(sum(row.values()))])
            for name, row in by_class(manifest).items()
        ]
        used = f"{len(self)} of {manifest.clips_expected} can be used"
        facts = Facts([("clips", used), ("subjects", str(len(self.subjects)))])
        lost = [f"{failure.clip}: {failure.reason}" for failure in manifest.failures]
        parts = [Table(columns, rows), facts, Lines(lost, f"not usable: {len(lost)}")]
        return Document(f"Clips of {manifest.protocol}", mismatches(manifest), parts)

    def __repr__(self) -> str:
        return (
            f"<Clips of {self.manifest.protocol}: {len(self)} of {self.manifest.clips_expected} usable,"
            f" {len(self.subjects)} subjects, {', '.join(self.classes)}>"
        )

    def _repr_html_(self) -> str:
        return self.report._repr_html_()


def _paths(source: Source) -> dict[str, Any]:
    if isinstance(source, FlowMap):
        return {"onset": "", "apex": "", "frames": (source.image,)}
    apex = source.apex if isinstance(source, KeyFrames) else ""
    frames = tuple(file for _, file in source.course) or source.images
    return {"onset": source.onset, "apex": apex, "frames": frames}


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FeatureArrays:
    """The features of the usable clips, row n of every array belonging to ``clip_ids[n]``, in the order of
    the ids. It unpacks as ``x, y, subjects``.

    ``x_NCHW`` is float32, ``y_N`` are numbers of ``classes``, and ``subjects_N`` are texts,
    ``dataset/subject``.
    """

    x_NCHW: FloatArray
    y_N: IntArray
    subjects_N: Any
    clip_ids: tuple[str, ...]
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    failures: tuple[ClipFailure, ...]

    def __iter__(self) -> Iterator[Any]:
        return iter((self.x_NCHW, self.y_N, self.subjects_N))

    def __repr__(self) -> str:
        n, _, h, w = self.x_NCHW.shape
        return f"<FeatureArrays of {n} clips: {', '.join(self.channels)} at {w}×{h} px>"


def load(
    protocol: str = "synthetic",
    root: str | Path | None = None,
    *,
    workspace: str | Path | None = None,
    progress: bool = True,
    **data: Any,
) -> Clips:
    """The clips of a protocol, which says which data sets are used, which emotions belong to which class, and
    which clips are left out.

    Frames are not read yet. Nothing is written, except for the embedded data set ``synthetic``: it is
    generated in the workspace when it is first needed.

    Parameters
    ----------
    protocol
        A built-in name (``casme2``, ``samm``, ``smic``, ``megc2019``, ``flowmaps``, ``folder``, ``synthetic``
        …) or the path of a protocol of your own, which ends in ``.yaml``.
    root
        The folder of the data set, or a folder with one folder for each data set; else ``DISTMER_DATA``.
    workspace
        The folder that everything is written below; else ``DISTMER_HOME``, else ``~/distmer``.
    progress
        Whether to show the progress while the embedded data set is generated.
    data
        Further settings of the section ``data``: ``missing_apex="midpoint"``, ``include="clips.txt"``,
        ``synthetic={"subjects": 4}``.

    Raises
    ------
    BadInput
        There is no such protocol, setting, folder or sheet, or no clip can be used.

    Examples
    --------
    >>> import distmer as dm
    >>> clips = dm.load("synthetic", synthetic={"subjects": 4, "clips_per_subject": 4}, progress=False)
    >>> clips
    <Clips of synthetic: 16 of 16 usable, 4 subjects, negative, positive, surprise>
    >>> clips.to_pandas()["label"].value_counts().to_dict()
    {'negative': 7, 'positive': 5, 'surprise': 4}
    """
    where = {} if root is None else {"root": root}
    given = layer("dm.load", data={"protocol": protocol, **where, **data})
    session = Session.open(Given(None, given, text_of(workspace)))
    with Observers([LiveProgress()] if progress else []) as live:
        manifest = session.manifest([live], folds=False)
    return Clips(manifest, given.tree["data"], str(session.workspace.root))


def require_clips(clips: Any, call: str) -> None:
    """BadInput for what `load` did not give: a name of a protocol, a folder, a table."""
    if not isinstance(clips, Clips):
        what = repr(clips) if isinstance(clips, str) else f"an object of the type {type(clips).__name__}"
        raise BadInput(
            f"{call}: clips is {what}; give what dm.load returns, as in {call}(dm.load('casme2'))."
        )


def features(
    clips: Clips,
    flow: str | None = None,
    size: int = 28,
    *,
    channels: Sequence[str] = ("u", "v", "strain"),
    features: Section = None,
    inputs: Section = None,
    executor: Executor = "local",
    retry_failed: bool = False,
    progress: bool = True,
) -> FeatureArrays:
    """Arrays for a cross-validation of your own: the inputs of a model, the labels and the subjects.

    The features are stored in the workspace, so the next call and every run read them from there.

    Parameters
    ----------
    clips
        From `load`.
    flow
        The optical flow: ``tvl1`` (the default), ``tvl1-numpy``, ``tvl1-fast``, ``dis`` or ``farneback``.
    size
        Side in px to which the maps are resized. ``features={"size": 128}`` is the side of the crop on which
        the flow is computed.
    channels
        In this order: ``u``, ``v`` (the flow's components), ``strain``, ``onset``, ``apex`` (the gray crops).
    features, inputs
        Further settings of these sections: ``features={"strain": "smooth"}``, or for px and px/px
        ``inputs={"normalise": "none"}``.
    executor
        ``local``: in this process, one clip after the other. ``ray``: on the local cores, or on the cluster
        of ``RAY_ADDRESS``.
    retry_failed
        Whether to extract clips with a stored failure again.
    progress
        Whether to show how far it is.

    Returns
    -------
    FeatureArrays
        To be unpacked as ``x, y, subjects``: x_NCHW float32, y_N, subjects_N. Clips that cannot be used are
        not among them; they are in ``failures``, and one warning says how many.

    Raises
    ------
    BadInput
        A setting or a channel does not exist, or no clip can be used.

    Examples
    --------
    >>> import distmer as dm
    >>> clips = dm.load("synthetic", synthetic={"subjects": 4, "clips_per_subject": 4}, progress=False)
    >>> x, y, subjects = dm.features(clips, flow="farneback", size=14, progress=False)
    >>> x.shape, y[:3], subjects[0]
    ((16, 3, 14, 14), array([0, 1, 0]), np.str_('casme/sub01'))
    """
    require_clips(clips, "dm.features")
    extraction = dict(features or {}) | ({"flow": flow} if flow is not None else {})
    code = partial(reference, call="dm.features", workspace=Workspace.find(clips.workspace, os.environ))
    given = layer("dm.features", code=code, data=clips.data, features=extraction or None, inputs=inputs)
    session = Session.open(Given(None, given, clips.workspace), clips=clips.manifest)
    local, manifest = is_local(executor, "dm.features"), clips.manifest
    # Unlike a command, this may be called in a loop, or on a store that nobody here may write.
    with Observers([LiveProgress()] if progress else []) as live, closing(session.backend(local)) as backend:
        stored = session.features(manifest, retry_failed=retry_failed)
        stored = extract_missing(manifest, stored, session.config.features, backend, [live])
    lost = {failure.clip for failure in stored.failures}
    usable = sorted((clip for clip in manifest.clips if clip.id not in lost), key=lambda clip: clip.id)
    if not usable:
        first = stored.failures[0]
        raise BadInput(f"dm.features: not one clip can be used; the first: {first.clip}: {first.reason}")
    if lost:
        _log.warning("%d of %d clips cannot be used; see .failures", len(lost), len(manifest.clips))
    maps = stored.store.load([(clip.id, stored.keys[clip.id]) for clip in usable])
    return FeatureArrays(
        model_inputs(maps, channels, size, session.config.inputs),
        np.array([clip.label for clip in usable]),
        np.array([str(clip.subject_key) for clip in usable]),
        maps.clip_ids,
        tuple(channels),
        clips.classes,
        stored.failures,
    )
