"""A kept model in MLflow: its folder as a pyfunc model, beside the run of the same configuration."""

from __future__ import annotations

from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput
from mlflow.models import Model
from mlflow.pyfunc import save_model

from distmer.leftovers import temporary_folder
from distmer.saved.folder import MANIFEST, Manifest, read_folder
from distmer.storage import Place
from distmer.tracking.mlflow_store import MlflowStore
from distmer.tracking.served_model import FOLDER, SCRIPT, example, signature


def log_model(store: MlflowStore, folder: Place, manifest: Manifest) -> str:
    """Log the model in ``folder``, and return its id. An earlier copy of the same model is deleted."""
    client = store.client
    run = store.find(manifest.run)
    earlier = _of_identity(client, store.experiment, manifest.identity)
    tags = {"distmer.identity": manifest.identity, "distmer.run": manifest.run}
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
    return model.model_id


def _of_identity(client: MlflowClient, experiment: str, identity: str) -> list[str]:
    found = client.search_logged_models([experiment], f"tags.`distmer.identity` = '{identity}'")
    return [model.model_id for model in found]


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
