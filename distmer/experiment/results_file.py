"""``results.json`` as a typed value: what a run or a sweep writes, and what every reader of it gets.

``docs/results.schema.json`` is the JSON schema of `Results`; a test compares the two.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from distmer.evaluation.summary import SubjectRow
from distmer.types import JsonValue

Ends = tuple[float, float]
"""The ends of an interval, [low, high]."""


class _Part(BaseModel):
    """Frozen. Keys of another version of distmer are ignored, so that its files can be read."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class Floor(_Part):
    """The scores of a classifier that does not look at the clips, on the folds that finished."""

    uar: float
    uf1: float
    uar_foldmean: float
    uf1_foldmean: float


class MetricFloor(_Part):
    """What a metric gives a classifier that does not look at the clips."""

    pooled: float
    foldmean: float


class MetricScores(_Part):
    """The scores by a metric that the configuration names beside UAR and UF1."""

    pooled: float
    """Of the pooled predictions, the mean over seeds."""
    pooled_ci: Ends | None = None
    """Its bootstrap interval over subjects, [low, high]; null with a single subject."""
    pooled_sd: float | None = None
    """Its standard deviation over seeds; null for one seed."""
    foldmean: float
    """The mean of the folds' own scores, the mean over seeds."""
    floors: dict[str, MetricFloor]
    """``constant`` and ``stratified``: what guessing scores."""


class DatasetScores(_Part):
    """The pooled scores within one data set, and the number of its clips."""

    uar: float
    uf1: float
    n: int


class ClassScores(_Part):
    """The scores of one class, and the number of its clips."""

    recall: float
    f1: float
    n: int


class ClipLeftOut(_Part):
    """A clip that is not in the score."""

    clip: str
    reason: str


class FoldLeftOut(_Part):
    """A fold of one seed that is not in the score."""

    fold: str
    seed: str
    reason: str


LeftOut = ClipLeftOut | FoldLeftOut


class InnerScores(_Part):
    """Validation scores of a sweep's choices, or how far they are above the outer scores."""

    uar: float
    uf1: float


class Results(_Part):
    """What a run or a sweep came to. Keys that only one of them has, and those of a score that does not
    exist, may be absent; they are None here."""

    model: str
    """The name of the model; of a sweep among models, the names of the chosen ones."""
    options: dict[str, JsonValue] | None = None
    """The options of the model, defaults filled in. Of a run alone."""
    parameters: int | None = None
    """How many numbers training adjusts; null for a classical model and for a sweep."""
    dataset: str
    """The name of the protocol."""
    mode: str | None = None
    """``nested``, ``flat`` or ``oracle``. Of a sweep alone."""
    folds: int
    """Folds of one seed."""
    clips_used: int
    """Clips with a prediction."""
    clips_expected: int
    """These, and the clips that could not be used or whose fold did not finish."""
    implausible: int = 0
    """Of the clips of the folds, those whose onset and apex cannot be a pair (``data.implausible``)."""
    notes: dict[str, int] = {}
    """What was noticed of the clips or done to them → the number of clips."""
    classes: tuple[str, ...]
    """The names of the classes, in the order of the labels."""
    n: int | None = None
    """Clips scored."""
    seeds: tuple[int, ...]
    """As configured."""
    uar: float | None = None
    """Unweighted average recall of the pooled predictions, the mean over seeds; null without a score."""
    uar_ci: Ends | None = None
    """Its bootstrap interval over subjects, [low, high]; null with a single subject."""
    uar_sd: float | None = None
    """Its standard deviation over seeds; null for one seed."""
    uf1: float | None = None
    """Unweighted mean of the classes' F1 over the pooled predictions, the mean over seeds."""
    uf1_ci: Ends | None = None
    uf1_sd: float | None = None
    resamples_lacking_a_class: float | None = None
    """The share of bootstrap resamples in which a class has no clip, 0 to 1."""
    uar_foldmean: float | None = None
    """The mean of the folds' own UARs, the mean over seeds."""
    uf1_foldmean: float | None = None
    floors: dict[str, Floor] | None = None
    """``constant`` and ``stratified``: what guessing scores."""
    metrics: dict[str, MetricScores] = {}
    """Metric → its scores, for those of ``evaluation.metrics`` beside UAR and UF1."""
    per_dataset: dict[str, DatasetScores] | None = None
    per_class: dict[str, ClassScores] | None = None
    per_subject: tuple[SubjectRow, ...] | None = None
    confusion: tuple[tuple[int, ...], ...] | None = None
    """Counts summed over seeds: rows are the truth, columns the prediction."""
    inner: InnerScores | None = None
    """The validation scores of the chosen settings, the mean over searches. Of a sweep alone."""
    optimism: InnerScores | None = None
    """``inner`` minus the outer scores. Of a complete sweep alone."""
    chosen: tuple[dict[str, JsonValue], ...] | None = None
    """The chosen trial of every search: its setting, and its validation scores. Of a sweep alone."""
    counts: dict[str, int] | None = None
    """Trials by state, trainings and epochs. Of a sweep alone."""
    trained: int | None = None
    """Trainings of this call. Of a sweep alone."""
    failed: tuple[LeftOut, ...] = ()
    """Everything that is not in the score, with its reason."""
    selection: str
    """How the epoch was chosen: ``fixed``, ``inner``, ``oracle:…``. Of a sweep, how the setting was:
    ``sweep:…``."""
    stamps: tuple[str, ...] = ()
    """Why the score is no headline."""
    audited: str | None = None
    """The verdict of an audit: ``passed 3 folds``, or the leaks it found. Absent without an audit."""
    confidence: float = 0.95
    """Of the intervals."""
    devices: tuple[str, ...] = ()
    """The kinds of device that the folds were trained on."""
    seconds: float
    """Wall time of this call."""
    fold_seconds: float
    """The sum of the folds' own times, whenever they were trained, s."""
    status: str
    """``complete``, ``some-folds``, ``partial`` or ``failed``."""
    digest: str = ""
    """The identity of the run or the sweep. Files of an early version do not hold it."""
    run_dir: str
    mlflow_run_id: str | None = None

    def to_json(self) -> dict[str, JsonValue]:
        """The keys that were given, and no others."""
        return self.model_dump(mode="json", exclude_unset=True)

    @property
    def fold_counts(self) -> tuple[int, int]:
        """Folds finished, and folds of the run: folds × seeds."""
        total = self.folds * len(self.seeds)
        return total - sum(isinstance(row, FoldLeftOut) for row in self.failed), total

    @property
    def seconds_a_fold(self) -> float:
        """Seconds of training a fold, the mean."""
        return self.fold_seconds / self.fold_counts[1]
