"""The folder of a kept model: its files, and the manifest that holds the SHA-256 of each of them.

``manifest.json`` is written last, so a folder without one is unfinished. It has a digest of itself too, so a
change of any byte in the folder is found when the model is loaded. The digests find damage. They are no
signature: somebody who changes a model on purpose can write new ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, ValidationError

from distmer.digests import digest
from distmer.features.featureset import Unit
from distmer.storage import Place, files, why_not, write
from distmer.training.weights import ARRAYS, CLASSICAL
from distmer.types import BadInput, JsonValue

FORMAT = 1  # raise it when a folder of this version cannot be read by an older distmer

MANIFEST, CARD, CONFIG = "manifest.json", "README.md", "config.yaml"
_FILES = (CARD, CONFIG, ARRAYS, CLASSICAL)


class Manifest(BaseModel):
    """What a kept model is: how it was made, of which clips, and which files belong to it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    format: int
    """The version of this layout."""
    identity: str
    """The digest of everything that the training depended on, as for a fold, and of the classes' names."""
    run: str
    """The digest of the run of the same configuration, which gives it a score."""
    name: str
    model: dict[str, JsonValue]
    """The model's name with every option, and the package it comes from if it is not distmer's own."""
    kind: str
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    unit: Unit
    """The scale of the maps: px, or 0..1 of published flow maps."""
    features: dict[str, JsonValue]
    """The settings of the features. Empty for published flow maps, like the next three."""
    extraction: dict[str, JsonValue]
    feature_epoch: int
    landmarks: str
    """SHA-256 of the landmark model."""
    inputs: dict[str, JsonValue]
    train: dict[str, JsonValue]
    seed: int
    epochs: int
    device: str
    """The kind of device it was trained on."""
    protocol: str
    subjects: tuple[str, ...]
    """Everyone it has seen, as ``dataset/subject``."""
    clips: dict[str, int]
    """The training clips of each class."""
    clips_digest: str
    """Of the training clips with their content and labels."""
    code: dict[str, str]
    """The digests of the code behind the training, by module."""
    libraries: dict[str, str]
    score: dict[str, JsonValue] | None
    """The scores of the run of the same configuration; None if there is no such run. For a sweep's choice,
    the scores of the sweep, and ``setting``: what was chosen, and by how many of its searches."""
    files: dict[str, str]
    """SHA-256 of each file."""


def write_folder(folder: Place, manifest: Manifest, contents: Mapping[str, bytes]) -> Manifest:
    """Write a model's files, and last its manifest with their digests. Returns the manifest as written.
    BadInput if the folder holds anything but an earlier copy of the same model."""
    require_free(folder, manifest.identity)
    for name, data in contents.items():
        write(folder / name, data)
    found = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(contents.items())}
    manifest = manifest.model_copy(update={"files": found})
    write(folder / MANIFEST, _text(manifest.model_dump(mode="json")))
    return manifest


def read_folder(folder: Place) -> tuple[Manifest, dict[str, bytes]]:
    """The manifest of a model's folder and the bytes of its files, all of them checked.

    BadInput if there is no model, if a byte differs from what was written, or if the folder has a newer
    format.
    """
    try:
        data = (folder / MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        what = why_not(folder, f"there is no {MANIFEST} in it, so it is no model, or an unfinished one")
        raise BadInput(
            f"{folder}: {what}; give a folder that `distmer fit` has written (MODEL comes first)."
        ) from error
    manifest = _parsed(folder, data)
    contents: dict[str, bytes] = {}
    for name, sha256 in manifest.files.items():
        if name not in _FILES:
            raise BadInput(f"{folder / MANIFEST}: it names {name!r}, which is no file of a model; {_AGAIN}")
        try:
            contents[name] = (folder / name).read_bytes()
        except FileNotFoundError as error:
            raise BadInput(f"{folder / name}: the file is not there; {_AGAIN}") from error
        if hashlib.sha256(contents[name]).hexdigest() != sha256:
            raise BadInput(f"{folder / name}: it is not as it was written (its SHA-256 differs); {_AGAIN}")
    return manifest, contents


_AGAIN = "copy the whole folder again, or fit the model again."


def _text(values: dict[str, JsonValue]) -> bytes:
    return (json.dumps({**values, "digest": digest(values)}, indent=1, ensure_ascii=False) + "\n").encode()


def _parsed(folder: Place, data: bytes) -> Manifest:
    path = folder / MANIFEST
    damaged = f"{path}: it is not as it was written; {_AGAIN}"
    try:
        tree = json.loads(data)
        version = tree["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(damaged) from error
    if isinstance(version, int) and version > FORMAT:
        raise BadInput(
            f"{path}: the model is of format {version}, and this distmer reads up to {FORMAT}; install the"
            " version of distmer that made it, or a later one."
        )
    written = {name: value for name, value in tree.items() if name != "digest"}
    try:
        if _text(written) != data:
            raise BadInput(damaged)
        return Manifest.model_validate(written)
    except (ValidationError, ValueError) as error:
        raise BadInput(damaged) from error


def require_free(folder: Place, identity: str) -> None:
    """BadInput where the folder is a file, or holds anything but a copy of the model of this identity."""
    if folder.is_file():
        raise BadInput(f"{folder}: this is a file; give --out an empty or a new folder.")
    there = files(folder)
    if MANIFEST in there:
        try:
            there_already = _parsed(folder, (folder / MANIFEST).read_bytes())
        except BadInput as error:  # its own remedy, to fit again, does not help: that is under way
            raise BadInput(
                f"{folder}: the model that lies there cannot be read, so it may be another one; give --out"
                " another folder, or delete it."
            ) from error
        if there_already.identity != identity:
            raise BadInput(f"{folder}: another model lies there; give --out another folder, or delete it.")
        return
    # without weights, which are written first, even a README.md is not ours
    of_model = _FILES if {ARRAYS, CLASSICAL} & there.keys() else ()
    if other := [name for name in there if name not in of_model]:
        raise BadInput(f"{folder}: it holds other files ({other[0]}); give --out an empty or a new folder.")
