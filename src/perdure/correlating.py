"""``by=``: how a declaration says which instance an event is for.

Fields are checked against the event class when the saga is defined. Next to read:
``declarations.py``.
"""

from __future__ import annotations

import dataclasses
import inspect
import operator
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from perdure.errors import CorrelationFailed, DefinitionError, NotAPlainFunction
from perdure.messages import ExternalEvent, Metadata, type_info_of

__all__ = [
    "CORRELATION_ID",
    "By",
    "EventType",
    "check_declared",
    "key_of",
    "name_of",
    "refuse_coroutine",
]

EventType: TypeAlias = type | str
"""An event class, or the name of an event from outside."""


class _ByCorrelationId:
    def __repr__(self) -> str:
        return "CORRELATION_ID"


CORRELATION_ID: Final = _ByCorrelationId()
"""``by=CORRELATION_ID``: the instance is named by the correlation id of the message's metadata."""

By: TypeAlias = str | tuple[str, ...] | Callable[..., Any] | _ByCorrelationId


def key_of(event: EventType, by: By) -> Callable[[Any, Metadata], Any]:
    """The function that finds the id in an event of this type.

    Raises ``DefinitionError`` if the class has no such field.
    """
    if isinstance(by, _ByCorrelationId):
        return _correlation_id
    if isinstance(by, str):
        _has_fields(event, (by,))
        if isinstance(event, str):
            return lambda found, _: _outside_field(found, by)
        get = operator.attrgetter(by)
        return lambda found, _: get(found)
    if isinstance(by, tuple) and by:
        _has_fields(event, by)
        parts = tuple(key_of(event, part) for part in by)
        return lambda found, metadata: tuple(part(found, metadata) for part in parts)
    if callable(by):
        refuse_coroutine(by, "by=")
        if len(inspect.signature(by).parameters) > 1:
            return by
        return lambda found, _: by(found)
    raise DefinitionError(
        f"by={by!r} for {name_of(event)}", remedy="give a field, fields, or a function of the event"
    )


def _has_fields(event: EventType, names: tuple[str, ...]) -> None:
    if isinstance(event, str) or not dataclasses.is_dataclass(event):
        return
    known = {f.name for f in dataclasses.fields(event)}
    missing = [n for n in names if n.split(".")[0] not in known and not hasattr(event, n)]
    if missing:
        raise DefinitionError(
            f"{name_of(event)} has no field {missing[0]!r}",
            remedy=f"correlate by one of {sorted(known)}",
        )


def _outside_field(event: ExternalEvent, name: str) -> Any:
    data: Mapping[str, Any] = event.data
    if name not in data:
        raise CorrelationFailed(
            f"event {event.type!r} has no field {name!r}", remedy="send the field that correlates"
        )
    return data[name]


def _correlation_id(event: Any, metadata: Metadata) -> str:
    if not metadata.correlation_id:
        raise CorrelationFailed(
            f"{type(event).__name__} came without a correlation id",
            remedy="publish it with correlation_id=",
        )
    return metadata.correlation_id


def name_of(event: Any) -> str:
    """How errors call an event type or a deadline."""
    return event.__name__ if isinstance(event, type) else repr(event)


def check_declared(role: str, what: tuple[Any, ...], *, may_be_name: bool) -> None:
    """Raise ``DefinitionError`` for a decorator that names nothing, or what is never delivered."""
    if not what:
        raise DefinitionError(
            f"@{role} names no message, so it would never be called",
            remedy=f"as @{role}(OrderPlaced, …)",
        )
    for one in what:
        if may_be_name and isinstance(one, str) and one:
            continue
        if not isinstance(one, type) or not (
            type_info_of(one) is not None
            or dataclasses.is_dataclass(one)
            or hasattr(one, "__attrs_attrs__")
        ):
            raise DefinitionError(
                f"@{role}({name_of(one)}): {name_of(one)} is no message class",
                remedy="mark the class with @message",
            )
        if one is ExternalEvent:
            raise DefinitionError(
                f"@{role}(ExternalEvent): each is known by the name of its type",
                remedy='give that name, as "PaymentSettled"' if may_be_name else "leave it out",
            )


def refuse_coroutine(function: Callable[..., Any], where: str) -> None:
    """Raise ``NotAPlainFunction`` for a coroutine: its answer would always count as true."""
    if inspect.iscoroutinefunction(function):
        raise NotAPlainFunction(f"{where} is given a coroutine", remedy="make it a plain function")
