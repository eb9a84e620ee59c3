"""What every SQL store reads, whichever database it is in.

Each method is one function of ``sql_read.py`` and its like, run whole over a connection.
Next to read: ``sql.py``, SQLite's store, and ``postgres.py``, PostgreSQL's.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from perdure.core.commit import (
    DeadLetterRow,
    DeadlineRow,
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
from perdure.errors import CorruptRecord
from perdure.store.backlog import Backlog
from perdure.store.protocol import InstanceRows, LoadedInstance
from perdure.store.read_statements import (
    DEAD_LETTERS_PAGE,
    DEADLINES_PAGE,
    INBOX_DUE,
    INBOX_PAGE,
    JOBS_AFTER,
    JOBS_DUE,
    JOBS_READY,
    JOURNAL_PAGE,
    OUTBOX_PAGE,
    QUEUE_PAGE,
    TOMBSTONES_PAGE,
)
from perdure.store.sql_backlog import read_backlog, read_retried
from perdure.store.sql_find import read_count, read_found, read_tallies
from perdure.store.sql_load import load_instances
from perdure.store.sql_looks import read_rows_of, read_snapshots
from perdure.store.sql_read import (
    read_depths,
    read_heads,
    read_inbox_sizes,
    read_jobs_at,
    read_page,
    read_quarantines,
    read_queues,
    read_sound,
)

__all__ = ["SqlReads"]

logger = logging.getLogger("perdure.store")

Result = TypeVar("Result")

_NO_LIMIT = 2**62


class SqlReads(ABC):
    """The reads of a ``Store``. Who derives from it says where they run, and what it is called."""

    def __init__(self, shown: str) -> None:
        self.shown = shown
        """Which store it is, for people."""
        self._damage_named: set[str] = set()

    @abstractmethod
    async def _read(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Run ``function(connection, *arguments)``."""

    async def load(self, instances: Sequence[str]) -> Sequence[LoadedInstance]:
        """Read several instances at once; see ``Store.load``."""
        return await self._read(load_instances, list(instances))

    async def journal(self, instance: str, after: int = 0, limit: int = 1000) -> list[JournalRow]:
        """Turns of an instance; see ``Store.journal``."""
        return await self._read(read_page, JOURNAL_PAGE, [instance, after, limit])

    async def snapshots(self, instance: str) -> list[SnapshotRow]:
        """The sound snapshots of an instance; see ``Store.snapshots``."""
        return await self._read(read_snapshots, instance)

    async def heads(
        self,
        saga: str | None = None,
        status: Status | None = None,
        after: str = "",
        limit: int = 1000,
    ) -> list[HeadRow]:
        """Instances in order of their key; see ``Store.heads``."""
        return await self._sound(read_heads, saga, status, after, limit)

    async def find(self, query: HeadQuery) -> list[HeadRow]:
        """Instances by status, moment or field; see ``Store.find``."""
        return await self._sound(read_found, query)

    async def count(self, query: HeadQuery) -> int:
        """How many ``find`` would give; see ``Store.count``."""
        return await self._read(read_count, query)

    async def tallies(self) -> list[TallyRow]:
        """How many instances there are and were; see ``Store.tallies``."""
        return await self._sound(read_tallies)

    async def tombstones(
        self, after: tuple[int, str] = (-1, ""), limit: int = 1000
    ) -> list[TombstoneRow]:
        """Tombstones in order of their moment; see ``Store.tombstones``."""
        return await self._sound(read_sound, TOMBSTONES_PAGE, [*after, limit])

    async def deadlines(
        self, after: tuple[int, str, str] = (-1, "", ""), limit: int = 1000
    ) -> list[DeadlineRow]:
        """Armed deadlines in order of their moment; see ``Store.deadlines``."""
        return await self._sound(read_sound, DEADLINES_PAGE, [*after, limit])

    async def inbox(self, after: int = 0, limit: int = 1000) -> list[InboxRow]:
        """Waiting messages in order of arrival; see ``Store.inbox``."""
        return await self._sound(read_sound, INBOX_PAGE, [after, limit])

    async def inbox_due(
        self, after: tuple[int, str, str] = (-1, "", ""), limit: int = 1000
    ) -> list[InboxRow]:
        """Waiting messages in order of their moment; see ``Store.inbox_due``."""
        return await self._sound(read_sound, INBOX_DUE, [*after, limit])

    async def outbox(
        self, after: int = 0, limit: int = 1000, queue: str | None = None
    ) -> list[OutboxRow]:
        """Commands and events that wait; see ``Store.outbox``."""
        if queue is None:
            return await self._sound(read_sound, OUTBOX_PAGE, [after, limit])
        return await self._sound(read_sound, QUEUE_PAGE, [queue, after, limit])

    async def jobs_ready(self, queue: str, now_ms: int, limit: int = 1000) -> list[OutboxRow]:
        """Jobs of a queue that may start; see ``Store.jobs_ready``."""
        return await self._sound(read_sound, JOBS_READY, [queue, now_ms, limit])

    async def jobs_due(self, after: tuple[int, int] = (0, 0), limit: int = 1000) -> list[OutboxRow]:
        """Jobs in order of their moment; see ``Store.jobs_due``."""
        return await self._sound(read_sound, JOBS_DUE, [*after, limit])

    async def jobs_at(self, positions: Sequence[int]) -> list[OutboxRow]:
        """The jobs at these positions; see ``Store.jobs_at``."""
        return await self._sound(read_jobs_at, list(positions))

    async def jobs_after(self, position: int) -> list[OutboxRow]:
        """The jobs that follow one; see ``Store.jobs_after``."""
        return await self._sound(read_sound, JOBS_AFTER, [position, _NO_LIMIT])

    async def queues(self) -> list[QueueRow]:
        """What was written of work queues; see ``Store.queues``."""
        return await self._sound(read_queues)

    async def queue_depths(self) -> dict[str, int]:
        """Jobs per queue; see ``Store.queue_depths``."""
        return await self._read(read_depths)

    async def backlog(self) -> Backlog:
        """How much waits; see ``Store.backlog``."""
        return await self._read(read_backlog)

    async def quarantines(self) -> list[QuarantineRow]:
        """Instances that are set aside; see ``Store.quarantines``."""
        return await self._sound(read_quarantines)

    async def inbox_sizes(self, instances: Sequence[str]) -> dict[str, int]:
        """Messages that wait, per instance; see ``Store.inbox_sizes``."""
        return await self._read(read_inbox_sizes, list(instances))

    async def dead_letters(self, after: int = 0, limit: int = 1000) -> list[DeadLetterRow]:
        """Dead letters in order of arrival; see ``Store.dead_letters``."""
        return await self._sound(read_sound, DEAD_LETTERS_PAGE, [after, limit])

    async def rows_of(self, instance: str, limit: int = 1000) -> InstanceRows:
        """What concerns an instance beside its turns; see ``Store.rows_of``."""
        return await self._sound(read_rows_of, instance, limit)

    async def retried(self) -> dict[str, int]:
        """Jobs that have failed before; see ``Store.retried``."""
        return await self._read(read_retried)

    async def _sound(
        self, read: Callable[..., tuple[Result, list[CorruptRecord]]], *arguments: Any
    ) -> Result:
        """The sound rows that a read finds; each damaged one is named in the log, once."""
        rows, damaged = await self._read(read, *arguments)
        for damage in damaged:
            if str(damage) not in self._damage_named:
                self._damage_named.add(str(damage))
                logger.error("passed over in %r: %s", self.shown, damage)
        return rows
