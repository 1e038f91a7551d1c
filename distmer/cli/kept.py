"""`distmer fit`, `predict` and `explain`: the arguments of the commands on what was trained."""

from __future__ import annotations

import json
import shlex

import click

from distmer.cli.arguments import (
    extract_locally,
    folder_of,
    keep_freed_memory,
    set_option,
    show,
    workspace_option,
)
from distmer.cli.ending import BAD_INPUT, COMPLETE, PARTIAL
from distmer.types import BadInput


@click.command()
@click.argument("config", required=False)
@set_option
@workspace_option
@click.option("--out", metavar="FOLDER", help="Where to keep it; else below the workspace, in models.")
@click.option(
    "--register", metavar="NAME", help="Also make it a new version of this model in MLflow's registry."
)
@extract_locally
def fit(
    config: str | None,
    overrides: tuple[str, ...],
    workspace: str | None,
    out: str | None,
    register: str | None,
    local: bool,
) -> None:
    """Train a model on all subjects, and keep it in a folder.

    The folder has the weights, the settings and a card. CONFIG may be the folder of a finished sweep (or its
    12 digits). Then the setting that the sweep has chosen is trained, and the card has the score of the
    sweep. Otherwise the card has the score of the same configuration, if its run is in the workspace. If
    tracking is on, the folder is also logged as an MLflow model.
    """
    from distmer.commands.fit import fit_model, fit_report, open_chosen
    from distmer.commands.session import Given, Session
    from distmer.storage import place

    keep_freed_memory()
    given = None if config is None else folder_of(config, workspace)
    if given is not None and given.is_dir():
        session, choice = open_chosen(given, overrides, workspace)
    else:
        session, choice = Session.open(Given(given, overrides, workspace)), None
    where = place(out).absolute() if out else None
    kept = fit_model(session, where, local=local, choice=choice, register=register)
    typed = [*([shlex.quote(config)] if config else []), *(f"--set {shlex.quote(one)}" for one in overrides)]
    typed += [f"--workspace {shlex.quote(workspace)}"] if workspace else []
    show(fit_report(kept, " ".join(["distmer run", *typed])))


@click.command()
@click.argument("model")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option(
    "--onset",
    default="",
    metavar="FRAME",
    help="The onset in a folder or a video: a number, a file name, or a time (1.48s).",
)
@click.option(
    "--apex",
    default="",
    metavar="FRAME",
    help="The apex, in the same forms; else the frame of largest face motion.",
)
@click.option(
    "--windows", metavar="TIME", help="Look at every window of this length (0.5s, 500ms) in long videos."
)
@click.option("--step", metavar="TIME", help="The time from one window to the next; else half a window.")
@click.option(
    "--landmarks", metavar="FILE", help="The file of the landmark model, if it is not the installed one."
)
@click.option("--local", is_flag=True, help="Use no Ray, also for more than 40 clips.")
@click.option("--csv", "as_csv", is_flag=True, help="Print a table of comma-separated values.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON a clip.")
@click.option("--html", "as_html", is_flag=True, help="Print a page for a browser.")
def predict(
    model: str,
    inputs: tuple[str, ...],
    onset: str,
    apex: str,
    windows: str | None,
    step: str | None,
    landmarks: str | None,
    local: bool,
    as_csv: bool,
    as_json: bool,
    as_html: bool,
) -> int:
    """Ask a kept model about new clips.

    MODEL is a folder that `distmer fit` has written, or its 12 digits. INPUT is one of: two images (the onset
    and the apex), folders of frames, videos, files manifest.csv. For a model of published flow maps, INPUT
    are such maps. If no onset is given, the first frame is taken. If no apex is given, the frame of largest
    face motion is taken. With --windows, INPUT are long videos, and the answers are for the intervals in
    which the face moved most. These are candidates, not spotted expressions.

    More than 40 clips are done on Ray. The exit status is 3 if some clips have no answer, and 2 if none has
    one.
    """
    from distmer.commands.predict import answers_csv, answers_report, ask
    from distmer.report.html import document_page
    from distmer.saved.model import load_model

    if as_csv + as_json + as_html > 1:
        raise BadInput("--csv, --json and --html are three forms of one output; choose one.")
    loaded = load_model(folder_of(model, None), landmarks)
    found = ask(loaded, inputs, onset=onset, apex=apex, windows=windows, step=step, local=local)
    told = []

    def each():
        for one in found:
            told.append(one)
            yield one

    if as_csv:
        for line in answers_csv(loaded, each()):
            click.echo(line)
    elif as_json:
        for one in each():
            click.echo(json.dumps(one.to_json(), ensure_ascii=False))
    elif as_html:
        click.echo(document_page(answers_report(loaded, list(each()))))
    else:
        show(answers_report(loaded, list(each())), width=140)
    failed = sum(1 for one in told if one.reason)
    return COMPLETE if not failed else BAD_INPUT if failed == len(told) else PARTIAL


@click.command()
@click.argument("folder")
@click.argument("inputs", nargs=-1, metavar="[INPUT...]")
@click.option(
    "--clip",
    default="",
    metavar="ID",
    help="Explain only this held-out clip of a run, and write it to --out.",
)
@click.option(
    "--out",
    metavar="FOLDER",
    help="Where the maps are written; else ./explained. Those of a whole run are written into its folder.",
)
@click.option("--onset", default="", metavar="FRAME", help="As for predict.")
@click.option("--apex", default="", metavar="FRAME", help="As for predict.")
@click.option("--landmarks", metavar="FILE", help="As for predict.")
@workspace_option
def explain(
    folder: str,
    inputs: tuple[str, ...],
    clip: str,
    out: str | None,
    onset: str,
    apex: str,
    landmarks: str | None,
    workspace: str | None,
) -> int:
    """Show where in the face a model looks.

    There is a mean map of the face for each class, beside that of an untrained model. FOLDER is the folder of
    a run whose folds have kept their weights (train.keep_weights=true). Each held-out clip is explained with
    the weights of its own fold, and the run's page gets a figure for each class. Or FOLDER is a folder that
    `distmer fit` has written. Then the INPUT clips are explained, which are given as for `distmer predict`.
    FOLDER may also be the 12 digits of its name.
    """
    from distmer.api.explained import explain as explained

    found = explained(
        folder,
        *inputs,
        clip=clip,
        out=out,
        onset=onset,
        apex=apex,
        landmarks=landmarks,
        workspace=workspace,
    )
    show(found.report, width=120)
    return PARTIAL if found.problems else COMPLETE


ALL = (fit, predict, explain)
