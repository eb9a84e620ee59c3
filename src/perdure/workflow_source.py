"""What the source of a coroutine workflow shows before it ever runs.

A step that is named there and not declared, and a name that is surely asked for twice, would leave
every instance stuck: they are found when the workflow is declared. Where there is no source, or a
name is found out only when it runs, nothing is said here. Next to read: ``workflow_checks.py``,
which finds the rest.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from perdure.correlating import name_of
from perdure.errors import AskedTwice, UnknownStep
from perdure.messages import type_info_of
from perdure.workflow_checks import Declared

__all__ = ["check_source"]

_KINDS = {"step": "step", "sleep": "sleep", "wait_event": "event", "child": "child"}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_SCOPES = (*_FUNCTIONS, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
"""Names may stand for something else inside these."""
_PERHAPS = (
    ast.If, ast.For, ast.AsyncFor, ast.While, ast.Match, ast.ExceptHandler, ast.IfExp, ast.BoolOp,
)  # fmt: skip
"""What is inside these, or inside a scope, may be done once, often, or not at all."""
_UNKNOWN = object()


def check_source(body: Any, declared: Declared) -> None:
    """Raise ``UnknownStep`` or ``AskedTwice`` for what cannot work."""
    node = _parsed(body)
    if node is None or not node.args.args:
        return
    context = node.args.args[0].arg
    if any(isinstance(n, ast.Name) and n.id == context and _is_set(n) for n in ast.walk(node)):
        return
    reading = _Reading(body, declared)
    for call in _calls(node, context):
        reading.read(call)


def _parsed(body: Any) -> ast.AsyncFunctionDef | None:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(body)))
    except (OSError, TypeError, SyntaxError):
        return None
    found = tree.body[0] if tree.body else None
    is_it = isinstance(found, ast.AsyncFunctionDef) and found.name == body.__name__
    return found if is_it and isinstance(found, ast.AsyncFunctionDef) else None


def _is_set(name: ast.Name) -> bool:
    return not isinstance(name.ctx, ast.Load)


@dataclass(frozen=True, slots=True)
class _Call:
    """A call of one of the context's methods.

    ``is_certain``: it is made, and once. ``is_own_scope``: names are those of the coroutine itself.
    """

    node: ast.Call
    is_certain: bool
    is_own_scope: bool


def _calls(
    node: ast.AST, context: str, is_certain: bool = True, is_own_scope: bool = True
) -> Iterator[_Call]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _FUNCTIONS) and context in _parameters(child):
            continue  # another one, perhaps
        if isinstance(child, ast.Call) and _is_asking(child.func, context):
            yield _Call(child, is_certain, is_own_scope)
        yield from _calls(
            child,
            context,
            is_certain and not isinstance(child, (*_PERHAPS, *_SCOPES)),
            is_own_scope and not isinstance(child, _SCOPES),
        )


def _parameters(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> set[str]:
    return {node.arg for node in ast.walk(function.args) if isinstance(node, ast.arg)}


def _is_asking(function: ast.expr, context: str) -> bool:
    return (
        isinstance(function, ast.Attribute)
        and function.attr in _KINDS
        and isinstance(function.value, ast.Name)
        and function.value.id == context
    )


class _Reading:
    """One coroutine's calls, and what was seen so far."""

    def __init__(self, body: Any, declared: Declared) -> None:
        self._body = body
        self._declared = declared
        self._seen: dict[tuple[str, str], int] = {}
        code = body.__code__
        self._locals = {*code.co_varnames, *code.co_cellvars}
        try:
            self._closure = dict(inspect.getclosurevars(body).nonlocals)
        except ValueError:  # a name that is defined later
            self._closure = {}

    def read(self, call: _Call) -> None:
        """Check one call."""
        node = call.node
        assert isinstance(node.func, ast.Attribute)
        kind, named = _KINDS[node.func.attr], {one.arg for one in node.keywords}
        what = self._value(node.args[0], call.is_own_scope) if node.args else _UNKNOWN
        if kind == "step":
            what = self._step(what)
        elif kind == "event":
            what = self._event(what)
        elif kind == "sleep" and not node.args:
            what = "sleep"
        if call.is_certain and isinstance(what, str) and not named & {"key", "name", None}:
            self._once(kind, what, self._body.__code__.co_firstlineno + node.lineno - 1)

    def _value(self, node: ast.expr, is_own_scope: bool) -> Any:
        """What an expression stands for, as far as that is known before it runs."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Attribute):
            owner = self._value(node.value, is_own_scope)
            found = inspect.getattr_static(owner, node.attr, _UNKNOWN)
            return _UNKNOWN if owner is _UNKNOWN else found
        if not isinstance(node, ast.Name) or not is_own_scope or node.id in self._locals:
            return _UNKNOWN
        if node.id in self._body.__code__.co_freevars:
            return self._closure.get(node.id, _UNKNOWN)
        return self._body.__globals__.get(node.id, _UNKNOWN)

    def _step(self, what: Any) -> Any:
        """The step's name. Raises ``UnknownStep``."""
        steps = self._declared.steps
        if isinstance(what, FunctionType):
            spec = self._declared.by_function.get(what)
            if spec is None:
                raise self._unknown("step", repr(what.__name__))
            return spec.name
        if isinstance(what, str) and what not in steps:
            raise self._unknown("step", repr(what))
        return what

    def _event(self, what: Any) -> Any:
        """The event's name. Raises ``UnknownStep``."""
        if not isinstance(what, (str, type)):
            return _UNKNOWN
        if what not in self._declared.events:
            raise self._unknown("event", name_of(what))
        info = None if isinstance(what, str) else type_info_of(what)
        return what if info is None else info.name

    def _once(self, kind: str, name: str, line: int) -> None:
        before = self._seen.get((kind, name))
        self._seen[kind, name] = line
        if before is not None:
            raise AskedTwice(
                f"{kind} {name!r} is asked for in line {before} and in line {line}",
                saga=self._declared.name,
                remedy="give one of them a key=" if kind == "step" else "give one another name",
            )

    def _unknown(self, what: str, name: str) -> UnknownStep:
        return UnknownStep(
            f"the workflow asks for {what} {name}, and does not declare it",
            saga=self._declared.name,
            remedy=f"add it to {what}s=",
        )
