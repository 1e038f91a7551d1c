"""The settings of an experiment: frozen pydantic models, read from YAML with one ``extends:`` and dotted ``--set`` paths.

A run is a named full configuration; the command line only overrides single fields of it. Defaults are the reference paper's.
"""

# What YAML gives is untyped until pydantic has read it:
# pyright: strict, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from distmer.registry import nearest
from distmer.remote import Place, anchored
from distmer.types import BadInput, JsonValue

S = TypeVar("S", bound=BaseModel)


class Section(BaseModel):
    """A part of the configuration: frozen, and refusing keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SyntheticConfig(Section):
    """The embedded data set: how many people, how many clips each on average, and how hard."""

    subjects: int = Field(default=12, ge=3, le=500)
    clips_per_subject: int = Field(default=8, ge=2, le=100)
    seed: int = Field(default=0, ge=0)
    difficulty: Literal["easy", "default", "hard"] = "default"


class DataConfig(Section):
    """Which clips: a protocol (a name in ``distmer/datasets/protocols`` or a YAML file), and where the data lie."""

    protocol: str = "synthetic"
    root: str | None = None  # the data set's folder, or the folder that holds one folder a set; else $DISTMER_DATA
    roots: dict[str, str] = {}  # data set → its folder, where they do not lie side by side
    missing_apex: Literal["error", "midpoint", "max-flow"] = "error"
    include: str | None = None  # a text file of clip ids, one a line: exactly these clips and no others
    synthetic: SyntheticConfig = SyntheticConfig()


class StorageConfig(Section):
    """Places apart from the workspace, each a path or an address (s3://…, gs://…); else a folder of this name below it."""

    data: str | None = None  # the embedded data set
    features: str | None = None
    ledger: str | None = None
    runs: str | None = None
    sweeps: str | None = None
    scratch: str | None = None  # checkpoints of worker groups


class FeatureConfig(Section):
    """What is extracted of a clip: everything here is part of the feature key."""

    size: int = Field(default=128, ge=16, le=512)  # px, side of the aligned crop
    flow: Literal["tvl1", "tvl1-fast", "dis", "farneback"] = "tvl1"
    stabilise: bool = True  # subtract the robust similarity fit of rigid points from the flow
    strain: Literal["standard", "smooth", "half-shear", "meb", "ecnu"] = "standard"
    detector_side: int = Field(default=320, ge=80, le=2048)  # px, the frame's longer side is shrunk to this for the face detector
    landmarks: str | None = None  # another 68-landmark model file than the installed one


class InputConfig(Section):
    """From stored features to what a model is given."""

    normalise: Literal["fixed", "minmax", "none"] = "fixed"
    flow_scale: float = Field(default=2.0, gt=0)  # px that become 1 under `fixed`; clipped beyond
    strain_scale: float = Field(default=0.3, gt=0)  # px/px that become 1 under `fixed`; clipped beyond
    standardise: bool = False  # zero mean, unit variance a channel, statistics of the training clips alone


class ModelConfig(BaseModel):
    """The model's name; every further key is one of that model's own options (see `distmer models`)."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
    name: str = "atscnn"

    @property
    def options(self) -> dict[str, JsonValue]:
        return dict(self.model_extra or {})


class TrainConfig(Section):
    """The optimisation. Defaults: Adam, 1e-4, batch 64, 200 epochs, cross-entropy (Zhao et al. 2024, §3.1.2)."""

    epochs: int = Field(default=200, ge=1)
    batch_size: int = Field(default=64, ge=1)
    optimiser: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = Field(default=1e-4, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)  # of sgd
    schedule: Literal["constant", "step"] = "constant"
    step_epochs: int = Field(default=60, ge=1)  # of `step`: after every so many epochs,
    step_factor: float = Field(default=0.3, gt=0, le=1)  # the rate is multiplied by this
    loss: Literal["ce", "balanced"] = "ce"
    mirror: bool = False  # half of the training clips of an epoch are mirrored left-right
    selection: Literal["fixed", "inner", "oracle"] = "fixed"
    inner_folds: int = Field(default=3, ge=2)  # of `inner`
    oracle: Literal["per_subject", "global_epoch"] = "per_subject"  # of `oracle`
    threads: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _momentum_is_of_sgd(self) -> TrainConfig:
        if self.momentum and self.optimiser != "sgd":
            raise ValueError(f"momentum is an option of sgd, but optimiser is {self.optimiser}")
        return self


class EvaluationConfig(Section):
    """How the clips are split, and how sure a score is."""

    folds: Literal["loso", "group_kfold", "cross_dataset"] = "loso"
    k: int = Field(default=5, ge=2)  # of `group_kfold`
    permute_labels: int | None = Field(default=None, ge=0)  # a seed: labels shuffled within each subject, to see chance
    bootstrap: int = Field(default=2000, ge=100)
    confidence: float = Field(default=0.95, gt=0, lt=1)


class ClusterConfig(Section):
    """How the work meets the machines. Nothing here changes a number, but `workers_per_fold` above 1 and whether folds have a GPU."""

    address: str | None = None  # of a running Ray cluster; else $RAY_ADDRESS, else a local one for this run
    local_cpus: int | None = Field(default=None, ge=1)  # of the local cluster; else all of this machine's
    local_gpus: int | None = Field(default=None, ge=0)  # declared to the local cluster; else those found
    cpus_per_fold: float = Field(default=1.0, gt=0)
    gpus_per_fold: float = Field(default=0.0, ge=0)  # may be a fraction; with workers_per_fold: of each worker
    in_flight: int = Field(default=16, ge=1)  # folds submitted at once; pending ones are the autoscaler's demand
    retries: int = Field(default=3, ge=0)  # after a killed worker; an exception in the code is not retried
    patience: float = Field(default=1800.0, gt=0)  # s that folds may wait for a machine while none of them is trained
    workers_per_fold: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"  # 0: a task; N: a worker group of N; auto: by its length
    checkpoint_after: float = Field(default=600.0, gt=0)  # s: with auto, a fold that is estimated above it is a worker group of one
    extract_actors: int = Field(default=2, ge=1)  # at most; each takes one CPU. Ready-made maps need none
    extract_batch: int = Field(default=4, ge=1)

    @property
    def workers(self) -> int:
        """Processes that train a fold of a network together."""
        return 1 if self.workers_per_fold == "auto" else max(1, self.workers_per_fold)


class TrackingConfig(Section):
    """What MLflow is told. The ledger is the truth; this is a projection of it."""

    enabled: bool = True
    uri: str | None = None  # else $MLFLOW_TRACKING_URI, else sqlite in the workspace
    experiment: str = "distmer"
    folds: Literal["runs", "steps"] = "runs"

    @model_validator(mode="after")
    def _no_secret(self) -> TrackingConfig:
        # The settings are written into the run's folder and to MLflow itself.
        if self.uri and re.search(r"://[^/@]*:[^/@]*@|(?i:password|token|secret)=", self.uri):
            raise ValueError(
                "uri holds a password, which would be kept with the run; give the address in MLFLOW_TRACKING_URI, or the password in"
                " MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
        return self


class Config(Section):
    """A full experiment."""

    name: str = "loso"
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**63)], ...] = (0,)  # the ledger keeps them as 64-bit numbers
    data: DataConfig = DataConfig()
    features: FeatureConfig = FeatureConfig()
    inputs: InputConfig = InputConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    cluster: ClusterConfig = ClusterConfig()
    tracking: TrackingConfig = TrackingConfig()
    storage: StorageConfig = StorageConfig()

    @model_validator(mode="after")
    def _seeds_are_distinct(self) -> Config:
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds must be distinct and at least one, not {list(self.seeds)}")
        return self


# Paths in a file are relative to the workspace, on the command line to the current folder (a submitted job's current
# folder is a throw-away copy, and what it names there would be gone).
_PATHS = ("data.root", "data.include", "features.landmarks", *(f"storage.{name}" for name in StorageConfig.model_fields))
_OF_OTHERS = (
    ("compare", "compares several experiments", "`distmer compare` or jobs/compare.py"),
    ("sweep", "searches among settings", "`distmer sweep` or jobs/tune.py"),
)


def load_config(
    path: Place | None,
    overrides: Iterable[str] = (),
    *,
    workspace: Place,
    environ: Mapping[str, str],
) -> Config:
    """The configuration of a file (none: all defaults), with ``a.b=value`` overrides (values are YAML).

    Raises BadInput in one sentence that names the file and the nearest known key.
    """
    tree = load_tree(path, overrides, workspace=workspace, environ=environ)
    for section, what, where in _OF_OTHERS:
        if section in tree:
            raise BadInput(f"{origin(path)}: it {what}; give it to {where}.")
    return parse(Config, tree, origin(path))


def origin(path: Place | None) -> str:
    """How messages name where a setting comes from."""
    return str(path) if path else "configuration"


def load_tree(path: Place | None, overrides: Iterable[str], *, workspace: Place, environ: Mapping[str, str]) -> dict[str, Any]:
    """What `load_config` validates: the file's settings with those it extends, the overrides, the paths made absolute."""
    tree: dict[str, Any] = {}
    if path is not None:
        tree = _read_extended(path, ())
        _anchor(tree, workspace)
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise BadInput(f"--set {override}: write it as path.to.field=value.")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise BadInput(f"--set {override}: the value is not YAML ({_first_line(error)}).") from error
        single = nested({key.strip(): value})
        _anchor(single, Path.cwd())
        tree = merge(tree, single)
    data = tree.get("data") or {}
    if isinstance(data, dict) and not data.get("root") and environ.get("DISTMER_DATA"):
        tree = merge(tree, {"data": {"root": anchored(environ["DISTMER_DATA"], Path.cwd())}})
    return tree


def parse(kind: type[S], tree: Mapping[str, Any], origin: str, prefix: str = "") -> S:
    """``tree`` as a ``kind``; BadInput names the field by its dotted path, and the nearest one for an unknown key."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([*([prefix] if prefix else []), *(str(part) for part in first["loc"])])
        if first["type"] == "extra_forbidden":
            siblings = _fields_at(kind, first["loc"][:-1])
            hint = nearest(str(first["loc"][-1]), siblings)
            raise BadInput(f"{origin}: {where} is not a setting; {hint}") from error
        given = "" if isinstance(first.get("input"), dict) else f", not {first.get('input')!r}"
        message = first["msg"].removeprefix("Value error, ")
        raise BadInput(f"{origin}: {where or 'it'}: {message[0].lower()}{message[1:]}{given}.") from error


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` laid upon ``base``: mappings merge, everything else is replaced. A model of another name brings no old options."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            renamed = key == "model" and "name" in value and value["name"] != old.get("name")
            result[key] = dict(value) if renamed else merge(old, value)
        else:
            result[key] = value
    return result


def _read_extended(path: Place, seen: tuple[Place, ...]) -> dict[str, Any]:
    try:
        text = path.read_text()
    except OSError as error:
        raise BadInput(f"{path}: the configuration cannot be read ({error.strerror}); name an existing YAML file.") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: the configuration is not UTF-8 text (byte {error.start}); save it as UTF-8.") from error
    try:
        tree = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise BadInput(f"{path}: not valid YAML ({_first_line(error)}).") from error
    if not isinstance(tree, dict):
        raise BadInput(f"{path}: a configuration is a mapping of settings, not a {type(tree).__name__}.")
    parent = tree.pop("extends", None)
    if parent is None:
        return tree
    if not isinstance(parent, str):
        raise BadInput(f"{path}: extends names one configuration file, not {parent!r}.")
    target = (path.parent / parent).resolve()
    if target in seen or target == path.resolve():
        raise BadInput(f"{path}: extends {parent}, which extends it in turn; break the circle.")
    return merge(_read_extended(target, (*seen, path.resolve())), tree)


def nested(dotted: Mapping[str, Any]) -> dict[str, Any]:
    """``{"a.b": 1}`` as ``{"a": {"b": 1}}``."""
    tree: dict[str, Any] = {}
    for path, value in dotted.items():
        *parents, last = path.split(".")
        node = tree
        for key in parents:
            node = node.setdefault(key, {})
        node[last] = value
    return tree


def _anchor(tree: dict[str, Any], base: Place) -> None:
    """Make the known path settings of ``tree`` absolute, in place."""
    for dotted in _PATHS:
        section, field = dotted.split(".")
        node = tree.get(section)
        if isinstance(node, dict) and isinstance(node.get(field), str):
            node[field] = anchored(node[field], base)
    data = tree.get("data")
    if isinstance(data, dict):
        if isinstance(data.get("roots"), dict):
            data["roots"] = {k: anchored(v, base) if isinstance(v, str) else v for k, v in data["roots"].items()}
        if isinstance(data.get("protocol"), str) and data["protocol"].endswith((".yaml", ".yml")):
            data["protocol"] = anchored(data["protocol"], base)


def _fields_at(kind: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The field names of the (nested) model at a pydantic error location."""
    for part in location:
        if (info := kind.model_fields.get(str(part))) is None:
            break
        for candidate in _arms(info.annotation):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                kind = candidate
    return list(kind.model_fields)


def _arms(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, Annotated, dict):
        return typing.get_args(annotation)
    return (annotation,)


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
