"""Code that was typed in a notebook (or in the script that is run), written as a module.

A definition is written with everything that it uses there: other definitions, imports and constants. So a
worker can import the text, and its digest changes when any of it changes.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import linecache
import symtable
import sys
import textwrap
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from distmer.types import BadInput

_HEAD = (
    "# Written by distmer: a model that was defined in a notebook or a script, and all that it uses there.\n"
)
_NOTHING = object()
_REMEDY = "or put the model into a file and give './file.py:NAME'"
_LITERALS = (bool, int, float, complex, str, bytes, type(None), list, tuple, dict)


def is_typed(entry: Any) -> bool:
    """Whether a class or a function is in no module that another process can import."""
    return not _can_be_imported(entry.__module__)


def module_of(name: str, entry: Any, call: str) -> str:
    """The text of a module in which ``name`` is the class, the function or the estimator ``entry``. BadInput
    if its source, or that of something that it uses, cannot be found, or is no longer what runs."""
    writer = _Writer(call)
    if isinstance(entry, type | FunctionType):
        writer.need(name, entry, name)
        body = ""
    else:
        body = f"{name} = {writer.expression(entry, name)}\n"
    return _HEAD + "\n".join([*sorted(writer.imports), "", *writer.texts.values(), body])


def public_name(entry: Any) -> str:
    """The shortest dotted name of a class: ``sklearn.svm.SVC``, not ``sklearn.svm._classes.SVC``."""
    parts = entry.__module__.split(".")
    for end in range(1, len(parts) + 1):
        module = ".".join(parts[:end])
        if getattr(sys.modules.get(module), entry.__name__, None) is entry:
            return f"{module}.{entry.__name__}"
    return f"{entry.__module__}.{entry.__qualname__}"


def changed_params(estimator: Any) -> dict[str, Any]:
    """The parameters of an estimator that differ from the defaults of its class."""
    known = inspect.signature(type(estimator).__init__).parameters
    defaults = {name: parameter.default for name, parameter in known.items()}
    given = estimator.get_params(deep=False)
    return {name: value for name, value in given.items() if not _equal(value, defaults.get(name, _NOTHING))}


def require_as_imported(entry: Any, call: str) -> None:
    """BadInput if the file of a class or a function was edited after it was imported: it no longer shows what
    runs."""
    _definition(entry, call)


def _can_be_imported(module: Any) -> bool:
    """Whether another process finds a module by its name: not the script that is run, nor a module that was
    made at run time."""
    if module is None or module == "__main__" or module not in sys.modules:
        return False
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # it has no spec
        return False


def _equal(value: Any, default: Any) -> bool:
    return value is default or (_literal(value) is not None and _literal(value) == _literal(default))


class _Writer:
    """Collects what a module needs: ``imports``, and ``texts`` by name, each after those that it uses."""

    def __init__(self, call: str) -> None:
        self.call = call
        self.imports: dict[str, None] = {}
        self.texts: dict[str, str] = {}
        self._under_way: set[str] = set()

    def need(self, name: str, value: Any, by: str) -> None:
        """Add ``name`` to the module. ``by`` is the definition that uses it."""
        if name in self.texts or name in self._under_way:
            return
        if isinstance(value, ModuleType):
            self._import(name, value, by)
        elif (literal := _literal(value)) is not None:
            self.texts[name] = f"{name} = {literal}\n"
        elif isinstance(value, type | FunctionType) and is_typed(value):
            self._under_way.add(name)
            self._define(name, value)
        else:
            self.imports[f"from {self._home(name, value, by)} as {name}"] = None

    def expression(self, value: Any, by: str) -> str:
        """The Python expression that makes a parameter of an estimator, or an estimator."""
        if (literal := _literal(value)) is not None:
            return literal
        if isinstance(value, list | tuple):
            inner = "".join(f"{self.expression(one, by)}, " for one in value)
            return f"[{inner}]" if isinstance(value, list) else f"({inner})"
        if isinstance(value, dict):
            return f"{{{', '.join(f'{k!r}: {self.expression(v, by)}' for k, v in value.items())}}}"
        if isinstance(value, type | FunctionType):
            self.need(value.__name__, value, by)
            return value.__name__
        if hasattr(value, "get_params"):
            made = self.expression(type(value), by)
            params = changed_params(value).items()
            return f"{made}({', '.join(f'{name}={self.expression(one, by)}' for name, one in params)})"
        if isinstance(value, np.generic):
            return self.expression(value.item(), by)
        raise self._refused(f"a parameter of {by} is a {type(value).__name__}, which has no source")

    def _define(self, name: str, value: Any) -> None:
        text = _definition(value, self.call)
        known: Mapping[str, Any] = next(_functions_of(value)).__globals__
        for parameter, used in _changed_defaults(value, text, known):
            raise self._refused(
                f"the default of {parameter} in {name} was taken from {used}, which has another value now"
            )
        for used in _globals_of(text):
            if used in known and used != value.__name__:
                self.need(used, known[used], name)
        # what was set on it later, such as the size of a function's maps
        later = {key: _literal(one) for key, one in vars(value).items() if not key.startswith("__")}
        for key, one in vars(value).items():
            plain = not key.startswith("_") and not hasattr(one, "__get__")
            if plain and later[key] is None and not _in_body(text, key):
                raise self._refused(f"{name}.{key}, a {type(one).__name__}, was set on {name} later")
        lines = [f"{value.__name__}.{key} = {one}\n" for key, one in later.items() if one is not None]
        alias = [] if name == value.__name__ else [f"{name} = {value.__name__}\n"]
        self.texts[name] = "\n".join([text, *lines, *alias])

    def _import(self, name: str, module: ModuleType, by: str) -> None:
        if not _can_be_imported(module.__name__):
            raise self._refused(f"{by} uses {name!r}, a module that cannot be imported")
        self.imports[f"import {module.__name__}" + ("" if module.__name__ == name else f" as {name}")] = None

    def _home(self, name: str, value: Any, by: str) -> str:
        """``MODULE import NAME`` of something that was imported by name."""
        own: Any = getattr(value, "__module__", None)
        called = getattr(value, "__qualname__", "")
        if _can_be_imported(own) and getattr(sys.modules[own], called, None) is value:
            module, _, called = public_name(value).rpartition(".")
            return f"{module} import {called}"
        holders = [
            holder
            for holder, module in list(sys.modules.items())
            if vars(module).get(name, _NOTHING) is value and _can_be_imported(holder)
        ]
        if not holders:
            raise self._refused(f"{by} uses {name!r}, a {type(value).__name__} that was made there")
        return f"{min(holders, key=lambda holder: (len(holder), holder))} import {name}"

    def _refused(self, what: str) -> BadInput:
        return BadInput(f"{self.call}: {what}; define it there as a plain value, {_REMEDY}.")


def _literal(value: Any) -> str | None:
    """A constant as Python's text; None for anything else, and for sets, whose text has no fixed order."""
    if type(value) not in _LITERALS:
        return None
    text = repr(value)
    try:
        has_set = any(isinstance(node, ast.Set) for node in ast.walk(ast.parse(text)))
        return text if not has_set and ast.literal_eval(text) == value else None
    except (ValueError, SyntaxError):  # something in it is no constant; or it is no number
        return None


def _in_body(text: str, name: str) -> bool:
    """Whether a class's own body gives it an attribute of that name."""
    (node,) = ast.parse(text).body
    return any(
        isinstance(inner, ast.Name) and inner.id == name and isinstance(inner.ctx, ast.Store)
        for inner in ast.walk(node)
    )


def _definition(entry: Any, call: str) -> str:
    """The source of a class or a function. BadInput where there is none, or where it is not what runs."""
    codes = [function.__code__ for function in _functions_of(entry)]
    wholes = {code.co_filename: "".join(linecache.getlines(code.co_filename)) for code in codes}
    file = next((name for name, whole in wholes.items() if whole), "")
    texts = _definitions(entry.__name__, wholes.get(file, ""))
    for text in reversed(texts):
        # Python compiles a file as a whole, and a notebook compiles each statement alone. Imports beside a
        # function change its code.
        how = {"flags": ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, "dont_inherit": True}
        found = [code for part in (wholes[file], text) for code in _codes(compile(part, file, "exec", **how))]
        checked = [code for code in codes if code.co_filename == file] + _methods(entry, text)
        if all(any(_same(code, other) for other in found) for code in checked):
            return text
    if texts:
        raise BadInput(
            f"{call}: {entry.__name__}, or {file}, was changed after it was defined, so what runs is not what"
            " is written there; define it again, or reload its module."
        )
    why = "cannot be found" if codes else "cannot be found, for it has no function of its own"
    raise BadInput(
        f"{call}: the source of {entry.__name__} {why}, and it is part of a fold's identity; define it in a"
        f" cell of a notebook with a function in it, {_REMEDY}."
    )


def _functions_of(entry: Any) -> Iterator[FunctionType]:
    """The function itself, or those that a class's own body defines."""
    members = vars(entry).values() if inspect.isclass(entry) else (entry,)
    for member in members:
        function = inspect.unwrap(getattr(member, "fget", None) or getattr(member, "__func__", member))
        inside = entry.__qualname__ + ("." if inspect.isclass(entry) else "")
        if isinstance(function, FunctionType) and function.__qualname__.startswith(inside):
            yield function


def _changed_defaults(entry: Any, text: str, known: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The parameters whose default is a global name in the text, and was bound to another value than the name
    has now: (parameter, name)."""
    (whole,) = ast.parse(text).body
    body = whole.body if isinstance(whole, ast.ClassDef) else [whole]
    nodes = {node.name: node for node in body if isinstance(node, ast.FunctionDef)}
    own = vars(entry) if isinstance(whole, ast.ClassDef) else {}  # names of the class's body come first
    for function in _functions_of(entry):
        if (node := nodes.get(function.__name__)) is None:
            continue
        places = [*node.args.posonlyargs, *node.args.args]
        written = [*zip(places[len(places) - len(node.args.defaults) :], node.args.defaults, strict=True)]
        written += [
            (at, one) for at, one in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if one
        ]
        for parameter, default in written:
            bound = inspect.signature(function).parameters[parameter.arg].default
            if not isinstance(default, ast.Name) or default.id in own:
                continue
            if not _equal(bound, known.get(default.id, bound)):
                yield parameter.arg, default.id


def _methods(entry: Any, text: str) -> list[CodeType]:
    """What a class now has under the names that its body defines: a function may have been replaced."""
    (node,) = ast.parse(text).body
    body = node.body if isinstance(node, ast.ClassDef) else []
    plain = [one.name for one in body if isinstance(one, ast.FunctionDef) and not one.decorator_list]
    found = [vars(entry).get(name) for name in plain]
    return [function.__code__ for function in found if isinstance(function, FunctionType)]


def _definitions(name: str, whole: str) -> list[str]:
    """The texts of all definitions of a name in a file or a cell, with their decorators."""
    try:
        tree = ast.parse(whole)
    except SyntaxError:
        return []
    lines, found = whole.splitlines(keepends=True), list[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            found.append(textwrap.dedent("".join(lines[first - 1 : node.end_lineno])).rstrip() + "\n")
    return found


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _same(one: CodeType, other: CodeType) -> bool:
    """Whether two functions do the same, wherever they stand."""
    if (one.co_qualname, one.co_code, one.co_names) != (other.co_qualname, other.co_code, other.co_names):
        return False
    pairs = zip(one.co_consts, other.co_consts, strict=False)
    return len(one.co_consts) == len(other.co_consts) and all(
        _same(a, b) if isinstance(a, CodeType) and isinstance(b, CodeType) else repr(a) == repr(b)
        for a, b in pairs
    )


def _globals_of(text: str) -> list[str]:
    """The global names that a definition reads, wherever in it, in the order of the alphabet."""

    def read(table: symtable.SymbolTable) -> Iterator[str]:
        for symbol in table.get_symbols():
            if symbol.is_global() and symbol.is_referenced():
                yield symbol.get_name()
        for inner in table.get_children():
            yield from read(inner)

    found = set(read(symtable.symtable(text, "definition", "exec")))
    return sorted(name for name in found if not name.startswith("__"))
