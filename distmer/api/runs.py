"""A run: what `distmer.loso` does, and what it and `distmer.open_run` give."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distmer.api.clips import Clips, require_clips
from distmer.api.naming import model_section, reference
from distmer.api.settings import Executor, Section, Tracking, is_local, layer, seeds_of, text_of
from distmer.commands.run import run_experiment
from distmer.commands.session import Given, Session
from distmer.experiment.ledger import predictions_table
from distmer.experiment.result import Scored
from distmer.experiment.results_file import Results
from distmer.report.document import Document
from distmer.report.run_folder import read_folder
from distmer.report.tables import interval_text, run_report
from distmer.storage import Place, files, place
from distmer.types import BadInput, JsonValue, Predictions

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Picture:
    """A drawing as PNG. A notebook shows it."""

    name: str
    png: bytes

    def save(self, path: str | Path) -> None:
        """Write it to a file."""
        Path(path).write_bytes(self.png)

    def _repr_png_(self) -> bytes:
        return self.png

    def __repr__(self) -> str:
        return f"<Picture {self.name}: PNG, {len(self.png)} bytes>"


def pictures(folder: Place, prefix: str = "") -> dict[str, Picture]:
    """The drawings in a folder's ``figures`` whose names begin with ``prefix``, by name."""
    drawn = folder / "figures"
    stems = [name.removesuffix(".png") for name in files(drawn, ".png") if "/" not in name]
    return {
        stem: Picture(stem, (drawn / f"{stem}.png").read_bytes()) for stem in stems if stem.startswith(prefix)
    }


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ClipPredictions:
    """The predictions of a run, one row a clip and seed. ``table`` holds them with the classes as numbers."""

    table: Predictions
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.table)

    def to_pandas(self) -> pd.DataFrame:
        """Columns ``clip_id``, ``dataset``, ``subject``, ``y_true`` and ``y_pred`` (names of classes), a
        probability ``prob_CLASS`` for each class, ``fold``, ``seed``. `distmer.score` reads such a table."""
        frame = predictions_table(self.table).to_pandas()
        for column in ("y_true", "y_pred"):
            frame[column] = [self.classes[k] for k in frame[column]]
        return frame.rename(columns={f"prob_{k}": f"prob_{name}" for k, name in enumerate(self.classes)})

    def __repr__(self) -> str:
        return f"<ClipPredictions: {len(self)} rows, {', '.join(self.classes)}>"


class Run:
    """A run that has ended, or a part of one. Everything in it is also in its folder.

    Attributes
    ----------
    results : Results
        What ``results.json`` holds, typed: each score with interval and floors, what is missing, and why.
    folder : Path or remote place
        The run's folder, below the workspace.
    report : Document
        The scores as a text, as Markdown, and as HTML in a notebook.
    """

    def __init__(
        self, results: Results, predictions: Predictions | None, folder: Place, report: Document
    ) -> None:
        self.results, self.folder, self.report = results, folder, report
        self._predictions = predictions

    @property
    def status(self) -> str:
        """``complete``; ``some-folds``, if only some were asked for and these are done; ``partial``, if folds
        failed or the run was stopped; ``failed``, if there is no score."""
        return self.results.status

    @property
    def scores(self) -> pd.DataFrame:
        """UAR and UF1, one row for each way of averaging: pooled (the headline), mean over folds, the floors
        of both, and each data set if there are several. ``_lo`` and ``_hi`` are the ends of the interval."""
        import pandas as pd

        r = self.results
        if r.uar is None:
            raise BadInput(f"{self.folder}: no fold finished, so there is no score; see .results.failed.")
        (uar_lo, uar_hi), (uf1_lo, uf1_hi) = r.uar_ci or (None, None), r.uf1_ci or (None, None)
        rows: dict[str, dict[str, float | None]] = {
            "pooled": {
                "uar": r.uar, "uar_lo": uar_lo, "uar_hi": uar_hi,
                "uf1": r.uf1, "uf1_lo": uf1_lo, "uf1_hi": uf1_hi,
            }
        }  # fmt: skip
        floors = r.floors or {}
        rows |= {f"floor, {name}": {"uar": f.uar, "uf1": f.uf1} for name, f in floors.items()}
        rows["mean over folds"] = {"uar": r.uar_foldmean, "uf1": r.uf1_foldmean}
        rows |= {
            f"mean over folds, floor, {name}": {"uar": f.uar_foldmean, "uf1": f.uf1_foldmean}
            for name, f in floors.items()
        }
        rows |= {name: {"uar": of.uar, "uf1": of.uf1} for name, of in (r.per_dataset or {}).items()}
        return pd.DataFrame.from_dict(rows, orient="index")

    @property
    def predictions(self) -> ClipPredictions:
        """Of every held-out clip. BadInput where no fold finished."""
        if self._predictions is None:
            raise BadInput(
                f"{self.folder}: no fold finished, so there are no predictions; see .results.failed."
            )
        return ClipPredictions(self._predictions, self.results.classes)

    @property
    def confusion(self) -> pd.DataFrame:
        """Counts summed over seeds: rows are the truth, columns the prediction."""
        import pandas as pd

        names = list(self.results.classes)
        counts_KK = self.results.confusion or [[0] * len(names)] * len(names)
        rows, columns = pd.Index(names, name="true"), pd.Index(names, name="predicted")
        return pd.DataFrame(counts_KK, index=rows, columns=columns)

    def figures(self) -> dict[str, Picture]:
        """The drawings of the run, by name: ``confusion``, ``subjects``, and ``curves`` of a network."""
        return pictures(self.folder)

    def to_json(self) -> dict[str, JsonValue]:
        """What ``results.json`` holds."""
        return self.results.to_json()

    def __repr__(self) -> str:
        r = self.results
        done, total = r.fold_counts
        part = "" if r.status == "complete" else f"{r.status.upper()}, "
        words = [f"{part}{done} of {total} folds", str(self.folder)]
        if r.uar is not None:
            words.insert(0, f"UAR {r.uar:.4f} {interval_text(r.uar_ci, 4)}, UF1 {r.uf1:.4f}")
        if r.stamps:
            words.insert(0, f"NOT A HEADLINE ({', '.join(r.stamps)})")
        return f"<{type(self).__name__} {r.model} on {r.dataset}: {'; '.join(words)}>"

    def _repr_html_(self) -> str:
        picture = self.figures().get("confusion")
        shown = "" if picture is None else (
            f'<img alt="{escape(picture.name)}" style="max-width: 30em"'
            f' src="data:image/png;base64,{base64.b64encode(picture.png).decode()}"/>'
        )  # fmt: skip
        return self.report._repr_html_() + shown


def loso(
    clips: Clips,
    model: Any = "atscnn",
    *,
    train: Section = None,
    features: Section = None,
    inputs: Section = None,
    evaluation: Section = None,
    seeds: int | Iterable[int] | None = None,
    executor: Executor = "local",
    cluster: Section = None,
    tracking: Tracking = False,
    storage: Section = None,
    workspace: str | Path | None = None,
    name: str | None = None,
    only: Sequence[str] = (),
    retry_failed: bool = False,
    progress: bool = True,
) -> Run:
    """Leave one subject out: train a model on all other subjects, and test it on this one.

    The same settings give the same numbers, to the bit, as ``distmer run``, with Ray or without it. Finished
    folds are not trained again. If you interrupt it, it returns the finished folds, as a run whose status is
    ``partial``. The same call continues it.

    Parameters
    ----------
    clips
        From `load`.
    model
        One of

        - the name of a model (`distmer models` lists them), or a reference to a model of your own
          (``./nets.py:MyNet``);
        - a ``torch.nn.Module`` class, or a function that builds a module: called as ``MyNet(classes)``. It
          may be defined in the notebook. Then its source, with everything that it uses there, is written into
          a file of the workspace, and is part of the identity of each fold;
        - a classifier or a pipeline of scikit-learn, as an object or as a class. An object gives its
          parameters; it is not fitted itself. A ``random_state`` that you leave open is the fold's seed;
        - a mapping with one of these as ``name``, and options: ``{"name": MyNet, "width": 16}``.
    train, features, inputs, evaluation, cluster, storage
        Settings of these sections of a configuration: ``train={"epochs": 100}``. Where a setting names code,
        such as a loss, a function or a class may stand: ``train={"loss": my_loss}``.
    seeds
        One or several; each trains every fold once.
    executor
        ``local``: in this process, one fold after the other. ``ray``: several at once on the local cores, or
        on the cluster of ``RAY_ADDRESS``.
    tracking
        Whether the run is written to MLflow: True, or settings such as ``{"experiment": "mine"}``. It is off
        by default, but ``distmer run`` has it on. `distmer track` can write the run later.
    workspace
        Where everything is written; else the workspace of ``clips``.
    name
        The name of the experiment.
    only
        The ids of the folds to train; else all.
    retry_failed
        Whether to extract clips with a stored failure again.
    progress
        Whether to show how far it is: a bar in a notebook and on a terminal, lines in a log.

    Raises
    ------
    BadInput
        A setting, a model or an option cannot be used. If possible, this is found before a clip is read.
    RunError
        The surroundings failed: a full disk, a cluster that is away.

    Examples
    --------
    >>> import distmer as dm
    >>> clips = dm.load("synthetic", synthetic={"subjects": 4, "clips_per_subject": 4}, progress=False)
    >>> run = dm.loso(clips, model="linear", features={"flow": "farneback"}, progress=False)
    >>> run.status, len(run.predictions), sorted(run.figures())
    ('complete', 16, ['confusion', 'subjects'])
    >>> int(run.confusion.to_numpy().sum())
    16
    """
    local = is_local(executor, "dm.loso")
    sections = {"features": features, "inputs": inputs, "train": train, "evaluation": evaluation}
    sections |= {"cluster": cluster, "storage": storage, "name": name, "seeds": seeds_of(seeds)}
    given = given_by("dm.loso", clips, model, workspace, tracking, **sections)
    session = Session.open(given, clips=clips.manifest)
    result = run_experiment(session, local=local, only=only, retry_failed=retry_failed, progress=progress)
    return Run(*of_result(result), run_report(result.results))


def given_by(
    call: str,
    clips: Clips,
    model: Any,
    workspace: str | Path | None,
    tracking: Tracking = False,
    **sections: Any,
) -> Given:
    """The settings and the workspace of a call in Python; ``call`` is its name in messages."""
    require_clips(clips, call)
    given = Given(workspace=text_of(workspace) or clips.workspace)
    named = partial(reference, call=call, workspace=given.place)
    model = model_section(model, call, given.place)
    settings = layer(call, tracking, named, data=clips.data, model=model, **sections)
    return replace(given, overrides=settings)


def of_result(result: Scored) -> tuple[Results, Predictions | None, Place]:
    """What a `Run` keeps of a result."""
    return result.results, result.predictions, place(result.run_dir)


def folder_of(what: Run | str | Path, workspace: str | Path | None = None) -> Place:
    """The folder of a run or of another result: given as an object, by its path or address, or by the 12
    digits of its name in the workspace."""
    if isinstance(what, Run):
        return what.folder
    return Given(workspace=text_of(workspace)).place.named(str(what))


def open_run(path: str | Path) -> Run:
    """A run or a sweep that was made before, here or elsewhere, from its folder.

    Parameters
    ----------
    path
        The folder (or its address on an object store), which a run names as ``results``; or the 12 digits of
        its name.

    Raises
    ------
    BadInput
        No finished run lies there.

    Examples
    --------
    >>> import distmer as dm
    >>> clips = dm.load("synthetic", synthetic={"subjects": 4, "clips_per_subject": 4}, progress=False)
    >>> run = dm.loso(clips, model="linear", features={"flow": "farneback"}, progress=False)
    >>> dm.open_run(run.folder).scores.equals(run.scores)
    True
    """
    folder = folder_of(path)
    results, predictions = read_folder(folder)
    return Run(results, predictions, folder, run_report(results))
