"""The models: `models` lists them, `resolve` fills in a configuration.

Importing this package loads neither torch nor scikit-learn.
"""

from __future__ import annotations

import functools
import sys
from types import ModuleType

from distmer.code import OF_KIND, read_sources
from distmer.config import ModelConfig, parse
from distmer.models.base import Channel, Classical, ModelInfo, Options, ResolvedModel
from distmer.plugins import announced, find, is_reference, names_announced, own_modules, require_name
from distmer.registry import discover, nearest
from distmer.types import BadInput

_OPTIONAL = ("torchvision", "timm")  # registered where their package is installed: `distmer.models.vision`

__all__ = [
    "Channel",
    "Classical",
    "ModelInfo",
    "Options",
    "ResolvedModel",
    "is_network",
    "model_info",
    "models",
    "parameters",
    "resolve",
]


def models() -> dict[str, ModelInfo]:
    """Every registered model by name, in the order of the file names."""
    return {name: info for name, (info, _) in _found().items()}


def model_info(name: str) -> ModelInfo:
    """The model of that name, or of that reference. BadInput for an unknown one names the nearest."""
    return _lookup(name)[0]


def is_network(name: str) -> bool:
    """Whether the model of that name is trained epoch by epoch. BadInput: see `model_info`."""
    return model_info(name).kind == "torch"


def resolve(config: ModelConfig) -> ResolvedModel:
    """The model that a configuration names, with every option filled in.

    Raises BadInput for an unknown model or option, with the name of the nearest one, and for a size that is
    too small.
    """
    info, module, distribution = _lookup(config.name)
    options = parse(info.options, config.options, f"model {info.name}", prefix="model", also=("name",))
    if options.size < info.min_size:
        found = f"model.size is {options.size} px, but its poolings need {info.min_size}"
        raise BadInput(f"model {info.name}: {found}; raise model.size.")
    return ResolvedModel(
        info=info,
        options=options,
        inputs=info.inputs(options),
        module=module,
        spec={"name": info.name, "options": options.model_dump(mode="json"), **distribution},
    )


def parameters(resolved: ResolvedModel, classes: int = 3) -> int | None:
    """How many numbers training adjusts. None for a classical model: there it depends on the training
    clips."""
    if resolved.info.kind == "classical":
        return None
    import torch

    with torch.device("meta"):  # shapes only: nothing is allocated or drawn
        module = resolved.build(classes)
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def _lookup(name: str) -> tuple[ModelInfo, str, dict[str, str]]:
    """The model of a name, its module, and the installed distribution that it comes from if it is not
    distmer's own."""
    if name in _found():
        info, module = _found()[name]
        return info, module.__name__, {}
    return _brought(name)


@functools.cache
def _brought(name: str) -> tuple[ModelInfo, str, dict[str, str]]:
    """A model from outside: a reference, or a name that an installed package has announced."""
    require_name(name)
    plugin = find(name) if is_reference(name) else announced(name, "distmer.models")
    if plugin is None and name in _OPTIONAL:
        raise BadInput(
            f"model {name}: the package {name} is not installed; pip install {name}, in the version that fits"
            " your torch."
        )
    if plugin is None:
        known = (*models(), *names_announced("distmer.models"))
        raise BadInput(
            f"unknown model {name!r}; {nearest(name, known)} A model of your own is named"
            " package.module:NAME or ./file.py:NAME."
        )
    for own, module in _found().values():
        if plugin.entry is own:  # distmer's own by a reference is the same model
            return own, module.__name__, {}
    from distmer.models._plugin import as_model  # no part of the identity of distmer's own models

    info = as_model(plugin.entry, plugin.reference)
    read_sources(own_modules(plugin.module))
    return info, plugin.module, {"distribution": plugin.distribution} if plugin.distribution else {}


@functools.cache
def _found() -> dict[str, tuple[ModelInfo, ModuleType]]:
    found = discover(sys.modules[__name__], ModelInfo, "MODEL")
    # Now, for all of them: somebody may edit a model's file before it is asked for.
    read_sources(module.__name__ for _, module in found.values())
    read_sources(name for names in OF_KIND.values() for name in names)
    return found
