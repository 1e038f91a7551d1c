"""Runs side by side, and searches: `distmer.compare` and `distmer.sweep`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distmer.api.clips import Clips
from distmer.api.runs import Run, folder_of, given_by, of_result
from distmer.api.settings import Section, Tracking, layer, plain, seeds_of, text_of
from distmer.commands.compare import compare_runs
from distmer.commands.session import Given
from distmer.experiment.comparison import Comparison
from distmer.report.comparison import comparison_report, pair_frame, score_frame
from distmer.report.document import Document
from distmer.storage import Place
from distmer.types import BadInput, JsonValue

if TYPE_CHECKING:
    import pandas as pd

    from distmer.sweep.result import SweepResult


class Compared:
    """Runs side by side: the scores, and a paired test of every two.

    Attributes
    ----------
    folder : Path or remote place
        Where the tables lie, also for LaTeX.
    report : Document
        All of it as a text, as Markdown, and as HTML in a notebook.
    """

    def __init__(self, comparison: Comparison, folder: Place) -> None:
        self.comparison, self.folder = comparison, folder
        self.report: Document = comparison_report(comparison)

    @property
    def scores(self) -> pd.DataFrame:
        """One row for each run: scores with intervals, spread over seeds, means over folds, floors, size,
        cost."""
        return score_frame(self.comparison)

    @property
    def pairs(self) -> pd.DataFrame:
        """One row for each pair: the difference A − B with its interval, the p-value (raw and corrected after
        Holm), and a verdict."""
        return pair_frame(self.comparison)

    def __repr__(self) -> str:
        verdicts = "; ".join(f"{p.a} and {p.b}: {p.verdict()}" for p in self.comparison.pairs)
        return f"<Compared {len(self.comparison.entries)} runs: {verdicts}; {self.folder}>"

    def _repr_html_(self) -> str:
        return self.report._repr_html_()


class Swept(Run):
    """A search that has ended. Its scores are of the chosen settings, on subjects that their search has not
    seen."""

    def __init__(self, result: SweepResult) -> None:
        from distmer.report.sweep import sweep_report

        super().__init__(*of_result(result), sweep_report(result))
        self.result = result

    @property
    def trials(self) -> pd.DataFrame:
        """One row for each trial: its search, its setting, its validation scores, and how it ended."""
        from distmer.report.sweep import trial_frame

        return trial_frame(self.result.outcomes)


def compare(
    runs: Sequence[Run | str | Path] | Mapping[str, Run | str | Path],
    *,
    tracking: Tracking = False,
    workspace: str | Path | None = None,
) -> Compared:
    """Compare runs: paired permutation tests over the subjects, corrected for the number of tests (Holm).

    Parameters
    ----------
    runs
        At least two, on the same data: from `loso`, `sweep` or `open_run`, the folders of such runs (or the
        12 digits of their names), or files of predictions that other code made (see `score`). A mapping gives
        each a name of yours.
    tracking
        Whether the comparison is written to MLflow, see `loso`.
    workspace
        Where the tables are written; else where the first run is.

    Raises
    ------
    BadInput
        A folder holds no finished run; or the runs tell different classes apart, or are of other clips.

    Examples
    --------
    >>> import distmer as dm
    >>> clips = dm.load("synthetic", synthetic={"subjects": 4, "clips_per_subject": 4}, progress=False)
    >>> quick = {"features": {"flow": "farneback"}, "progress": False}
    >>> runs = {model: dm.loso(clips, model=model, **quick) for model in ("linear", "svm")}
    >>> compared = dm.compare(runs)
    >>> list(compared.scores["row"]), len(compared.pairs)
    (['linear', 'svm'], 1)
    """
    if isinstance(runs, str | Path | Run) or len(runs) < 2:
        raise BadInput("dm.compare: give a list of at least two runs, of their folders, or of files.")
    own = runs.values() if isinstance(runs, Mapping) else runs
    folders = [folder_of(run, workspace) for run in own]
    labels = dict(zip(folders, runs, strict=True)) if isinstance(runs, Mapping) else None
    given = Given(None, layer("dm.compare", tracking), text_of(workspace))
    return Compared(*compare_runs(folders, given, labels))


def sweep(
    clips: Clips,
    space: Mapping[str, Any],
    model: Any = "atscnn",
    *,
    sweep: Section = None,
    train: Section = None,
    features: Section = None,
    inputs: Section = None,
    evaluation: Section = None,
    seeds: int | Iterable[int] | None = None,
    cluster: Section = None,
    tracking: Tracking = False,
    storage: Section = None,
    workspace: str | Path | None = None,
    name: str | None = None,
    retry_failed: bool = False,
    progress: bool = True,
) -> Swept:
    """Search settings without looking at the held-out subjects, and score what was chosen.

    For each outer fold, settings are tried on inner folds of its own training subjects; the best one is
    trained on all of them and tested on the held-out subjects. It is done by Ray Tune, on the local cores or
    on the cluster of ``RAY_ADDRESS``.

    Parameters
    ----------
    space
        Setting → its values: a list, or a domain as in a configuration (``{"loguniform": [1e-5, 1e-2]}``).
        Settings of ``features``, ``inputs``, ``model`` and ``train`` can be searched, by dotted name.
    sweep
        Further settings of the section ``sweep``: ``{"trials": 8, "searcher": "random"}``.
    clips, model, train, features, inputs, evaluation, seeds, cluster, tracking, storage, workspace, name, \
retry_failed, progress
        As in `loso`. ``evaluation={"folds": "group_kfold", "k": 5}`` makes a search quicker: there is one for
        each outer fold.

    Raises
    ------
    BadInput
        A setting cannot be searched, or a value is impossible.

    Notes
    -----
    ``dm.sweep(clips, {"train.lr": {"loguniform": [1e-4, 1e-2]}}, model="ststnet", sweep={"trials": 8})``
    """
    from distmer.commands.sweep import run_sweep  # it brings Ray's part of distmer

    sections = {"features": features, "inputs": inputs, "train": train, "evaluation": evaluation}
    sections |= {"cluster": cluster, "storage": storage, "name": name, "seeds": seeds_of(seeds)}
    sections["sweep"] = {**(sweep or {}), "space": {key: _domain(value) for key, value in space.items()}}
    given = given_by("dm.sweep", clips, model, workspace, tracking, **sections)
    return Swept(run_sweep(given, clips=clips.manifest, retry_failed=retry_failed, progress=progress))


def _domain(value: Any) -> JsonValue:
    return plain(value) if isinstance(value, Mapping) else {"choice": plain(value)}
