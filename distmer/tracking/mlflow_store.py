"""Writes log items to MLflow. It finds what it wrote before, and writes nothing twice.

A run is found by the tag ``distmer.run`` (the plan's digest), a fold below it by ``distmer.fold`` (the fold's
digest). ``distmer.status`` becomes ``complete`` last: a fold without it was cut off, and is written again
into the same MLflow run. A point's time is the run's start plus its step, so that MLflow recognises a point
that is written a second time.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import unquote, urlsplit

from alembic.util import CommandError
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Param, Run, RunTag
from mlflow.entities import Metric as Point
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from distmer.report.fonts import legible
from distmer.tracking.items import Child, Data, Figure, LogItem, Metric, Params, Tag, Text
from distmer.tracking.mlflow_server import first_use, probe
from distmer.tracking.names import legal
from distmer.tracking.view import experiment_tags

_log = logging.getLogger(__name__)

T = TypeVar("T")

_VALUE, _TAG = 6000, 8000  # characters that MLflow keeps of a parameter and of a tag
_DIGEST = 12  # of a data set's, for the list has no room for more; the tag `distmer.data` has it whole
_METRICS, _WORDS = 800, 100  # of one batch: MLflow takes 100 parameters, 100 tags, and 1000 of anything


# MLflow's word for the end of a run: FINISHED is one that did all it was asked for. The tag `distmer.status`
# is "complete" only if these were all folds.
STATUS = {"complete": "FINISHED", "some-folds": "FINISHED", "failed": "FAILED"}


class _WatchedClient:
    """MLflow's client; ``answered`` is called after each call that returns: then the server is alive."""

    def __init__(self, client: MlflowClient, answered: Callable[[], None]) -> None:
        self._client, self._answered = client, answered

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._client, name)
        return partial(self._call, value) if callable(value) else value

    def _call(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs)
        self._answered()
        return result


@dataclass(frozen=True, slots=True)
class Opened:
    """A run that is being written to: the digests of its whole folds, and by digest those that were begun."""

    run: Run
    done: set[str]
    begun: dict[str, Run]


class MlflowStore:
    """One experiment at one tracking URI."""

    def __init__(
        self, uri: str, experiment: str, artifacts: str | None, answered: Callable[[], None] = lambda: None
    ) -> None:
        """``artifacts``: where the experiment keeps files if it is created here and now, on SQLite; a server
        has its own place. ``answered`` is called after every request that came back, and before every piece
        of work of ours."""
        self._answered = answered
        with first_use(uri):
            try:
                self._begin(uri, experiment, artifacts)
            except (SQLAlchemyError, CommandError, sqlite3.Error) as error:
                if "locked" in str(error):
                    raise
                # Somebody else made the tables at the same time, MLflow's own pages for instance.
                self._begin(uri, experiment, artifacts)

    def _begin(self, uri: str, experiment: str, artifacts: str | None) -> None:
        probe(uri)
        self._answered()
        client = _WatchedClient(MlflowClient(tracking_uri=uri), self._answered)
        self.client: MlflowClient = cast(MlflowClient, client)
        self.experiment = self._experiment(experiment, artifacts if uri.startswith("sqlite:") else None)
        if artifacts and _beside(uri, Path(artifacts)):
            self._tell_if_moved(experiment, Path(artifacts))

    def _experiment(self, name: str, artifacts: str | None) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                where = Path(artifacts).absolute().as_uri() if artifacts else None
                return self.client.create_experiment(name, where, experiment_tags(time.time()))
            except MlflowException:
                found = self.client.get_experiment_by_name(name)  # another run created it meanwhile
                if found is None:
                    raise
        return found.experiment_id

    def _tell_if_moved(self, name: str, artifacts: Path) -> None:
        """MLflow keeps the absolute place of an experiment's files. In a workspace that was moved, or copied,
        it goes on to write to the old place."""
        place = urlsplit(self.client.get_experiment(self.experiment).artifact_location)
        there = Path(unquote(place.path))
        if place.scheme != "file" or there.name != artifacts.name or there == artifacts.absolute():
            return
        if there.exists() and artifacts.exists() and there.samefile(artifacts):  # by a link
            return
        _log.warning(
            "this workspace was moved or copied: MLflow still writes the files of the experiment %s to %s. To"
            " have them here, name another experiment in tracking.experiment and give the same command again;"
            " finished folds are not repeated.",
            name,
            there,
        )

    def open(self, digest: str, name: str) -> Opened:
        """The run of a plan: the one that is there, with its folds, else a new one."""
        found = self.find(digest)
        tags = {"distmer.run": digest, "distmer.status": "started"}
        if found is None:
            return Opened(self.client.create_run(self.experiment, tags=tags, run_name=name), set(), {})
        self.client.update_run(found.info.run_id, status="RUNNING")
        self.client.set_tag(found.info.run_id, "distmer.status", "started")
        below = self._below(found)
        done = {run.data.tags["distmer.fold"] for run in below if _is_whole(run)}
        return Opened(found, done, {run.data.tags["distmer.fold"]: run for run in reversed(below)})

    def find(self, digest: str) -> Run | None:
        """The run of a plan, if there is one."""
        return next(self._search(f"tags.`distmer.run` = '{digest}'"), None)

    def _below(self, run: Run) -> list[Run]:
        """The folds of a run, the oldest first."""
        found = self._search(f"tags.`mlflow.parentRunId` = '{run.info.run_id}'")
        return [child for child in found if "distmer.fold" in child.data.tags]

    def _search(self, condition: str) -> Iterator[Run]:
        """Runs that are not deleted, the oldest first."""
        token: str | None = None
        while True:
            page = self.client.search_runs(
                [self.experiment], condition, order_by=["attributes.start_time ASC"], page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return

    def write(self, opened: Opened, items: Iterable[LogItem]) -> None:
        """Write items to the run; those in a `Child` to a run below it, unless that run is complete."""
        own: list[LogItem] = []
        for item in items:
            if isinstance(item, Child):
                self._write_child(opened, item)
            else:
                own.append(item)
        if own:
            self._write_to(opened.run, own)

    def write_result(self, opened: Opened, items: Iterable[LogItem]) -> None:
        """Write what may have changed since the run was last written, with the present time: MLflow shows the
        latest."""
        fresh = self.client.get_run(opened.run.info.run_id)
        known = fresh.data.metrics
        news = [
            item
            for item in items
            if not (isinstance(item, Metric) and known.get(legal(item.name)) == item.value)
        ]
        self._write_to(fresh, news, now=True)

    def end(self, opened: Opened, status: str, *, stopped: bool, whole: set[str] | None = None) -> None:
        """Close the run. A partial run is KILLED if it was stopped before some folds, FAILED if some folds
        failed.

        ``whole``: the keys of all children. Any other child is deleted: its search has been repeated since.
        """
        seen: set[str] = set()
        for run in sorted(self._below(opened.run), key=lambda run: not _is_whole(run)):
            # A request that was given up as lost, and sent again, may have arrived after all.
            digest = run.data.tags["distmer.fold"]
            if digest in seen or (whole is not None and digest not in whole):
                self.client.delete_run(run.info.run_id)
            seen.add(digest)
        run_id = opened.run.info.run_id
        self.client.set_terminated(run_id, "KILLED" if stopped else STATUS.get(status, "FAILED"))
        self.client.set_tag(run_id, "distmer.status", status)

    def abandon(self, opened: Opened) -> None:
        """End a run that cannot be written: it must not stay RUNNING, nor be taken for a whole one."""
        self.client.set_terminated(opened.run.info.run_id, "FAILED")
        self.client.set_tag(opened.run.info.run_id, "distmer.status", "not-written")

    def group(self, digest: str, name: str, members: Sequence[str], items: Iterable[LogItem]) -> str:
        """A run above finished ones; those without a parent become its children. Returns its id."""
        found = next(self._search(f"tags.`distmer.comparison` = '{digest}'"), None)
        run = found or self.client.create_run(
            self.experiment, tags={"distmer.comparison": digest}, run_name=name
        )
        self._write_to(run, list(items), now=True)
        for member in members:
            self.client.set_tag(member, "distmer.group", name)
            if "mlflow.parentRunId" not in self.client.get_run(member).data.tags:
                self.client.set_tag(member, "mlflow.parentRunId", run.info.run_id)
        self.client.set_terminated(run.info.run_id)
        return run.info.run_id

    def _write_child(self, opened: Opened, child: Child) -> None:
        """Write a child and, below it, its own children: the folds of a trial, if they are to be runs."""
        if child.key in opened.done:
            return
        run = opened.begun.get(child.key)
        if run is None:
            tags = {
                "mlflow.parentRunId": opened.run.info.run_id,
                "distmer.fold": child.key,
                "distmer.status": "started",
            }
            run = self.client.create_run(self.experiment, tags=tags, run_name=child.name)
        self._write_to(run, child.items)
        below = [item for item in child.items if isinstance(item, Child)]
        if below:
            begun = {some.data.tags["distmer.fold"]: some for some in reversed(self._below(run))}
            self.write(Opened(run, {key for key, some in begun.items() if _is_whole(some)}, begun), below)
        self.client.set_terminated(run.info.run_id, "FINISHED")
        self.client.set_tag(run.info.run_id, "distmer.status", "complete")
        opened.done.add(child.key)

    def _write_to(self, run: Run, items: Sequence[LogItem], *, now: bool = False) -> None:
        start = int(time.time() * 1000) if now else int(run.info.start_time)
        values = [item.values for item in items if isinstance(item, Params)]
        given = {legal(name): value for own in values for name, value in own.items()}
        # MLflow refuses another value for a parameter; what cannot change a number (paths, cluster) keeps its
        # first one.
        params = [
            Param(name, cut(value, _VALUE)) for name, value in given.items() if name not in run.data.params
        ]
        tags = [RunTag(legal(item.name), cut(item.value, _TAG)) for item in items if isinstance(item, Tag)]
        points = (
            Point(legal(item.name), item.value, start + item.step, item.step)
            for item in items
            if isinstance(item, Metric)
        )
        for batch in zip_longest(
            _chunks(points, _METRICS), _chunks(params, _WORDS), _chunks(tags, _WORDS), fillvalue=[]
        ):
            self.client.log_batch(run.info.run_id, *batch)
        for item in items:
            if isinstance(item, Data):
                self.client.log_inputs(run.info.run_id, [_as_input(item)])
            else:
                self._write_file(run.info.run_id, item)

    def _write_file(self, run_id: str, item: LogItem) -> None:
        self._answered()  # a figure is drawn here, which may take longer than an answer
        if isinstance(item, Text):
            # Tables too: log_table would append to the file of an earlier writing.
            self.client.log_text(run_id, item.text, legal(item.path))
        elif isinstance(item, Figure):
            self.client.log_figure(run_id, legible(item.draw()), legal(item.path), save_kwargs={"dpi": 150})


def _beside(uri: str, artifacts: Path) -> bool:
    """Whether the data base is the workspace's own: it lies beside the folder for the files."""
    return Path(uri.removeprefix("sqlite:///")).absolute().parent == artifacts.absolute().parent


def _as_input(item: Data) -> DatasetInput:
    data = Dataset(
        item.name,
        item.digest[:_DIGEST],
        source_type="distmer",
        source=json.dumps({"protocol": item.name}),
        profile=json.dumps(dict(item.profile)),
    )
    return DatasetInput(data, [InputTag("mlflow.data.context", item.context)])


def _is_whole(fold: Run) -> bool:
    return fold.data.tags.get("distmer.status") == "complete"


def cut(value: str, limit: int) -> str:
    """A value cut to what MLflow can keep. One that was cut says so."""
    if len(value) <= limit:
        return value
    note = f" … [cut: {len(value)} characters; the whole is in config.yaml or summary.md]"
    return value[: limit - len(note)] + note


def _chunks(values: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(values)
    while some := list(islice(rest, size)):
        yield some
