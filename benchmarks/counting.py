"""A store that counts what is asked of it. Next to read: ``deadlines.py``."""

from __future__ import annotations

import time
from collections.abc import Sequence

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
from perdure.errors import StoreError
from perdure.store.backlog import Backlog
from perdure.store.protocol import InstanceRows, LoadedInstance, QueueFigures, Store

__all__ = ["CountingStore"]


class CountingStore:
    """Hands everything on; ``calls`` are the operations since it was set to 0.

    ``written_at`` is when the last write had ended.
    """

    def __init__(self, store: Store) -> None:
        self.name = store.name
        self.calls = 0
        self.written_at = 0.0
        self._store = store

    @property
    def _counted(self) -> Store:
        self.calls += 1
        return self._store

    async def open(self) -> int:
        return await self._counted.open()

    async def close(self) -> None:
        await self._counted.close()

    async def write(self, entries: Sequence[Entry]) -> Sequence[StoreError | None]:
        answers = await self._counted.write(entries)
        self.written_at = time.perf_counter()
        return answers

    async def load(self, instances: Sequence[str]) -> Sequence[LoadedInstance]:
        return await self._counted.load(instances)

    async def journal(self, instance: str, after: int = 0, limit: int = 1000) -> list[JournalRow]:
        return await self._counted.journal(instance, after, limit)

    async def heads(
        self,
        saga: str | None = None,
        status: Status | None = None,
        after: str = "",
        limit: int = 1000,
    ) -> list[HeadRow]:
        return await self._counted.heads(saga, status, after, limit)

    async def find(self, query: HeadQuery) -> list[HeadRow]:
        return await self._counted.find(query)

    async def count(self, query: HeadQuery) -> int:
        return await self._counted.count(query)

    async def tallies(self) -> list[TallyRow]:
        return await self._counted.tallies()

    async def tombstones(
        self, after: tuple[int, str] = (-1, ""), limit: int = 1000
    ) -> list[TombstoneRow]:
        return await self._counted.tombstones(after, limit)

    async def size(self) -> int:
        return await self._counted.size()

    async def deadlines(
        self, after: tuple[int, str, str] = (-1, "", ""), limit: int = 1000
    ) -> list[DeadlineRow]:
        return await self._counted.deadlines(after, limit)

    async def inbox(self, after: int = 0, limit: int = 1000) -> list[InboxRow]:
        return await self._counted.inbox(after, limit)

    async def inbox_due(
        self, after: tuple[int, str, str] = (-1, "", ""), limit: int = 1000
    ) -> list[InboxRow]:
        return await self._counted.inbox_due(after, limit)

    async def outbox(
        self, after: int = 0, limit: int = 1000, queue: str | None = None
    ) -> list[OutboxRow]:
        return await self._counted.outbox(after, limit, queue)

    async def jobs_ready(self, queue: str, now_ms: int, limit: int = 1000) -> list[OutboxRow]:
        return await self._counted.jobs_ready(queue, now_ms, limit)

    async def jobs_due(self, after: tuple[int, int] = (0, 0), limit: int = 1000) -> list[OutboxRow]:
        return await self._counted.jobs_due(after, limit)

    async def jobs_at(self, positions: Sequence[int]) -> list[OutboxRow]:
        return await self._counted.jobs_at(positions)

    async def jobs_after(self, position: int) -> list[OutboxRow]:
        return await self._counted.jobs_after(position)

    async def queues(self) -> list[QueueRow]:
        return await self._counted.queues()

    async def queue_depths(self) -> dict[str, int]:
        return await self._counted.queue_depths()

    async def backlog(self) -> Backlog:
        return await self._counted.backlog()

    async def quarantines(self) -> list[QuarantineRow]:
        return await self._counted.quarantines()

    async def inbox_sizes(self, instances: Sequence[str]) -> dict[str, int]:
        return await self._counted.inbox_sizes(instances)

    async def dead_letters(self, after: int = 0, limit: int = 1000) -> list[DeadLetterRow]:
        return await self._counted.dead_letters(after, limit)

    async def snapshots(self, instance: str) -> list[SnapshotRow]:
        return await self._counted.snapshots(instance)

    async def rows_of(self, instance: str, limit: int = 1000) -> InstanceRows:
        return await self._counted.rows_of(instance, limit)

    async def queue_figures(self) -> list[QueueFigures]:
        return await self._counted.queue_figures()
