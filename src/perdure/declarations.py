"""The decorators of a process manager.

    @starts(OrderPlaced, by="order_id")                        # creates the instance
    @continues(PaymentReceived, by="order_id", when="awaiting_payment")
    @stops(OrderCancelled, by=("region", "order_id"))          # composite id; completes afterwards
    @applies(PaymentReceived)                                  # folds into the state
    @on_deadline("pick")                                       # a deadline set with do.deadline
    @on_timeout                                                # the whole process took too long
    @on_command_failed(ReserveInventory)                       # this command failed for good …
    @compensates(ReserveInventory)                             # … and this makes up for it
    @on_child_ended("kyc")                                     # an instance it started has ended
    @on_cancelled                                              # it shall not go on

A decorator only notes what it was told on the function. Next to read: ``declared.py``, which reads
the notes of a class into tables.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from perdure.correlating import CORRELATION_ID, By, EventType
from perdure.errors import (
    DefinitionError,
    NotAPlainFunction,
)

__all__ = [
    "CORRELATION_ID",
    "NOTES",
    "Note",
    "When",
    "applies",
    "compensates",
    "continues",
    "on_cancelled",
    "on_child_ended",
    "on_command_failed",
    "on_deadline",
    "on_timeout",
    "starts",
    "stops",
]

F = TypeVar("F", bound=Callable[..., Any])


When: TypeAlias = str | tuple[str, ...] | Callable[[Any], bool] | None


@dataclass(frozen=True, slots=True)
class Note:
    """What a decorator was told. ``what``: event types, a deadline's name, or command classes."""

    role: str
    what: tuple[Any, ...] = ()
    by: By | None = None
    when: When = None
    strict: bool = False


NOTES = "__perdure_notes__"
"""The attribute of a function that holds its notes."""


def _noting(note: Note) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise NotAPlainFunction(
                f"@{note.role} on the coroutine {function.__qualname__}",
                remedy="make it a plain function; what must wait belongs into a worker",
            )
        setattr(function, NOTES, [*getattr(function, NOTES, ()), note])
        return function

    return decorate


def starts(*events: EventType, by: By, when: When = None, strict: bool = False) -> Callable[[F], F]:
    """The event starts an instance, or continues it: ``def f(self, state, event, do)``.

    ``by`` names the instance: a field, several fields (a composite id), a function of the event
    (a list of ids means several instances), or ``CORRELATION_ID``. ``when`` guards on the state
    *before* the event: a status, several, or a predicate; a message that no guard admits is neither
    applied nor handled. ``strict`` raises at the sender where the plain form ignores or adapts.
    """
    return _noting(Note("starts", events, by, when, strict))


def continues(
    *events: EventType, by: By, when: When = None, strict: bool = False
) -> Callable[[F], F]:
    """The event continues an instance; ``on_missing`` decides if there is none. See ``starts``."""
    return _noting(Note("continues", events, by, when, strict))


def stops(*events: EventType, by: By, when: When = None, strict: bool = False) -> Callable[[F], F]:
    """As ``continues``; the instance is completed after the handler. See ``starts``.

    A message that no guard admits stops nothing.
    """
    return _noting(Note("stops", events, by, when, strict))


def applies(*events: EventType) -> Callable[[F], F]:
    """Folds the event: ``def f(self, state, event)`` or ``(self, state, event, metadata)``.

    Returns the next state, or changes the (private) state it is given and returns None.
    """
    return _noting(Note("applies", events))


def on_deadline(name: str, *, when: When = None) -> Callable[[F], F]:
    """Handles a reached deadline: ``def f(self, state, do)``."""
    if not isinstance(name, str) or not name:
        raise DefinitionError("@on_deadline without a name", remedy='as @on_deadline("payment")')
    return _noting(Note("on_deadline", (name,), when=when))


def on_timeout(function: F) -> F:
    """Handles that the process took longer than its ``timeout``: ``def f(self, state, do)``.

    Without one the instance fails with the reason "timed out", or, when the retries of a
    ``timeout_retry`` are used up, "timed out after maximum retries".
    """
    return _noting(Note("on_timeout"))(function)


def compensates(*commands: type) -> Callable[[F], F]:
    """Makes up for a command that failed for good: ``def f(self, state, failed_command)``.

    Returns commands, which are performed in this order, each when the one before is done with; or
    effects, carried out as they are; None or nothing to skip. Called in the turn of the failure,
    after ``@applies(CommandFailed)`` and ``@on_command_failed``, with the state these have led to,
    also if that turn ends the process.
    """
    return _noting(Note("compensates", commands))


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
    return _noting(Note("on_command_failed", commands, when=when))


def on_child_ended(*names: str, when: When = None) -> Callable[[F], F]:
    """Handles that a child has ended, or never started: ``def f(self, state, ended, do)``.

    ``ended`` is a ``ChildEnded``. Without names: any child that has no handler of its own.
    """
    if any(not isinstance(name, str) for name in names):
        raise DefinitionError(
            f"@on_child_ended({', '.join(map(repr, names))})",
            remedy='as @on_child_ended("kyc"), or @on_child_ended() for any',
        )
    return _noting(Note("on_child_ended", names, when=when))


def on_cancelled(function: F) -> F:
    """Handles that the instance shall not go on: ``def f(self, state, cancel, do)``.

    ``cancel`` is a ``Cancel``, with the reason. Without a handler the instance fails.
    """
    return _noting(Note("on_cancelled"))(function)
