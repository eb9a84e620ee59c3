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
    SnapshotRow,
    Status,
)
from perdure.errors import CorruptRecord, StoreError

__all__ = ["LoadedInstance", "Store"]


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


class Store(Protocol):
    """Where instances survive.

    ``write`` is all or nothing per entry, in order, in one transaction. Reads see every committed
    write. Every stored row carries a checksum over its payload and its key columns.
    """

    name: str
    """For people: kind, version and durability, e.g. "sqlite 3.45.1 wal synchronous=FULL"."""

    async def open(self) -> int:
        """Take ownership, create or check the schema; return the new epoch (1, 2, …).

        Raises StoreLocked, StoreNotWritable, NotADatabase, SchemaTooNew, StoreUnavailable.
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
        An inbox row whose key exists is left as it is. A snapshot replaces one of the same number;
        only the newest two of an instance are kept.

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

    async def heads(
        self,
        saga: str | None = None,
        status: Status | None = None,
        after: str = "",
        limit: int = 1000,
    ) -> list[HeadRow]:
        """Instances in order of their key, above ``after``; all sagas if ``saga`` is None."""
        ...

    async def deadlines(
        self, after: tuple[int, str, str] = (-1, "", ""), limit: int = 1000
    ) -> list[DeadlineRow]:
        """Armed deadlines in order of (due_at_ms, instance, name), above ``after``."""
        ...

    async def inbox(self, after: int = 0, limit: int = 1000) -> list[InboxRow]:
        """Waiting messages in order of position, above ``after``."""
        ...

    async def outbox(self, after: int = 0, limit: int = 1000) -> list[OutboxRow]:
        """Commands and events that wait, in order of position, above ``after``."""
        ...

    async def dead_letters(self, after: int = 0, limit: int = 1000) -> list[DeadLetterRow]:
        """Dead letters in order of position, above ``after``."""
        ...
