"""`distmer ui`: MLflow's pages over a workspace."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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
    return subprocess.call(command, cwd=place.root if isinstance(place.root, Path) else None)  # noqa: S603  # our own interpreter, no shell
