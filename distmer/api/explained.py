"""Where models look: `distmer.explain`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from distmer.api.runs import Picture, Run, folder_of, pictures
from distmer.api.settings import text_of
from distmer.commands.explain import explain_kept, explain_run, explanation_report
from distmer.commands.session import Session
from distmer.report.document import Document
from distmer.report.explanation import TRAINED, UNTRAINED, About, Explanation
from distmer.saved.folder import MANIFEST
from distmer.saved.model import SavedModel
from distmer.saved.model import load_model as _load_model
from distmer.storage import Place, place
from distmer.types import BadInput, FloatArray


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Explained:
    """Where models look. ``folder`` holds the figures and a table of the clips, ``report`` has the numbers
    as a text, and ``problems`` are sentences about clips that could not be explained."""

    explanation: Explanation
    folder: Place
    report: Document
    problems: tuple[str, ...] = ()

    @property
    def about(self) -> About:
        """The numbers."""
        return self.explanation.about

    def maps(self, method: str, *, untrained: bool = False) -> dict[str, FloatArray]:
        """Class → its mean map (64 × 64 px, sum 1) of a method of ``about.methods``; classes without one
        are left out."""
        side = UNTRAINED if untrained else TRAINED
        found = {name: self.explanation.map(side, method, k) for k, name in enumerate(self.about.classes)}
        return {name: map_HW for name, map_HW in found.items() if map_HW is not None}

    def figures(self) -> dict[str, Picture]:
        """A drawing for each class that has clips."""
        return pictures(self.folder, "looks-")

    def __repr__(self) -> str:
        return f"<Explained {self.about.title}: {', '.join(self.about.methods)}; {self.folder}>"

    def _repr_html_(self) -> str:
        return self.report._repr_html_()


def explain(
    what: Run | SavedModel | str | Path,
    *inputs: str | Path,
    clip: str = "",
    out: str | Path | None = None,
    onset: str = "",
    apex: str = "",
    landmarks: str | None = None,
    workspace: str | Path | None = None,
    progress: bool = True,
) -> Explained:
    """Where models look: mean maps of the face for each class, beside those of an untrained model.

    Parameters
    ----------
    what
        A run whose folds have kept their weights (``train={"keep_weights": True}``), or its folder: each
        held-out clip is explained with the weights of its own fold. Or a model from `fit` or `load_model`, or
        its folder.
    clip
        Of a run: the id of a held-out clip, to explain this one alone.
    inputs, onset, apex
        Of a kept model: the clips to explain, as for its ``predict``.
    out
        Of a kept model, or of one clip: where the figures are written; else the folder ``explained``. Those
        of a run lie in its own folder.
    landmarks
        As for `load_model`.
    workspace
        Of a run: where its ledger and its features are, if its folder does not lie in that workspace.
    progress
        Whether to show how far it is.

    Raises
    ------
    BadInput
        The run has kept no weights, or its clips or its code have changed; or no clip can be explained.

    Examples
    --------
    >>> import distmer as dm
    >>> clips = dm.load("synthetic", synthetic={"subjects": 4, "clips_per_subject": 4}, progress=False)
    >>> quick = {"features": {"flow": "farneback"}, "progress": False}
    >>> run = dm.loso(clips, model="linear", train={"keep_weights": True}, **quick)
    >>> dm.explain(run, progress=False).about.methods
    ('motion', 'coefficients', 'occlusion')
    """
    where = place(str(out or "explained")).absolute()
    folder = what.folder if isinstance(what, SavedModel) else folder_of(what, workspace)
    if not isinstance(what, SavedModel) and not (folder / MANIFEST).is_file():
        if inputs or onset or apex or landmarks or (out and not clip):
            raise BadInput(
                f"{folder}: a run is explained on its own held-out clips, in its own folder; give clips,"
                " frames and a place for the figures to a kept model alone."
            )
        folder, aside = folder.absolute(), where if clip else None
        session = Session.reopen(folder, text_of(workspace))
        found = explain_run(folder, session, clip, aside, progress=progress)
        return Explained(found, aside or folder, explanation_report(found, aside or folder))
    model = what if isinstance(what, SavedModel) else _load_model(folder, landmarks)
    if workspace is not None or clip:
        raise BadInput(f"{model.folder}: a workspace and a held-out clip belong to a run; leave them out.")
    if not inputs:
        raise BadInput(
            f"{model.folder}: a kept model has no clips of its own; give some to explain, as to"
            " `distmer predict`."
        )
    found, problems = explain_kept(model, [str(one) for one in inputs], where, onset=onset, apex=apex)
    return Explained(found, where, explanation_report(found, where, problems), tuple(problems))
