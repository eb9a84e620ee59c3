"""The decorators of a process manager, and the tables they fill.

    @starts(OrderPlaced, by="order_id")                        # creates the instance
    @continues(PaymentReceived, by="order_id", when="awaiting_payment")
    @stops(OrderCancelled, by=("region", "order_id"))          # composite id; completes afterwards
    @applies(PaymentReceived)                                  # folds into the state
    @on_deadline("pick")                                       # a deadline set with do.deadline
    @on_timeout                                                # the whole process took too long
    @on_command_failed(ReserveInventory)                       # this command failed for good …
    @compensates(ReserveInventory)                             # … and this makes up for it

A decorator only notes what it was told on the function; ``declarations_of`` reads the notes of a
class into tables and refuses what cannot work. Next to read: ``process_manager.py``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from perdure.core.correlation import VerdictKind
from perdure.correlating import (
    CORRELATION_ID,
    By,
    EventType,
    check_declared,
    key_of,
    name_of,
    refuse_coroutine,
)
from perdure.errors import (
    DefinitionError,
    DuplicateHandler,
    NotAPlainFunction,
)
from perdure.messages import (
    CommandFailed,
    DeadlineReached,
    ExternalEvent,
    Metadata,
    TimeoutReached,
)

__all__ = [
    "CORRELATION_ID",
    "Declarations",
    "applies",
    "compensates",
    "continues",
    "declarations_of",
    "on_command_failed",
    "on_deadline",
    "on_timeout",
    "starts",
    "stops",
]

F = TypeVar("F", bound=Callable[..., Any])


When: TypeAlias = str | tuple[str, ...] | Callable[[Any], bool] | None


@dataclass(frozen=True, slots=True)
class _Note:
    """What a decorator was told. ``what``: event types, a deadline's name, or command classes."""

    role: str
    what: tuple[Any, ...] = ()
    by: By | None = None
    when: When = None
    strict: bool = False


_NOTES = "__perdure_notes__"
_ABOUT = {"on_timeout": "the timeout", "on_command_failed": "any failed command"}
_KINDS = {
    "starts": VerdictKind.START,
    "continues": VerdictKind.CONTINUE,
    "stops": VerdictKind.STOP,
}
_OF_MESSAGES = {*_KINDS, "applies", "compensates"}


def _noting(note: _Note) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise NotAPlainFunction(
                f"@{note.role} on the coroutine {function.__qualname__}",
                remedy="make it a plain function; what must wait belongs into a worker",
            )
        setattr(function, _NOTES, [*getattr(function, _NOTES, ()), note])
        return function

    return decorate


def starts(*events: EventType, by: By, when: When = None, strict: bool = False) -> Callable[[F], F]:
    """The event starts an instance, or continues it: ``def f(self, state, event, do)``.

    ``by`` names the instance: a field, several fields (a composite id), a function of the event
    (a list of ids means several instances), or ``CORRELATION_ID``. ``when`` guards on the state
    *before* the event: a status, several, or a predicate; a message that no guard admits is neither
    applied nor handled. ``strict`` raises at the sender where the plain form ignores or adapts.
    """
    return _noting(_Note("starts", events, by, when, strict))


def continues(
    *events: EventType, by: By, when: When = None, strict: bool = False
) -> Callable[[F], F]:
    """The event continues an instance; ``on_missing`` decides if there is none. See ``starts``."""
    return _noting(_Note("continues", events, by, when, strict))


def stops(*events: EventType, by: By, when: When = None, strict: bool = False) -> Callable[[F], F]:
    """As ``continues``; the instance is completed after the handler. See ``starts``.

    A message that no guard admits stops nothing.
    """
    return _noting(_Note("stops", events, by, when, strict))


def applies(*events: EventType) -> Callable[[F], F]:
    """Folds the event: ``def f(self, state, event)`` or ``(self, state, event, metadata)``.

    Returns the next state, or changes the (private) state it is given and returns None.
    """
    return _noting(_Note("applies", events))


def on_deadline(name: str, *, when: When = None) -> Callable[[F], F]:
    """Handles a reached deadline: ``def f(self, state, do)``."""
    if not isinstance(name, str) or not name:
        raise DefinitionError("@on_deadline without a name", remedy='as @on_deadline("payment")')
    return _noting(_Note("on_deadline", (name,), when=when))


def on_timeout(function: F) -> F:
    """Handles that the process took longer than its ``timeout``: ``def f(self, state, do)``.

    Without one the instance fails with the reason "timed out", or, when the retries of a
    ``timeout_retry`` are used up, "timed out after maximum retries".
    """
    return _noting(_Note("on_timeout"))(function)


def compensates(*commands: type) -> Callable[[F], F]:
    """Makes up for a command that failed for good: ``def f(self, state, failed_command)``.

    Returns commands, which are performed in this order, each when the one before is done with; or
    effects, carried out as they are; None or nothing to skip. Called in the turn of the failure,
    after ``@applies(CommandFailed)`` and ``@on_command_failed``, with the state these have led to,
    also if that turn ends the process.
    """
    return _noting(_Note("compensates", commands))


def on_command_failed(*commands: type, when: When = None) -> Callable[[F], F]:
    """Handles that a command failed for good: ``def f(self, state, failure, do)``.

    ``failure`` is a ``CommandFailed``. Without commands: any, also one that nobody can decode. A
    handler for the command itself goes first.
    """
    if any(not isinstance(command, type) for command in commands):
        raise DefinitionError(
            f"@on_command_failed({', '.join(map(repr, commands))})",
            remedy="as @on_command_failed(ReserveInventory), or @on_command_failed() for any",
        )
    return _noting(_Note("on_command_failed", commands, when=when))


@dataclass(frozen=True, slots=True)
class Route:
    """Where an event goes: the verdict, and how its id is found."""

    kind: VerdictKind
    strict: bool
    by: By
    key: Callable[[Any, Metadata], Any]


@dataclass(frozen=True, slots=True)
class Handler:
    """A handler and the guard that admits it (None: always)."""

    call: Callable[..., Any]
    admits: Callable[[Any], bool] | None


@dataclass
class Declarations:
    """What a saga class declares. Keys are event classes or the names of outside events."""

    routes: dict[EventType, Route] = field(default_factory=dict)
    handlers: dict[EventType, list[Handler]] = field(default_factory=dict)
    appliers: dict[EventType, Callable[..., Any]] = field(default_factory=dict)
    deadlines: dict[str, list[Handler]] = field(default_factory=dict)
    timeouts: list[Handler] = field(default_factory=list)
    failures: dict[type | None, list[Handler]] = field(default_factory=dict)
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
        return self.handlers.get(event.type if kind is ExternalEvent else kind, [])


def event_type(event: Any) -> EventType:
    """The key of an event in the tables: its class, or the name of an event from outside."""
    return event.type if type(event) is ExternalEvent else type(event)


def declarations_of(cls: type) -> Declarations:
    """The tables of a saga class, inherited declarations first."""
    found = Declarations()
    for name, function in _functions(cls):
        for note in reversed(getattr(function, _NOTES, ())):  # in the order they are read
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
        if callable(function) and hasattr(function, _NOTES):
            yield name, function


def _enter(found: Declarations, note: _Note, function: Callable[..., Any]) -> None:
    if note.role in _KINDS:
        _takes(function, 4, "(self, state, event, do)")
        for event in note.what:
            _enter_route(found, note, event, function)
    elif note.role == "applies":
        metadata = _takes(function, 3, "(self, state, event) or (…, metadata)", optional=1) == 4
        for event in note.what:
            _once(found.appliers, event, function if metadata else _without_metadata(function))
    elif note.role == "on_deadline":
        _takes(function, 3, "(self, state, do)")
        _add(found.deadlines.setdefault(note.what[0], []), note, _without_event(function))
    elif note.role == "on_timeout":
        _takes(function, 3, "(self, state, do)")
        _add(found.timeouts, note, _without_event(function))
    elif note.role == "on_command_failed":
        _takes(function, 4, "(self, state, failure, do)")
        for command in note.what or (None,):
            _add(found.failures.setdefault(command, []), note, function)
    else:
        _takes(function, 3, "(self, state, failed_command)")
        for command in note.what:
            _once(found.compensators, command, function)


def _enter_route(
    found: Declarations, note: _Note, event: EventType, function: Callable[..., Any]
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


def _add(handlers: list[Handler], note: _Note, call: Callable[..., Any]) -> None:
    if any(handler.admits is None for handler in handlers):
        raise DuplicateHandler(
            f"a second handler for {', '.join(map(name_of, note.what)) or _ABOUT[note.role]}",
            remedy="guard the first with when=, or join the two",
        )
    handlers.append(Handler(call, _guard(note.when)))


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
