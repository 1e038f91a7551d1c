"""`distmer fit`: a model trained on all subjects, to be kept."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from distmer.commands.run import planned
from distmer.commands.session import Session, remove_leftovers_of
from distmer.experiment.events import Observers, Step
from distmer.plugins import is_installed
from distmer.report.document import Document, Facts
from distmer.report.live import LiveProgress
from distmer.report.run_folder import read_results
from distmer.report.tables import interval_text
from distmer.saved.fitting import fit_everyone, job_of, keep
from distmer.saved.folder import Manifest
from distmer.storage import Place


@dataclass(frozen=True, slots=True)
class Kept:
    """A fitted model: what it is, its folder, and its address in MLflow if it was logged there."""

    manifest: Manifest
    folder: Place
    logged: str | None


def fit_model(
    session: Session, out: Place | None = None, *, local: bool = False, progress: bool = True
) -> Kept:
    """Train a configuration's model on all of its clips, and keep it in ``out``, or else below the
    workspace's ``models``.

    Clips whose features are missing are extracted first: without Ray if ``local``. The training is done in
    this process. If tracking is on, the folder is logged as an MLflow model as well. Raises BadInput where
    the configuration cannot be fitted so, or where the folder holds something else.
    """
    session.require()
    remove_leftovers_of(session)
    with Observers([LiveProgress()] if progress else []) as live, closing(session.backend(local)) as backend:
        plan, inputs, run_dir = planned(session, backend, live)
        folder = out or session.workspace.models / job_of(plan).digest[:12]
        clips = inputs()
        live(Step("training on all subjects", 0, 1))
        job, fitted = fit_everyone(plan, clips)
        live(Step("training on all subjects", 1, 1))
        features = session.features(plan.manifest)
        manifest = keep(folder, plan, job, fitted, clips, features, read_results(run_dir))
    return Kept(manifest, folder, _log_to_mlflow(session, folder, manifest))


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
        ("ask it", f"{_on_path(str(manifest.model['name']))}distmer predict {folder} CLIP"),
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


def _on_path(model: str) -> str:
    """What a command needs before it, to find a model that is a user's own file."""
    file = getattr(sys.modules.get(model.partition(":")[0]), "__file__", None)
    if ":" not in model or file is None or is_installed(model.partition(":")[0]):
        return ""
    return f"PYTHONPATH={Path(file).parents[model.partition(':')[0].count('.')]} "
