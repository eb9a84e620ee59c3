"""What is written: the rows of one turn, and the few other things that reach the store.

A ``TurnRecord`` is the durable outcome of one turn, complete: it is written whole or not at all.
Everything here is plain data with opaque bytes, so that a store need not know sagas or codecs.
Times are whole milliseconds since the epoch (``*_ms``), as they are stored.
Next to read: ``store/protocol.py``, which says what a store does with them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import TypeAlias

__all__ = [
    "DeadLetterRow",
    "DeadlineRow",
    "Entry",
    "HeadRow",
    "InboxReason",
    "InboxRow",
    "JournalRow",
    "OutboxKind",
    "OutboxRow",
    "SnapshotRow",
    "Status",
    "TurnRecord",
]


class Status(StrEnum):
    """Where an instance stands in its life."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


class OutboxKind(IntEnum):
    """What an outbox row asks for."""

    COMMAND = 1
    EVENT = 2


class InboxReason(StrEnum):
    """Why a message waits in the inbox."""

    MISSING = "missing"
    DELAYED = "delayed"
    QUEUED = "queued"
    HELD = "held"


@dataclass(slots=True)
class JournalRow:
    """One turn as the journal keeps it. ``body`` is the encoded turn, see ``codec/journal.py``."""

    instance: str
    sequence_nr: int
    epoch: int
    message_id: str
    body: bytes


@dataclass(slots=True)
class SnapshotRow:
    """An instance's state at a sequence number; never the truth."""

    instance: str
    sequence_nr: int
    body: bytes


@dataclass(slots=True)
class HeadRow:
    """What is known of an instance without reading its journal; written when ``status`` changes."""

    instance: str
    saga: str
    correlation_id: str
    status: Status
    started_at_ms: int
    updated_at_ms: int


@dataclass(slots=True)
class OutboxRow:
    """A command or event that waits to be dispatched. Its id is (instance, sequence_nr, index).

    ``position`` orders the outbox; the store gives it, 0 means not stored yet. ``target`` is the
    work queue of a command, "" for an event.
    """

    instance: str
    sequence_nr: int
    index: int
    kind: OutboxKind
    target: str
    type: str
    version: int
    body: bytes
    created_at_ms: int
    position: int = 0

    @property
    def id(self) -> str:
        """The stable id of the command: the receiver's idempotency key."""
        return f"{self.instance}/{self.sequence_nr}/{self.index}"


@dataclass(slots=True)
class DeadlineRow:
    """A moment at which an instance is told. ``sequence_nr`` is the turn that armed it."""

    instance: str
    name: str
    sequence_nr: int
    due_at_ms: int


@dataclass(slots=True)
class InboxRow:
    """A message that waits: for its instance, for a retry, behind another, or for a release.

    (instance, message_id) is its key: putting it again changes nothing. ``next_try_at_ms`` and
    ``expires_at_ms`` are None where they do not apply; ``position`` is the order of arrival.
    """

    instance: str
    message_id: str
    reason: InboxReason
    body: bytes
    created_at_ms: int
    attempts: int = 0
    next_try_at_ms: int | None = None
    expires_at_ms: int | None = None
    position: int = 0


@dataclass(slots=True)
class DeadLetterRow:
    """A message or command that could not be processed, with its reason, kept whole.

    ``consumes_inbox`` deletes the inbox row of this message in the same transaction.
    """

    instance: str
    message_id: str
    type: str
    reason: str
    error: str
    attempts: int
    body: bytes
    created_at_ms: int
    consumes_inbox: bool = False
    position: int = 0


@dataclass(slots=True)
class TurnRecord:
    """Everything one turn changes, written in one transaction.

    ``deadlines_cleared`` are names: cancelled ones, and the one that fired. A name is never both
    set and cleared. ``head`` is given when the status changes. ``consumes_inbox`` deletes the inbox
    row (instance, message_id): the message waited there. ``dead_letter`` goes with a turn that
    journals its own failure (a deadline whose handler raised).
    """

    row: JournalRow
    outbox: tuple[OutboxRow, ...] = ()
    deadlines_set: tuple[DeadlineRow, ...] = ()
    deadlines_cleared: tuple[str, ...] = ()
    head: HeadRow | None = None
    consumes_inbox: bool = False
    dead_letter: DeadLetterRow | None = field(default=None)


Entry: TypeAlias = TurnRecord | SnapshotRow | InboxRow | DeadLetterRow
"""What a store's one write takes: a turn, a snapshot, a message that waits, a dead letter."""
