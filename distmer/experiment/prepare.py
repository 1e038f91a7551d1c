"""From a manifest to features in the store: what is there is left alone, what is missing is extracted, what fails is listed."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from distmer.config import FeatureConfig, InputConfig
from distmer.experiment.backend import Backend
from distmer.experiment.events import Observer, Step
from distmer.features.frames import ClipError
from distmer.features.inputs import model_inputs, normalisation_of
from distmer.features.pipeline import FeatureRequest, FeatureRow, clip_key, unit_of
from distmer.features.store import FeatureStore
from distmer.models import ResolvedModel
from distmer.storage import Store
from distmer.training.data import Inputs
from distmer.types import BadInput, Clip, ClipFailure, Manifest, RunError


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Where the clips' features lie: ``keys`` by clip id, those still ``missing``, and the clips that have none to give."""

    store: FeatureStore
    keys: dict[str, str]
    missing: tuple[Clip, ...]
    failures: tuple[ClipFailure, ...]

    def inputs(self, clip_ids: Sequence[str], model: ResolvedModel, config: InputConfig) -> Inputs:
        """The model's inputs of these clips, on the scale and at the size it wants."""
        features = self.store.load([(clip, self.keys[clip]) for clip in clip_ids])
        x_NCHW = model_inputs(features, model.inputs, model.size, config)
        return Inputs(features.clip_ids, model.inputs, normalisation_of(features.unit, config), x_NCHW)


def locate(manifest: Manifest, place: Store, config: FeatureConfig) -> Features:
    """What the feature store at ``place`` has of a manifest's clips. Reads every frame once, for its content is its key."""
    unit = unit_of(manifest.clips[0].source)
    if any(unit_of(clip.source) != unit for clip in manifest.clips):
        raise BadInput(f"protocol {manifest.protocol} mixes frames with ready-made flow maps; run them apart, for their scales differ.")
    store = FeatureStore(place, config, unit)
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda clip: _key_or_reason(clip, config), manifest.clips))
    keys = {clip.id: key for clip, (key, _) in zip(manifest.clips, outcomes, strict=True) if key}
    unreadable = [
        ClipFailure(clip.id, f"{clip.where}: {why}") for clip, (key, why) in zip(manifest.clips, outcomes, strict=True) if not key
    ]
    known = store.keys()
    missing = tuple(clip for clip in manifest.clips if clip.id in keys and keys[clip.id] not in known)
    there = [(clip.id, keys[clip.id]) for clip in manifest.clips if clip.id in keys and keys[clip.id] in known]
    return Features(store, keys, missing, (*unreadable, *_named(store.failures(there), manifest)))


def extract_missing(
    manifest: Manifest, features: Features, config: FeatureConfig, backend: Backend, observers: Sequence[Observer]
) -> Features:
    """Extract what is missing, storing batch after batch; the completion marker comes last."""
    total, done, failed = len(features.keys), len(features.keys) - len(features.missing), 0
    cached = done

    def tell() -> None:
        for observe in observers:
            observe(Step("extracting features", done, total, cached, failed))

    tell()
    if not features.missing:  # what `locate` found is all there is to say
        features.store.complete(list(features.keys.items()))
        return features
    requests = [FeatureRequest(clip.id, clip.source) for clip in features.missing]
    keys = dict(features.keys)
    lost: list[ClipFailure] = []
    for rows in backend.extract(requests, config):
        _store(features.store, rows)
        # A file that changed or vanished after it was hashed: the row's own key is the true one, or there is none.
        lost += [ClipFailure(row.clip_id, row.error) for row in rows if not row.key]
        keys |= {row.clip_id: row.key for row in rows if row.key}
        done, failed = done + len(rows), failed + sum(row.status == "failed" for row in rows)
        tell()
    gone = {failure.clip for failure in lost}
    keys = {clip: key for clip, key in keys.items() if clip not in gone}
    features.store.complete(list(keys.items()))
    vanished = [failure for failure in features.failures if failure.clip not in keys]
    failures = (*vanished, *_named([*lost, *features.store.failures(list(keys.items()))], manifest))
    return Features(features.store, keys, (), failures)


def _store(store: FeatureStore, rows: list[FeatureRow]) -> None:
    try:
        store.write(rows)
    except OSError as error:
        raise RunError(
            f"{store.store.uri}: the feature store cannot be written ({error.strerror or error}); what is stored is kept:"
            " mend it (free space, permissions) and give the same command again."
        ) from error


def _key_or_reason(clip: Clip, config: FeatureConfig) -> tuple[str, str]:
    try:
        return clip_key(clip.source, config), ""
    except ClipError as error:
        return "", str(error)


def _named(failures: Sequence[ClipFailure], manifest: Manifest) -> list[ClipFailure]:
    """Failures with the sheet and row they come from, so that a person finds the clip."""
    where = {clip.id: clip.where for clip in manifest.clips}
    return [ClipFailure(f.clip, f"{where[f.clip]}: {f.reason}") for f in failures]
