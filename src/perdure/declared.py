"""The tables that the decorators of a process manager fill.

``declarations_of`` reads the notes of a class and refuses what cannot work. Knows no kernel. Next
to read: ``process_manager.py``, whose callbacks look things up here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from perdure.core.correlation import VerdictKind
from perdure.core.family import Cancel, ChildEnded
from perdure.correlating import (
    By,
    EventType,
    check_declared,
    key_of,
    name_of,
    refuse_coroutine,
)
from perdure.declarations import NOTES, Note, When
from perdure.errors import DefinitionError, DuplicateHandler
from perdure.messages import (
    CommandFailed,
    DeadlineReached,
    ExternalEvent,
    Metadata,
    TimeoutReached,
)

__all__ = ["Declarations", "Handler", "Route", "declarations_of", "folder_by_hand"]

_ABOUT = {
    "on_timeout": "the timeout",
    "on_command_failed": "any failed command",
    "on_child_ended": "any child",
    "on_cancelled": "a cancellation",
}
_KINDS = {
    "starts": VerdictKind.START,
    "continues": VerdictKind.CONTINUE,
    "stops": VerdictKind.STOP,
}
_OF_MESSAGES = {*_KINDS, "applies", "compensates"}


@dataclass(frozen=True, slots=True)
class Route:
    """Where an event goes: the verdict, and how its id is found."""

    kind: VerdictKind
    strict: bool
    by: By
    key: Callable[[Any, Metadata], Any]


@dataclass(frozen=True, slots=True)
class Handler:
    """A handler and the guard that admits it (None: always), as a function and as declared."""

    call: Callable[..., Any]
    admits: Callable[[Any], bool] | None
    when: When = None


@dataclass
class Declarations:
    """What a saga class declares. Keys are event classes or the names of outside events."""

    routes: dict[EventType, Route] = field(default_factory=dict)
    handlers: dict[EventType, list[Handler]] = field(default_factory=dict)
    appliers: dict[EventType, Callable[..., Any]] = field(default_factory=dict)
    deadlines: dict[str, list[Handler]] = field(default_factory=dict)
    timeouts: list[Handler] = field(default_factory=list)
    failures: dict[type | None, list[Handler]] = field(default_factory=dict)
    children: dict[str | None, list[Handler]] = field(default_factory=dict)
    cancellations: list[Handler] = field(default_factory=list)
    compensators: dict[type, Callable[..., Any]] = field(default_factory=dict)

    def handlers_of(self, event: Any) -> list[Handler]:
        """The handlers declared for this event, in order of declaration."""
        kind = type(event)
        if kind is DeadlineReached:
            return self.deadlines.get(event.name, [])
        if kind is TimeoutReached:
            return self.timeouts
        if kind is CommandFailed:
            of_any = self.failures.get(None, [])
            return [*self.failures.get(type(event.command), []), *of_any]
        if kind is ChildEnded:
            return [*self.children.get(event.name, []), *self.children.get(None, [])]
        if kind is Cancel:
            return self.cancellations
        return self.handlers.get(event.type if kind is ExternalEvent else kind, [])

    def taken(self, interests: Iterable[EventType], state: Any) -> list[EventType]:
        """Those that a handler takes in this state. Raises what a guard raises."""
        return [
            one
            for one in interests
            if any(h.admits is None or h.admits(state) for h in self.handlers.get(one, ()))
        ]

    def folder(self, saga: Any) -> Callable[[Any, Any, Metadata], Any]:
        """As ``apply``, with one look-up: it is called for every event ever folded."""
        appliers = {kind: call.__get__(saga) for kind, call in self.appliers.items()}

        def fold(state: Any, event: Any, metadata: Metadata) -> Any:
            applier = appliers.get(event.type if type(event) is ExternalEvent else type(event))
            return state if applier is None else applier(state, event, metadata)

        return fold


def declarations_of(cls: type) -> Declarations:
    """The tables of a saga class, inherited declarations first."""
    found = Declarations()
    for name, function in _functions(cls):
        for note in reversed(getattr(function, NOTES, ())):  # in the order they are read
            try:
                if note.role in _OF_MESSAGES:
                    check_declared(note.role, note.what, may_be_name=note.role != "compensates")
                _enter(found, note, function)
            except DefinitionError as error:
                error.problem = f"{cls.__name__}.{name}: {error.problem}"
                raise error.about(getattr(cls, "name", cls.__name__)) from None
    return found


def _functions(cls: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    names: dict[str, None] = {}
    for base in reversed(cls.__mro__):
        names.update(dict.fromkeys(vars(base)))
    for name in names:
        function = inspect.getattr_static(cls, name)
        if callable(function) and hasattr(function, NOTES):
            yield name, function


def _enter(found: Declarations, note: Note, function: Callable[..., Any]) -> None:
    if note.role in _KINDS:
        _takes(function, 4, "(self, state, event, do)")
        for event in note.what:
            _enter_route(found, note, event, function)
    elif note.role == "applies":
        metadata = _takes(function, 3, "(self, state, event) or (…, metadata)", optional=1) == 4
        for event in note.what:
            _once(found.appliers, event, function if metadata else _without_metadata(function))
    elif note.role == "compensates":
        _takes(function, 3, "(self, state, failed_command)")
        for command in note.what:
            _once(found.compensators, command, function)
    else:
        _enter_told(found, note, function)


_TOLD = {
    "on_deadline": "(self, state, do)",
    "on_timeout": "(self, state, do)",
    "on_command_failed": "(self, state, failure, do)",
    "on_child_ended": "(self, state, ended, do)",
    "on_cancelled": "(self, state, cancel, do)",
}


def _enter_told(found: Declarations, note: Note, function: Callable[..., Any]) -> None:
    """A handler of what the runtime itself tells."""
    form = _TOLD[note.role]
    _takes(function, form.count(",") + 1, form)
    call = _without_event(function) if form == "(self, state, do)" else function
    tables: dict[str, dict[Any, list[Handler]]] = {
        "on_deadline": found.deadlines,
        "on_command_failed": found.failures,
        "on_child_ended": found.children,
    }
    if note.role in tables:
        for what in note.what or (None,):
            _add(tables[note.role].setdefault(what, []), note, call)
    else:
        _add(found.timeouts if note.role == "on_timeout" else found.cancellations, note, call)


def _enter_route(
    found: Declarations, note: Note, event: EventType, function: Callable[..., Any]
) -> None:
    assert note.by is not None
    if event is CommandFailed:
        raise DefinitionError(
            f"@{note.role}(CommandFailed): it comes to whoever sent the command",
            remedy="use @on_command_failed, @compensates or @applies(CommandFailed)",
        )
    route = Route(_KINDS[note.role], note.strict, note.by, key_of(event, note.by))
    known = found.routes.get(event)
    if known is not None and (known.kind, known.strict) != (route.kind, route.strict):
        raise DuplicateHandler(
            f"{name_of(event)} cannot both {known.kind.name.lower()} and {route.kind.name.lower()}",
            remedy="declare it once; a start continues an instance that exists",
        )
    if known is not None and known.by != note.by:
        raise DuplicateHandler(
            f"{name_of(event)} is correlated by {known.by!r} and by {note.by!r}",
            remedy="give all its handlers the same by=",
        )
    found.routes[event] = known or route
    _add(found.handlers.setdefault(event, []), note, function)


def _add(handlers: list[Handler], note: Note, call: Callable[..., Any]) -> None:
    if any(handler.admits is None for handler in handlers):
        raise DuplicateHandler(
            f"a second handler for {', '.join(map(name_of, note.what)) or _ABOUT[note.role]}",
            remedy="guard the first with when=, or join the two",
        )
    handlers.append(Handler(call, _guard(note.when), note.when))


def _once(table: dict[Any, Callable[..., Any]], key: Any, function: Callable[..., Any]) -> None:
    if key in table:
        raise DuplicateHandler(f"a second function for {name_of(key)}", remedy="join the two")
    table[key] = function


def _takes(function: Callable[..., Any], count: int, form: str, optional: int = 0) -> int:
    parameters = inspect.signature(function).parameters.values()
    positional = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
    if not count <= positional <= count + optional:
        raise DefinitionError(f"it takes {positional} parameters", remedy=f"declare it as {form}")
    return positional


def _without_metadata(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, state, event, metadata: function(self, state, event)


def _without_event(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, state, event, do: function(self, state, do)


def _guard(when: When) -> Callable[[Any], bool] | None:
    if when is None:
        return None
    if callable(when):
        refuse_coroutine(when, "when=")
        return when
    wanted = frozenset((when,) if isinstance(when, str) else when)
    return lambda state: state.status in wanted


def folder_by_hand(apply: Callable[..., Any]) -> Callable[[Any, Any, Metadata], Any]:
    """``apply`` written by hand takes (state, event), and the metadata if it asks for it."""
    if len(inspect.signature(apply).parameters) > 2:
        return apply
    return lambda state, event, metadata: apply(state, event)
