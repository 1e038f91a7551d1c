"""`distmer compare`: several experiments through one backend and one ledger, into one table."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePath

from distmer.commands.run import describe_rows, outlook, run_with
from distmer.commands.score import imported_entry
from distmer.commands.session import Given, Session, home_of
from distmer.config import Config, parse
from distmer.config_effect import leaves, require_effect
from distmer.config_layers import require_section
from distmer.datasets import with_own_roots
from distmer.experiment.backend import Backend
from distmer.experiment.comparison import (
    NOT_REACHED,
    CompareConfig,
    Comparison,
    Entry,
    Row,
    conclude_comparison,
    expand,
    unused,
)
from distmer.experiment.events import Observer
from distmer.experiment.hard import always_wrong
from distmer.models import is_network
from distmer.registry import lookup
from distmer.report.comparison import at, comparison_files
from distmer.report.page import write_page
from distmer.report.plan import PlannedRow
from distmer.report.run_folder import read_folder
from distmer.storage import Place, write
from distmer.types import BadInput
from distmer.workspace import Workspace

_log = logging.getLogger(__name__)
_OF_FINISHED = (  # settings that act on a comparison of finished runs
    *("compare.reference", "compare.resamples", "evaluation.metrics", "evaluation.confidence"),
    *("evaluation.bootstrap", "tracking.", "storage.", "plugins"),
)


def run_comparison(
    given: Given, *, local: bool = False, retry_failed: bool = False
) -> tuple[Comparison, Place]:
    """Run every row of a configuration with a ``compare:`` section. Returns the comparison, and the folder of
    its tables.

    A row that does not fit its data gets a note. After Ctrl-C the same command continues. With
    ``retry_failed``, clips whose failure is stored are extracted again, once for all rows that share them.
    """
    place = given.place
    section, base, rows = _opened(given)
    base.require()  # here: a row would report it as a setting of its own that does not fit
    for row in rows:  # the rows share one connection to Ray, which sends the code of all of them
        with suppress(BadInput):  # the row will report it
            if row.config is not None:
                Session(row.config, place).try_code()
    entries: list[Entry] = []
    with base.at_work(local=local) as (live, backend):
        stopped, tried = False, []  # (data, features) of the rows that are done
        for row in rows:
            if stopped:
                entries.append(Entry(row.label, row.on, NOT_REACHED))
                continue
            own = row.config and (row.config.data, row.config.features)
            again = retry_failed and own not in tried
            entry, stopped = _entry(row, place, backend, live, retry_failed=again)
            entries.append(entry)
            tried.append(own)
    comparison = conclude_comparison(
        base.config.name,
        entries,
        section.reference,
        section.resamples,
        base.config.evaluation.metrics,
        base.config.evaluation.confidence,
    )
    sessions = {row.on: partial(Session, row.config, place) for row in reversed(rows) if row.config}
    return _keep(_with_motion(comparison, sessions), base)


def plan_of_comparison(given: Given) -> str:
    """What a comparison would do, row by row, as text. Nothing is extracted or trained; a few steps are
    timed."""
    _, base, rows = _opened(given)
    planned, unextracted = list[PlannedRow](), set[tuple[str, str]]()
    for row in rows:
        name = f"{row.label}{at(row.on)}"
        if row.config is None:
            planned.append(PlannedRow(name, note=row.note))
            continue
        try:
            found = outlook(Session(row.config, given.place))
        except BadInput as error:
            planned.append(PlannedRow(name, note=f"not applicable: {error}"))
            continue
        unextracted |= found.unextracted
        folds, to_train = len(found.plan.jobs), len(found.to_train)
        planned.append(PlannedRow(name, folds, to_train, found.seconds_a_fold(), row.note))
    return describe_rows(
        f"{base.config.name}: {len(planned)} rows", planned, len(unextracted), base.config.cluster
    )


def _opened(given: Given) -> tuple[CompareConfig, Session, list[Row]]:
    """The section, the base's session, and the rows, of a configuration with a ``compare:`` section."""
    layers, tree = given.settings()
    require_section(tree, given.origin, "compare")
    section, rows = expand(tree, given.origin)
    if not tree.pop("compare", None):
        _log.warning(
            "there is no compare section, so all %d models are compared, one after the other; compare.models"
            " names the ones you want.",
            len(rows),
        )
    if given.overrides:
        require_effect(layers, "compare", lambda tree: _configs(expand(tree, given.origin)[1]), is_network)
    for note in unused(layers, rows):
        _log.warning("%s", note)
    return section, Session(parse(Config, tree, given.origin), given.place), _with_own_roots(rows)


def _configs(rows: Sequence[Row]) -> list[Config]:
    return [row.config for row in rows if row.config is not None]


def _with_own_roots(rows: Sequence[Row]) -> list[Row]:
    """The rows, each with only the folders of its own data sets: all may share one ``data.roots``."""
    data = iter(with_own_roots([row.config.data for row in rows if row.config]))
    return [
        replace(row, config=row.config.model_copy(update={"data": next(data)})) if row.config else row
        for row in rows
    ]


def compare_runs(
    run_dirs: Sequence[Place], given: Given, labels: Mapping[Place, str] | None = None
) -> tuple[Comparison, Place]:
    """Finished runs side by side, from their folders. Files of predictions that other code made may be among
    them (`distmer score`). ``labels``: names for some rows, by folder or file. BadInput where one is given
    twice."""
    files = [place for place in run_dirs if isinstance(place, Path) and place.is_file()]
    runs = [place for place in run_dirs if place not in files]
    # files of other code lie in no workspace
    where = home_of(runs[0], given.workspace) if runs else given.workspace
    section, base = _of_finished(replace(given, workspace=where))
    base.require()
    entries: list[Entry] = []
    own = labels or {}
    for run_dir in runs:
        results, predictions = read_folder(run_dir)
        mode = f"{results.mode} sweep " if results.mode else ""
        label = own.get(run_dir) or f"{results.model} {mode}{results.digest[:6]}"
        entries.append(Entry(label, results.dataset, "", results, predictions))
    for file in files:
        entry = imported_entry(file, entries[0] if entries else None, base.config.evaluation)
        entries.append(replace(entry, label=own.get(file) or entry.label))
    _require_distinct([*runs, *files])
    entries = _told_apart(entries, [*runs, *files])
    if section.reference is not None:
        lookup({entry.label: entry for entry in entries}, section.reference, "row to refer to")
    if len({entry.on for entry in entries}) == 1:
        entries = [replace(entry, on="") for entry in entries]
    if len({e.results.classes for e in entries if e.results}) > 1:
        raise BadInput(
            "these runs tell different classes apart and cannot be compared; give runs of one label table."
        )
    comparison = conclude_comparison(
        "comparison of finished runs",
        entries,
        section.reference,
        section.resamples,
        base.config.evaluation.metrics,
        base.config.evaluation.confidence,
    )
    if comparison.untested:
        raise BadInput(comparison.untested[0].reason)
    sessions = {
        entry.on: partial(Session.reopen, run_dir, given.workspace)
        for run_dir, entry in zip(runs, entries, strict=False)  # the entries begin with those of the runs
        if (run_dir / "config.yaml").exists()
    }
    return _keep(_with_motion(comparison, sessions), base)


def _of_finished(given: Given) -> tuple[CompareConfig, Session]:
    """The settings of a comparison of finished runs. BadInput for one that has no effect on these."""
    layers, tree = given.settings()
    for name in (".".join(keys) for layer in layers for keys in leaves(layer.tree)):
        if not name.startswith(_OF_FINISHED):
            raise BadInput(f"{given.origin}: {name} has no effect on runs that are finished; leave it out.")
    section = parse(CompareConfig, tree.pop("compare", {}), given.origin, prefix="compare")
    return section, Session(parse(Config, tree, given.origin), given.place)


def _require_distinct(places: Sequence[Place]) -> None:
    seen: set[str] = set()
    for place in places:
        if str(place.resolve()) in seen:
            raise BadInput(f"{place}: it is given twice; give each run and each file once.")
        seen.add(str(place.resolve()))


def _told_apart(entries: Sequence[Entry], places: Sequence[Place]) -> list[Entry]:
    """The entries, those of one name with the end of their path: two files may both be called pred.csv, and
    "pred.csv is better" would be no answer."""
    alike: dict[str, list[tuple[str, ...]]] = {}
    parts = [PurePath(str(place.resolve())).parts for place in places]
    for entry, own in zip(entries, parts, strict=True):
        alike.setdefault(entry.label, []).append(own)
    named: list[Entry] = []
    for entry, own in zip(entries, parts, strict=True):
        others = [other for other in alike[entry.label] if other != own]
        length = next((n for n in range(1, len(own)) if all(other[-n:] != own[-n:] for other in others)), 0)
        end = "/".join(own[-length:])
        label = entry.label if not others else end if own[-1] == entry.label else f"{entry.label} ({end})"
        named.append(replace(entry, label=label))
    return named


def _entry(
    row: Row, place: Workspace, backend: Backend, live: Observer, *, retry_failed: bool
) -> tuple[Entry, bool]:
    if row.config is None:
        return Entry(row.label, row.on, row.note), False
    try:
        session = Session(row.config, place)
        session.require()
        result = run_with(session, backend, live, retry_failed=retry_failed)
    except BadInput as error:
        return Entry(row.label, row.on, f"not applicable: {error}"), False
    note = row.note if result.predictions is not None else "no fold finished"
    return Entry(row.label, row.on, note, result.results, result.predictions), result.stopped


def _with_motion(comparison: Comparison, sessions: Mapping[str, Callable[[], Session]]) -> Comparison:
    """The comparison with the motion in its always-wrong clips. ``sessions``: one for each data set."""
    hard, _ = always_wrong(comparison.entries)
    motion: dict[tuple[str, str], float] = {}
    for on in dict.fromkeys(clip.on for clip in hard if clip.on in sessions):
        try:
            session = sessions[on]()
            features = session.features(session.manifest())
            found = features.motion([clip.clip for clip in hard if clip.on == on])
            motion |= {(on, clip): px for clip, px in found.items()}
        except BadInput as error:
            _log.warning("The motion in the always-wrong clips is not known: %s", error)
    return replace(comparison, motion=motion)


def _keep(comparison: Comparison, base: Session) -> tuple[Comparison, Place]:
    folder = base.workspace.comparison_dir(comparison.digest)
    for name, text in comparison_files(comparison).items():
        write(folder / name, text.encode())
    write_page(folder)
    if base.config.tracking.enabled:
        from distmer.tracking.mlflow_tracker import track_comparison

        uri, artifacts = base.tracking_store
        link = track_comparison(uri, base.config.tracking.experiment, artifacts, comparison, folder)
        comparison = replace(comparison, link=link)
    return comparison, folder
