"""What a store must do: one write for a group of turns, and a few reads.

Whoever writes a store runs ``perdure.testing.store_contract.StoreContract`` against it. Here are
``sql.py`` (SQLite through SQLAlchemy and aiosqlite) and ``memory.py``. A store knows rows, never
sagas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from perdure.core.commit import (
    DeadLetterRow,
    DeadlineRow,
    Entry,
    HeadRow,
    InboxRow,
    JournalRow,
    OutboxRow,
    QuarantineRow,
    QueueRow,
    SnapshotRow,
    Status,
    TombstoneRow,
)
from perdure.core.head_query import HeadQuery
from perdure.core.tally import TallyRow
from perdure.errors import CorruptRecord, StoreError
from perdure.store.backlog import Backlog

__all__ = ["InstanceRows", "LoadedInstance", "QueueFigures", "Store"]


@dataclass(slots=True)
class LoadedInstance:
    """What rehydration needs: the newest sound snapshot, the turns after it, the waiting messages.

    No snapshot and no turns: the instance does not exist. ``has_more`` turns follow the last one
    (read on with ``Store.journal``). ``corrupt`` says that a journal or inbox row is damaged; the
    instance must not be used.
    """

    instance: str
    snapshot: SnapshotRow | None = None
    turns: list[JournalRow] = field(default_factory=list)
    inbox: list[InboxRow] = field(default_factory=list)
    has_more: bool = False
    corrupt: CorruptRecord | None = None


@dataclass(slots=True)
class InstanceRows:
    """What concerns one instance beside its turns, all of one moment; for whoever looks.

    ``newest_nr`` is the number of its newest turn, 0 if there is none. ``snapshots`` are the sound
    ones, newest first. ``waiting`` messages are in the inbox; ``inbox``, ``jobs`` and
    ``dead_letters`` hold the oldest ones, up to the limit.
    """

    instance: str
    head: HeadRow | None = None
    newest_nr: int = 0
    snapshots: list[SnapshotRow] = field(default_factory=list)
    deadlines: list[DeadlineRow] = field(default_factory=list)
    inbox: list[InboxRow] = field(default_factory=list)
    waiting: int = 0
    jobs: list[OutboxRow] = field(default_factory=list)
    dead_letters: list[DeadLetterRow] = field(default_factory=list)
    quarantine: QuarantineRow | None = None


@dataclass(slots=True)
class QueueFigures:
    """The jobs of one queue in figures.

    ``depth`` of them wait or run, the oldest since ``oldest_ms``; ``retrying`` have failed before.
    """

    name: str
    depth: int
    oldest_ms: int
    retrying: int


class Store(Protocol):
    """Where instances survive.

    ``write`` is all or nothing per entry, in order, in one transaction. Reads see every committed
    write. Every stored row carries a checksum over its payload and its key columns.
    A damaged row of a journal is an error: CorruptRecord, or ``LoadedInstance.corrupt``. All other
    reads pass over damaged rows and name them in the log: one must not block all.
    """

    name: str
    """For people: kind, version and durability, e.g. "sqlite 3.45.1 wal synchronous=FULL"."""

    async def open(self) -> int:
        """Take ownership, create or check the schema; return the new epoch (1, 2, …).

        Raises StoreLocked, StoreNotWritable, NotADatabase, SchemaTooNew, SchemaTooOld,
        StoreUnavailable.
        """
        ...

    async def close(self) -> None:
        """Give up ownership. May be called twice, or without ``open``."""
        ...

    async def write(self, entries: Sequence[Entry]) -> Sequence[StoreError | None]:
        """Write a group in one transaction; answer per entry: None, or why it was left out.

        Checked first: a turn under an old epoch is left out as ``Fenced``; a turn whose sequence
        number is not the next of its instance as ``SequenceConflict``, with the later turns of that
        instance in the group. Everything else is written: a conflict never fails a neighbour.
        A settlement, or a changed outbox row, whose job or dead letter is not there (any more) is
        left out as ``Gone``; so is the second one in a group that takes the same job or letter.
        An inbox row whose key exists is left as it is, unless it ``replaces``. A snapshot replaces
        one of the same number; only the newest two of an instance are kept. A purge, and the end of
        a tombstone, are left out as ``SequenceConflict`` if the instance does not stand where they
        say; a head of who has a tombstone as ``Gone``.

        Raises StoreError (StoreFull, StoreUnavailable) if the transaction as a whole failed;
        whether it was committed is then unknown to the caller.
        """
        ...

    async def load(self, instances: Sequence[str]) -> Sequence[LoadedInstance]:
        """Read several instances at once, answered in the order asked."""
        ...

    async def journal(self, instance: str, after: int = 0, limit: int = 1000) -> list[JournalRow]:
        """Turns of an instance with a sequence number above ``after``, ascending.

        Raises CorruptRecord at a damaged row.
        """
        ...

    async def snapshots(self, instance: str) -> list[SnapshotRow]:
        """The sound snapshots of an instance, newest first."""
        ...

    async def heads(
        self,
        saga: str | None = None,
        status: Status | None = None,
        after: str = "",
        limit: int = 1000,
    ) -> list[HeadRow]:
        """Instances in order of their key, above ``after``; all sagas if ``saga`` is None."""
        ...

    async def find(self, query: HeadQuery) -> list[HeadRow]:
        """Instances of a saga by status, moment or indexed field; see ``HeadQuery``.

        As the heads are stored: their moments are right to the minute.
        """
        ...

    async def count(self, query: HeadQuery) -> int:
        """How many heads ``find`` would give, without reading them."""
        ...

    async def tallies(self) -> list[TallyRow]:
        """How many instances of each saga there are and were, by saga.

        One that is damaged is named in the log, and counted anew from the heads.
        """
        ...

    async def tombstones(
        self, after: tuple[int, str] = (-1, ""), limit: int = 1000
    ) -> list[TombstoneRow]:
        """Tombstones in order of (due_at_ms, instance), above ``after``."""
        ...

    async def size(self) -> int:
        """The bytes that the store takes where it is kept."""
        ...

    async def deadlines(
        self, after: tuple[int, str, str] = (-1, "", ""), limit: int = 1000
    ) -> list[DeadlineRow]:
        """Armed deadlines in order of (due_at_ms, instance, name), above ``after``."""
        ...

    async def inbox(self, after: int = 0, limit: int = 1000) -> list[InboxRow]:
        """Waiting messages in order of position, above ``after``."""
        ...

    async def inbox_due(
        self, after: tuple[int, str, str] = (-1, "", ""), limit: int = 1000
    ) -> list[InboxRow]:
        """Waiting messages that time concerns, by (due_at_ms, instance, message_id)."""
        ...

    async def outbox(
        self, after: int = 0, limit: int = 1000, queue: str | None = None
    ) -> list[OutboxRow]:
        """Jobs in order of position, above ``after``; those of one queue, or all."""
        ...

    async def jobs_ready(self, queue: str, now_ms: int, limit: int = 1000) -> list[OutboxRow]:
        """Jobs of a queue that may start: due, and not after one that is still to be done.

        In order of (due_at_ms, position).
        """
        ...

    async def jobs_due(self, after: tuple[int, int] = (0, 0), limit: int = 1000) -> list[OutboxRow]:
        """Jobs that wait for a moment, in order of (due_at_ms, position), above ``after``."""
        ...

    async def jobs_at(self, positions: Sequence[int]) -> list[OutboxRow]:
        """The jobs at these positions that exist."""
        ...

    async def jobs_after(self, position: int) -> list[OutboxRow]:
        """The jobs that had to wait for the one at this position (``OutboxRow.after``)."""
        ...

    async def queues(self) -> list[QueueRow]:
        """What was written of work queues, by name; one whose row is damaged counts as paused."""
        ...

    async def queue_depths(self) -> dict[str, int]:
        """How many jobs each queue holds, by name; queues without any are left out."""
        ...

    async def backlog(self) -> Backlog:
        """How much waits: jobs by queue, dead letters, messages. Damaged rows count, too."""
        ...

    async def quarantines(self) -> list[QuarantineRow]:
        """Instances that are set aside, by key.

        A damaged row is named in the log and, if its key can be read, answered with the reason
        "unknown": what may have been set aside must not be used.
        """
        ...

    async def inbox_sizes(self, instances: Sequence[str]) -> dict[str, int]:
        """How many messages wait for each of these instances; those without any are left out."""
        ...

    async def dead_letters(self, after: int = 0, limit: int = 1000) -> list[DeadLetterRow]:
        """Dead letters in order of position, above ``after``."""
        ...

    async def rows_of(self, instance: str, limit: int = 1000) -> InstanceRows:
        """What concerns an instance beside its turns. May go through the whole outbox."""
        ...

    async def queue_figures(self) -> list[QueueFigures]:
        """The figures of each queue that holds jobs, by name. Goes through the whole outbox."""
        ...
