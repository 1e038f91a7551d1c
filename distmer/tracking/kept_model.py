"""A kept model in MLflow: its folder as a pyfunc model, beside the run of the same configuration."""

from __future__ import annotations

import json
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.pyfunc import save_model
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from distmer.leftovers import temporary_folder
from distmer.saved.folder import MANIFEST, Manifest, read_folder
from distmer.storage import Place
from distmer.tracking.mlflow_store import MlflowStore
from distmer.tracking.served_model import FOLDER, SCRIPT, example, signature


def log_model(store: MlflowStore, folder: Place, manifest: Manifest) -> LoggedModel:
    """Log the model in ``folder``. An earlier copy of the same model is deleted, unless it is registered."""
    client = store.client
    run = store.find(str((manifest.score or {}).get("digest", manifest.run)))  # of a choice, the sweep's
    earlier = _of_identity(client, store.experiment, manifest.identity)
    tags = {"distmer.identity": manifest.identity, "distmer.run": manifest.run}
    tags["distmer.classes"] = json.dumps(manifest.classes, ensure_ascii=False)
    if manifest.score is not None:
        tags["distmer.uar"] = f"{manifest.score['uar']:.4f}"
    name = f"{manifest.model['name']}-{manifest.protocol}".replace(":", "-").replace("/", "-")
    model = client.create_logged_model(
        store.experiment,
        name,
        source_run_id=run.info.run_id if run else None,
        tags=tags,
        model_type="distmer",
    )
    with temporary_folder("distmer-logged") as place:
        _write(place, folder, manifest, model.model_id, model.artifact_location)
        client.log_model_artifacts(model.model_id, str(place / "mlflow"))
    client.finalize_logged_model(model.model_id, "READY")
    if run is not None:
        client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, step=0)])
    for other in earlier:
        client.delete_logged_model(other)
    return model


def register_model(store: MlflowStore, model: LoggedModel, name: str) -> str:
    """Make a logged model a version of the registered model ``name``, which is made if it does
    not exist. Returns the version."""
    client = store.client
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # without a server, MLflow would look the model up at another address, that of the environment
    served = client.tracking_uri.startswith("http")
    version = client.create_model_version(
        name,
        model.artifact_location,
        model.source_run_id,
        model_id=model.model_id if served else None,
        await_creation_for=0,
    ).version
    client.set_logged_model_tags(
        model.model_id, {MLFLOW_MODEL_VERSIONS: json.dumps([{"name": name, "version": version}])}
    )
    return str(version)


def _of_identity(client: MlflowClient, experiment: str, identity: str) -> list[str]:
    """The ids of the model's copies there that no registered model is made of."""
    found = client.search_logged_models([experiment], f"tags.`distmer.identity` = '{identity}'")
    return [model.model_id for model in found if MLFLOW_MODEL_VERSIONS not in model.tags]


def _write(place: Path, folder: Place, manifest: Manifest, model_id: str, address: str) -> None:
    """The model as MLflow keeps it, in ``place / "mlflow"``."""
    (place / FOLDER).mkdir()
    for name, data in {**read_folder(folder)[1], MANIFEST: (folder / MANIFEST).read_bytes()}.items():
        (place / FOLDER / name).write_bytes(data)
    (place / "script.py").write_text(SCRIPT)
    save_model(
        str(place / "mlflow"),
        mlflow_model=Model(artifact_path=address, model_uuid=model_id, model_id=model_id),
        python_model=str(place / "script.py"),
        artifacts={FOLDER: str(place / FOLDER)},
        signature=signature(manifest),
        input_example=example(manifest),
        pip_requirements=[f"distmer=={manifest.libraries['distmer']}"],
    )
