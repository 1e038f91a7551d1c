"""MLflow, for real: a SQLite store and a server. One run, one child a fold, written once, and no run is ever
stopped by it."""

from __future__ import annotations

import logging
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from distmer.experiment.events import Event
from distmer.experiment.plan import Plan
from distmer.tracking import mlflow_tracker
from distmer.tracking.items import Metric, Params, Tag, Text, plan_items
from distmer.tracking.mlflow_tracker import MlflowTracker
from distmer.tracking.names import legal, original
from harness import command
from tests import factories

pytestmark = pytest.mark.slow
with_fold_runs = partial(MlflowTracker, folds="runs")
# MLflow itself would try for four minutes; on a busy machine the rest takes seconds too
soon = pytest.mark.timeout(150)


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.fixture(params=["sqlite", "server"])
def uri(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue(request.param)


@pytest.fixture
def experiment(request: pytest.FixtureRequest) -> str:
    return re.sub(r"\W+", "-", request.node.name)


def tell(tracker: MlflowTracker, events: list[Event]) -> MlflowTracker:
    for event in events:
        tracker(event)
    return tracker


def runs(uri: str, experiment: str, condition: str = "") -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return list(client.search_runs([found.experiment_id], condition))


def family(uri: str, experiment: str) -> tuple[Any, list[Any]]:
    """The one parent and its children."""
    parents = runs(uri, experiment, "tags.`distmer.kind` = 'run'")
    assert len(parents) == 1
    children = runs(uri, experiment, f"tags.`mlflow.parentRunId` = '{parents[0].info.run_id}'")
    assert len(children) + 1 == len(runs(uri, experiment))
    return parents[0], children


def assert_whole(uri: str, experiment: str, plan: Plan) -> None:
    """One finished parent with exactly one finished child for every fold and seed."""
    parent, children = family(uri, experiment)
    assert (parent.info.status, parent.data.tags["distmer.status"]) == ("FINISHED", "complete")
    assert sorted(child.data.tags["distmer.fold"] for child in children) == sorted(
        job.digest for job in plan.jobs
    )
    assert {(child.info.status, child.data.tags["distmer.status"]) for child in children} == {
        ("FINISHED", "complete")
    }


def test_a_run_its_folds_their_curves_and_files(uri: str, experiment: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    result = factories.result(factories.plan(model={"name": "atscnn"}, seeds=(0, 1)), epochs=8)
    artifacts = str(tmp_path / "files")
    tracker = tell(with_fold_runs(uri, experiment, artifacts=artifacts), factories.events(result))
    assert tracker.error is None
    assert_whole(uri, experiment, result.plan)
    parent, _ = family(uri, experiment)
    assert parent.info.run_id == tracker.run_id and parent.info.run_name == "loso · atscnn"
    tree = result.to_json()
    assert parent.data.metrics["uar"] == tree["uar"] and parent.data.metrics["uar.low"] == tree["uar_ci"][0]
    assert parent.data.params["train.lr"] == "0.0001" and parent.data.tags["distmer.headline"] == "yes"

    (found,) = runs(
        uri,
        experiment,
        "params.fold = 'ones/s02' and params.seed = '1' and params.model = 'atscnn' and"
        " params.`train.lr` = '0.0001'",
    )
    client = MlflowClient(tracking_uri=uri)
    fold = next(fold for fold in result.folds if (fold.fold_id, fold.seed) == ("ones/s02", 1))
    history = client.get_metric_history(found.info.run_id, "train_loss")
    assert [(point.step, point.value) for point in history] == list(
        enumerate(fold.curves["train_loss"], start=1)
    )

    top = {item.path for item in client.list_artifacts(parent.info.run_id)}
    assert top == {
        "config.yaml",
        "environment.json",
        "results.json",
        "summary.md",
        "failures.csv",
        "folds.csv",
        "predictions.csv",
        "figures",
    }
    local = client.download_artifacts(parent.info.run_id, "predictions.csv", str(tmp_path))
    assert len(pd.read_csv(local)) == len(result.predictions or ())
    assert {item.path for item in client.list_artifacts(parent.info.run_id, "figures")} == {
        "figures/confusion.png",
        "figures/subjects.png",
        "figures/curves.png",
    }
    assert Path(artifacts).exists() == uri.startswith("sqlite")


def test_the_same_again_writes_nothing_twice(uri: str, experiment: str) -> None:
    from mlflow import MlflowClient

    result = factories.result(factories.plan(model={"name": "atscnn"}), epochs=3)
    ids = {tell(with_fold_runs(uri, experiment), factories.events(result)).run_id for _ in range(2)}
    assert len(ids) == 1
    assert_whole(uri, experiment, result.plan)
    parent, children = family(uri, experiment)
    client = MlflowClient(tracking_uri=uri)
    assert len(client.get_metric_history(parent.info.run_id, "uar")) == 1
    assert len(client.get_metric_history(children[0].info.run_id, "train_loss")) == 3


def test_a_stopped_run_is_killed_and_goes_on_in_the_same_place(uri: str, experiment: str) -> None:
    plan = factories.plan()
    first = tell(
        with_fold_runs(uri, experiment), factories.events(factories.result(plan, failed=1, unreached=2))
    )
    parent, children = family(uri, experiment)
    assert (parent.info.status, parent.data.tags["distmer.status"], len(children)) == ("KILLED", "partial", 3)
    partial_uar = parent.data.metrics["uar"]
    whole = factories.result(plan)
    assert tell(with_fold_runs(uri, experiment), factories.events(whole, cached=3)).run_id == first.run_id
    assert_whole(uri, experiment, plan)
    parent, _ = family(uri, experiment)
    assert whole.summary is not None and parent.data.metrics["uar"] == whole.summary.uar != partial_uar
    assert parent.data.metrics["folds_failed"] == 0


def test_some_folds_as_asked_are_finished_and_no_whole_run(uri: str, experiment: str) -> None:
    plan = factories.plan()
    asked = [job.fold.id for job in plan.jobs[:2]]
    tell(with_fold_runs(uri, experiment), factories.events(factories.result(plan, unreached=4, only=asked)))
    parent, children = family(uri, experiment)
    assert (parent.info.status, parent.data.tags["distmer.status"], len(children)) == (
        "FINISHED",
        "some-folds",
        2,
    )


def test_failed_folds_make_a_failed_run(uri: str, experiment: str) -> None:
    tell(with_fold_runs(uri, experiment), factories.events(factories.result(factories.plan(), failed=1)))
    parent, children = family(uri, experiment)
    assert (parent.info.status, parent.data.tags["distmer.status"], len(children)) == ("FAILED", "partial", 5)


def test_folds_are_steps_and_a_table_beside_the_page_and_the_data(
    uri: str, experiment: str, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    result = factories.result(factories.plan(), run_dir=str(tmp_path))
    page = "<!doctype html><title>ü</title>"
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    for _ in range(2):
        tell(MlflowTracker(uri, experiment), factories.events(result))
    parent, children = family(uri, experiment)
    assert not children and parent.info.status == "FINISHED"
    client = MlflowClient(tracking_uri=uri)
    local = client.download_artifacts(parent.info.run_id, "report.html", str(tmp_path / "back"))
    assert Path(local).read_text(encoding="utf-8") == page
    table = pd.read_csv(client.download_artifacts(parent.info.run_id, "folds.csv", str(tmp_path / "back")))
    assert table["fold"].tolist() == [fold.fold_id for fold in result.folds]
    assert table["clips"].tolist() == [len(fold.predictions) for fold in result.folds]
    (data,) = parent.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("hand-made", result.plan.data_digest[:12])
    tags = parent.data.tags
    assert (tags["distmer.model"], tags["distmer.protocol"]) == ("linear", "hand-made")
    assert f"{result.results.uar:.4f}" in tags["mlflow.note.content"]
    history = MlflowClient(tracking_uri=uri).get_metric_history(parent.info.run_id, "fold.clips")
    assert [(point.step, point.value) for point in history] == [
        (i, len(fold.predictions)) for i, fold in enumerate(result.folds)
    ]


class Killed(BaseException):
    """A kill at some moment: no handler sees it."""


@pytest.mark.parametrize("writes", [1, 2, 4, 6, 9, 13, 20])
def test_a_kill_at_any_moment_leaves_one_whole_run_after_the_next(
    sqlite: str, experiment: str, writes: int
) -> None:
    """The process dies just before its n-th write to MLflow; the same command then runs to the end."""
    from distmer.tracking import mlflow_store

    result = factories.result(factories.plan(model={"name": "atscnn"}, people=(("ones", 3),)), epochs=3)
    left = [writes]

    class Dying:
        """The real client, until the process is killed."""

        def __init__(self, client: Any) -> None:
            self._client = client

        def __getattr__(self, name: str) -> Any:
            if name.startswith(("log_", "create_run", "set_", "update_")):
                left[0] -= 1
                if left[0] < 0:
                    raise Killed
            return getattr(self._client, name)

    from distmer.tracking import items
    from distmer.tracking.environment import capture

    store = mlflow_store.MlflowStore(sqlite, experiment, None)
    store.client = Dying(store.client)  # type: ignore[assignment]
    with pytest.raises(Killed):
        opened = store.open(result.plan.digest, "run")
        store.write(opened, items.plan_items(result.plan, capture()))
        for fold in result.folds:
            store.write(opened, items.fold_items(fold, result.plan))
        store.write_result(opened, items.result_items(result))
        store.end(opened, "complete", stopped=False)
    tell(with_fold_runs(sqlite, experiment), factories.events(result, cached=3))
    assert_whole(sqlite, experiment, result.plan)
    for child in family(sqlite, experiment)[1]:
        assert len(store.client._client.get_metric_history(child.info.run_id, "train_loss")) == 3  # type: ignore[attr-defined]


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@soon
@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("http://someone:hunter2@127.0.0.1:{port}", "connection refused"),
        ("postgresql://someone:hunter2@127.0.0.1:{port}/db", "connection refused"),
        ("sqlite:////proc/nowhere/mlflow.db", "nowhere"),
        ("gopher://x", ""),
        ("postgresql://h:port/db", "not an address"),
    ],
)
def test_a_store_that_cannot_be_reached_costs_a_warning(
    uri: str, why: str, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    result = factories.result(factories.plan(), run_dir="/w/runs/abc")
    tracker = tell(with_fold_runs(uri.format(port=command.free_port()), "x"), factories.events(result))
    assert tracker.run_id is None and tracker.error is not None
    assert why in tracker.error and "`distmer track /w/runs/abc` writes them later" in tracker.error
    assert warnings_of(caplog) == [tracker.error]
    assert "hunter2" not in tracker.error
    written = capfd.readouterr()
    assert written.out == "" and "Traceback" not in written.err and "hunter2" not in written.err


def test_a_server_of_another_major_version_is_named_when_it_fails() -> None:
    class Older(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path == "/version"
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(b"1.30.0" if known else b"{}")

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Older) as older:
        threading.Thread(target=older.serve_forever, daemon=True).start()
        tracker = with_fold_runs(f"http://127.0.0.1:{older.server_port}", "x")
        tell(tracker, factories.events(factories.result(factories.plan())))
        older.shutdown()
    assert tracker.run_id is None and "the server is MLflow 1.30.0, this is 3." in str(tracker.error)


@soon
def test_a_locked_sqlite_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    result = factories.result(factories.plan())
    tell(with_fold_runs(uri, "x", artifacts=str(tmp_path / "files")), factories.events(result))
    with closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        tracker = tell(with_fold_runs(uri, "x"), factories.events(result))
    assert tracker.run_id is None and "database is locked" in str(tracker.error)
    assert warnings_of(caplog) == [tracker.error]


@soon
def test_a_lock_in_the_middle_ends_tracking_and_a_replay_mends_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    result = factories.result(factories.plan())
    events = factories.events(result)
    tracker = tell(with_fold_runs(uri, "x", artifacts=str(tmp_path / "files"), patience=12), events[:2])
    assert tracker.run_id is not None
    while not runs(uri, "x", "tags.`distmer.fold` != '' and tags.`distmer.status` = 'complete'"):
        time.sleep(0.1)
    with closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        tell(tracker, events[2:])
        assert tracker.error is not None
    assert warnings_of(caplog) == [tracker.error]
    assert tracker._thread is not None
    tracker._thread.join(30)  # SQLite lets it wait longer than the run does; a process would end here
    again = tell(with_fold_runs(uri, "x"), events)
    assert again.run_id == tracker.run_id and again.error is None
    assert_whole(uri, "x", result.plan)


@soon
def test_a_server_that_never_answers_is_waited_for_only_so_long(caplog: pytest.LogCaptureFixture) -> None:
    with closing(socket.socket()) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        tracker = with_fold_runs(f"http://127.0.0.1:{silent.getsockname()[1]}", "x", patience=2)
        tell(tracker, factories.events(factories.result(factories.plan())))
    assert tracker.run_id is None and warnings_of(caplog) == [tracker.error]


@soon
def test_folds_do_not_wait_for_the_tracker(server: str, experiment: str) -> None:
    """All of them are told while the server still thinks about its first answer."""
    gate = threading.Event()

    def hold(path: str) -> None:
        gate.wait(60)

    result = factories.result(factories.plan(people=(("ones", 12),)))
    with in_front_of(server, hold) as uri:
        tracker = tell(with_fold_runs(uri, experiment), factories.events(result)[:-1])
        assert not gate.is_set()
        gate.set()
        tracker.close()
    assert tracker.error is None and len(family(server, experiment)[1]) == 12


def test_a_long_wait_between_folds_is_no_lack_of_patience(
    sqlite: str, experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(mlflow_tracker, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    events = factories.events(factories.result(factories.plan()))
    tracker = tell(with_fold_runs(sqlite, experiment, patience=30), events[:-1])
    assert tracker.run_id is not None
    clock[0] += 3600
    assert tell(tracker, events[-1:]).error is None
    assert family(sqlite, experiment)[0].info.status == "FINISHED"


def test_a_fold_that_arrived_twice_is_kept_once(sqlite: str, experiment: str) -> None:
    """A request that timed out and was sent again can have arrived both times."""
    from mlflow import MlflowClient

    result = factories.result(factories.plan())
    tell(with_fold_runs(sqlite, experiment), factories.events(result))
    parent, children = family(sqlite, experiment)
    tags = {
        "mlflow.parentRunId": parent.info.run_id,
        "distmer.fold": result.folds[0].digest,
        "distmer.status": "started",
    }
    MlflowClient(tracking_uri=sqlite).create_run(parent.info.experiment_id, tags=tags)
    tell(with_fold_runs(sqlite, experiment), factories.events(result))
    assert_whole(sqlite, experiment, result.plan)
    assert {run.info.run_id for run in family(sqlite, experiment)[1]} == {run.info.run_id for run in children}


def test_long_values_are_cut_and_say_so(sqlite: str, experiment: str) -> None:
    from distmer.tracking import mlflow_store
    from distmer.tracking.environment import capture

    store = mlflow_store.MlflowStore(sqlite, experiment, None)
    opened = store.open("d" * 64, "long")
    told = [
        *plan_items(factories.plan(), capture()),
        Params({f"p{i}": "x" for i in range(250)}),
        Params({"long": "y" * 7000}),
        Tag("t", "z" * 9000),
    ]
    store.write(opened, told)
    data = store.client.get_run(opened.run.info.run_id).data
    assert len(data.params["long"]) == 6000 and "[cut: 7000 characters" in data.params["long"]
    assert len(data.tags["t"]) == 8000 and data.params["p249"] == "x"


def test_a_workspace_that_was_moved_is_told_where_its_files_go(
    sqlite: str, experiment: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """MLflow made the old folder again, and wrote there without a word."""
    from distmer.tracking import mlflow_store

    def opened(workspace: Path, name: str) -> list[str]:
        caplog.clear()
        uri, files = f"sqlite:///{workspace / 'mlflow.db'}", str(workspace / "mlartifacts")
        store = mlflow_store.MlflowStore(uri, name, files)
        run = store.open("c" * 64, "one")
        store.write(run, [Text("a.txt", "a")])
        return [message for message in caplog.messages if "moved or copied" in message]

    old, new, link = (tmp_path / name for name in ("old", "new", "link"))
    old.mkdir()
    shutil.copy(sqlite.removeprefix("sqlite:///"), old / "mlflow.db")
    link.symlink_to(old)
    assert opened(old, experiment) == opened(link, experiment) == []
    old.rename(new)
    for _ in range(2):
        (message,) = opened(new, experiment)
        assert str(old / "mlartifacts") in message and "name another experiment" in message
    assert opened(new, f"{experiment} anew") == []
    assert len(list((new / "mlartifacts").rglob("a.txt"))) == 2


def test_any_name_is_taken(uri: str, experiment: str, tmp_path: Path) -> None:
    """Of classes, rows and searches: whatever a lab calls them."""
    from distmer.tracking import mlflow_store

    odd = "joy+ (3), sad? 50 % #1 ä:/../b"
    store = mlflow_store.MlflowStore(uri, experiment, str(tmp_path / "files"))
    opened = store.open("e" * 64, "odd names")
    told = [Metric(odd, 0.5), Metric(f"{odd} curve", 1.0, 1), Params({odd: "x"}), Tag(odd, "y")]
    store.write(opened, [*told, Text(f"chosen/{legal(odd)}.yaml", "a: 1")])
    store.write_result(opened, told[:1])
    run = store.client.get_run(opened.run.info.run_id)
    assert run.data.metrics[legal(odd)] == 0.5 and original(legal(odd)) == odd
    assert run.data.params[legal(odd)] == "x" and run.data.tags[legal(odd)] == "y"
    (file,) = store.client.list_artifacts(opened.run.info.run_id, "chosen")
    assert (
        Path(store.client.download_artifacts(opened.run.info.run_id, file.path, str(tmp_path))).read_text()
        == "a: 1"
    )


@contextmanager
def in_front_of(server: str, each: Callable[[str], bytes | None]) -> Iterator[str]:
    """A server that hands requests on, ``each`` after it was called with the path. What that returns is the
    answer, as one of bad input."""

    class Handler(BaseHTTPRequestHandler):
        def _hand_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            refusal = each(self.path)
            if refusal is not None:
                self._answer(400, refusal)
                return
            headers = {"Content-Type": self.headers.get("Content-Type") or "application/json"}
            request = urllib.request.Request(server + self.path, body or None, headers, method=self.command)
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    self._answer(answer.status, answer.read())
            except urllib.error.HTTPError as error:
                self._answer(error.code, error.read())

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _hand_on  # the library's names

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as front:
        threading.Thread(target=front.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{front.server_port}"
        finally:
            front.shutdown()


def test_a_busy_server_that_answers_is_waited_for(
    server: str, experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each request takes a quarter of the patience and a fold takes four of them, while the run's end looks
    at the clock after each request: nothing is lost."""
    clock, looks = [0.0], [0]

    def monotonic() -> float:
        looks[0] += threading.current_thread() is threading.main_thread()
        return clock[0]

    monkeypatch.setattr(mlflow_tracker, "time", SimpleNamespace(monotonic=monotonic))

    def busy(path: str) -> None:
        clock[0] += 8
        before = looks[0]
        for _ in range(300):  # until the run has ended nobody looks
            if looks[0] > before:
                return
            threading.Event().wait(0.01)

    result = factories.result(factories.plan(model={"name": "atscnn"}, people=(("ones", 2),)), epochs=3)
    with in_front_of(server, busy) as uri:
        tracker = tell(with_fold_runs(uri, experiment, patience=30), factories.events(result))
    assert tracker.error is None
    assert_whole(server, experiment, result.plan)


def test_a_refusal_is_told_from_silence_and_ends_the_run(server: str, experiment: str) -> None:
    def refuse(path: str) -> bytes | None:
        return (
            b'{"error_code": "INVALID_PARAMETER_VALUE", "message": "no such thing"}'
            if "log-batch" in path
            else None
        )

    result = factories.result(factories.plan())
    with in_front_of(server, refuse) as uri:
        tracker = with_fold_runs(uri, experiment)
        tell(tracker, factories.events(result))
        assert tracker._thread is not None
        tracker._thread.join(60)
    assert "does not take this run (" in str(tracker.error) and "no such thing" in str(tracker.error)
    (run,) = runs(server, experiment)
    assert (run.info.status, run.data.tags["distmer.status"]) == ("FAILED", "not-written")
    assert tell(with_fold_runs(server, experiment), factories.events(result)).error is None  # mended
    assert_whole(server, experiment, result.plan)


def test_runs_that_begin_at_once_on_a_fresh_workspace_are_all_tracked_and_say_nothing(tmp_path: Path) -> None:
    """In fresh processes, as users run them: no line of migration on stderr, no address on stdout."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from tests import factories\nfrom distmer.tracking.mlflow_tracker import MlflowTracker\n"
        "assert 'mlflow' not in sys.modules\n"
        "sys.stdin.readline()\n"
        "t = MlflowTracker(sys.argv[2], 'x', artifacts=sys.argv[3], folds='runs')\n"
        "[t(e) for e in"
        " factories.events(factories.result(factories.plan(seeds=(int(sys.argv[4]),))))]\nt.close()\n"
        "assert t.error is None and t.run_id\n"
    )
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    starts = [
        [sys.executable, "-c", code, str(command.ROOT), uri, str(tmp_path / "files"), str(n)]
        for n in range(2)
    ]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    processes = [subprocess.Popen(start, text=True, cwd=tmp_path, **pipes) for start in starts]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [(*process.communicate(timeout=command.PATIENCE), process.returncode) for process in processes]
    assert told == [("", "", 0)] * 2
    assert {run.info.status for run in runs(uri, "x", "tags.`distmer.kind` = 'run'")} == {"FINISHED"}
    assert len(runs(uri, "x", "tags.`distmer.kind` = 'run'")) == 2
