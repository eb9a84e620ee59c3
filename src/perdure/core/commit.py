"""What is written: the rows of one turn, and the few other things that reach the store.

A ``TurnRecord`` is the durable outcome of one turn, complete: it is written whole or not at all.
Everything here is plain data with opaque bytes, so that a store need not know sagas or codecs.
Times are whole milliseconds since the epoch (``*_ms``), as they are stored.
Next to read: ``store/protocol.py``, which says what a store does with them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, TypeAlias

from perdure.core.purge import Purge, TombstoneRow

__all__ = [
    "FOLLOWS",
    "DeadLetterRow",
    "DeadlineRow",
    "Entry",
    "Fields",
    "HeadRow",
    "InboxReason",
    "InboxRow",
    "IndexedFields",
    "JournalRow",
    "LookupRow",
    "OutboxKind",
    "OutboxRow",
    "Purge",
    "QuarantineRow",
    "QueueRow",
    "Reindexed",
    "Settlement",
    "SnapshotRow",
    "Status",
    "TombstoneRow",
    "TurnRecord",
]


Fields: TypeAlias = tuple[tuple[str, str], ...]
"""Indexed fields: name and index key of each, by name."""


class Status(StrEnum):
    """Where an instance stands in its life."""

    RUNNING = "running"
    STUCK = "stuck"
    """It goes on only when somebody has seen to it; it takes messages as a running one does."""
    COMPLETED = "completed"
    FAILED = "failed"

    @property
    def is_over(self) -> bool:
        """It has ended: nothing revives it."""
        return self is Status.COMPLETED or self is Status.FAILED


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
    """What is known of an instance without reading its journal.

    Written when ``status`` or one of ``fields`` changes, and by the first turn in another minute
    than the one before: ``updated_at_ms`` is right to the minute, and for an instance that has
    ended it is when that was. ``fields`` are (name, index key) of the indexed fields, by name.
    """

    instance: str
    saga: str
    correlation_id: str
    status: Status
    started_at_ms: int
    updated_at_ms: int
    fields: Fields = ()


@dataclass(slots=True)
class Reindexed:
    """A head that was made anew of the instance at a sequence number.

    Left out as ``SequenceConflict`` if the journal does not stand there any more.
    """

    head: HeadRow
    sequence_nr: int

    @property
    def instance(self) -> str:
        """The key of the instance."""
        return self.head.instance


@dataclass(slots=True)
class IndexedFields:
    """From now on, these fields of a saga count as indexed for all of its instances."""

    saga: str
    names: tuple[str, ...]


@dataclass(slots=True)
class LookupRow:
    """One indexed field of one instance: what its head has in ``fields``, to be looked up by it."""

    saga: str
    field: str
    value: str
    instance: str


FOLLOWS = -1
"""``OutboxRow.after`` of a row without positions yet: start after the row before it."""


@dataclass(slots=True)
class OutboxRow:
    """A command or event that waits to be dispatched: a job of the work queue ``target``.

    ``target`` is "" for an event (or command) that goes to the sagas themselves. ``position``
    orders the outbox and identifies the row; the writer gives it, growing, and 0 means none yet.
    ``given_id`` is the id of a row that no turn made, else "". ``context`` holds what travels with
    it, encoded (see ``codec/journal.py``). ``attempts`` have begun and not succeeded; the next one
    may begin at ``due_at_ms`` (0: at once). ``error`` is why the last one failed, in a line.
    ``after`` is the position of the row that must be done with before this one may start (neither
    in the outbox nor among the dead letters any more), 0 for none; ``leads``: some row has this
    one as its ``after``. From ``expires_at_ms`` on (0: never) it is given up. ``content`` (not
    stored) is what the bytes say, where whoever made the row knows it and nobody can change it.
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
    given_id: str = ""
    context: bytes = b""
    attempts: int = 0
    due_at_ms: int = 0
    error: str = ""
    after: int = 0
    leads: bool = False
    expires_at_ms: int = 0
    content: Any = field(default=None, compare=False, repr=False)

    @property
    def id(self) -> str:
        """The stable id of the command: the receiver's idempotency key."""
        return self.given_id or f"{self.instance}/{self.sequence_nr}/{self.index}"


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

    (instance, message_id) is its key: putting it again changes nothing, unless ``replaces`` (which
    is not stored) says so. ``position`` is the order of arrival and stays. ``due_at_ms`` is the
    next try (DELAYED) or the end of its waiting (MISSING), None where time changes nothing.
    ``attempts`` have failed; ``error`` is why the last one did, in a line.
    """

    instance: str
    message_id: str
    reason: InboxReason
    body: bytes
    created_at_ms: int
    attempts: int = 0
    due_at_ms: int | None = None
    error: str = ""
    position: int = 0
    replaces: bool = False


@dataclass(slots=True)
class DeadLetterRow:
    """A message or command that could not be processed, with its reason, kept whole.

    For a command, ``message_id`` is its id, ``queue`` its work queue and ``job`` its position in
    the outbox; for a message they are "" and 0. ``consumes_inbox`` (not stored) deletes the inbox
    row of this message in the same transaction.
    """

    instance: str
    message_id: str
    type: str
    reason: str
    error: str
    attempts: int
    body: bytes
    created_at_ms: int
    queue: str = ""
    job: int = 0
    consumes_inbox: bool = False
    position: int = 0


@dataclass(slots=True)
class QueueRow:
    """What is known of a work queue beside its jobs: whether it is paused, since when, and why."""

    name: str
    is_paused: bool
    reason: str
    changed_at_ms: int


@dataclass(slots=True)
class QuarantineRow:
    """An instance is set aside since ``since_ms``: what arrives for it is kept and not processed.

    ``reason`` is a word ("restarts", "failed", "corrupt", "undecodable", "replay", "unknown"),
    ``error`` why, in a line. ``is_over`` (not stored): it is released, the row is deleted.
    """

    instance: str
    reason: str
    error: str
    since_ms: int
    is_over: bool = False


@dataclass(slots=True)
class Settlement:
    """Row changes that go together and are no turn: a job done, given up, or put; a letter moved.

    ``job`` and ``letter`` are positions: that outbox row, that dead letter is deleted. If one of
    them is not there (any more), the whole is left out as ``Gone``. Rows of ``outbox`` are put at
    their positions; one whose ``given_id`` waits already is left as it is. ``instance`` is whom it
    concerns, "" for nobody; ``taken`` is the id of a message of it that goes out of the inbox, and
    ``quarantine`` sets it aside, or ends that.
    """

    instance: str
    job: int = 0
    letter: int = 0
    outbox: tuple[OutboxRow, ...] = ()
    inbox: InboxRow | None = None
    dead_letters: tuple[DeadLetterRow, ...] = ()
    taken: str = ""
    quarantine: QuarantineRow | None = None


@dataclass(slots=True)
class TurnRecord:
    """Everything one turn changes, written in one transaction.

    ``deadlines_cleared`` are names: cancelled ones, and the one that fired. A name is never both
    set and cleared. ``head`` is given when something in it changes (see there). ``consumes_inbox``
    deletes the inbox row (instance, message_id): the message waited there. ``dead_letter`` goes
    with a turn that journals its own failure (a deadline whose handler raised). ``settles`` goes
    with a turn whose message is the result of a job; it is written whether or not the job is still
    there. So are ``repairs``, what somebody who steps in changes of jobs, letters and waiting
    messages.
    """

    row: JournalRow
    outbox: tuple[OutboxRow, ...] = ()
    deadlines_set: tuple[DeadlineRow, ...] = ()
    deadlines_cleared: tuple[str, ...] = ()
    head: HeadRow | None = None
    consumes_inbox: bool = False
    dead_letter: DeadLetterRow | None = field(default=None)
    settles: Settlement | None = None
    repairs: tuple[Settlement, ...] = ()


Entry: TypeAlias = (
    TurnRecord
    | SnapshotRow
    | InboxRow
    | DeadLetterRow
    | Settlement
    | OutboxRow
    | QueueRow
    | Reindexed
    | IndexedFields
    | Purge
    | TombstoneRow
)
"""What a store's one write takes.

An ``OutboxRow`` by itself replaces the row at its position, and is ``Gone`` if there is none; new
rows come with a turn or a settlement. A ``QueueRow`` replaces the one of its name, a
``TombstoneRow`` the one of its instance.
"""
