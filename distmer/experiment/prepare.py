"""From a manifest to features in the store: what is missing is extracted, what fails is listed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

import numpy as np

from distmer.config import FeatureConfig, InputConfig
from distmer.experiment.backend import Backend
from distmer.experiment.events import Observer, Observers, Step
from distmer.features.frames import ClipError
from distmer.features.hashes import Frames, hash_frames
from distmer.features.inputs import model_inputs, normalisation_of
from distmer.features.methods import try_methods
from distmer.features.pipeline import FeatureRequest, clip_key, unit_of
from distmer.features.plausible import doubt_in
from distmer.features.row import FeatureRow
from distmer.features.store import FeatureStore, Stored
from distmer.models import ResolvedModel
from distmer.storage import Place
from distmer.training.fold_inputs import Inputs
from distmer.types import BadInput, Clip, ClipFailure, Manifest, RunError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Where the clips' features are: ``keys`` by clip id; clips still ``missing``; clips that have failed."""

    store: FeatureStore
    keys: dict[str, str]
    missing: tuple[Clip, ...]
    failures: tuple[ClipFailure, ...]
    implausible: Literal["note", "fail"] = "note"

    @property
    def stored(self) -> Mapping[str, Stored]:
        """Clip id → what the store says of it, for those that it has."""
        return {clip: self.store.index[key] for clip, key in self.keys.items() if key in self.store.index}

    @property
    def notes(self) -> dict[str, str]:
        """Clip id → what was noticed while its features were extracted."""
        return {clip: row.note for clip, row in self.stored.items() if row.note}

    @property
    def doubts(self) -> dict[str, str]:
        """Clip id → why its onset and apex cannot be a pair, for those that cannot."""
        return {clip: why for clip, note in self.notes.items() if (why := doubt_in(note))}

    def inputs(self, clip_ids: Sequence[str], model: ResolvedModel, config: InputConfig) -> Inputs:
        """The model's inputs of these clips, on the scale and at the size it wants."""
        features = self.store.load([(clip, self.keys[clip]) for clip in clip_ids], model.inputs)
        x_NCHW = model_inputs(features, model.inputs, model.size, config)
        return Inputs(features.clip_ids, model.inputs, normalisation_of(features.unit, config), x_NCHW)

    def motion(self, clip_ids: Sequence[str]) -> dict[str, float]:
        """Clip id → how far the face moves from onset to apex: the mean length of the stored flow, px. Clips
        without stored features are left out, and so are published maps, which have lost their scale."""
        if self.store.unit != "px":
            return {}
        stored = self.stored
        there = [clip for clip in clip_ids if clip in stored and stored[clip].status == "ok"]
        if not there:
            return {}
        found = self.store.load([(clip, self.keys[clip]) for clip in there], ("u", "v"))
        length_NHW = np.hypot(found.channel("u"), found.channel("v"))
        return dict(zip(found.clip_ids, length_NHW.mean(axis=(1, 2)).tolist(), strict=True))


def locate(
    manifest: Manifest,
    place: Place,
    config: FeatureConfig,
    frames: Frames | None = None,
    *,
    retry_failed: bool = False,
    implausible: Literal["note", "fail"] = "note",
) -> Features:
    """What the feature store at ``place`` has of a manifest's clips.

    A frame's content is its key; ``frames`` holds it where it is known already, else a file that has not
    changed is not read again. With ``retry_failed``, clips whose failure is stored count as missing.

    Raises BadInput where the settings name a flow or strain that cannot be used.
    """
    unit = unit_of(manifest.clips[0].source)
    if any(unit_of(clip.source) != unit for clip in manifest.clips):
        raise BadInput(
            f"protocol {manifest.protocol} mixes frames with ready-made flow maps; run them"
            " apart, for their scales differ."
        )
    if unit == "px":
        try_methods(config)
    store = FeatureStore(place, config, unit)
    frames = frames or hash_frames(manifest.clips, place, config)
    keys: dict[str, str] = {}
    unreadable: list[ClipFailure] = []
    for clip in manifest.clips:
        try:
            keys[clip.id] = clip_key(clip.source, config, frames.digest)
        except ClipError as error:
            unreadable.append(ClipFailure(clip.id, str(error)))
    known = {key for key, row in store.index.items() if row.status == "ok" or not retry_failed}
    missing = tuple(clip for clip in manifest.clips if clip.id in keys and keys[clip.id] not in known)
    there = [(clip, key) for clip, key in keys.items() if key in known]
    failures = tuple(_named([*unreadable, *_failed(store, there, implausible)], manifest))
    return Features(store, keys, missing, failures, implausible)


def extract_missing(
    manifest: Manifest,
    features: Features,
    config: FeatureConfig,
    backend: Backend,
    observers: Sequence[Observer],
) -> Features:
    """Extract what is missing, storing batch after batch; then make few parts of many small ones."""
    total, failed = len(features.keys), 0
    cached = done = total - len(features.missing)
    observe = Observers(observers)

    def report_progress() -> None:
        observe(Step("extracting features", done, total, cached, failed))

    frames = bool(features.missing) and features.store.unit == "px"
    starting = backend.starting(len(features.missing)) if frames else ""
    if starting:
        observe(Step(starting, 0, 1))
    else:
        report_progress()
    if not features.missing:  # what `locate` found is all there is to say
        _compact(features.store)
        _warn_of_doubts(features)
        return features
    requests = [FeatureRequest(clip.id, clip.source) for clip in features.missing]
    keys = dict(features.keys)
    lost: list[ClipFailure] = []
    with closing(backend.extract(requests, config)) as batches:
        for rows in batches:
            _store(features.store, rows)
            # A file that changed after it was hashed: the row's own key is the true one. It has none where
            # the file vanished, or where the extraction broke off for a reason that may pass.
            lost += [ClipFailure(row.clip_id, row.error) for row in rows if not row.key]
            keys |= {row.clip_id: row.key for row in rows if row.key}
            done, failed = done + len(rows), failed + sum(row.status == "failed" for row in rows)
            report_progress()
    gone = {failure.clip for failure in lost}
    keys = {clip: key for clip, key in keys.items() if clip not in gone}
    _compact(features.store)
    vanished = [failure for failure in features.failures if failure.clip not in keys]
    unusable = _failed(features.store, list(keys.items()), features.implausible)
    found = Features(
        features.store, keys, (), (*vanished, *_named([*lost, *unusable], manifest)), features.implausible
    )
    _warn_of_doubts(found)
    return found


def _failed(
    store: FeatureStore, entries: Sequence[tuple[str, str]], implausible: Literal["note", "fail"]
) -> list[ClipFailure]:
    """Of the stored clips (id, key): those that failed, and under ``fail`` those of an implausible pair."""
    doubts = {clip: doubt_in(store.index[key].note) for clip, key in entries} if implausible == "fail" else {}
    remedy = "correct the sheet, or set data.implausible to note"
    return [
        *store.failures(entries),
        *(ClipFailure(clip, f"{why}; {remedy}.") for clip, why in doubts.items() if why),
    ]


def _warn_of_doubts(features: Features) -> None:
    doubts = features.doubts
    if doubts and features.implausible == "note":
        first = next(iter(doubts))
        log.warning(
            "%d of %d clips have an onset and an apex that cannot be a pair (the first is %s: %s); look at"
            " them with distmer data look, or leave them out with data.implausible=fail.",
            len(doubts),
            len(features.keys),
            first,
            doubts[first],
        )


def _store(store: FeatureStore, rows: list[FeatureRow]) -> None:
    try:
        store.write(rows)
    except OSError as error:
        raise RunError(
            f"{store.folder}: the feature store cannot be written ({error.strerror or error}); what is stored"
            " is kept. Fix the cause (free space, permissions) and run again."
        ) from error


def _compact(store: FeatureStore) -> None:
    try:
        store.compact()
    except (OSError, RunError) as error:  # every row is stored as it is
        message = (
            "%s: its small parts cannot be merged (%s); the features are all there, and the run goes on."
        )
        log.warning(message, store.folder, error)


def _named(failures: Sequence[ClipFailure], manifest: Manifest) -> list[ClipFailure]:
    """Failures with the sheet and row they come from, so that a user finds the clip."""
    where = {clip.id: clip.where for clip in manifest.clips}
    return [ClipFailure(f.clip, f"{where[f.clip]}: {f.reason}") for f in failures]
