"""Any classification network of torchvision or timm: the models ``torchvision`` and ``timm``.

Neither package is a dependency of distmer: a model is registered where its package is installed. Nothing is
ever downloaded: weights come from a file that the user names.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.metadata
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from distmer.models.base import Channel, ModelInfo, Options
from distmer.registry import nearest
from distmer.types import BadInput, JsonValue

if TYPE_CHECKING:
    import torch
    from torch import nn

_ENDINGS = (".safetensors", ".pth", ".pt")
# What distmer fills in, and what would make a package fetch weights.
_NOT_PARAMS = {"num_classes", "in_chans", "weights", "weights_backbone", "pretrained", "pretrained_backbone"}
_NOT_PARAMS |= {"pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir", "progress"}
# Heads that these two train beside the last one; a network of distmer has one answer.
_ONE_HEAD: dict[str, JsonValue] = {"aux_logits": False, "init_weights": False}
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")


class VisionOptions(Options):
    """``arch`` is a network of the package, and ``params`` further arguments of its constructor.

    ``weights`` is a file of pretrained weights. ``package`` and ``weights_sha256`` are filled in: they are
    part of a fold's identity. A value that is given is compared with what is found.
    """

    of: ClassVar[str]  # the package

    size: int = Field(default=112, ge=1, le=1024)
    streams: tuple[Channel, ...] = Field(default=("u", "v", "strain"), min_length=1)
    arch: str = "resnet18"
    params: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])
    weights: str | None = None
    weights_sha256: str = ""
    package: str = ""

    @model_validator(mode="after")
    def _is_there(self) -> VisionOptions:
        known = _architectures(self.of)
        if self.arch.partition(".")[0] not in known:  # timm names weights after a point
            raise ValueError(f"{self.of} has no network {self.arch!r}; {nearest(self.arch, known)}")
        if refused := sorted(_NOT_PARAMS & self.params.keys()):
            raise ValueError(
                f"params cannot hold {refused[0]}; weights come from the file model.weights alone"
            )
        found = {"package": f"{self.of} {importlib.metadata.version(self.of)}", "weights_sha256": ""}
        if self.weights is not None:
            found["weights_sha256"] = _sha256_of_weights(self.weights)
        for name, value in found.items():
            given = getattr(self, name)
            if given and given != value:
                raise ValueError(
                    f"{name} is {value or 'empty'} here, and not {given}; use one version of the package and"
                    " of the weights everywhere, or run again"
                )
            object.__setattr__(self, name, value)
        return self


class TorchvisionOptions(VisionOptions):
    of = "torchvision"


class TimmOptions(VisionOptions):
    of = "timm"


@functools.cache
def _architectures(package: str) -> frozenset[str]:
    """The names of the package's classification networks."""
    if package == "timm":
        return frozenset(importlib.import_module("timm").list_models())
    models = importlib.import_module("torchvision.models")
    return frozenset(models.list_models(module=models))


def _sha256_of_weights(path: str) -> str:
    """Raises ValueError where there is no such file, or it is not one of weights."""
    file = Path(path).expanduser()
    if not path.endswith(_ENDINGS):
        raise ValueError(f"weights: {path} is not a file of weights; give one that ends in {_or(_ENDINGS)}")
    if not file.is_file():
        raise ValueError(f"weights: there is no file {path}; correct the path, which every node must see")
    if path.endswith(".safetensors") and find_spec("safetensors") is None:
        raise ValueError("weights: the package safetensors is not installed; pip install safetensors")
    stat = file.stat()
    return _sha256(str(file), stat.st_mtime_ns, stat.st_size)


@functools.cache
def _sha256(path: str, changed: int, size: int) -> str:
    """The digest of a file; hashed once, unless it changes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _or(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}"


def _inputs(options: VisionOptions) -> tuple[str, ...]:
    return options.streams


def _build(options: VisionOptions, classes: int) -> nn.Module:
    """A fresh network. Its first convolution reads the model's channels, and its last layer answers for the
    classes."""
    import torch

    counting = torch.get_default_device().type == "meta"  # somebody asks for the shapes alone
    with torch.device("cpu"), torch.random.fork_rng(devices=(), enabled=counting):
        net = (_of_timm if options.of == "timm" else _of_torchvision)(options, classes)
        if counting:  # not built there at once: some constructors need values
            return net.to("meta")
        if options.weights is not None:
            _load(net, _state(options.weights, options.weights_sha256), options, classes)
    return net


def _of_timm(options: VisionOptions, classes: int) -> nn.Module:
    timm = importlib.import_module("timm")
    return timm.create_model(
        options.arch, pretrained=False, in_chans=len(options.streams), num_classes=classes, **options.params
    )


def _of_torchvision(options: VisionOptions, classes: int) -> nn.Module:
    from torch import nn

    models = importlib.import_module("torchvision.models")
    params = {**(_ONE_HEAD if options.arch in ("googlenet", "inception_v3") else {}), **options.params}
    net = models.get_model(options.arch, weights=None, num_classes=classes, **params)
    name, first = _first_convolution(net)
    if first.in_channels != len(options.streams):
        fresh = nn.Conv2d(
            len(options.streams),
            first.out_channels,
            first.kernel_size,  # type: ignore[arg-type]
            first.stride,  # type: ignore[arg-type]
            first.padding,  # type: ignore[arg-type]
            first.dilation,  # type: ignore[arg-type]
            bias=first.bias is not None,
        )
        net.set_submodule(name, fresh)
    return net


def _first_convolution(net: nn.Module) -> tuple[str, nn.Conv2d]:
    from torch import nn

    return next((name, layer) for name, layer in net.named_modules() if isinstance(layer, nn.Conv2d))


@functools.lru_cache(maxsize=1)
def _state(path: str, sha256: str) -> Mapping[str, torch.Tensor]:
    """The tensors in a file of weights, by name. BadInput where it holds something else."""
    import torch

    file = Path(path).expanduser()
    try:
        if path.endswith(".safetensors"):
            return importlib.import_module("safetensors.torch").load_file(file)
        tree: Any = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # each of the two formats has errors of its own
        said = " ".join(str(error).split()).partition(". ")[0]
        raise BadInput(
            f"{path}: it holds more than tensors, or is broken ({said[:160]}); give a file of weights alone."
        ) from error
    for key in ("state_dict", "model"):
        tree = tree[key] if isinstance(tree, Mapping) and isinstance(tree.get(key), Mapping) else tree
    return {name.removeprefix("module."): value for name, value in tree.items() if torch.is_tensor(value)}


def _load(net: nn.Module, state: Mapping[str, torch.Tensor], options: VisionOptions, classes: int) -> None:
    """Give the network the weights of a file, but a classifier for other classes, which stays fresh.

    The first convolution of a file reads red, green and blue. For another number of channels its weights are
    their sum, shared between the channels, so that a gray picture gives the same answer.

    Raises BadInput where the file is not of this network.
    """
    own = net.state_dict()
    first = f"{_first_convolution(net)[0]}.weight"
    last = [name for name, value in own.items() if value.ndim > 1 and len(value) == classes]
    head = last[-1].removesuffix("weight") if last else ""
    taken: dict[str, torch.Tensor] = {}
    wrong = [name for name in state if name not in own and not name.startswith(_AUXILIARY)]
    for name, value in own.items():
        given = state.get(name)
        if given is None:
            may_lack = (head and name.startswith(head)) or name.endswith("num_batches_tracked")
            wrong += [] if may_lack else [name]
        elif given.shape == value.shape:
            taken[name] = given
        elif name == first and (given.shape[0], *given.shape[2:]) == (value.shape[0], *value.shape[2:]):
            taken[name] = (given.sum(1, keepdim=True) / value.shape[1]).expand_as(value)
        elif not (value.ndim and len(value) == classes and given.shape[1:] == value.shape[1:]):
            wrong.append(name)
    if wrong:
        raise BadInput(
            f"{options.weights}: these are not the weights of {options.arch} as it is configured ({wrong[0]}"
            f" does not fit, and {len(wrong) - 1} more); give the file of this network, or correct"
            " model.arch, model.size and model.params."
        )
    net.load_state_dict(taken, strict=False)


def _info(options: type[VisionOptions], title: str, citation: str) -> ModelInfo:
    return ModelInfo(
        name=options.of,
        title=title,
        citation=citation,
        kind="torch",
        options=options,
        inputs=_inputs,
        build=_build,
        min_size=32,
        native_size=112,
    )


_ALL = (
    _info(
        TorchvisionOptions,
        "Any classification network of torchvision",
        "TorchVision maintainers and contributors, TorchVision: PyTorch's computer vision library, 2016",
    ),
    _info(
        TimmOptions,
        "Any network of timm",
        "Wightman R., PyTorch image models, doi:10.5281/zenodo.4414861, 2019",
    ),
)
MODEL = tuple(info for info in _ALL if find_spec(info.name))
