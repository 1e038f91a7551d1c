"""What every command starts from: its settings, its workspace, its backend, and the tracker of a run."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from distmer import functions
from distmer.config import Config, FeatureConfig
from distmer.config_layers import Layer, anchor_rule, load_config, load_settings, origin
from distmer.datasets import changed_content, load_manifest, require_two_classes
from distmer.evaluation.folds import make_folds
from distmer.evaluation.named import chosen
from distmer.experiment.backend import Backend
from distmer.experiment.events import Observer, Observers, Step
from distmer.experiment.ledger import Ledger, remove_checkpoints
from distmer.experiment.local import LocalBackend
from distmer.experiment.plan import Plan, build_plan
from distmer.experiment.prepare import Features, locate
from distmer.experiment.result import RunResult
from distmer.features.hashes import Frames, hash_frames
from distmer.features.methods import acting_methods, try_methods
from distmer.features.sequence import require_frames
from distmer.leftovers import remove_leftovers
from distmer.models import ResolvedModel, is_network, resolve
from distmer.report.live import LiveProgress
from distmer.storage import Place, files, why_not, write
from distmer.tracking.environment import capture
from distmer.training.tryout import try_out
from distmer.types import BadInput, Manifest, RunError
from distmer.workspace import Workspace

if TYPE_CHECKING:
    from distmer.sweep.result import SweepResult

_log = logging.getLogger(__name__)
R = TypeVar("R", "RunResult", "SweepResult")


@dataclass(frozen=True, slots=True)
class Given:
    """What a command is given: a configuration file, the settings above it, and the workspace.

    Without ``path``, every setting has its default. ``overrides`` are those of a command line, or the keyword
    arguments of a call in Python. Without ``workspace``, the environment says which one it is.
    """

    path: Place | None = None
    overrides: Sequence[str] | Layer = ()
    workspace: str | None = None

    @property
    def place(self) -> Workspace:
        return Workspace.find(self.workspace, os.environ)

    @property
    def origin(self) -> str:
        """How messages name where the settings come from."""
        return origin(self.path, self.overrides)

    def settings(self) -> tuple[tuple[Layer, ...], dict[str, Any]]:
        """The layers of the settings, and all settings as one tree of the caller's own, not yet validated."""
        return load_settings(self.path, self.overrides, workspace=self.place.root, environ=os.environ)


@dataclass(frozen=True, slots=True)
class Session:
    """A configuration and the workspace in which it is run. ``clips``: if they have been read already."""

    config: Config
    workspace: Workspace
    # setting → how its relative path was made absolute, for a message
    # (not in the repr: it holds the environment, which has secrets)
    rule: Callable[[str], str] = field(default=lambda setting: "", compare=False, repr=False)
    clips: Manifest | None = None

    def __post_init__(self) -> None:
        elsewhere = self.config.storage.model_dump(exclude_none=True)
        object.__setattr__(self, "workspace", replace(self.workspace, elsewhere=elsewhere))

    @classmethod
    def open(cls, given: Given, *, kept: bool = False, clips: Manifest | None = None) -> Session:
        """The session of a configuration. ``kept``: distmer wrote the file, with all settings in it."""
        where: dict[str, Any] = {"workspace": given.place.root, "environ": os.environ}
        config = load_config(given.path, given.overrides, is_network=is_network, kept=kept, **where)
        rule = partial(anchor_rule, path=given.path, overrides=given.overrides, **where)
        return cls(config, given.place, rule, clips)

    @classmethod
    def reopen(cls, run_dir: Place, workspace: str | None = None) -> Session:
        """The session of a run folder, from the configuration in it."""
        if not (run_dir / "config.yaml").exists():
            what = why_not(run_dir, "no config.yaml in it, so it is not a run folder")
            raise BadInput(f"{run_dir}: {what}; give one below <workspace>/runs.")
        session = cls.open(Given(run_dir / "config.yaml", (), home_of(run_dir, workspace)), kept=True)
        return session.moved_to(workspace) if session.config.storage.runs else session

    def moved_to(self, workspace: str | None) -> Session:
        """The same, where the configuration keeps its runs or sweeps apart from the workspace: the place of
        their folders does not tell where the workspace is."""
        return Session(self.config, Given(workspace=workspace).place)

    def require(self) -> None:
        """BadInput if the workspace cannot be written, or if MLflow or a metric cannot be used."""
        self.workspace.require()
        for metric in self.config.evaluation.metrics:
            functions.resolve(functions.METRIC, metric)
        if self.config.tracking.enabled:
            _ = self.tracking_store

    def require_evaluation(self, manifest: Manifest) -> None:
        """BadInput if the clips cannot be split as asked, or if a metric cannot score their classes."""
        make_folds(manifest.clips, self.config.evaluation)
        chosen(self.config.evaluation.metrics, len(manifest.classes))

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.workspace.ledger)

    def model(self) -> ResolvedModel:
        """BadInput if it is unknown, or if it reads a sequence that the features do not have."""
        model = resolve(self.config.model)
        require_frames(self.config, model.info.name, model.inputs)
        return model

    def try_code(self) -> None:
        """Find and try all code that the configuration names: model, loss, augmentations, flow and strain.
        This must come before Ray is joined, which sends the user's own code to the nodes. BadInput if it is
        broken."""
        try_out(self.model(), self.config.train)
        self.try_methods()

    def try_methods(self) -> None:
        """Try only the flow and the strain, if frames are extracted."""
        if acting_methods(self.config):
            try_methods(self.config.features)

    def manifest(
        self, observers: Sequence[Observer] = (), backend: Backend | None = None, *, folds: bool = True
    ) -> Manifest:
        """The clips. If no features are stored yet, ``backend`` is started while the embedded data set is
        generated, because clips must be extracted then. ``folds``: whether folds will also be trained."""
        if self.clips is not None:
            return self.clips
        notify = Observers(observers)

        def progress(done: int, total: int) -> None:
            notify(Step("generating the embedded data set", done, total))

        def meanwhile() -> None:
            if backend is not None and not files(self.workspace.features):
                embedded = self.config.data.synthetic
                backend.start(embedded.subjects * embedded.clips_per_subject, folds=folds)

        manifest = load_manifest(self.config.data, self.workspace.data, progress, meanwhile, self.rule)
        if folds:
            require_two_classes(manifest)
        if not manifest.pinned:
            return manifest
        frames = self.frames(manifest, [self.config.features])
        return replace(manifest, changed=(*manifest.changed, *changed_content(manifest, frames.digests)))

    def frames(self, manifest: Manifest, settings: Sequence[FeatureConfig]) -> Frames:
        """The digests of the clips' frames, for the features of several settings."""
        return hash_frames(manifest.clips, self.workspace.features, *settings)

    def features(
        self, manifest: Manifest, frames: Frames | None = None, *, retry_failed: bool = False
    ) -> Features:
        folder, config = self.workspace.features, self.config.features
        implausible = self.config.data.implausible
        return locate(manifest, folder, config, frames, retry_failed=retry_failed, implausible=implausible)

    def plan(self, manifest: Manifest, features: Features) -> Plan:
        model = self.model()
        features.inputs((), model, self.config.inputs)  # BadInput for settings that do not fit the maps
        return build_plan(self.config, manifest, model, features.keys, features.failures, features.notes)

    @property
    def tracking_store(self) -> tuple[str, str | None]:
        """The address of MLflow; and if it is SQLite, the folder for its files: in the workspace, or beside
        SQLite's file if the workspace is remote."""
        uri = self.config.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI") or self.workspace.mlflow_uri
        if not uri.startswith("sqlite:"):
            return uri, None
        root = self.workspace.root
        beside = root if isinstance(root, Path) else Path(uri.removeprefix("sqlite:///")).absolute().parent
        return uri, str(beside / "mlartifacts")

    def backend(self, local: bool) -> Backend:
        if local:
            return LocalBackend()
        from distmer.cluster.backend import RayBackend  # Ray is not needed by every command

        return RayBackend(self.config.cluster, str(self.workspace.scratch))

    @contextmanager
    def at_work(self, *, local: bool, progress: bool = True) -> Iterator[tuple[Observers, Backend]]:
        """What shows the progress, and the backend; both are closed at the end of the block. What killed runs
        have left is removed first."""
        remove_leftovers_of(self)
        with Observers([LiveProgress()] if progress else []) as live, closing(self.backend(local)) as backend:
            yield live, backend


def home_of(folder: Place, workspace: str | None) -> str:
    """The workspace of a run's or a sweep's folder, where none is named: two folders up."""
    return workspace or str(folder.resolve().parent.parent)


def remove_leftovers_of(session: Session) -> None:
    """Remove what killed runs left in the workspace and in the system's temporary folder; say how much."""
    ours = session.workspace
    written = (ours.features, ours.ledger, ours.models, ours.runs, ours.sweeps, ours.comparisons)
    temporary = (ours.data, Path(tempfile.gettempdir()))
    on_disk = [[one for one in places if isinstance(one, Path)] for places in (written, temporary)]
    removed = remove_leftovers(*on_disk) + remove_checkpoints(ours.scratch, session.ledger)
    if removed.number:
        _log.warning("%s", removed)


def require_no_kept_weights(config: Config, instead: str) -> None:
    """BadInput if ``train.keep_weights`` is set. ``instead``: what the command does."""
    if config.train.keep_weights:
        raise BadInput(
            f"train.keep_weights keeps the weights of the folds of a run, and {instead}; set it to false."
        )


def keep_environment(folder: Place) -> None:
    """Write ``environment.json`` into the folder of a run or a sweep: the versions of this process."""
    write(folder / "environment.json", json.dumps(capture().to_json(), indent=2).encode())


class Tracking:
    """The tracker of a run, or none if tracking is off."""

    def __init__(self, tracker: Any | None) -> None:
        self.observers: list[Any] = [] if tracker is None else [tracker]
        self._tracker = tracker

    def require_written(self) -> None:
        """RunError where the tracker has given up; BadInput where there is none."""
        if self._tracker is None:
            raise BadInput(
                "tracking.enabled is false, so there is no MLflow to write to; set it to true in config.yaml."
            )
        if self._tracker.error is not None:
            raise RunError(f"not written: {self._tracker.error}")

    def signed(self, result: R) -> R:
        return result if self._tracker is None else replace(result, mlflow_run_id=self._tracker.run_id)


@contextmanager
def tracking_of(session: Session) -> Iterator[Tracking]:
    tracking = session.config.tracking
    if not tracking.enabled:
        yield Tracking(None)
        return
    from distmer.tracking.mlflow_tracker import MlflowTracker  # mlflow takes seconds to load

    uri, artifacts = session.tracking_store
    tracker = MlflowTracker(uri, tracking.experiment, tracking.folds, artifacts, ledger=session.ledger)
    try:
        yield Tracking(tracker)
    finally:
        tracker.close()
