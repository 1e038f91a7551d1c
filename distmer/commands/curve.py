"""`distmer curve`: a configuration on a growing share of its training subjects."""

from __future__ import annotations

import json
import logging
from functools import partial
from typing import Any

import yaml

from distmer.commands.run import describe_rows, outlook, planned_rows, prepared
from distmer.commands.session import Given, Session, keep_environment
from distmer.config import Config, parse
from distmer.config_layers import require_section, warn_of_unused
from distmer.experiment.curve import CurveConfig, CurvePlan, conclude_curve, plan_curve
from distmer.experiment.plan import acting_settings
from distmer.experiment.run import train_jobs
from distmer.models import is_network
from distmer.report.curve import curve_csv, curve_json, curve_report
from distmer.report.page import write_page
from distmer.report.run_folder import write_figures
from distmer.report.tables import percent
from distmer.storage import Place, write
from distmer.types import FoldFailure

_log = logging.getLogger(__name__)


def draw_learning_curve(
    given: Given, *, local: bool = False, retry_failed: bool = False
) -> tuple[dict[str, Any], Place]:
    """The curve of a configuration as ``curve.json`` holds it, and its folder.

    Finished trainings are in the ledger, so the same command continues after Ctrl-C. If the configuration
    does not fit, BadInput comes before anything is trained.
    """
    section, session = _opened(given)
    session.workspace.require()
    with session.at_work(local=local) as (live, backend):
        backend.require(session.config.cluster)
        run, features = prepared(session, backend, live, retry_failed=retry_failed)
        plan = plan_curve(run, features.keys, section)
        folder = session.workspace.curve_dir(plan.digest)
        _begin(folder, plan)
        jobs, clips = [part.job for part in plan.parts], [clip.id for clip in run.clips]
        inputs = partial(features.inputs, clips, run.model, session.config.inputs)
        failures: list[FoldFailure] = []
        try:
            what = f"{run.model.info.name}: folds of the learning curve"
            folds, failures = train_jobs(jobs, backend.train, inputs, session.ledger, [live], what)
        except KeyboardInterrupt:
            folds = session.ledger.known({job.digest for job in jobs})
            _log.warning("Stopped: %d trainings are finished and kept; the same command goes on.", len(folds))
    found = curve_json(conclude_curve(plan, folds, failures))
    write(folder / "curve.json", json.dumps(found, indent=1).encode())
    write(folder / "curve.csv", curve_csv(found).encode())
    write(folder / "curve.md", curve_report(found).markdown().encode())
    if any(point["uar"] is not None for point in found["points"]):
        from distmer.report.figures import learning_curve  # matplotlib takes half a second to load

        write_figures(folder, {"curve": partial(learning_curve, found)}, dpi=150)
    write_page(folder)
    return found, folder


def plan_of_curve(given: Given) -> str:
    """What a curve would do, share by share, as text. Nothing is extracted or trained; a few steps are
    timed."""
    section, session = _opened(given)
    found = outlook(session)
    plan = plan_curve(found.plan, found.keys, section)
    parts = [(share, [part.job for part in plan.parts if part.share == share]) for share in section.shares]
    rows = planned_rows(
        ((f"{percent(share)} of the subjects", jobs) for share, jobs in parts), session.ledger
    )
    run = found.plan
    title = f"learning curve of {run.model.info.name} on {run.manifest.protocol}"
    return describe_rows(title, rows, len(found.unextracted), session.config.cluster)


def _opened(given: Given) -> tuple[CurveConfig, Session]:
    layers, tree = given.settings()
    require_section(tree, given.origin, "curve")
    section = parse(CurveConfig, tree.pop("curve", None) or {}, given.origin, prefix="curve")
    session = Session(parse(Config, tree, given.origin, also=["curve"]), given.place)
    warn_of_unused(layers, [tree], is_network)
    session.model()
    return section, session


def _begin(folder: Place, plan: CurvePlan) -> None:
    """Write the settings as a configuration that draws this curve again."""
    run = plan.plan
    settings = {**acting_settings(run.config, run.model), "curve": plan.section.model_dump(mode="json")}
    write(folder / "curve.yaml", yaml.safe_dump(settings, sort_keys=False).encode())
    keep_environment(folder)
