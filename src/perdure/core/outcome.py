"""The values of a turn: how it may end, and what it leaves to be written.

Plain data. Next to read: ``turn.py``, which makes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from perdure.core.commit import (
    DeadlineRow,
    HeadRow,
    JournalRow,
    OutboxRow,
    TurnRecord,
)
from perdure.core.instance import Armed, Instance
from perdure.messages import Message, Metadata, type_info_of

__all__ = [
    "MINUTE_MS",
    "TIMEOUT",
    "Encoder",
    "Outcome",
    "Stored",
    "Turn",
    "record_of",
]

Stored: TypeAlias = tuple[str, int, bytes]
"""A value as it is stored: type name, version, bytes."""

TIMEOUT = "perdure.timeout"
"""The name of the deadline of the whole process; armed by its first turn.

When it is armed again by ``timeout_retry``, the number of the retry follows: "perdure.timeout.1".
"""


class Outcome(StrEnum):
    """What became of a message. The journal records how a turn ended: the first five."""

    APPLIED = "applied"
    UNHANDLED = "unhandled"
    """No handler wants this message in the instance's present state; nothing changed."""
    FINISHED = "finished"
    """The instance had ended before; nothing changed."""
    EXISTS = "exists"
    """A strict start of an instance that exists; refused."""
    FAILED = "failed"
    """The handler raised, and a dead letter tells of it: of a deadline, which is gone, or of a
    message whose failure ended the instance, as its supervision says."""
    DELAYED = "delayed"
    """The handler raised, nothing was applied; it is tried again, the message is in the inbox."""
    QUEUED = "queued"
    """Another message of the instance is tried again first; this one waits behind, in the inbox."""
    PARKED = "parked"
    """There is no such instance; the message waits in the inbox."""
    HELD = "held"
    """The instance is quarantined; the message is kept in the inbox, and was not applied."""
    MISSING = "missing"
    """There is no such instance; the message was dropped, as the saga says."""


def _named_after_type(command: Any, queue: str | None) -> str:
    if queue is not None:
        return queue
    info = type_info_of(type(command))
    return type(command).__name__ if info is None else info.name


def _sagas(event: Any) -> Sequence[str]:
    return ("",)


def _never(value: Any) -> bool:
    return False


def _nothing(message: Message, metadata: Metadata) -> bytes:
    return b""


MINUTE_MS = 60_000
"""``HeadRow.updated_at_ms`` is right to so many milliseconds."""

TURN_BYTES_MAX = 16_777_216


class Encoder:
    """How ``step`` turns what user code gives it into bytes at once, before anybody can change it.

    ``message`` encodes events and commands, ``value`` replies and results. ``address(command,
    queue)`` names the work queue of a command, or raises ``Unroutable``; ``audience(event)`` the
    targets of a published event. ``context(message, metadata)`` is what travels with all that the
    turn sends; it is asked once, and only if something is sent. ``may_share(command)``: nobody can
    change it, so that it need not be read from its bytes again in this process. All that one turn
    records and sends has at most ``turn_bytes_max``.
    """

    __slots__ = (
        "address",
        "audience",
        "context",
        "may_share",
        "message",
        "turn_bytes_max",
        "value",
    )

    def __init__(
        self,
        message: Callable[[Any], Stored],
        value: Callable[[Any], bytes],
        address: Callable[[Any, str | None], str] = _named_after_type,
        audience: Callable[[Any], Sequence[str]] = _sagas,
        context: Callable[[Message, Metadata], bytes] = _nothing,
        may_share: Callable[[Any], bool] = _never,
        turn_bytes_max: int = TURN_BYTES_MAX,
    ) -> None:
        self.message = message
        self.value = value
        self.address = address
        self.audience = audience
        self.context = context
        self.may_share = may_share
        self.turn_bytes_max = turn_bytes_max


@dataclass(slots=True)
class Turn:
    """What one message did: the instance afterwards and what must be written with it.

    ``head_changed``: its status or an indexed field did, or another minute has begun since its
    last turn. ``compensates``: it made up for a command that failed.
    """

    message: Message
    outcome: Outcome
    at_ms: int
    after: Instance
    refused: bool = False
    events: list[Stored] = field(default_factory=list)
    outgoing: list[OutboxRow] = field(default_factory=list)
    deadlines_set: dict[str, Armed] = field(default_factory=dict)
    deadlines_cleared: list[str] = field(default_factory=list)
    status_changed: bool = False
    head_changed: bool = False
    reply: bytes | None = None
    reply_value: Any = None
    compensates: bool = False


def record_of(turn: Turn, saga: str, epoch: int, body: bytes, consumes_inbox: bool) -> TurnRecord:
    """The rows of a turn; ``body`` is the encoded turn."""
    after, key = turn.after, turn.after.key
    number = after.sequence_nr
    record = TurnRecord(JournalRow(key, number, epoch, turn.message.message_id, body))
    if turn.outgoing:
        record.outbox = tuple(turn.outgoing)
    if turn.deadlines_set:
        record.deadlines_set = tuple(
            DeadlineRow(key, name, number, armed.due_at_ms)
            for name, armed in turn.deadlines_set.items()
        )
    if turn.deadlines_cleared:
        record.deadlines_cleared = tuple(turn.deadlines_cleared)
    if turn.head_changed:
        record.head = HeadRow(
            key,
            saga,
            after.correlation_id,
            after.status,
            after.started_at_ms,
            after.updated_at_ms,
            after.fields or (),
        )
    record.consumes_inbox = consumes_inbox
    return record
