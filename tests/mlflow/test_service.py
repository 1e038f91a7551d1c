"""The tracking service of mlflow/compose.yaml, its pieces started without containers: PostgreSQL, an S3
server, and MLflow's server with basic authentication. A run is there once and whole, whoever was away in
between."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness import command, toy
from tests.within import loso, within

pytestmark = pytest.mark.slow

AUTH = (command.ROOT / "mlflow" / "auth.ini").read_text()
COMPOSE = yaml.safe_load((command.ROOT / "mlflow" / "compose.yaml").read_text())["services"]
EPOCHS, SUBJECTS = 40, 5
RESTORED = {
    "runs": "run_uuid",
    "metrics": "run_uuid",
    "params": "value",
    "tags": "value",
    "users": "username",
}


def postgres_binaries() -> Path | None:
    here = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    found = shutil.which("initdb")
    return here[-1].parent if here else Path(found).parent if found else None


@dataclass
class Service:
    """The three servers, on loopback. `stop` and `start` are of MLflow's."""

    folder: Path
    postgres: int = field(default_factory=command.free_port)
    s3: int = field(default_factory=command.free_port)
    port: int = field(default_factory=command.free_port)
    password: str = field(default_factory=lambda: secrets.token_hex(16))
    process: subprocess.Popen[bytes] | None = None
    name: str = "mlflow"  # of the database

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def database(self) -> str:
        return f"postgresql+psycopg2://mlflow@127.0.0.1:{self.postgres}/{self.name}"

    def here(self, text: str) -> str:
        """A word of compose.yaml, with its hosts, ports and secrets those of this test."""
        places = {
            "@db:5432/mlflow": f"@127.0.0.1:{self.postgres}/mlflow",
            "http://s3:8333": f"http://127.0.0.1:{self.s3}",
        }
        places |= {
            "--host=0.0.0.0": "--host=127.0.0.1",
            "--port=5000": f"--port={self.port}",
            "--workers=2": "--workers=1",
        }
        places |= {"/etc/mlflow/auth.ini": str(self.folder / "auth.ini")}
        for there, replacement in places.items():
            text = text.replace(there, replacement)
        return re.sub(r"\$\{\w+:\?[^}]*\}", self.password, text)

    @property
    def environment(self) -> dict[str, str]:
        """What compose.yaml gives the server."""
        return {
            **os.environ,
            **{name: self.here(value) for name, value in COMPOSE["server"]["environment"].items()},
        }

    def run(self, name: str, log: Path) -> subprocess.Popen[bytes]:
        """A service of compose.yaml, by its own command."""
        tool, *arguments = [self.here(word) for word in COMPOSE[name]["command"]]
        mine = [sys.executable] if tool == "python" else [sys.executable, "-m", tool]
        with log.open("ab") as file:
            # A session of its own: what it starts is ended with it.
            return subprocess.Popen(
                [*mine, *arguments],
                cwd=self.folder,
                env=self.environment,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    @property
    def user(self) -> dict[str, str]:
        """What a user of the service has in the environment."""
        patience = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "60"}  # s; a busy machine is no server that is away
        return {
            "MLFLOW_TRACKING_URI": self.uri,
            "MLFLOW_TRACKING_USERNAME": "admin",
            "MLFLOW_TRACKING_PASSWORD": self.password,
            **patience,
        }

    def start(self) -> None:
        self.process = self.run("server", self.folder / "log")
        wait_for(f"{self.uri}/health", self.process, self.folder / "log")

    def stop(self) -> None:
        """SIGKILL, as a power cut: the server and its workers, which are the group that the server leads."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(command.PATIENCE)
        self.process = None

    def sql(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        import psycopg2

        address = self.database.replace("+psycopg2", "")
        with (
            closing(psycopg2.connect(address, password=self.password)) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(query, values)
            return cursor.fetchall()

    def bucket(self) -> Any:
        import boto3

        session = boto3.Session(self.password, self.password, region_name="us-east-1")
        return session.client("s3", endpoint_url=f"http://127.0.0.1:{self.s3}")

    def stored(self) -> set[str]:
        """The keys in the bucket."""
        pages = self.bucket().get_paginator("list_objects_v2").paginate(Bucket="mlflow")
        return {item["Key"] for page in pages for item in page.get("Contents", [])}


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + command.PATIENCE
    while True:
        try:
            urllib.request.urlopen(url, timeout=20).close()
            return
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.3)


def start_postgres(service: Service, binaries: Path, leave: ExitStack) -> None:
    """A cluster of its own in a folder of its own, as somebody else than root, whom PostgreSQL refuses."""
    user: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
    place = Path(tempfile.mkdtemp(prefix="pg"))
    leave.callback(shutil.rmtree, place, ignore_errors=True)
    (place / "password").write_text(service.password)
    for path in (place, place / "password"):
        os.chown(path, user.get("user", -1), user.get("group", -1))
    data = place / "data"
    make = [
        str(binaries / "initdb"),
        "--no-sync",
        "--auth=scram-sha-256",
        "--username=mlflow",
        f"--pwfile={place / 'password'}",
    ]
    subprocess.run([*make, "-D", str(data)], check=True, capture_output=True, cwd=place, **user)
    command_line = [
        str(binaries / "postgres"),
        "-D",
        str(data),
        "-p",
        str(service.postgres),
        "-k",
        str(place),
        "-h",
        "127.0.0.1",
    ]
    with (service.folder / "postgres.log").open("wb") as log:
        process = subprocess.Popen(command_line, cwd=place, stdout=log, stderr=log, **user)
    leave.callback(end, process, signal.SIGINT)
    ready = [str(binaries / "pg_isready"), "-h", "127.0.0.1", "-p", str(service.postgres), "-t", "30"]
    while subprocess.run(ready, capture_output=True).returncode:
        assert process.poll() is None, (service.folder / "postgres.log").read_text()
        time.sleep(0.1)
    create = [
        str(binaries / "createdb"),
        "-h",
        "127.0.0.1",
        "-p",
        str(service.postgres),
        "-U",
        "mlflow",
        "mlflow",
    ]
    subprocess.run(create, check=True, capture_output=True, env=service.environment)


def start_s3(service: Service, leave: ExitStack) -> None:
    with (service.folder / "s3.log").open("wb") as log:
        server = str(Path(sys.executable).with_name("moto_server"))
        process = subprocess.Popen([server, "-H", "127.0.0.1", "-p", str(service.s3)], stdout=log, stderr=log)
    leave.callback(end, process, signal.SIGTERM)
    wait_for(f"http://127.0.0.1:{service.s3}/moto-api/", process, service.folder / "s3.log")
    for _ in range(2):  # the second time the bucket is there
        assert service.run("prepare", service.folder / "s3.log").wait(60) == 0, (
            service.folder / "s3.log"
        ).read_text()


def end(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    process.send_signal(how)
    process.wait(command.PATIENCE)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    binaries = postgres_binaries()
    if binaries is None:
        pytest.skip(
            "PostgreSQL's programs are not here (initdb, postgres): `make services` installs them,"
            " or says how"
        )
    started = Service(tmp_path_factory.mktemp("service"))
    (started.folder / "auth.ini").write_text(started.here(AUTH))
    with ExitStack() as leave:
        start_postgres(started, binaries, leave)
        start_s3(started, leave)
        started.start()
        leave.callback(lambda: started.process and started.stop())
        yield started


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.write_flowmaps(tmp_path_factory.mktemp("maps"), subjects=SUBJECTS)


def settings(maps: Path, experiment: str) -> list[str]:
    own = (f"tracking.experiment={experiment}", "tracking.folds=runs")
    return [*toy.settings(maps, *own, epochs=EPOCHS), "--local", "--json"]


def rows(service: Service, experiment: str) -> dict[str, int]:
    """How many rows each table holds of an experiment, and how many files lie in the bucket."""
    of = "from {} t join runs r using (run_uuid) join experiments e using (experiment_id) where e.name = %s"
    counted = {
        table: service.sql(f"select count(*) {of.format(table)}", experiment)[0][0]
        for table in ("metrics", "params", "tags")
    }
    runs = service.sql(
        "select run_uuid, status from runs join experiments e using (experiment_id) where e.name = %s",
        experiment,
    )
    files = [key for key in service.stored() if key.split("/")[2] in {run for run, _ in runs}]
    return {
        **counted,
        "runs": len(runs),
        "finished": sum(status == "FINISHED" for _, status in runs),
        "files": len(files),
    }


@pytest.fixture(scope="module")
def undisturbed(service: Service, maps: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """What a run leaves in the service that nothing came in the way of."""
    home = tmp_path_factory.mktemp("undisturbed")
    ended = loso(*settings(maps, "undisturbed"), home=home, **service.user)
    assert ended.code == 0 and "WARNING" not in ended.err, ended.err
    assert ended.json["mlflow_run_id"]
    return rows(service, "undisturbed")


def track(service: Service, home: Path) -> command.Ended:
    (run_dir,) = (home / "runs").iterdir()
    ended = within("track", str(run_dir), home=home, **service.user)
    assert ended.code == 0, ended.err
    return ended


def test_a_run_is_in_the_database_and_its_files_in_the_bucket(
    service: Service, undisturbed: dict[str, int], tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    assert undisturbed["runs"] == undisturbed["finished"] == SUBJECTS + 1
    curves = service.sql("select count(*) from metrics where key = 'train_loss'")[0][0]
    assert curves == SUBJECTS * EPOCHS
    # a user needs no key of the bucket: files come through the server
    with pytest.MonkeyPatch.context() as patch:
        for name, value in service.user.items():
            patch.setenv(name, value)
        client = MlflowClient(service.uri)
        (parent,) = client.search_runs(
            [client.get_experiment_by_name("undisturbed").experiment_id], "tags.`distmer.kind` = 'run'"
        )
        results = json.loads(
            Path(client.download_artifacts(parent.info.run_id, "results.json", str(tmp_path))).read_text()
        )
    assert results["folds"] == SUBJECTS and parent.data.metrics["uar"] == results["uar"]


def test_a_wrong_password_costs_a_warning_and_track_mends_it(
    service: Service, undisturbed: dict[str, int], maps: Path, tmp_path: Path
) -> None:
    wrong = {**service.user, "MLFLOW_TRACKING_PASSWORD": "hunter2hunter2"}
    ended = loso(*settings(maps, "refused"), home=tmp_path, **wrong)
    assert ended.code == 0 and ended.json["status"] == "complete" and ended.json["mlflow_run_id"] is None
    (warning,) = [line for line in ended.err.splitlines() if "WARNING" in line]
    assert "MLFLOW_TRACKING_PASSWORD" in warning and "distmer track" in warning
    assert "hunter2" not in ended.err and "Traceback" not in ended.err
    assert not service.sql("select 1 from experiments where name = 'refused'")
    track(service, tmp_path)
    assert rows(service, "refused") == undisturbed


def test_a_server_killed_in_the_middle_of_a_run_lacks_nothing_after_track(
    service: Service, undisturbed: dict[str, int], maps: Path, tmp_path: Path
) -> None:
    process = command.start(*settings(maps, "killed"), home=tmp_path, **service.user)
    under_way = "select count(*) from runs join experiments e using (experiment_id) where e.name = 'killed'"
    command.wait_for(lambda: service.sql(under_way)[0][0] >= 3, process)  # the run and its first folds
    service.stop()
    try:
        ended = command.finish(process)
    finally:
        service.start()
    assert ended.code == 0 and ended.json["status"] == "complete", ended.err
    assert len([line for line in ended.err.splitlines() if "WARNING" in line]) == 1, ended.err
    assert "Traceback" not in ended.err
    assert rows(service, "killed") != undisturbed  # else it was not disturbed
    for _ in range(2):
        track(service, tmp_path)
        assert rows(service, "killed") == undisturbed


def test_a_dump_restores(service: Service, undisturbed: dict[str, int], tmp_path: Path) -> None:
    """The back-up of mlflow/README.md, into a second database."""
    binaries = postgres_binaries()
    assert binaries is not None
    at = ["--host=127.0.0.1", f"--port={service.postgres}", "--username=mlflow"]

    def tool(name: str, *arguments: str) -> None:
        subprocess.run([str(binaries / name), *at, *arguments], check=True, env=service.environment)

    tool("pg_dump", "--format=custom", f"--file={tmp_path / 'mlflow.dump'}", "mlflow")
    tool("createdb", "again")
    for _ in range(2):  # over what is there, too
        restore = [
            "--dbname=again",
            "--clean",
            "--if-exists",
            "--exit-on-error",
            str(tmp_path / "mlflow.dump"),
        ]
        tool("pg_restore", *restore)
    every = " union all ".join(f"select count(*), max({key}) from {table}" for table, key in RESTORED.items())
    restored = Service(
        service.folder, service.postgres, service.s3, service.port, service.password, name="again"
    )
    assert restored.sql(every) == service.sql(every)
