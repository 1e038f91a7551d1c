"""The flow and the strain that the settings name, ready to be called: distmer's own or the user's.

The answer of a user's code is checked each time. `try_methods` finds broken code before the extraction
begins. Code that fails on a single clip is a `MethodError`, which concerns this clip alone.
"""

# pyright: strict, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from distmer.code import digests_of
from distmer.config import Config, FeatureConfig, Named
from distmer.features.frames import ByteArray, Float32Array
from distmer.functions import FLOW, STRAIN, Function, resolve
from distmer.idle import why_idle
from distmer.plugins import own_modules, raised
from distmer.types import BadInput, JsonValue, OtherCode


class MethodError(Exception):
    """A user's flow or strain cannot be used on this clip. The message is one sentence: what it did, and
    where in the user's code."""


@dataclass(frozen=True, slots=True, eq=False)
class Method:
    """A flow or a strain with its options filled in."""

    function: Function
    call: Callable[..., Any]

    def __call__(self, *arrays: Any) -> Float32Array:
        """The flow (H, W, 2) of two crops (H, W), or the strain (H, W) of a flow (H, W, 2); float32.
        MethodError where a user's own raises, or answers with something else."""
        if self.function.is_own:
            return self.call(*arrays)
        try:  # with copies, because the originals are stored
            answer = self.call(*(array.copy() for array in arrays))
        except Exception as error:
            raise MethodError(raised(self._name, error)) from error
        height, width = arrays[0].shape[:2]
        wanted = (height, width, 2) if self.function.kind is FLOW else (height, width)
        is_array: bool = isinstance(answer, np.ndarray)
        found = f"an array {answer.shape} of {answer.dtype}" if is_array else f"a {type(answer).__name__}"
        if not is_array or answer.shape != wanted or answer.dtype != np.float32:
            raise MethodError(
                f"{self._name}: it answered with {found}; return a NumPy array {wanted} of float32."
            )
        if not np.isfinite(answer).all():
            raise MethodError(f"{self._name}: it answered with values that are no numbers (NaN or infinity).")
        return np.ascontiguousarray(answer)

    def identity(self, modules: Iterable[str] | None = None) -> JsonValue:
        """It in a feature key: the name of distmer's own, whose code FEATURE_EPOCH stands for. Of a user's
        own also its options, its distribution, and the digests of all modules of its own: ``modules``, where
        another process has found them."""
        function = self.function
        if function.is_own:
            return function.setting if function.options else function.name
        return {
            "name": function.name,
            "options": dict(function.options),
            "distribution": function.distribution,
            "code": digests_of(own_modules(function.module) if modules is None else modules),
        }

    @property
    def _name(self) -> str:
        return f"{self.function.kind.what} {self.function.name}"


@dataclass(frozen=True, slots=True, eq=False)
class Methods:
    """The flow and the strain of some settings, and both in a feature key."""

    flow: Method
    strain: Method

    @property
    def identity(self) -> dict[str, JsonValue]:
        return {"flow": self.flow.identity(), "strain": self.strain.identity()}


def methods(cfg: FeatureConfig) -> Methods:
    """The flow and the strain of these settings. What they name is imported once. BadInput for an unknown
    name or option (with the nearest one), and for code that raises when it is imported or made."""
    return _methods(cfg.model_dump_json(include={"flow", "strain"}))


def acting_methods(config: Config) -> Methods | None:
    """The flow and the strain of a configuration; None where its data are published flow maps."""
    idle = why_idle("features", config.model_dump(mode="json"), lambda name: True)
    return None if idle else methods(config.features)


def portable(cfg: FeatureConfig) -> FeatureConfig:
    """The settings for another machine: a user's own code by its module, because its path leads nowhere
    there."""
    found = methods(cfg)
    names = {"flow": found.flow.function.setting, "strain": found.strain.function.setting}
    return cfg.model_copy(update={key: Named.model_validate(name) for key, name in names.items()})


def require_same(cfg: FeatureConfig, planned: Mapping[str, JsonValue]) -> None:
    """OtherCode unless the flow and the strain here are those that another process has planned with:
    ``planned``, its `Methods.identity`. The features are stored under it."""
    found = methods(cfg)
    for theirs, method in ((planned["flow"], found.flow), (planned["strain"], found.strain)):
        if method.identity(theirs.get("code") if isinstance(theirs, dict) else None) != theirs:
            raise OtherCode(
                f"{method.function.kind.what} {method.function.name} on {platform.node()} is not the version"
                " that this run was planned with; use one version on all nodes, and run again if a file was"
                " edited."
            )


def try_methods(cfg: FeatureConfig) -> None:
    """Call a user's flow and strain with a random pair of crops, before anything expensive is begun.
    distmer's own are not tried: their tests do it.

    BadInput where one raises (with its file and line), answers with another shape or type, or with something
    that is no number, or with other numbers the second time.
    """
    if not all(method.function.is_own for method in (methods(cfg).flow, methods(cfg).strain)):
        _tried(cfg.model_dump_json(include={"flow", "strain", "size"}))


@lru_cache
def _tried(settings: str) -> None:
    cfg = FeatureConfig.model_validate_json(settings)
    found = methods(cfg)
    noise_HW = np.random.default_rng(0).integers(0, 256, (cfg.size, cfg.size), dtype=np.uint8)
    onset_HW: ByteArray = np.asarray(cv2.GaussianBlur(noise_HW, (0, 0), 2), dtype=np.uint8)
    apex_HW = np.roll(onset_HW, 1, axis=1)
    # a frame and its negative differ more than two random ones do
    flow_HW2 = _twice(found.flow, (onset_HW, apex_HW), (onset_HW, 255 - onset_HW))
    _twice(found.strain, (flow_HW2,), (3 * flow_HW2[::-1] + 1,))


def _twice(method: Method, arrays: tuple[Any, ...], others: tuple[Any, ...]) -> Float32Array:
    """The method's answer for a pair, which must be the same again after it has answered for another one."""
    try:
        first, _, second = method(*arrays), method(*others), method(*arrays)
    except MethodError as error:
        raise BadInput(str(error)) from error
    if not np.array_equal(first, second):
        what, name = method.function.kind.what, method.function.name
        raise BadInput(
            f"{what} {name}: it answered a pair of random crops with other numbers the second time; let it"
            " keep nothing from one clip to the next, and give its random numbers a fixed seed, for features"
            " are computed once and must be the same everywhere."
        )
    return first


@lru_cache
def _methods(settings: str) -> Methods:
    cfg = FeatureConfig.model_validate_json(settings)
    return Methods(_made(resolve(FLOW, cfg.flow)), _made(resolve(STRAIN, cfg.strain)))


def _made(function: Function) -> Method:
    try:
        return Method(function, function.bound())
    except Exception as error:  # the constructor of a user's class
        raise BadInput(raised(f"{function.kind.what} {function.name}: making it", error)) from error
