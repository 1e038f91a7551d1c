"""Code that is given as an object (a class, a function, an estimator) gets a name, by which a configuration,
a fold's identity and a worker can refer to it."""

from __future__ import annotations

import functools
import inspect
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distmer.api import source
from distmer.api.settings import plain
from distmer.code import digest_of_source
from distmer.config import ModelConfig
from distmer.models import ModelInfo, models
from distmer.plugins import is_installed
from distmer.storage import write
from distmer.types import BadInput, JsonValue
from distmer.workspace import Workspace

_DIGITS = 12  # of the digest of a written module, in its name


def model_section(model: Any, call: str, workspace: Workspace) -> dict[str, Any]:
    """The section ``model`` of a configuration for what a user gives as a model (see `distmer.loso`).

    Raises
    ------
    BadInput
        It cannot be named: it is built already, it has no source, or it uses something that has none.
    """
    options: dict[str, Any] = dict(model) if isinstance(model, Mapping) else {"name": model}
    entry = options.pop("name", ModelConfig().name)
    return {**_named(entry, call, workspace), **options}


def reference(entry: Any, call: str, workspace: Workspace) -> str:
    """The reference to a class or a function: by its module if that can be imported, else by a file that is
    written now. BadInput if it has no name or no source, or uses something that has none."""
    name = entry.__name__
    if not name.isidentifier() or entry.__qualname__ != name:
        raise BadInput(
            f"{call}: {entry.__qualname__} is not defined at the top level of a module or a cell; define it"
            " there with `class` or `def`, so that it has a name."
        )
    if source.is_typed(entry):
        return _written(name, source.module_of(name, entry, call), workspace)
    if entry.__module__.startswith("distmer."):
        raise BadInput(f"{call}: {name} is distmer's own; give its name as a text (see `distmer models`).")
    source.require_as_imported(entry, call)
    return f"{entry.__module__}:{name}"


def _named(entry: Any, call: str, workspace: Workspace) -> dict[str, JsonValue]:
    if isinstance(entry, str):
        return {"name": entry}
    if isinstance(entry, ModelInfo):
        if models().get(entry.name) is not entry:
            raise BadInput(
                f"{call}: the ModelInfo {entry.name!r} is not one of distmer's own; name it as"
                " package.module:NAME or ./file.py:NAME."
            )
        return {"name": entry.name}
    if inspect.isclass(entry) or inspect.isfunction(entry):
        if hasattr(entry, "fit") and not source.is_typed(entry) and is_installed(entry.__module__):
            return {"name": "sklearn", "estimator": source.public_name(entry)}
        return {"name": reference(entry, call, workspace)}
    if hasattr(entry, "fit") and hasattr(entry, "get_params"):
        return _of_estimator(entry, call, workspace)
    what = type(entry).__name__
    if hasattr(entry, "forward"):
        raise BadInput(
            f"{call}: model is a {what} that is built already; give the class {what}, or a function that"
            " builds one, for each fold needs a fresh one."
        )
    if isinstance(entry, functools.partial):
        raise BadInput(
            f"{call}: model is a partial, which has no source of its own; give the class and its options as"
            ' {"name": MyNet, "width": 16}, or write a function.'
        )
    raise BadInput(
        f"{call}: a model is a name, a torch.nn.Module class, a function that builds a module, or a"
        f" classifier of scikit-learn, not a {what}."
    )


def _of_estimator(entry: Any, call: str, workspace: Workspace) -> dict[str, JsonValue]:
    """For an installed class whose parameters are plain values: the model ``sklearn``. For any other, such as
    a pipeline: a file with the expression that makes it."""
    kind = type(entry)
    params = source.changed_params(entry)
    if not source.is_typed(kind) and is_installed(kind.__module__) and _is_json(params):
        return {"name": "sklearn", "estimator": source.public_name(kind), "params": plain(params)}
    name = kind.__name__.lower()
    return {"name": _written(name, source.module_of(name, entry, call), workspace)}


def _is_json(value: Any) -> bool:
    try:
        json.dumps(plain(value), allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def _written(name: str, text: str, workspace: Workspace) -> str:
    """The reference to a module with this text, in the folder ``code`` of the workspace. Its name has the
    digest of its syntax tree, so a change of the code makes another model, and a comment does not."""
    stem = f"{name.lower()}_{digest_of_source(text.encode())[:_DIGITS]}"
    root = workspace.root if isinstance(workspace.root, Path) else Path(_temporary().name)
    path = root / "code" / f"{stem}.py"
    if not path.exists():
        write(path, text.encode())
    # if it was loaded from another workspace, it is the same: a process has one module of a name
    loaded = getattr(sys.modules.get(stem), "__file__", None) or path
    return f"{loaded}:{name}"


@functools.cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    """For a workspace on an object store: modules are imported from a disk. It is deleted when we end."""
    return tempfile.TemporaryDirectory(prefix="distmer-code-")
