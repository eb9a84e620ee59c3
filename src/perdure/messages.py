"""Messages: what is delivered to an instance, and the names they are stored under.

    @message                                    # type name "OrderPlaced", version 1
    class OrderPlaced:
        order_id: str
        amount: int

A message class is a frozen dataclass with a stable type name and version; the name is never the
import path, so classes may move between modules. ``Message`` is such an event under way, with its
ids. This module knows no saga, no codec and no store. Next to read: ``effects.py``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import (
    TYPE_CHECKING,
    Any,
    NewType,
    TypeAlias,
    TypeVar,
    cast,
    dataclass_transform,
    overload,
)
from weakref import WeakSet

from perdure.errors import DefinitionError

__all__ = [
    "AnyMessage",
    "CommandFailed",
    "DeadlineReached",
    "ExternalEvent",
    "Message",
    "Metadata",
    "RetryScheduled",
    "TimeoutReached",
    "TypeInfo",
    "Upcaster",
    "catalogue",
    "datetime_of",
    "kind_of",
    "message",
    "milliseconds_of",
    "type_info_of",
]

C = TypeVar("C", bound=type)
Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
"""A pure function from the fields of one version to the fields of the next."""


@dataclass(frozen=True, slots=True)
class TypeInfo:
    """The stable name of a class: what is written beside its bytes.

    ``upcasters[n]`` turns the fields of version n into those of version n + 1.
    """

    cls: type
    name: str
    version: int = 1
    upcasters: Mapping[int, Upcaster] = field(default_factory=dict)


_MARK = "__perdure_type__"
_CATALOGUE: dict[str, WeakSet[type]] = {}


@overload
def message(cls: C, /) -> C: ...


@overload
def message(
    *,
    name: str | None = None,
    version: int = 1,
    upcasters: Mapping[int, Upcaster] | None = None,
) -> Callable[[C], C]: ...


@dataclass_transform(frozen_default=True)
def message(
    cls: C | None = None,
    /,
    *,
    name: str | None = None,
    version: int = 1,
    upcasters: Mapping[int, Upcaster] | None = None,
) -> C | Callable[[C], C]:
    """Give a class a stable type name and version; make it a frozen dataclass if it is none yet.

        @message(name="orders.placed", version=2, upcasters={1: lambda old: {**old, "tip": 0}})
        class OrderPlaced:
            order_id: str
            tip: int

    Used for events, commands, and state classes alike. ``name`` defaults to the class name.

    Raises ``DefinitionError`` for a bad version or a gap in the upcasters.
    """

    def mark(target: C) -> C:
        if not dataclasses.is_dataclass(target):
            target = cast("C", dataclass(frozen=True)(target))
        info = TypeInfo(target, name or target.__name__, version, dict(upcasters or {}))
        _check(info)
        setattr(target, _MARK, info)
        _CATALOGUE.setdefault(info.name, WeakSet()).add(target)
        return target

    return mark if cls is None else mark(cls)


def _check(info: TypeInfo) -> None:
    if info.version < 1:
        raise DefinitionError(f"version {info.version} of message {info.name!r} is below 1")
    missing = set(range(1, info.version)) ^ set(info.upcasters)
    if missing:
        raise DefinitionError(
            f"message {info.name!r} has version {info.version}, but its upcasters are for "
            f"{sorted(info.upcasters) or 'no version'}",
            remedy=f"give exactly one for each of the versions {list(range(1, info.version))}",
        )


def type_info_of(cls: type) -> TypeInfo | None:
    """The name ``@message`` gave this very class (not its base), or None."""
    info: TypeInfo | None = cls.__dict__.get(_MARK)
    return info


def catalogue(name: str) -> Iterator[TypeInfo]:
    """All live classes that ``@message`` marked with this name; more than one is ambiguous."""
    for cls in list(_CATALOGUE.get(name, ())):
        info = type_info_of(cls)
        if info is not None:
            yield info


@message(name="perdure.DeadlineReached")
@dataclass(frozen=True, slots=True)
class DeadlineReached:
    """Delivered when the deadline ``name`` that the instance set is reached."""

    name: str
    due_at: datetime


@message(name="perdure.TimeoutReached")
@dataclass(frozen=True, slots=True)
class TimeoutReached:
    """Delivered when the whole process has taken longer than its ``timeout``.

    ``retries`` is how often it was reached before (see ``ProcessManager.timeout_retry``).
    """

    due_at: datetime
    retries: int = 0


@message(name="perdure.RetryScheduled")
@dataclass(frozen=True, slots=True)
class RetryScheduled:
    """Recorded when a timeout was reached and is armed again; ``attempt`` 1 is the first retry."""

    retry_at: datetime
    attempt: int


if TYPE_CHECKING:
    AnyMessage: TypeAlias = Any
else:
    AnyMessage = NewType("AnyMessage", object)
"""The annotation of a field that holds any message; it is stored with its type name and version."""


@message(name="perdure.CommandFailed")
@dataclass(frozen=True, slots=True)
class CommandFailed:
    """Delivered to the instance that sent ``command``, when that has failed for good.

    ``reason`` is one of "exhausted", "non-retryable", "expired", "unknown", "undecodable",
    "unroutable", "cancelled"; ``error`` the last error in a line. ``is_unknown``: some attempt may
    have had its effect all the same: its process ended, its lease ran out, or what it returned
    could not be stored; and no later one said that it never can (``NonRetryable``). A command
    nobody can decode is an ``ExternalEvent`` here.
    """

    command: AnyMessage
    command_id: str
    queue: str
    reason: str
    error: str
    attempts: int
    is_unknown: bool = False


@dataclass(frozen=True, slots=True)
class ExternalEvent:
    """An event from outside for which there is no class: a type name and plain data.

    A saga declares interest by the name: ``@continues("PaymentSettled", by="order_id")``.
    """

    type: str
    data: Mapping[str, Any]
    version: int = 1


def kind_of(content: Any) -> type | str:
    """What sagas are interested in: its class, or the name of an event from outside."""
    return content.type if type(content) is ExternalEvent else type(content)


class Metadata:
    """What is known about a message beside its content; handed to ``correlate`` and ``handle``.

        Metadata("m-1", correlation_id="cart-7")            # all a test needs

    ``message_id`` makes a repeated message known; ``correlation_id`` is the business conversation
    the message belongs to (not necessarily the instance's id); ``causation_id`` the id of the
    message that led to this one; ``headers`` what the sender added. In a turn, ``occurred_at`` is
    its time, stored with it, and ``instance_id`` and ``sequence_nr`` say whose turn it is.
    """

    __slots__ = (
        "causation_id",
        "correlation_id",
        "headers",
        "instance_id",
        "message_id",
        "occurred_at_ms",
        "sent_at_ms",
        "sequence_nr",
    )

    def __init__(
        self,
        message_id: str = "",
        sent_at_ms: int = 0,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        occurred_at_ms: int = 0,
        instance_id: str = "",
        sequence_nr: int = 0,
    ) -> None:
        self.message_id = message_id
        self.sent_at_ms = sent_at_ms
        self.correlation_id = correlation_id
        self.causation_id = causation_id
        self.headers = headers
        self.occurred_at_ms = occurred_at_ms
        self.instance_id = instance_id
        self.sequence_nr = sequence_nr

    @property
    def sent_at(self) -> datetime:
        """When the message was sent (aware, UTC)."""
        return datetime_of(self.sent_at_ms)

    @property
    def occurred_at(self) -> datetime:
        """The time of the turn (aware, UTC)."""
        return datetime_of(self.occurred_at_ms)


@dataclass(slots=True)
class Message:
    """A message under way: its content, the content's bytes as they are stored, and its ids."""

    content: Any
    type: str
    version: int
    body: bytes
    message_id: str
    sent_at_ms: int
    correlation_id: str | None = None
    causation_id: str | None = None
    headers: Mapping[str, str] | None = None


def datetime_of(at_ms: int) -> datetime:
    """The aware UTC datetime of whole milliseconds since the epoch, exactly."""
    return _EPOCH + timedelta(milliseconds=at_ms)


def milliseconds_of(at: datetime) -> int:
    """Whole milliseconds since the epoch, rounded down; ``at`` must be aware."""
    return (at - _EPOCH) // _MILLISECOND


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
