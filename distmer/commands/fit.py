"""`distmer fit`: a model trained on all subjects, to be kept."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from distmer.commands.run import planned
from distmer.commands.session import Session, remove_leftovers_of
from distmer.experiment.events import Observers, Step
from distmer.report.document import Document, Facts
from distmer.report.live import LiveProgress
from distmer.report.run_folder import read_results
from distmer.report.tables import interval_text
from distmer.saved.fitting import fit_everyone, job_of, keep
from distmer.saved.folder import Manifest
from distmer.saved.model import SavedModel, load_model
from distmer.storage import Place, place


@dataclass(frozen=True, slots=True)
class Kept:
    """A fitted model: what it is, its folder, and its address in MLflow if it was logged there."""

    manifest: Manifest
    folder: Place
    logged: str | None


def fit_model(session: Session, out: Place | None = None, *, local: bool = False) -> Kept:
    """Train a configuration's model on all of its clips, and keep it in ``out``, or else below the
    workspace's ``models``.

    Clips whose features are missing are extracted first: without Ray if ``local``. The training is done in
    this process. If tracking is on, the folder is logged as an MLflow model as well. Raises BadInput where
    the configuration cannot be fitted so, or where the folder holds something else.
    """
    session.require()
    remove_leftovers_of(session)
    with Observers([LiveProgress()]) as live, closing(session.backend(local)) as backend:
        plan, inputs, run_dir = planned(session, backend, live)
        folder = out or session.workspace.models / job_of(plan).digest[:12]
        clips = inputs()
        live(Step("training on all subjects", 0, 1))
        job, fitted = fit_everyone(plan, clips)
        live(Step("training on all subjects", 1, 1))
        features = session.features(plan.manifest)
        manifest = keep(folder, plan, job, fitted, clips, features, read_results(run_dir))
    return Kept(manifest, folder, _log_to_mlflow(session, folder, manifest))


def fit(
    config: Place | str | None = None,
    settings: Sequence[str] = (),
    *,
    out: Place | str | None = None,
    workspace: str | None = None,
    local: bool = True,
) -> SavedModel:
    """As `distmer fit`: the model of a configuration file, trained on all subjects, kept and loaded.

    ``settings`` are ``a.b=value``, as for ``--set``. Raises as `fit_model`.
    """
    path = None if config is None else place(str(config))
    session = Session.open(path, settings, workspace, os.environ)
    folder = None if out is None else place(str(out)).absolute()
    return load_model(fit_model(session, folder, local=local).folder, session.config.features.landmarks)


def fit_report(kept: Kept, command: str) -> Document:
    """What was fitted, where it lies, and what to expect of it. ``command`` runs the same configuration."""
    manifest, folder = kept.manifest, kept.folder
    score = manifest.score
    known = (
        f"UAR {score['uar']:.4f} {interval_text(score['uar_ci'], 4)}, of models that had not seen the subject"
        if score
        else f"none yet: `{command}` gives it, and then fit again"
    )
    facts = [
        ("clips", f"{sum(manifest.clips.values())} of {len(manifest.subjects)} subjects"),
        ("classes", ", ".join(manifest.classes)),
        ("score", known),
        ("folder", str(folder)),
        ("card", str(folder / "README.md")),
        ("ask it", f"distmer predict {folder} CLIP"),
    ]
    facts += [("in MLflow", kept.logged)] if kept.logged else []
    return Document(
        f"{manifest.model['name']}, fitted to all clips of {manifest.protocol}", (), [Facts(facts)]
    )


def _log_to_mlflow(session: Session, folder: Place, manifest: Manifest) -> str | None:
    if not session.config.tracking.enabled:
        return None
    from distmer.tracking.mlflow_tracker import track_model

    uri, artifacts = session.tracking_store
    return track_model(uri, session.config.tracking.experiment, artifacts, folder, manifest)
