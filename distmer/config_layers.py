"""From files and the command line to one tree of settings.

The layers are, from the lowest: the files that are extended, the file itself, all ``--set`` together. A layer
is laid upon those below it as a whole, so the order of ``--set`` does not matter.
"""

# What YAML gives is untyped until pydantic has read it:
# pyright: strict, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from distmer.config import Config, Layer, Named, parse
from distmer.config_base import from_yaml, read_yaml
from distmer.config_places import anchoring, change_settings, declaring, plugin_settings, with_names
from distmer.idle import IsNetwork, Searched, refuse_idle, value_at
from distmer.registry import nearest
from distmer.shipped import located, names
from distmer.storage import Place, anchored, place
from distmer.types import BadInput

_log = logging.getLogger(__name__)
_OF_OTHERS = (  # sections of other commands
    ("compare", "compares several experiments", "`distmer compare` or jobs/compare.py"),
    ("curve", "draws a learning curve", "`distmer curve` or jobs/curve.py"),
    ("habits", "prices dishonest habits", "`distmer habits`"),
    ("sweep", "searches among settings", "`distmer sweep` or jobs/tune.py"),
)


def load_config(
    path: Place | None,
    overrides: Iterable[str] | Layer = (),
    *,
    workspace: Place,
    environ: Mapping[str, str],
    is_network: IsNetwork = lambda name: True,
    kept: bool = False,
) -> Config:
    """The configuration of a file (none: all defaults), with ``a.b=value`` overrides (values are YAML).

    ``is_network``: model name → whether the model is trained by epochs. ``kept``: distmer wrote the file, so
    there is no warning about settings that do nothing. BadInput names the file, and the nearest known key.
    """
    layers, tree = load_settings(path, overrides, workspace=workspace, environ=environ)
    require_section(tree, origin(path))
    config = parse(Config, tree, origin(path, overrides))
    if not kept:
        warn_of_unused(layers, [tree], is_network)
    return config


def require_section(tree: Mapping[str, Any], origin: str, own: str = "") -> None:
    """BadInput if a tree has the section of a command other than that of the section ``own``."""
    for section, what, where in _OF_OTHERS:
        if section in tree and own in tree and section != own:
            raise BadInput(f"{origin}: it has both a {own} and a {section} section; keep one of them.")
        if section in tree and section != own:
            raise BadInput(f"{origin}: it {what}; give it to {where}.")


def origin(path: Place | None, overrides: Iterable[str] | Layer = ()) -> str:
    """Where a setting comes from, for messages."""
    return str(path) if path else overrides.origin if isinstance(overrides, Layer) else "configuration"


def load_settings(
    path: Place | None, overrides: Iterable[str] | Layer, *, workspace: Place, environ: Mapping[str, str]
) -> tuple[tuple[Layer, ...], dict[str, Any]]:
    """The layers (see `load_layers`), and all settings as one tree, not yet validated."""
    layers = load_layers(path, overrides, workspace=workspace)
    tree = merge_layers(layers)
    data = tree.get("data") or {}
    if isinstance(data, dict) and not data.get("root") and environ.get("DISTMER_DATA"):
        tree = merge(tree, {"data": {"root": anchored(environ["DISTMER_DATA"], Path.cwd())}})
    return layers, tree


def load_layers(
    path: Place | None, overrides: Iterable[str] | Layer, *, workspace: Place
) -> tuple[Layer, ...]:
    """The layers of a file and of the command line (or of a call in Python), the lowest first.

    Paths in a file are relative to the workspace, on the command line to the current folder (a submitted
    job's current folder is a temporary copy, and what a file names there would be gone). Code of the user's
    own is relative to the file that names it, for it belongs to it. BadInput: a file cannot be read, or two
    overrides clash.
    """
    layers, above = _as_given(path, overrides)
    for layer in layers:
        _read_rows(layer, workspace)
        change_settings(layer.tree, anchoring(workspace, Path(layer.origin).parent))
    if above.tree:
        change_settings(above.tree, anchoring(Path.cwd(), Path.cwd()))
        layers.append(above)
    _name_code(layers)
    return tuple(layers)


def anchor_rule(
    setting: str,
    path: Place | None,
    overrides: Iterable[str] | Layer,
    *,
    workspace: Place,
    environ: Mapping[str, str],
) -> str:
    """How the relative path of a setting was made absolute, as a sentence; "" where it was not relative."""
    files, above = _as_given(path, overrides)
    of_environment = Layer("DISTMER_DATA", {"data": {"root": environ.get("DISTMER_DATA")}})
    for layer in (above, *reversed(files), of_environment):
        value = _at(layer.tree, setting)
        if isinstance(value, str):
            if layer in files:
                rule, base = f"in {layer.origin} is below the workspace", workspace
            else:
                rule, base = f"of {layer.origin} is below the current folder", Path.cwd()
            relative = anchored(value, Path("/a")) != anchored(value, Path("/b"))
            return f" The relative path {value!r} {rule}, {base}." if relative else ""
    return ""


def merge_layers(layers: Iterable[Layer]) -> dict[str, Any]:
    """The layers as one tree. BadInput if a higher layer sets a part of what is a single value below."""
    tree: dict[str, Any] = {}
    below = "configuration"
    for layer in layers:
        tree, below = merge(tree, layer.tree, below), layer.origin
    return tree


def merge(
    base: Mapping[str, Any], over: Mapping[str, Any], origin: str = "configuration", at: str = ""
) -> dict[str, Any]:
    """``over`` laid upon ``base``: mappings merge, everything else is replaced. A model or a loss of another
    name starts without the options of the old one. So does a row of ``compare`` that extends another file.

    BadInput, which names ``origin``, where ``base`` has a single value and ``over`` has settings below it.
    """
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        if not isinstance(value, Mapping) or old is None or key == "extends":
            result[key] = value
        elif not isinstance(old, Mapping):
            below = f", but {at}{key}.{next(iter(value))} is set" if value else ""
            raise BadInput(
                f"{origin}: {at}{key} is {old!r}{below}; {at}{key} must be a mapping of settings: correct it."
            )
        elif f"{at}{key}" in plugin_settings() and _names_another(value, old, f"{at}{key}"):
            result[key] = dict(value)
        else:
            result[key] = merge(old, value, origin, f"{at}{key}.")
    return result


def warn_of_unused(
    layers: Sequence[Layer], finals: Sequence[Mapping[str, Any]], is_network: IsNetwork
) -> None:
    """Log each sentence of `unused_settings`."""
    for note in unused_settings(layers, finals, is_network):
        _log.warning("%s", note)


def unused_settings(
    layers: Sequence[Layer],
    finals: Sequence[Mapping[str, Any]],
    is_network: IsNetwork,
    searched: Searched | None = None,
) -> list[str]:
    """A sentence for each given setting that does nothing in any of the trees ``finals``, which are run: one
    tree, or one for each row of a comparison. BadInput: see `distmer.idle.refuse_idle`."""
    stacks = [merge_layers(layers[: n + 1]) for n in range(len(layers))]
    return [*_unused_options(layers, stacks), *refuse_idle(layers, stacks, finals, is_network, searched)]


def _unused_options(layers: Sequence[Layer], stacks: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each option that is not used because a higher layer names another model, or loss.
    ``stacks``: what each layer makes of those below it."""
    notes: list[str] = []
    given_by: dict[str, str] = {}  # option, by its dotted name → the layer that gave it
    for layer, below, tree in zip(layers, ({}, *stacks), stacks, strict=False):
        for setting in plugin_settings():
            old, new = _mapping_at(below, setting), _mapping_at(tree, setting)
            for option, value in old.items():
                if option != "name" and option not in new:
                    name = f"{setting}.{option}"
                    notes.append(
                        f"{name}={value} of {given_by[name]} belongs to {_name_in(old, setting)} and is not"
                        f" used for {new.get('name')}, which starts from its own defaults"
                    )
            own = _mapping_at(layer.tree, setting)
            given_by |= dict.fromkeys((f"{setting}.{option}" for option in own), layer.origin)
    return notes


def nested(dotted: Mapping[str, Any], origin: str = "configuration") -> dict[str, Any]:
    """``{"a.b": 1}`` as ``{"a": {"b": 1}}``. BadInput if one name is a part of another."""
    return _grown([(tuple(path.split(".")), value, path) for path, value in dotted.items()], f"{origin}: ")


def _name_in(tree: Mapping[str, Any], setting: str) -> str:
    """The name in the value of a setting that names code, or its default."""
    default = value_at({}, setting)
    return str(tree.get("name", default.name if isinstance(default, Named) else ""))


def _names_another(tree: Mapping[str, Any], below: Mapping[str, Any], setting: str) -> bool:
    return "name" in tree and tree["name"] != _name_in(below, setting)


def _at(tree: Mapping[str, Any], setting: str) -> Any:
    """The value of a dotted setting; None where the tree has none."""
    node: Any = tree
    for key in setting.split("."):
        node = node.get(key) if isinstance(node, Mapping) else None
    return node


def _mapping_at(tree: Mapping[str, Any], setting: str) -> Mapping[str, Any]:
    node = _at(tree, setting)
    return node if isinstance(node, Mapping) else {}


def _as_given(path: Place | None, overrides: Iterable[str] | Layer) -> tuple[list[Layer], Layer]:
    """The layers of a file, the lowest first, and the one above them; paths are as they were given."""
    above = overrides if isinstance(overrides, Layer) else Layer("--set", _overrides(overrides), True)
    return [] if path is None else _files(located(path), ()), above


def _files(path: Place, seen: tuple[Place, ...]) -> list[Layer]:
    """The layers of a file: first those of the one that it extends."""

    def remedy() -> str:
        return f"name an existing YAML file, or one that comes with distmer; {nearest(path.stem, names())}"

    tree = read_yaml(path, "configuration", remedy) or {}
    if not isinstance(tree, dict):
        raise BadInput(f"{path}: a configuration is a mapping of settings, not a {type(tree).__name__}.")
    parent = tree.pop("extends", None)
    if parent is None:
        return [Layer(str(path), tree)]
    if not isinstance(parent, str):
        raise BadInput(f"{path}: extends names one configuration file, not {parent!r}.")
    target = (path.parent / parent).resolve()
    if target in seen or target == path.resolve():
        raise BadInput(f"{path}: extends {parent}, which extends it in turn; break the circle.")
    return [*_files(target, (*seen, path.resolve())), Layer(str(path), tree)]


def _name_code(layers: Sequence[Layer]) -> None:
    """Write names of code as mappings, and those that only the layers' ``plugins`` define as references."""
    for layer in layers:
        change_settings(layer.tree, with_names)
    if modules := merge_layers(layers).get("plugins"):
        if not isinstance(modules, list) or not all(isinstance(module, str) for module in modules):
            raise BadInput(f"plugins is {modules!r}; give a list of modules and files: [./my_code.py].")
        for layer in layers:
            change_settings(layer.tree, declaring(modules))


def _read_rows(layer: Layer, workspace: Place) -> None:
    """Where a row of ``compare`` extends a file, replace the file's name by its settings.

    BadInput if that file does not describe one experiment.
    """
    section = layer.tree.get("compare")
    rows = section.get("rows") if isinstance(section, dict) else None
    for label, row in rows.items() if isinstance(rows, dict) else ():
        if not isinstance(row, dict) or "extends" not in row:
            continue
        where, parent = f"{layer.origin}, row {label}", row["extends"]
        if not isinstance(parent, str):
            raise BadInput(f"{where}: extends names one configuration file, not {parent!r}.")
        layers = _files((place(layer.origin).parent / parent).resolve(), ())
        for below in layers:
            change_settings(below.tree, anchoring(workspace, Path(below.origin).parent))
        _name_code(layers)
        row["extends"] = merge_layers(layers)
        for other, what, _ in _OF_OTHERS:
            if other in row["extends"]:
                raise BadInput(f"{where}: {parent} {what}; name the file of one experiment.")


def _overrides(overrides: Iterable[str]) -> dict[str, Any]:
    """All ``--set`` as one tree. BadInput if two contradict each other, or one is a part of another."""
    items: list[tuple[tuple[str, ...], Any, str]] = []
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise BadInput(f"--set {override}: write it as path.to.field=value.")
        try:
            value = from_yaml(text)
        except yaml.YAMLError as error:
            why = " ".join(str(error).split())[:160]
            raise BadInput(f"--set {override}: the value is not YAML ({why}).") from error
        items.append((_keys(key.strip(), value), value, f"--set {override.strip()}"))
    return _grown(items, "")


def _keys(path: str, value: Any) -> tuple[str, ...]:
    """The keys of a dotted path. Below ``sweep.space``, a row of ``compare`` and the settings of a model of
    ``habits``, a key is a dotted name."""
    match path.split("."):
        case ["sweep", "space", first, *more, form] if value is not None and not isinstance(value, Mapping):
            return ("sweep", "space", ".".join([first, *more]), form)
        case ["sweep", "space", first, *more]:
            return ("sweep", "space", ".".join([first, *more]))
        case ["compare", "rows" | "over" as section, label, first, *more]:
            return ("compare", section, label, ".".join([first, *more]))
        case ["habits", "models", label, "settings", first, *more]:
            return ("habits", "models", label, "settings", ".".join([first, *more]))
        case parts:
            return tuple(parts)


def _grown(items: Iterable[tuple[tuple[str, ...], Any, str]], origin: str) -> dict[str, Any]:
    """A tree of (keys, value, how a message names it)."""
    tree: dict[str, Any] = {}
    seen: list[tuple[tuple[str, ...], Any, str]] = []
    for keys, value, name in items:
        for other, other_value, other_name in seen:
            depth = min(len(keys), len(other))
            same = keys == other and type(value) is type(other_value) and value == other_value
            if keys[:depth] == other[:depth] and not same:
                setting = ".".join(keys[:depth])
                named = f" (the name is {setting}.name)" if setting in plugin_settings() else ""
                raise BadInput(
                    f"{origin}{other_name} and {name} both set {setting}; keep one of them{named}."
                )
        seen.append((keys, value, name))
        node = tree
        for key in keys[:-1]:
            node = node.setdefault(key, {})
        node[keys[-1]] = value
    return tree
