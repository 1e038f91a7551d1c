"""`distmer fit`: a model trained on all subjects, to be kept."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distmer.commands.run import planned
from distmer.commands.session import Given, Session, home_of, require_no_kept_weights
from distmer.config_layers import Layer
from distmer.experiment.events import Step
from distmer.experiment.plan import acting_settings
from distmer.plugins import is_installed
from distmer.report.document import Document, Facts
from distmer.report.run_folder import read_results
from distmer.report.tables import interval_text
from distmer.saved.choice import Choice, read_choice
from distmer.saved.fitting import fit_everyone, job_of, keep, require_one_seed
from distmer.saved.folder import Manifest, require_free
from distmer.storage import Place
from distmer.types import BadInput, JsonValue, RunError

# What may be set beside a sweep's choice: where things are, and the one seed.
_NOT_CHOSEN = ("data", "seeds", "cluster", "tracking", "storage", "name")


@dataclass(frozen=True, slots=True)
class Kept:
    """A fitted model: what it is, its folder, and its address in MLflow if it was logged there."""

    manifest: Manifest
    folder: Place
    logged: str | None


def open_chosen(
    folder: Place, overrides: Sequence[str] | Layer, workspace: str | None
) -> tuple[Session, Choice]:
    """The session of the setting that a sweep has chosen, and that choice. BadInput where the sweep has no
    choice, or where ``overrides`` would change the setting."""
    choice = read_choice(folder)
    given = overrides.tree if isinstance(overrides, Layer) else overrides
    others = [one for one in given if one.partition("=")[0].partition(".")[0] not in _NOT_CHOSEN]
    if others:
        origin = overrides.origin if isinstance(overrides, Layer) else "--set"
        raise BadInput(
            f"{origin} {others[0]}: the sweep {folder} has no score for another setting than its own; fit"
            f" {choice.file} with it, whose card then has the score of its own run."
        )
    session = Session.open(Given(choice.file, overrides, home_of(folder, workspace)), kept=True)
    _require_as_chosen(session, choice, folder / "sweep.yaml")
    return (session.moved_to(workspace) if session.config.storage.sweeps else session), choice


def _require_as_chosen(session: Session, choice: Choice, sweep: Place) -> None:
    """BadInput where the file of the choice was edited: the score of the sweep is not of this setting."""
    from distmer.commands.sweep import open_sweep  # Optuna, which only a sweep needs
    from distmer.sweep.space import SEARCHABLE

    _, space = open_sweep(Given(sweep, (), str(session.workspace.root)), kept=True)
    config, model = space.config(choice.setting)
    chosen = acting_settings(config, model)
    here = acting_settings(session.config, session.model())
    if changed := [name for name in SEARCHABLE if chosen.get(name) != here.get(name)]:
        raise BadInput(
            f"{choice.file}: its section {changed[0]} is no longer what the sweep has chosen; fit a copy"
            " of it, whose card then has the score of its own run, and run the sweep again."
        )


def fit_model(
    session: Session,
    out: Place | None = None,
    *,
    local: bool = False,
    progress: bool = True,
    choice: Choice | None = None,
    register: str | None = None,
) -> Kept:
    """Train a configuration's model on all of its clips, and keep it in ``out``, or else below the
    workspace's ``models``.

    Missing features are extracted first, without Ray if ``local``. The training is done in this process. If
    tracking is on, the folder is also logged as an MLflow model, and becomes a new version of the registered
    model ``register``. ``choice``: of the sweep that the configuration comes from.

    BadInput where the configuration cannot be fitted, or where the folder holds something else. RunError
    where the model is kept but could not be registered.
    """
    require_one_seed(session.config.seeds)
    require_no_kept_weights(session.config, "a model that is kept always has its own weights")
    _require_registry(session, register)
    session.require()
    with session.at_work(local=local, progress=progress) as (live, backend):
        plan, inputs, run_dir = planned(session, backend, live)
        if choice is not None and choice.clips_digest != plan.data_digest:
            raise BadInput(
                f"{choice.file}: the clips or their labels have changed since the sweep chose this setting;"
                " run the sweep again."
            )
        job = job_of(plan)
        folder = out or session.workspace.models / job.digest[:12]
        require_free(folder, job.digest)  # before the training
        clips = inputs()
        live(Step("training on all subjects", 0, 1))
        fitted = fit_everyone(job, plan.model, clips)
        live(Step("training on all subjects", 1, 1))
        features = session.features(plan.manifest)
        results = choice.results if choice else read_results(run_dir)
        manifest = keep(folder, plan, job, fitted, clips, features, results, choice)
    return Kept(manifest, folder, _log_to_mlflow(session, folder, manifest, register))


def _require_registry(session: Session, register: str | None) -> None:
    if register is None:
        return
    if not session.config.tracking.enabled:
        raise BadInput(
            "--register: tracking.enabled is false, so there is no MLflow to register in; set it to true."
        )
    if not register.strip() or set(register) & set("/:"):
        raise BadInput(f"--register {register!r}: a name in MLflow's registry has no / and no : in it.")


def fit_report(kept: Kept, command: str) -> Document:
    """What was fitted, where it lies, and what to expect of it. ``command`` runs the same configuration."""
    manifest, folder = kept.manifest, kept.folder
    score = manifest.score
    known = _score(score) if score else f"none yet: `{command}` gives it, and then fit again"
    facts = [
        ("clips", f"{sum(manifest.clips.values())} of {len(manifest.subjects)} subjects"),
        ("classes", ", ".join(manifest.classes)),
        ("score", known),
        ("folder", str(folder)),
        ("card", str(folder / "README.md")),
        ("ask it", f"{_on_path(str(manifest.model['name']))}distmer predict {shlex.quote(str(folder))} CLIP"),
    ]
    facts += [("in MLflow", kept.logged)] if kept.logged else []
    return Document(
        f"{manifest.model['name']}, fitted to all clips of {manifest.protocol}", (), [Facts(facts)]
    )


def _score(score: Mapping[str, JsonValue]) -> str:
    """The score in a line, with what makes it no headline."""
    said = f"UAR {score['uar']:.4f} {interval_text(score['uar_ci'], 4)}".rstrip()
    whose = "of the sweep" if "setting" in score else "of models that had not seen the subject"
    part = "" if score["status"] == "complete" else "of some folds alone"
    stamps = f"NOT A HEADLINE: {', '.join(score['stamps'])}" if score["stamps"] else ""
    return ", ".join(filter(None, (said, whose, part, stamps)))


def _log_to_mlflow(session: Session, folder: Place, manifest: Manifest, register: str | None) -> str | None:
    if not session.config.tracking.enabled:
        return None
    from distmer.tracking.mlflow_tracker import track_model

    uri, artifacts = session.tracking_store
    logged = track_model(uri, session.config.tracking.experiment, artifacts, folder, manifest, register)
    if logged is None and register is not None:
        raise RunError(
            f"the model is kept in {folder}, but is not registered as {register}: the warning above says why;"
            " mend it, and give the same command again."
        )
    return logged


def _on_path(model: str) -> str:
    """What a command needs before it, to find a model that is a user's own file."""
    file = getattr(sys.modules.get(model.partition(":")[0]), "__file__", None)
    if ":" not in model or file is None or is_installed(model.partition(":")[0]):
        return ""
    return f"PYTHONPATH={Path(file).parents[model.partition(':')[0].count('.')]} "
