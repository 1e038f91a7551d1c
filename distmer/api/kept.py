"""Whether a model leaks, and a model to keep: `distmer.audit`, `distmer.fit`, `distmer.load_model`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distmer.api.clips import Clips
from distmer.api.runs import Run, folder_of, given_by
from distmer.api.settings import Section, Tracking, layer, seeds_of, text_of
from distmer.commands.audit import audit_experiment, audit_report
from distmer.commands.fit import fit_model, open_chosen
from distmer.commands.session import Session
from distmer.config import ModelConfig
from distmer.experiment.audit import Audit
from distmer.report.document import Document
from distmer.saved.model import SavedModel
from distmer.saved.model import load_model as _load_model
from distmer.storage import place


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Audited:
    """The verdict of an audit. ``audit.leaks`` are the leaks that it found; ``report`` is the verdict as a
    text."""

    audit: Audit
    report: Document

    @property
    def passed(self) -> bool:
        return self.audit.passed

    def __repr__(self) -> str:
        return f"<Audited: {self.audit.verdict}>"

    def _repr_html_(self) -> str:
        return self.report._repr_html_()


def audit(
    clips: Clips,
    model: Any = "atscnn",
    *,
    folds: int = 3,
    seed: int = 0,
    train: Section = None,
    features: Section = None,
    inputs: Section = None,
    evaluation: Section = None,
    seeds: int | None = None,
    workspace: str | Path | None = None,
    progress: bool = True,
) -> Audited:
    """Test a model for leaks on a few folds: does its result depend on held-out clips where it must not?

    Give it the same as `loso`, except ``train.keep_weights``, because an audit keeps nothing. Afterwards
    every report of that run has the verdict.

    Parameters
    ----------
    clips, model, train, features, inputs, evaluation, seeds, workspace, progress
        As for `loso`.
    folds, seed
        How many folds are audited, and the seed that draws them.

    Raises
    ------
    BadInput
        A setting, a model or an option cannot be used, or a fold cannot be trained.

    Examples
    --------
    >>> import distmer as dm
    >>> clips = dm.load("synthetic", synthetic={"subjects": 4, "clips_per_subject": 4}, progress=False)
    >>> dm.audit(clips, model="linear", folds=2, features={"flow": "farneback"}, progress=False)
    <Audited: passed 2 folds>
    """
    sections = {"features": features, "inputs": inputs, "train": train, "evaluation": evaluation}
    given = given_by("dm.audit", clips, model, workspace, seeds=seeds_of(seeds), **sections)
    session = Session.open(given, clips=clips.manifest)
    verdict = audit_experiment(session, folds, seed, local=True, progress=progress)
    return Audited(verdict, audit_report(verdict, session.model().info.name))


def fit(
    clips: Clips | Run | str | Path,
    model: Any = None,
    *,
    out: str | Path | None = None,
    train: Section = None,
    features: Section = None,
    inputs: Section = None,
    seeds: int | None = None,
    tracking: Tracking = False,
    register: str | None = None,
    workspace: str | Path | None = None,
    progress: bool = True,
) -> SavedModel:
    """Train a model on all subjects, and keep it in a folder.

    Parameters
    ----------
    clips
        From `load`. Or a finished sweep, as `sweep` and `open_run` give it, or its folder: then the setting
        that it has chosen is trained on its clips, and no other setting can be given.
    model
        As for `loso`; ``atscnn`` if you leave it out.
    train, features, inputs, seeds, tracking, workspace, progress
        As for `loso`. A kept model is one training, so ``seeds`` is one seed.
    out
        The folder; else one below the workspace's ``models``.
    register
        A name in MLflow's registry, of which the model becomes a new version. It needs ``tracking``.

    Returns
    -------
    SavedModel
        Its ``predict`` answers for clips. Its ``folder`` is the one to keep or to share.

    Raises
    ------
    BadInput
        A setting, a model or an option cannot be used, or the folder holds something else. The sweep is not
        finished, or its clips have changed.
    RunError
        The model is kept in its folder, but could not be registered.

    Examples
    --------
    >>> import distmer as dm
    >>> clips = dm.load("synthetic", synthetic={"subjects": 4, "clips_per_subject": 4}, progress=False)
    >>> kept = dm.fit(clips, model="linear", features={"flow": "farneback"}, progress=False)
    >>> kept.classes == dm.load_model(kept.folder).classes
    True
    """
    sections = {"features": features, "inputs": inputs, "train": train, "seeds": seeds_of(seeds)}
    choice = None
    if isinstance(clips, Clips):
        own = given_by("dm.fit", clips, model or ModelConfig().name, workspace, tracking, **sections)
        session = Session.open(own, clips=clips.manifest)
    else:
        given = layer("dm.fit", tracking, model=model, **sections)
        session, choice = open_chosen(folder_of(clips, workspace), given, text_of(workspace))
    folder = None if out is None else place(str(out)).absolute()
    done = fit_model(session, folder, local=True, progress=progress, choice=choice, register=register)
    return _load_model(done.folder, session.config.features.landmarks)


def load_model(folder: str | Path, landmarks: str | None = None) -> SavedModel:
    """The model in a folder that `fit` or ``distmer fit`` has written.

    Parameters
    ----------
    folder
        The folder, or the 12 digits of its name.
    landmarks
        The landmark model's file, if the model was fitted with another than the installed one.

    Raises
    ------
    BadInput
        A byte differs from what was written; the folder is of a newer format; or the code that answers is
        another version, or cannot be found.

    Examples
    --------
    >>> import distmer as dm
    >>> clips = dm.load("synthetic", synthetic={"subjects": 4, "clips_per_subject": 4}, progress=False)
    >>> kept = dm.fit(clips, model="linear", features={"flow": "farneback"}, progress=False)
    >>> dm.load_model(kept.folder).classes
    ('negative', 'positive', 'surprise')
    """
    return _load_model(folder_of(folder), landmarks)
