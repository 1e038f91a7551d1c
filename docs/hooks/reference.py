"""A hook of MkDocs: the reference of commands and of settings, made from the code that reads them."""

from __future__ import annotations

import ast
import inspect
import json
import types
import typing
from collections.abc import Iterable, Iterator
from html import escape
from itertools import pairwise
from typing import Annotated, Any, Literal, Union

import annotated_types as at
import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from distmer.cli import main
from distmer.config import ActsIf, Config, ModelConfig, Named, PathMark
from distmer.experiment.comparison import CompareConfig
from distmer.experiment.curve import CurveConfig
from distmer.habits.config import HabitsConfig
from distmer.sweep.space import Domain, SweepConfig

# What a configuration of some command has beside the settings of an experiment.
OF_COMMANDS = {
    "compare": CompareConfig,
    "sweep": SweepConfig,
    "curve": CurveConfig,
    "habits": HabitsConfig,
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Puts the commands and the settings where a page asks for them."""
    for mark, made in (("<!-- commands -->", commands), ("<!-- settings -->", settings)):
        if mark in markdown:
            markdown = markdown.replace(mark, made())
    return markdown


def commands() -> str:
    """Every command: its help, its usage, its options."""
    return "\n\n".join(_command(name, command) for name, command in leaves(main, "distmer"))


def leaves(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """The commands of a group and of the groups in it, by their full names."""
    if not isinstance(command, click.Group):
        yield name, command
        return
    for key, each in command.commands.items():
        yield from leaves(each, f"{name} {key}")


def _command(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=name)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    parts = [f"## {name}", _plain(inspect.cleandoc(command.help or "")), f"    {usage}"]
    for option in command.params:
        if isinstance(option, click.Option) and (record := option.get_help_record(context)):
            parts.append(_entry(f"`{record[0]}`", record[1]))
    return "\n\n".join(parts)


def settings() -> str:
    """Every setting: its type and bounds, its default, its text, and when it acts."""
    parts = ["## The experiment", *_entries(Config, "")]
    for name, field in Config.model_fields.items():
        if _is_section(field.annotation):
            parts += _section(name, field.annotation, field.metadata)
    for name, kind in OF_COMMANDS.items():
        parts += _section(name, kind, ())
    parts += ["### The values of a searched setting", inspect.cleandoc(Domain.__doc__ or "")]
    parts += _entries(Domain, "sweep.space.NAME.")
    return "\n\n".join(parts)


def _section(name: str, kind: Any, metadata: Iterable[Any]) -> Iterator[str]:
    yield f"{'#' * (2 + name.count('.'))} {name}"
    yield " ".join([_plain(inspect.cleandoc(kind.__doc__ or "")), *_conditions(metadata)])
    yield from _entries(kind, f"{name}.")
    for key, field in kind.model_fields.items():
        if _is_section(field.annotation):
            yield from _section(f"{name}.{key}", field.annotation, field.metadata)


def _entries(kind: type[BaseModel], prefix: str) -> Iterator[str]:
    texts = texts_of(kind)
    for key, field in kind.model_fields.items():
        if not _is_section(field.annotation):
            name = f"{prefix}{key}"
            facts = f"{_values(field.annotation, field.metadata)}; {_default(field)}"
            text = " ".join([texts.get(key, ""), *_conditions(field.metadata)])
            yield _entry(f"`{name}` · {facts} {{ #{name} }}", text)


def texts_of(kind: type[BaseModel]) -> dict[str, str]:
    """The string below each field of a section, in its source."""
    [tree] = ast.parse(inspect.getsource(kind)).body
    assert isinstance(tree, ast.ClassDef)
    texts: dict[str, str] = {}
    for field, below in pairwise(tree.body):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
            assert isinstance(field.target, ast.Name)
            texts[field.target.id] = inspect.cleandoc(ast.literal_eval(below.value))
    return texts


def _entry(term: str, text: str) -> str:
    """An entry of a list of definitions."""
    shown = _plain(text).replace("\n", "\n    ")
    return f"{term}\n:   {shown}"


def _plain(text: str) -> str:
    """Text whose angle brackets are no HTML. What stands in backticks is left as it is."""
    parts = text.replace("``", "`").split("`")
    return "`".join(part if n % 2 else escape(part, quote=False) for n, part in enumerate(parts))


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and (
        issubclass(annotation, ModelConfig)
        or (issubclass(annotation, BaseModel) and not issubclass(annotation, Named))
    )


def _conditions(metadata: Iterable[Any]) -> list[str]:
    return [f"*It acts only where {_plain(mark.words)}.*" for mark in metadata if isinstance(mark, ActsIf)]


def _values(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """What a setting may be, in words."""
    marks = [
        inner for mark in metadata for inner in (mark.metadata if isinstance(mark, FieldInfo) else [mark])
    ]
    origin, arms = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _values(arms[0], (*arms[1:], *marks))
    if origin is Literal:
        return _or([f"`{arm}`" for arm in arms])
    if origin in (Union, types.UnionType):
        return _or([_values(arm, marks) for arm in arms if arm is not type(None)])
    if origin is tuple:
        return (
            f"a list, each {_values(arms[0])}" if arms[-1] is ... else f"[{_noun(arms[0])}, {_noun(arms[1])}]"
        )
    if origin is dict:
        return "a mapping"
    path = next((mark.kind for mark in marks if isinstance(mark, PathMark)), None)
    words = _PATHS.get(path or "") or _noun(annotation)
    return ", ".join([words, *_bounds(marks)])


_PATHS = {"place": "a path or an address", "protocol": "a name or a path", "module": "a module or a path"}
_NOUNS = {bool: "`true` or `false`", int: "a whole number", float: "a number", str: "text"}


def _noun(annotation: Any) -> str:
    if isinstance(annotation, type) and issubclass(annotation, Named):
        return "a name, or `{name: …}` with its options"
    return _NOUNS.get(annotation, "any value")


def _bounds(marks: Iterable[Any]) -> Iterator[str]:
    words = {
        at.Ge: ("ge", "at least"),
        at.Gt: ("gt", "above"),
        at.Le: ("le", "at most"),
        at.Lt: ("lt", "below"),
    }
    for mark in marks:
        if type(mark) in words:
            attribute, said = words[type(mark)]
            bound = getattr(mark, attribute)
            power = int(bound).bit_length() - 1
            yield f"{said} {f'2^{power}' if power > 30 and bound == 2**power else bound}"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Named):
        value = value.name
    shown = value if isinstance(value, str) else json.dumps(value)
    return "no default" if value is None else f"default `{shown}`"


def _or(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
