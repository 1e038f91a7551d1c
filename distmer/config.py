"""The settings of an experiment: frozen pydantic models. Defaults are the reference paper's.

The string below a field says what the field does: `docs/configuration.md` shows it (``make docs``). What a
mark beside a field means, and how a tree is parsed, is in `distmer.config_base`. How a file, the files that
it extends and ``--set`` become one tree: `distmer.config_layers`.
"""

# What YAML gives is untyped until pydantic has read it:
# pyright: strict, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from distmer.addresses import holds_secret
from distmer.config_base import APART as APART
from distmer.config_base import ActsIf as ActsIf
from distmer.config_base import ConfigPath, acts_if
from distmer.config_base import Layer as Layer
from distmer.config_base import Named as Named
from distmer.config_base import PathMark as PathMark
from distmer.config_base import PluginMark as PluginMark
from distmer.config_base import Section as Section
from distmer.config_base import parse as parse


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


class SyntheticConfig(Section):
    """The embedded data set. Its clips are generated on this machine, once."""

    subjects: int = Field(default=12, ge=3, le=500)
    """How many subjects are generated."""
    clips_per_subject: int = Field(default=8, ge=2, le=100)
    """How many clips of the three classes each subject has, on average."""
    seed: int = Field(default=0, ge=0)
    """The seed of everything that is drawn."""
    difficulty: Literal["easy", "default", "hard"] = "default"
    """How large the movements are against head motion, light and noise."""


class DataConfig(Section):
    """Which clips are used, and where they are."""

    protocol: Annotated[str, PathMark("protocol")] = "synthetic"
    """Which clips are used, and which emotion is which class: a built-in protocol, or your YAML file."""
    root: Annotated[ConfigPath | None, _NOT_EMBEDDED] = None
    """The folder of the data set, or the folder with one for each data set; else `$DISTMER_DATA`."""
    roots: Annotated[dict[str, ConfigPath], _NOT_EMBEDDED] = Field(default={})
    """Data set → its folder, for data sets that are not in one common folder."""
    missing_apex: Annotated[Literal["error", "midpoint", "max-flow"], _FRAMES] = "error"
    """What to do with a clip without an annotated apex: it fails, or the apex is found by this rule."""
    implausible: Annotated[Literal["note", "fail"], _FRAMES] = "note"
    """What to do with a clip whose onset and apex cannot be a pair (one picture twice, black, another
    person): note it, or let the clip fail."""
    include: ConfigPath | None = None
    """A file that lists clips, as text or as `distmer data list` and `distmer data lock` write it. Exactly
    these clips are used."""
    columns: Annotated[dict[str, str | dict[str, str]], _NOT_EMBEDDED] = Field(default={})
    """Which column of a sheet holds what, if distmer cannot find out: field → heading, or data set → field →
    heading."""
    subjects: Annotated[Literal["distinct", "as-written"], _NOT_EMBEDDED] = "distinct"
    """`distinct` refuses subjects that look like one (`1` and `01`). `as-written` takes them as different."""
    allow_links: Annotated[bool, _NOT_EMBEDDED] = False
    """Whether symbolic links in the data may lead out of `data.root`."""
    synthetic: Annotated[SyntheticConfig, _EMBEDDED] = SyntheticConfig()


class StorageConfig(Section):
    """Places apart from the workspace, each a path or an address (`s3://…`, `gs://…`).

    A place that is not given is a folder of this name below the workspace.
    """

    data: ConfigPath | None = None
    """The embedded data set."""
    features: ConfigPath | None = None
    """The features of all clips."""
    ledger: ConfigPath | None = None
    """The finished folds."""
    runs: ConfigPath | None = None
    """The folders of runs."""
    sweeps: ConfigPath | None = None
    """The folders of sweeps."""
    scratch: ConfigPath | None = None
    """The checkpoints of worker groups."""


class FeatureConfig(Section):
    """What is computed from the frames of a clip. Everything here is part of the feature key."""

    size: int = Field(default=128, ge=16, le=512)
    """The side of the aligned crop, in px."""
    flow: Annotated[Named, PluginMark("distmer.flows")] = Named(name="tvl1")
    """The optical flow method."""
    stabilise: bool = True
    """Whether to subtract the motion of the head: a similarity fitted to the flow at rigid points."""
    strain: Annotated[Named, PluginMark("distmer.strains")] = Named(name="standard")
    """The formula of optical strain."""
    detector_side: int = Field(default=320, ge=80, le=2048)
    """The longer side of the picture that the face detector is given, in px."""
    landmarks: ConfigPath | None = None
    """A file with a 68-landmark model, in place of the installed one."""
    frames: int = Field(default=0, ge=0, le=64)
    """How many evenly spaced frames from onset to offset are also kept, with the flow between neighbours; 0:
    onset and apex alone."""
    sampling: Annotated[Literal["nearest", "linear"], _SEQUENCE] = "nearest"
    """How a frame between two recorded ones is made."""


class InputConfig(Section):
    """How stored features become the input of a model."""

    normalise: Literal["fixed", "minmax", "none"] = "fixed"
    """`fixed` divides by the scales below. `minmax` scales each map to 0..1. `none` keeps px."""
    flow_scale: Annotated[float, _FIXED] = Field(default=2.0, gt=0)
    """The flow that becomes 1, in px. Larger flow is clipped."""
    strain_scale: Annotated[float, _FIXED] = Field(default=0.3, gt=0)
    """The strain that becomes 1, in px/px. Larger strain is clipped."""
    standardise: bool = False
    """Whether each channel is scaled to zero mean and unit variance, by statistics of the training clips."""
    symmetric: bool = False
    """Whether mirror images are used in training too, and a clip's answer is the mean over it and its mirror
    image."""


class ModelConfig(Named):
    """The model. Every key beside `name` is an option of that model (`distmer models` lists them)."""

    name: str = "atscnn"
    """The name of the model, or your own code: `./nets.py:NAME` or `package.module:NAME`."""


class TrainConfig(Section):
    """How a network is trained.

    Defaults: Adam, 1e-4, batch 64, 200 epochs, cross-entropy (Zhao et al. 2024, §3.1.2).
    """

    epochs: int = Field(default=200, ge=1)
    """How often each training clip is seen."""
    batch_size: int = Field(default=64, ge=1)
    """Clips of one step."""
    optimiser: Literal["adam", "adamw", "sgd"] = "adam"
    """The optimiser."""
    lr: float = Field(default=1e-4, gt=0)
    """The learning rate."""
    weight_decay: float = Field(default=0.0, ge=0)
    """The weight decay."""
    momentum: Annotated[float, acts_if("train.optimiser", "sgd")] = Field(default=0.0, ge=0, lt=1)
    """The momentum."""
    schedule: Literal["constant", "step"] = "constant"
    """Whether the learning rate stays the same or falls in steps."""
    step_epochs: Annotated[int, acts_if("train.schedule", "step")] = Field(default=60, ge=1)
    """After this many epochs each time, the learning rate is multiplied by `train.step_factor`."""
    step_factor: Annotated[float, acts_if("train.schedule", "step")] = Field(default=0.3, gt=0, le=1)
    """The factor of one step."""
    loss: Annotated[Named, PluginMark("distmer.losses")] = Named(name="ce")
    """The loss."""
    augment: Annotated[tuple[Named, ...], PluginMark("distmer.augmentations")] = ()
    """What is done to the training clips in each epoch, in this order."""
    selection: Literal["fixed", "inner", "oracle"] = "fixed"
    """Which epoch counts: the last one, the best one on inner folds, or the best one on the held-out clips.
    The third is a leak, and is stamped."""
    inner_folds: Annotated[int, acts_if("train.selection", "inner")] = Field(default=3, ge=2)
    """Into how many inner folds the training subjects are split."""
    oracle: Annotated[Literal["per_subject", "global_epoch"], acts_if("train.selection", "oracle")] = (
        "per_subject"
    )
    """Whether each subject has its own best epoch, or one epoch is taken for all folds."""
    ensemble: int = Field(default=1, ge=1, le=100)
    """How many networks, of different seeds, are trained for a fold. Their probabilities are averaged."""
    threads: int = Field(default=1, ge=1)
    """CPU threads of a fold. They are part of its identity, because they change the rounding."""
    keep_weights: Annotated[bool, APART] = False
    """Whether the weights of each fold, of any model, are kept beside the ledger. It changes no number."""


class EvaluationConfig(Section):
    """How clips are split into folds, and how scores are computed."""

    folds: Literal["loso", "group_kfold", "cross_dataset"] = "loso"
    """What a fold holds out: one subject, one of `k` groups of subjects, or one data set."""
    k: Annotated[int, acts_if("evaluation.folds", "group_kfold")] = Field(default=5, ge=2)
    """How many groups of subjects."""
    permute_labels: int | None = Field(default=None, ge=0)
    """A seed: the labels are shuffled within each subject, so that the score should fall to chance."""
    metrics: Annotated[tuple[Named, ...], PluginMark("distmer.metrics")] = ()
    """Metrics beside UAR and UF1, which are always computed."""
    bootstrap: int = Field(default=2000, ge=100)
    """How many resamples of the subjects an interval is made from."""
    confidence: float = Field(default=0.95, gt=0, lt=1)
    """The confidence of an interval."""


class ClusterConfig(Section):
    """How the work is spread over processes and machines.

    Two settings change numbers: `workers_per_fold` above 1, and whether `gpus_per_fold` is 0.
    """

    address: str | None = None
    """The address of a running Ray cluster; else `$RAY_ADDRESS`, else a local cluster for this run alone."""
    local_cpus: Annotated[int | None, _OWN_RAY] = Field(default=None, ge=1)
    """CPUs of the local cluster; else all of this machine."""
    local_gpus: Annotated[int | None, _OWN_RAY] = Field(default=None, ge=0)
    """GPUs of the local cluster; else those that are found."""
    cpus_per_fold: float = Field(default=1.0, gt=0)
    """CPUs that a fold reserves."""
    gpus_per_fold: float = Field(default=0.0, ge=0)
    """GPUs that a fold reserves, or each worker of a fold. It may be a fraction."""
    in_flight: int = Field(default=16, ge=1)
    """Folds that are submitted at once. An autoscaler starts machines for those that wait."""
    retries: int = Field(default=3, ge=0)
    """How often a fold is trained again after its worker was killed. An exception in the code is not tried
    again."""
    patience: float = Field(default=1800.0, gt=0)
    """How long folds may wait for a machine while none of them is being trained, in s."""
    workers_per_fold: Annotated[Annotated[int, Field(ge=0)] | Literal["auto"], _NETWORK] = "auto"
    """0: a fold is a Ray task. N: it is a Ray Train worker group of N processes, data-parallel. `auto`: a
    task, or a group of one for a long fold."""
    checkpoint_after: Annotated[float, acts_if("cluster.workers_per_fold", "auto")] = Field(
        default=600.0, gt=0
    )
    """With `auto`, a fold that is estimated to take longer than this, in s, is a worker group of one."""
    extract_actors: Annotated[int, _FRAMES] = Field(default=2, ge=1)
    """The most processes that extract features. Each reserves one CPU."""
    extract_batch: Annotated[int, _FRAMES] = Field(default=4, ge=1)
    """Clips that such a process is given at a time."""

    def named(self, environ: Mapping[str, str]) -> str | None:
        """The address of the Ray cluster that is joined; None: Ray is started on this machine."""
        address = self.address or environ.get("RAY_ADDRESS")
        return None if address in (None, "", "local") else address

    @property
    def workers(self) -> int:
        """Processes that train a fold of a network together."""
        return 1 if self.workers_per_fold == "auto" else max(1, self.workers_per_fold)


class TrackingConfig(Section):
    """What is written to MLflow. It can be written again from the ledger (`distmer track`)."""

    enabled: bool = True
    """Whether anything is written to MLflow."""
    uri: Annotated[Annotated[str, PathMark("database")] | None, _TRACKED] = None
    """The address of the tracking server; else `$MLFLOW_TRACKING_URI`, else SQLite in the workspace."""
    experiment: Annotated[str, _TRACKED] = "distmer"
    """The name of the MLflow experiment."""
    folds: Annotated[Literal["runs", "steps"], _TRACKED] = "steps"
    """Whether folds are steps of the run's metrics, or are also runs of their own, below the run."""

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
    """An experiment: what stands at the outermost level of a configuration file."""

    name: str = "loso"
    """A name that reports and MLflow show."""
    plugins: tuple[Annotated[str, PathMark("module")], ...] = ()
    """Modules and files of your own. What they define can then be named without them."""
    # the ledger keeps them as 64-bit numbers
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**63)], ...] = (0,)
    """Every fold is trained once for each seed."""
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
