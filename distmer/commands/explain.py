"""`distmer explain`: where the models of a run, or a kept model, look."""

from __future__ import annotations

from collections.abc import Sequence

from distmer.commands.session import Session
from distmer.commands.track import plan_again, write_again
from distmer.experiment.events import Observers, Step
from distmer.explain.models import explain_model
from distmer.explain.runs import explain_folds
from distmer.report.document import Document, Facts, Lines
from distmer.report.explanation import Explanation, caption, looks, tables, write_explanation
from distmer.report.live import LiveProgress
from distmer.report.run_folder import read_results, write_figures
from distmer.saved.model import SavedModel
from distmer.storage import Place
from distmer.types import BadInput


def explain_run(
    run_dir: Place, session: Session, clip: str = "", out: Place | None = None, *, progress: bool = True
) -> Explanation:
    """Explain a run whose folds have kept their weights, and write the maps into its folder. Its page and its
    MLflow run are written again with them. The maps of a single ``clip`` are written into ``out``.

    BadInput where no fold has kept its weights, or where the run's plan cannot be made again.
    """
    if out is not None:
        _require_no_run(out)
    plan, features = plan_again(run_dir, session)
    inputs = features.inputs([clip.id for clip in plan.clips], plan.model, session.config.inputs)
    with Observers([LiveProgress()] if progress else []) as live:

        def tell(done: int, total: int) -> None:
            live(Step("explaining folds", done, total))

        found, clips = explain_folds(plan, session.ledger, inputs, features, tell, clip)
    if out is not None:
        _write(out, found, clips)
        return found
    if read_results(run_dir) is None:  # it is not finished, and has no page
        _write(run_dir, found, clips)
    else:
        write_explanation(run_dir, found, clips)
        write_again(run_dir, session)
    return found


def explain_kept(
    model: SavedModel, inputs: Sequence[Place | str], out: Place, *, onset: str = "", apex: str = ""
) -> tuple[Explanation, list[str]]:
    """Explain the answers of a kept model for clips, which are given as for `distmer predict`, and write the
    maps into ``out``. The second value has a sentence for each clip that cannot be used.

    BadInput where none of the clips can be used.
    """
    _require_no_run(out)
    found, clips, problems = explain_model(model, inputs, onset=onset, apex=apex)
    _write(out, found, clips)
    return found, problems


def _require_no_run(out: Place) -> None:
    """BadInput if ``out`` is the folder of a run: its page shows the maps of all clips, not of some."""
    if out.is_file():
        raise BadInput(f"{out}: this is a file; give --out a folder.")
    if (out / "plan.json").is_file():
        raise BadInput(f"{out}: it is the folder of a run; give --out another folder.")


def _write(out: Place, found: Explanation, clips: str) -> None:
    write_explanation(out, found, clips)
    write_figures(out, looks(out, found.about.of), dpi=150)


def explanation_report(found: Explanation, folder: Place, problems: Sequence[str] = ()) -> Document:
    """The numbers, what is to be seen in the figures, and where they are."""
    about = found.about
    clips = ", ".join(f"{n} {name}" for name, n in zip(about.classes, about.clips, strict=True))
    facts = Facts([("clips", f"{clips}, {about.whose}"), ("figures", str(folder / "figures"))])
    alone = "There is no model with random weights beside this one to compare it with."
    lost = Lines(problems, f"not explained: {len(problems)}")
    parts = [*tables(about), lost, Lines([caption(about)]), facts]
    return Document(f"where {about.title} looks", [] if about.untrained else [alone], parts)
