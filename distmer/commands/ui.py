"""`distmer ui`: MLflow's pages over a workspace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from distmer.process import terminable
from distmer.types import BadInput
from distmer.workspace import Workspace


def serve_ui(workspace: str | None, port: int) -> int:
    """MLflow's own server over the workspace, bound to loopback."""
    place = Workspace.find(workspace, os.environ)
    uri = os.environ.get("MLFLOW_TRACKING_URI") or place.mlflow_uri
    if "://" in uri and not uri.startswith("sqlite:"):
        raise BadInput(
            "MLFLOW_TRACKING_URI names a server, which has pages of its own: open its address in a browser."
        )
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    if isinstance(place.root, Path):
        place.root.mkdir(parents=True, exist_ok=True)
    cwd = place.root if isinstance(place.root, Path) else None
    # A session of its own: MLflow's server is several processes, and all of them must end with this one.
    server = subprocess.Popen(command, cwd=cwd, start_new_session=True)  # noqa: S603  # our own interpreter, no shell
    try:
        with terminable():
            return server.wait()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait()
