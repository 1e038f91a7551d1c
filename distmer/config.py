"""The settings of an experiment: frozen pydantic models. Defaults are the reference paper's.

How a file, the files that it extends and ``--set`` become one tree: `distmer.config_layers`. Three marks
stand beside the fields: `PathMark`, on a setting that holds a path; `PluginMark`, on one that names code; and
`ActsIf`, on a setting that does nothing under some other setting (`distmer.idle`).
"""

# What YAML gives is untyped until pydantic has read it:
# pyright: strict, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from distmer.addresses import holds_secret
from distmer.registry import nearest
from distmer.types import BadInput, JsonValue

S = TypeVar("S", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class PathMark:
    """The mark of a setting that holds a path: a relative one is made absolute when it is read.

    ``kind``: a ``place`` is a path or an address; a ``protocol`` is a path only where it ends in .yaml; a
    ``database`` is a path only behind ``sqlite:///``; a ``module`` is a path only where it ends in .py, and
    then beside the file that names it; ``weights`` of a model are beside that file too.
    """

    kind: Literal["place", "protocol", "database", "module", "weights"]


@dataclass(frozen=True, slots=True)
class PluginMark:
    """The mark of a `Named` setting, or of a list of them: what it names may be the user's own code.

    ``group`` is the entry-point group in which installed packages announce such code.
    """

    group: str


ConfigPath = Annotated[str, PathMark("place")]


@dataclass(frozen=True, slots=True)
class ActsIf:
    """The mark of a setting or a section that does nothing unless ``test`` holds for another setting's value.

    ``setting`` is dotted, as seen from the outermost section. ``test`` None: the value is a model's name,
    and the model must be a network.
    """

    setting: str
    words: str  # the condition, for a message
    test: Callable[[Any], bool] | None = None


def acts_if(setting: str, *values: str) -> ActsIf:
    """Acts only where ``setting`` has one of these values."""
    return ActsIf(setting, f"{setting} is {' or '.join(values)}", lambda value: value in values)


def _may_be(protocol: str) -> Callable[[Any], bool]:
    return lambda value: value == protocol or str(value).endswith((".yaml", ".yml"))


_NETWORK = ActsIf("model.name", "the model is a network")
_EMBEDDED = ActsIf("data.protocol", "the data are the embedded set's", _may_be("synthetic"))
_NOT_EMBEDDED = ActsIf(
    "data.protocol", "the data are not the embedded set's", lambda value: value != "synthetic"
)
_FRAMES = ActsIf(
    "data.protocol", "the data are frames", lambda value: value not in ("flowmaps", "megc2019-flowmaps")
)
_SEQUENCE = ActsIf("features.frames", "features.frames is 2 or more", bool)
_FIXED = acts_if("inputs.normalise", "fixed")
_OWN_RAY = ActsIf("cluster.address", "cluster.address is not given", lambda value: value in (None, "local"))
_TRACKED = ActsIf("tracking.enabled", "tracking.enabled is true", lambda value: value is not False)


class Section(BaseModel):
    """A part of the configuration: frozen, and refusing keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Named(BaseModel):
    """Something that is chosen by its name; every further key is an option of its own.

    ``focal`` alone is short for ``{name: focal}``.
    """

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
    name: str

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def options(self) -> dict[str, JsonValue]:
        return dict(self.model_extra or {})


class SyntheticConfig(Section):
    """The embedded data set: how many subjects, how many clips each on average, and how hard."""

    subjects: int = Field(default=12, ge=3, le=500)
    clips_per_subject: int = Field(default=8, ge=2, le=100)
    seed: int = Field(default=0, ge=0)
    difficulty: Literal["easy", "default", "hard"] = "default"


class DataConfig(Section):
    """Which clips (a protocol of ``distmer/datasets/protocols`` or a YAML file), and where the data lie."""

    protocol: Annotated[str, PathMark("protocol")] = "synthetic"
    # a set's folder, or the folder that holds one a set; else $DISTMER_DATA
    root: Annotated[ConfigPath | None, _NOT_EMBEDDED] = None
    # data set → its folder, where they do not lie side by side
    roots: Annotated[dict[str, ConfigPath], _NOT_EMBEDDED] = {}
    missing_apex: Annotated[Literal["error", "midpoint", "max-flow"], _FRAMES] = "error"
    # what becomes of a clip whose onset and apex cannot be a pair: one picture twice, black, another person
    implausible: Annotated[Literal["note", "fail"], _FRAMES] = "note"
    # a file that lists clips, as text or as `distmer data list` and `data lock` write it: these and no others
    include: ConfigPath | None = None
    # what a reader cannot guess: field → heading, or data set → field → heading
    columns: Annotated[dict[str, str | dict[str, str]], _NOT_EMBEDDED] = {}
    # as-written: "1" and "01", "s2" and "S2" are different subjects
    subjects: Annotated[Literal["distinct", "as-written"], _NOT_EMBEDDED] = "distinct"
    allow_links: Annotated[bool, _NOT_EMBEDDED] = False  # links among the data may lead out of data.root
    synthetic: Annotated[SyntheticConfig, _EMBEDDED] = SyntheticConfig()


class StorageConfig(Section):
    """Places apart from the workspace, each a path or an address (s3://…, gs://…).

    Without one, it is a folder of this name below the workspace.
    """

    data: ConfigPath | None = None  # the embedded data set
    features: ConfigPath | None = None
    ledger: ConfigPath | None = None
    runs: ConfigPath | None = None
    sweeps: ConfigPath | None = None
    scratch: ConfigPath | None = None  # checkpoints of worker groups


class FeatureConfig(Section):
    """What is extracted of a clip: everything here is part of the feature key."""

    size: int = Field(default=128, ge=16, le=512)  # px, side of the aligned crop
    flow: Annotated[Named, PluginMark("distmer.flows")] = Named(name="tvl1")
    stabilise: bool = True  # subtract the robust similarity fit of rigid points from the flow
    strain: Annotated[Named, PluginMark("distmer.strains")] = Named(name="standard")
    detector_side: int = Field(default=320, ge=80, le=2048)  # px, the longer side that the face detector sees
    landmarks: ConfigPath | None = None  # another 68-landmark model file than the installed one
    # evenly spaced crops from onset to offset, and the flow between neighbours; 0: onset and apex alone
    frames: int = Field(default=0, ge=0, le=64)
    sampling: Annotated[Literal["nearest", "linear"], _SEQUENCE] = "nearest"


class InputConfig(Section):
    """From stored features to what a model is given."""

    normalise: Literal["fixed", "minmax", "none"] = "fixed"
    flow_scale: Annotated[float, _FIXED] = Field(default=2.0, gt=0)  # px that become 1; clipped beyond
    strain_scale: Annotated[float, _FIXED] = Field(default=0.3, gt=0)  # px/px that become 1; clipped beyond
    standardise: bool = False  # zero mean, unit variance a channel, statistics of the training clips alone
    # mirror images in training, and the mean over a clip and its mirror image at test
    symmetric: bool = False


class ModelConfig(Named):
    """The model's name; every further key is one of that model's own options (see `distmer models`)."""

    name: str = "atscnn"


class TrainConfig(Section):
    """The optimisation.

    Defaults: Adam, 1e-4, batch 64, 200 epochs, cross-entropy (Zhao et al. 2024, §3.1.2).
    """

    epochs: int = Field(default=200, ge=1)
    batch_size: int = Field(default=64, ge=1)
    optimiser: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = Field(default=1e-4, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    momentum: Annotated[float, acts_if("train.optimiser", "sgd")] = Field(default=0.0, ge=0, lt=1)
    schedule: Literal["constant", "step"] = "constant"
    # After every `step_epochs` epochs the rate is multiplied by `step_factor`.
    step_epochs: Annotated[int, acts_if("train.schedule", "step")] = Field(default=60, ge=1)
    step_factor: Annotated[float, acts_if("train.schedule", "step")] = Field(default=0.3, gt=0, le=1)
    loss: Annotated[Named, PluginMark("distmer.losses")] = Named(name="ce")
    # what is done to the training clips of an epoch, one after the other
    augment: Annotated[tuple[Named, ...], PluginMark("distmer.augmentations")] = ()
    selection: Literal["fixed", "inner", "oracle"] = "fixed"
    inner_folds: Annotated[int, acts_if("train.selection", "inner")] = Field(default=3, ge=2)
    oracle: Annotated[Literal["per_subject", "global_epoch"], acts_if("train.selection", "oracle")] = (
        "per_subject"
    )
    # networks of so many seeds, whose probabilities are averaged: one fold, one entry of the ledger
    ensemble: int = Field(default=1, ge=1, le=100)
    threads: int = Field(default=1, ge=1)


class EvaluationConfig(Section):
    """How the clips are split, and how sure a score is."""

    folds: Literal["loso", "group_kfold", "cross_dataset"] = "loso"
    k: Annotated[int, acts_if("evaluation.folds", "group_kfold")] = Field(default=5, ge=2)
    permute_labels: int | None = Field(default=None, ge=0)  # a seed: labels shuffled within each subject
    # beside UAR and UF1, which are always there
    metrics: Annotated[tuple[Named, ...], PluginMark("distmer.metrics")] = ()
    bootstrap: int = Field(default=2000, ge=100)
    confidence: float = Field(default=0.95, gt=0, lt=1)


class ClusterConfig(Section):
    """How the work meets the machines.

    Nothing here changes a number, but `workers_per_fold` above 1 and whether folds have a GPU.
    """

    address: str | None = None  # of a running Ray cluster; else $RAY_ADDRESS, else a local one for this run
    # of the local cluster; else all of this machine's
    local_cpus: Annotated[int | None, _OWN_RAY] = Field(default=None, ge=1)
    # declared to the local cluster; else those found
    local_gpus: Annotated[int | None, _OWN_RAY] = Field(default=None, ge=0)
    cpus_per_fold: float = Field(default=1.0, gt=0)
    # may be a fraction; with workers_per_fold: of each worker
    gpus_per_fold: float = Field(default=0.0, ge=0)
    # folds submitted at once; pending ones are the autoscaler's demand
    in_flight: int = Field(default=16, ge=1)
    retries: int = Field(default=3, ge=0)  # after a killed worker; an exception in the code is not retried
    # s that folds may wait for a machine while none of them is trained
    patience: float = Field(default=1800.0, gt=0)
    # 0: a task; N: a Ray Train worker group of N, data-parallel; auto: by its length
    workers_per_fold: Annotated[Annotated[int, Field(ge=0)] | Literal["auto"], _NETWORK] = "auto"
    # s: with auto, a fold that is estimated above it is a worker group of one
    checkpoint_after: Annotated[float, acts_if("cluster.workers_per_fold", "auto")] = Field(
        default=600.0, gt=0
    )
    # at most; each takes one CPU. Ready-made maps need none
    extract_actors: Annotated[int, _FRAMES] = Field(default=2, ge=1)
    extract_batch: Annotated[int, _FRAMES] = Field(default=4, ge=1)

    @property
    def workers(self) -> int:
        """Processes that train a fold of a network together."""
        return 1 if self.workers_per_fold == "auto" else max(1, self.workers_per_fold)


class TrackingConfig(Section):
    """What MLflow is told. The ledger is the truth; this is a projection of it."""

    enabled: bool = True
    # else $MLFLOW_TRACKING_URI, else sqlite in the workspace
    uri: Annotated[Annotated[str, PathMark("database")] | None, _TRACKED] = None
    experiment: Annotated[str, _TRACKED] = "distmer"
    # `runs`: each fold is a run of its own too, below the run
    folds: Annotated[Literal["runs", "steps"], _TRACKED] = "steps"

    @model_validator(mode="after")
    def _no_secret(self) -> TrackingConfig:
        # The settings are written into the run's folder and to MLflow itself.
        if self.uri and holds_secret(self.uri):
            raise ValueError(
                "uri holds a password, which would be kept with the run; give the address in"
                " MLFLOW_TRACKING_URI, or the password in"
                " MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
        return self


class Config(Section):
    """A full experiment."""

    name: str = "loso"
    # modules and files of your own: what they define can be named without them
    plugins: tuple[Annotated[str, PathMark("module")], ...] = ()
    # the ledger keeps them as 64-bit numbers
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**63)], ...] = (0,)
    data: DataConfig = DataConfig()
    features: Annotated[FeatureConfig, _FRAMES] = FeatureConfig()
    inputs: InputConfig = InputConfig()
    model: Annotated[ModelConfig, PluginMark("distmer.models")] = ModelConfig()
    train: Annotated[TrainConfig, _NETWORK] = TrainConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    cluster: ClusterConfig = ClusterConfig()
    tracking: TrackingConfig = TrackingConfig()
    storage: StorageConfig = StorageConfig()

    @model_validator(mode="after")
    def _seeds_are_distinct(self) -> Config:
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds must be distinct and at least one, not {list(self.seeds)}")
        return self


def parse(
    kind: type[S], tree: Mapping[str, Any], origin: str, prefix: str = "", also: Iterable[str] = ()
) -> S:
    """``tree`` as a ``kind``.

    BadInput names the field by its dotted path, and the nearest one for an unknown key.

    ``also`` are further names that a user may have meant at the outermost level.
    """
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([*([prefix] if prefix else []), *(str(part) for part in first["loc"])])
        if first["type"] == "extra_forbidden":
            siblings = [*_fields_at(kind, first["loc"][:-1]), *(also if len(first["loc"]) == 1 else ())]
            hint = nearest(str(first["loc"][-1]), siblings)
            raise BadInput(f"{origin}: {where} is not a setting; {hint}") from error
        given = "" if isinstance(first.get("input"), dict) else f", not {first.get('input')!r}"
        message = first["msg"].removeprefix("Value error, ")
        raise BadInput(f"{origin}: {where or 'it'}: {message[0].lower()}{message[1:]}{given}.") from error


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
