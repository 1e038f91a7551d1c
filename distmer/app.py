"""What the commands do: the layers put together. `jobs/` and the command line are thin shells around these functions."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from distmer.config import Config, ModelConfig
from distmer.config_layers import load_config
from distmer.datasets import check_report, load_manifest
from distmer.evaluation.folds import make_folds
from distmer.experiment.backend import Backend, LocalBackend
from distmer.experiment.events import Observer, Observers, Step
from distmer.experiment.ledger import Ledger, remove_checkpoints
from distmer.experiment.plan import Plan, build_plan
from distmer.experiment.prepare import Features, extract_missing, locate
from distmer.experiment.result import RunResult
from distmer.experiment.run import run
from distmer.features.hashes import Frames, hash_frames
from distmer.leftovers import remove_leftovers
from distmer.models import ModelInfo, ResolvedModel, is_network, models, resolve
from distmer.remote import Place
from distmer.report.jsonl import JsonLines
from distmer.report.live import LiveProgress
from distmer.report.run_folder import begin_folder, finish_folder, write_results
from distmer.storage import Store
from distmer.training.estimate import estimate_seconds, in_words
from distmer.types import BadInput, Manifest, RunError
from distmer.workspace import Workspace

if TYPE_CHECKING:
    from distmer.experiment.sweep_result import SweepResult

_log = logging.getLogger(__name__)
R = TypeVar("R", "RunResult", "SweepResult")


@dataclass(frozen=True, slots=True)
class Session:
    """A configuration and the workspace it is run in."""

    config: Config
    workspace: Workspace

    def __post_init__(self) -> None:
        object.__setattr__(self, "workspace", replace(self.workspace, elsewhere=self.config.storage.model_dump(exclude_none=True)))

    @classmethod
    def open(
        cls, path: Place | None, overrides: Sequence[str], workspace: str | None, environ: Mapping[str, str], *, kept: bool = False
    ) -> Session:
        """The session of a configuration; ``kept``: it is one that distmer wrote, with every setting spelled out."""
        place = Workspace.find(workspace, environ)
        return cls(load_config(path, overrides, workspace=place.root, environ=environ, is_network=is_network, kept=kept), place)

    @classmethod
    def reopen(cls, run_dir: Place, workspace: str | None, environ: Mapping[str, str]) -> Session:
        """The session of a run folder, from the configuration it keeps; its workspace is two folders up, or else the usual one."""
        if not (run_dir / "config.yaml").exists():
            raise BadInput(f"{run_dir}: no config.yaml in it, so it is no run folder; give one below <workspace>/runs.")
        session = cls.open(run_dir / "config.yaml", (), workspace or str(run_dir.resolve().parent.parent), environ, kept=True)
        return cls(session.config, Workspace.find(workspace, environ)) if session.config.storage.runs else session

    def require(self) -> None:
        """BadInput if something that the whole run will need is not to be had: a place to write, one for MLflow."""
        self.workspace.require()
        if self.config.tracking.enabled:
            _ = self.tracking_store

    @property
    def ledger(self) -> Ledger:
        return Ledger(Store(self.workspace.ledger))

    def model(self) -> ResolvedModel:
        return resolve(self.config.model)

    def manifest(self, observers: Sequence[Observer] = ()) -> Manifest:
        tell = Observers(observers)

        def progress(done: int, total: int) -> None:
            tell(Step("generating the embedded data set", done, total))

        return load_manifest(self.config.data, self.workspace.data, progress)

    def frames(self, manifest: Manifest) -> Frames:
        """The digests of the clips' frames, for `features` of several settings."""
        return hash_frames(manifest.clips, Store(self.workspace.features))

    def features(self, manifest: Manifest, frames: Frames | None = None, *, retry_failed: bool = False) -> Features:
        return locate(manifest, Store(self.workspace.features), self.config.features, frames, retry_failed=retry_failed)

    def plan(self, manifest: Manifest, features: Features) -> Plan:
        model = self.model()
        features.inputs((), model, self.config.inputs)  # settings that do not fit the maps are told before a fold is begun
        return build_plan(self.config, manifest, model, features.keys, features.failures)

    @property
    def tracking_store(self) -> tuple[str, str | None]:
        """Where MLflow is, and the folder for its files where that is ours to say: below the workspace, or else beside SQLite's file."""
        uri = self.config.tracking.uri or os.environ.get("MLFLOW_TRACKING_URI") or self.workspace.mlflow_uri
        if not uri.startswith("sqlite:"):
            return uri, None
        root = self.workspace.root
        return uri, str((root if isinstance(root, Path) else Path(uri.removeprefix("sqlite:///")).absolute().parent) / "mlartifacts")

    def backend(self, local: bool) -> Backend:
        if local:
            return LocalBackend(self.config.cluster)
        from distmer.cluster.backend import RayBackend  # Ray is not needed by every command

        return RayBackend(self.config.cluster, str(self.workspace.scratch))


def remove_leftovers_of(session: Session) -> None:
    """Remove what killed runs left, in the workspace and in this machine's folder for temporary files; say how much."""
    workspace, ledger = session.workspace, session.ledger
    written = (workspace.features, workspace.ledger, workspace.runs, workspace.sweeps, workspace.comparisons)
    removed = remove_leftovers(
        [place for place in written if isinstance(place, Path)],
        [place for place in (workspace.data, Path(tempfile.gettempdir())) if isinstance(place, Path)],
    )
    removed += remove_checkpoints(workspace.scratch, ledger)
    if removed.number:
        _log.warning("%s", removed)


def run_experiment(session: Session, *, local: bool = False, only: Sequence[str] = (), retry_failed: bool = False) -> RunResult:
    """Clips to scores. Raises BadInput before anything is started where the input allows to tell."""
    session.model()
    session.require()
    remove_leftovers_of(session)
    with Observers([LiveProgress()]) as live, session.backend(local) as backend:
        return run_with(session, backend, live, only, retry_failed=retry_failed)


def run_with(session: Session, backend: Backend, live: Observer, only: Sequence[str] = (), *, retry_failed: bool = False) -> RunResult:
    """One experiment (or ``only`` some of its folds) on a backend that may serve several. With ``retry_failed``, clips whose failure
    is stored are extracted again."""
    session.model()  # an unknown model or option is told before a clip is touched
    session.require()
    executor = backend.executor()  # one that cannot do as configured says so before an hour of extraction
    manifest = session.manifest([live])
    make_folds(manifest.clips, session.config.evaluation)  # a split that cannot be is told before an hour of extraction
    found = session.features(manifest, retry_failed=retry_failed)
    features = extract_missing(manifest, found, session.config.features, backend, [live])
    plan = session.plan(manifest, features)
    run_dir = session.workspace.run_dir(plan.digest)
    begin_folder(run_dir, plan, features.stored)
    ids = [clip.id for clip in plan.clips]

    with tracking_of(session) as tracker:
        result = run(
            plan,
            executor,
            lambda: features.inputs(ids, plan.model, session.config.inputs),
            session.ledger,
            [live, JsonLines(run_dir / "events.jsonl"), *tracker.observers],
            str(run_dir),
            only,
            partial(finish_folder, run_dir),
        )
        result = tracker.signed(result)
    write_results(run_dir, result)
    return result


def extract_features(session: Session, *, local: bool = False, retry_failed: bool = False) -> str:
    """Features of the protocol's clips into the store; with ``retry_failed`` also of those whose failure is stored."""
    session.workspace.require()
    remove_leftovers_of(session)
    with Observers([LiveProgress()]) as live, session.backend(local) as backend:
        manifest = session.manifest([live])
        before = session.features(manifest, retry_failed=retry_failed)
        after = extract_missing(manifest, before, session.config.features, backend, [live])
    lines = [f"{len(after.keys)} clips: {len(before.missing)} extracted, {len(before.keys) - len(before.missing)} were there."]
    lines += [f"not usable: {failure.clip}: {failure.reason}" for failure in (*manifest.failures, *after.failures)]
    lines += [f"note: {clip}: {row.note}" for clip, row in after.stored.items() if row.note]
    lines += [f"apex chosen: {clip}: {row.apex}" for clip, row in after.stored.items() if row.apex]
    return "\n".join([*lines, f"store: {after.store.store.uri}"])


def describe_plan(session: Session) -> str:
    """What a run would do, as text. Nothing is extracted or trained; a step or two is timed."""
    from distmer.report.tables import plan_text

    manifest = session.manifest()
    features = session.features(manifest)
    plan = session.plan(manifest, features)
    done = session.ledger.known(job.digest for job in plan.jobs)
    missing = [job for job in plan.jobs if job.digest not in done]
    seconds = sum(estimate_seconds(job) for job in missing[:1]) * len(missing)
    how = in_words(missing[0], session.config.cluster, str(session.workspace.scratch)) if missing else ""
    return plan_text(plan, len(features.missing), len(done), seconds, how, str(session.workspace.run_dir(plan.digest)))


def check_data(session: Session) -> str:
    """Counts of a protocol against the published ones, and every row that cannot be used."""
    return check_report(session.manifest())


def list_models(size: int | None = None, only: str | None = None, *, timed: bool = False) -> list[dict[str, Any]]:
    """Every variant of every model (or of ``only`` one) at ``size`` px, else at its native size: what it is and what it costs.

    ``timed`` also runs each once and again. A model that cannot take the size has a row whose ``note`` says so.
    """
    known = models()
    if only is not None:
        known = {only: resolve(ModelConfig(name=only)).info}
    return [_model_row(info, variant, size or info.native_size, timed) for _, info in sorted(known.items()) for variant in info.variants]


def _model_row(info: ModelInfo, variant: str, size: int, timed: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"name": info.name, "variant": variant, "title": info.title, "kind": info.kind, "citation": info.citation}
    row |= {"size": size, "min_size": info.min_size, "native_size": info.native_size, "parameters": None, "note": ""}
    choice = {"variant": variant} if "variant" in info.options.model_fields else {}
    native = resolve(ModelConfig.model_validate({"name": info.name, **choice}))
    row |= {"inputs": list(native.inputs), "options": native.spec["options"], "cost": None, "measured": None, "printed": None}
    try:
        resolved = resolve(ModelConfig.model_validate({"name": info.name, "size": size, **choice}))
    except BadInput as error:
        return {**row, "note": f"not applicable: {error}"}
    if info.kind != "torch":
        return row
    from distmer.models.complexity import CONVENTION, count, measure  # torch is not needed by every command

    cost = count(resolved)
    row |= {"parameters": cost.parameters, "cost": {**asdict(cost), "convention": CONVENTION}}
    if timed:
        row["measured"] = asdict(measure(resolved))
    if info.printed is not None and (info.printed.variant, info.printed.size) == (variant, size):
        row["printed"] = asdict(info.printed)
    return row


def serve_ui(workspace: str | None, port: int, environ: Mapping[str, str]) -> int:
    """MLflow's own server over the workspace, bound to loopback."""
    place = Workspace.find(workspace, environ)
    uri = environ.get("MLFLOW_TRACKING_URI") or place.mlflow_uri
    if "://" in uri and not uri.startswith("sqlite:"):
        raise BadInput("MLFLOW_TRACKING_URI names a server, which has pages of its own: open its address in a browser.")
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", "127.0.0.1", "--port", str(port)]
    if isinstance(place.root, Path):
        place.root.mkdir(parents=True, exist_ok=True)
    return subprocess.call(command, cwd=place.root if isinstance(place.root, Path) else None)  # noqa: S603  # our own interpreter, no shell


class Tracking:
    """The tracker of a run, or none if tracking is off."""

    def __init__(self, tracker: Any | None) -> None:
        self.observers: list[Any] = [] if tracker is None else [tracker]
        self._tracker = tracker

    def require_written(self) -> None:
        """RunError where the tracker has given up; BadInput where there is none."""
        if self._tracker is None:
            raise BadInput("tracking.enabled is false, so there is no MLflow to write to; set it to true in config.yaml.")
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
