"""A tracking address: whether it answers, its version, the errors that it raises, and its first use."""

from __future__ import annotations

import json
import socket
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import requests
import sqlalchemy
from alembic.util import CommandError
from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError
from urllib3.exceptions import HTTPError

_LOCK_SECONDS = 5.0  # for another's write to SQLite to end
_FIRST_USE = 300.0  # s for another run's first use of a fresh SQLite file, which takes 15 s on a busy machine
_CONNECT_SECONDS = 3.0
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_REFUSALS = {400, 401, 403, 404, 405, 409, 413, 422}

# Artifact stores bring exceptions of their own; they are loaded only by who uses one.
_ARTIFACT_ERRORS = {
    "botocore.exceptions": ("BotoCoreError", "ClientError"),
    "boto3.exceptions": ("Boto3Error",),
    "google.api_core.exceptions": ("GoogleAPIError",),
    "google.auth.exceptions": ("GoogleAuthError",),
    "azure.core.exceptions": ("AzureError",),
}


def failures() -> tuple[type[Exception], ...]:
    """What a tracking server, its data base, or its artifact store can raise."""
    loaded = {module: names for module, names in _ARTIFACT_ERRORS.items() if module in sys.modules}
    foreign = [getattr(sys.modules[module], name) for module, names in loaded.items() for name in names]
    known = (MlflowException, SQLAlchemyError, CommandError, sqlite3.Error, HTTPError, json.JSONDecodeError)
    # ImportError: the driver of a data base or of an artifact store is not installed.
    return (*known, OSError, ImportError, *foreign)


def probe(uri: str) -> None:
    """OSError or sqlite3.Error for a data base that is locked or not there, for which MLflow would wait
    minutes."""
    if uri.startswith(("http:", "https:")) or "://" not in uri:
        return
    try:
        url = sqlalchemy.engine.make_url(uri)
    except ValueError as error:
        raise OSError(f"not an address ({error})") from error
    backend = url.get_backend_name()
    if backend == "sqlite" and url.database and Path(url.database).exists():
        connection = sqlite3.connect(url.database, timeout=_LOCK_SECONDS, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        finally:
            connection.close()
    elif url.host and backend in _PORTS:
        socket.create_connection((url.host, url.port or _PORTS[backend]), _CONNECT_SECONDS).close()


@contextmanager
def first_use(uri: str) -> Iterator[None]:
    """Hold a lock while a SQLite store is opened: MLflow makes its tables then, and several runs may begin at
    once.

    It is a lock of the system, which ends with the process that holds it. OSError when another run holds it
    for minutes.
    """
    database = Path(sqlalchemy.engine.make_url(uri).database or "") if uri.startswith("sqlite:") else None
    if database is None or not database.name or str(database) == ":memory:":
        yield
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{database}.lock", timeout=_FIRST_USE)
    try:
        lock.acquire()
    except Timeout as error:
        raise OSError(f"another run has been opening {database} for {_FIRST_USE:.0f} s") from error
    try:
        yield
    finally:
        lock.release()


def refused(error: Exception) -> bool:
    """Whether the server was there, and would not take what it was given."""
    return isinstance(error, MlflowException) and error.get_http_status_code() in _REFUSALS


def server_version(uri: str) -> str | None:
    """The version of an MLflow server; None if the address is not that of a server. OSError if it does not
    answer."""
    if not uri.startswith(("http:", "https:")):
        return None
    answer = requests.get(f"{uri.rstrip('/')}/version", timeout=_CONNECT_SECONDS)
    answer.raise_for_status()
    return answer.text.strip()[:40]


def look(uri: str) -> str | None:
    """Check that this user may read at ``uri``. Returns the version of the server, None if ``uri`` is not
    that of a server. Raises one of `failures()` if the user may not, or if nothing answers."""
    probe(uri)
    version = server_version(uri)
    if version is not None:
        MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
    return version


def version_note(uri: str) -> str:
    """For a failure's message: that the server is of another major version, if it is."""
    try:
        theirs = server_version(uri)
    except OSError:
        return ""
    if theirs is None or theirs.split(".")[0] == mlflow.__version__.split(".")[0]:
        return ""
    return (
        f"; the server is MLflow {theirs}, this is {mlflow.__version__}: install the same major version on"
        " both sides"
    )
