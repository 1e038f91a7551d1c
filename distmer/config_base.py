"""What the settings of an experiment are built from: sections, marks beside the fields, and their parsing.

The settings themselves are in `distmer.config`, which offers all of this too.
"""

# What YAML gives is untyped until pydantic has read it:
# pyright: strict, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from distmer.registry import nearest
from distmer.storage import Place
from distmer.types import BadInput, JsonValue

S = TypeVar("S", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class PathMark:
    """The mark of a setting that holds a path: a relative one is made absolute when it is read.

    ``kind``: a ``place`` is a path or an address, a ``protocol`` a path if it ends in .yaml, a ``database`` a
    path behind ``sqlite:///``. A ``module``, if it ends in .py, and ``weights`` are beside the file that
    names them."""

    kind: Literal["place", "protocol", "database", "module", "weights"]


@dataclass(frozen=True, slots=True)
class PluginMark:
    """The mark of a `Named` setting, or of a list of them, that may name the user's own code. ``group``: the
    entry-point group in which installed packages announce such code."""

    group: str


ConfigPath = Annotated[str, PathMark("place")]
APART = "apart"
"""The mark of a setting that changes no number: it is in no identity, and acts under all others."""


@dataclass(frozen=True, slots=True)
class ActsIf:
    """The mark of a setting or a section that does nothing unless ``test`` holds for another setting's value.

    ``setting`` is dotted, as seen from the outermost section. ``test`` None: the value is a model's name,
    and the model must be a network.
    """

    setting: str
    words: str  # the condition, for a message
    test: Callable[[Any], bool] | None = None


def acts_if(setting: str, *values: str) -> ActsIf:
    """Acts only where ``setting`` has one of these values."""
    return ActsIf(setting, f"{setting} is {' or '.join(values)}", lambda value: value in values)


@dataclass(frozen=True, slots=True)
class Layer:
    """The settings of one file, of all ``--set`` of a command line, or of a call in Python; see
    `distmer.config_layers`."""

    origin: str
    tree: dict[str, Any]
    override: bool = False


class Section(BaseModel):
    """A part of the configuration. It is frozen, and refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _a_number_is_no_bool(cls, value: Any, info: ValidationInfo) -> Any:
        # pydantic takes true for 1: train.epochs=yes was one epoch, permute_labels=false the seed 0
        wanted = set(_kinds(cls.model_fields[str(info.field_name)].annotation))
        inside = value if isinstance(value, list | tuple) else (value,)
        if wanted & {int, float} and bool not in wanted and any(isinstance(one, bool) for one in inside):
            raise ValueError(f"input should be a number{', or be left out' if type(None) in wanted else ''}")
        return value


class Named(BaseModel):
    """Something that is chosen by its name; every further key is an option of its own.

    ``focal`` alone is short for ``{name: focal}``.
    """

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
    name: str

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def options(self) -> dict[str, JsonValue]:
        return dict(self.model_extra or {})


_MAPPING = "input should be a mapping of settings, such as {{name: value}}"
_PLAIN = {  # kind of error → what pydantic says in the words of Python
    "tuple_type": "input should be a list, such as [a, b]",
    "list_type": "input should be a list, such as [a, b]",
    "dict_type": _MAPPING,
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
    "int_parsing": "input should be a whole number",
    "float_parsing": "input should be a number",
    "too_short": "{min_length} or more are needed",
}


def parse(
    kind: type[S], tree: Mapping[str, Any], origin: str, prefix: str = "", also: Iterable[str] = ()
) -> S:
    """``tree`` as a ``kind``. BadInput names the field by its dotted path, and the nearest one for an unknown
    key. ``also`` are further names that a user may have meant at the outermost level."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        first = _first(error)
        # pydantic names the arm of a union, too: compare.models.tuple[str, ...]
        parts = [str(part) for part in first["loc"] if not {"[", "'"} & set(str(part))]
        where = ".".join([*([prefix] if prefix else []), *parts])
        if first["type"] == "extra_forbidden":
            siblings = [*_fields_at(kind, first["loc"][:-1]), *(also if len(first["loc"]) == 1 else ())]
            hint = nearest(str(first["loc"][-1]), siblings)
            raise BadInput(f"{origin}: {where} is not a setting; {hint}") from error
        given = "" if isinstance(first.get("input"), dict) else f", not {first.get('input')!r}"
        if plain := _PLAIN.get(first["type"]):
            message = plain.format(**first.get("ctx", {}))
        else:
            message = first["msg"].removeprefix("Value error, ")
        raise BadInput(
            f"{origin}: {where and f'{where}: '}{message[0].lower()}{message[1:]}{given}."
        ) from error


def _first(error: ValidationError) -> ErrorDetails:
    """The first error. Where "all" or a list is wanted and it is neither, the one that tells of the list."""
    first, *more = error.errors()
    lists = (one for one in more if one["type"] == "tuple_type" and one["loc"][:-1] == first["loc"][:-1])
    return next(lists, first) if first["type"] == "literal_error" else first


class _Yaml(yaml.SafeLoader):
    """YAML, in which a number that begins with 0 or has a colon stays text.

    PyYAML reads YAML 1.1, where 010 is eight, 006_1_2 (a clip of SAMM) is 394, and 1:40 is a hundred.
    """


def _number(kind: str) -> None:
    of_yaml = _Yaml.yaml_constructors[f"tag:yaml.org,2002:{kind}"]

    def construct(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Any:
        text = str(node.value)
        return text if ":" in text or re.fullmatch(r"[-+]?0[0-7_]+", text) else of_yaml(loader, node)

    _Yaml.add_constructor(f"tag:yaml.org,2002:{kind}", construct)


_number("int")
_number("float")


def from_yaml(text: str) -> Any:
    """The value of a text in YAML. Raises YAMLError."""
    return yaml.load(text, Loader=_Yaml)  # noqa: S506  # it is a SafeLoader


def read_yaml(path: Place, what: str, remedy: Callable[[], str]) -> Any:
    """The content of a YAML file. BadInput if it cannot be read, with ``what`` it is and the ``remedy``."""
    try:
        return from_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{path}: the {what} cannot be read ({error.strerror}); {remedy()}") from error
    except UnicodeDecodeError as error:
        problem = f"the {what} is not UTF-8 text (byte {error.start})"
        raise BadInput(f"{path}: {problem}; save it as UTF-8.") from error
    except yaml.YAMLError as error:
        raise BadInput(f"{path}: not valid YAML ({' '.join(str(error).split())[:160]}).") from error


def _fields_at(kind: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The field names of the (nested) model at a pydantic error location."""
    for part in location:
        if (info := kind.model_fields.get(str(part))) is None:
            break
        for candidate in _arms(info.annotation):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                kind = candidate
    return list(kind.model_fields)


def _kinds(annotation: Any) -> Iterator[Any]:
    """The types that a value, or an element of a list of them, may have. Options by name are apart."""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is Literal:
        yield from map(type, arguments)
    elif typing.get_origin(annotation) is dict or not arguments:
        yield annotation
    else:
        for argument in arguments:
            yield from _kinds(argument)


def _arms(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, Annotated, dict):
        return typing.get_args(annotation)
    return (annotation,)
