"""The store as a whole, read-only: queues, jobs, what waits, what is to come, figures.

Next to read: ``inspection.py``, whose part this is, and which shows single instances.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from typing import Self, TypeVar

from perdure.core.commit import DeadLetterRow, InboxRow, OutboxRow, QuarantineRow, Status
from perdure.core.correlation import split_key
from perdure.ops import seeing
from perdure.ops.looked_at import (
    ClusterSeen,
    DeadLetterSeen,
    JobSeen,
    QuarantineSeen,
    QueueSeen,
    WaitingMessageSeen,
)
from perdure.runtime.looking.agenda import (
    ArmedDeadline,
    armed_deadlines,
    checked_before,
)
from perdure.runtime.looking.reading import Reader
from perdure.store.overview import overview_of, owner_of
from perdure.store.protocol import Store

__all__ = ["PAGE", "StoreLook"]

PAGE = 1_000

_BEHIND = "{}0"
"""Behind all keys of a saga: "0" is the character after the slash."""

Row = TypeVar("Row", OutboxRow, InboxRow, DeadLetterRow)


class StoreLook:
    """Looks at all but single instances. ``is_ours``: the store is opened and closed here."""

    def __init__(self, reading: Reader, is_ours: bool) -> None:
        self._reading = reading
        self._is_ours = is_ours

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Open the store for reading.

        Raises ``StoreNotWritable`` for a file that is not there or cannot be read, with what to do;
        ``NotADatabase``, ``SchemaTooNew``, ``SchemaTooOld``, ``StoreUnavailable``.
        """
        if self._is_ours:
            await self._reading.store.open()

    async def close(self) -> None:
        """Close it again. May be called twice."""
        if self._is_ours:
            await self._reading.store.close()

    @property
    def _store(self) -> Store:
        return self._reading.store

    async def sagas(self) -> list[str]:
        """The names of the sagas that have instances."""
        found: list[str] = []
        after = ""
        while heads := await self._store.heads(None, None, after, 1):
            found.append(heads[0].saga)
            after = _BEHIND.format(split_key(heads[0].instance)[0])
        return found

    async def counts(self) -> dict[str, dict[str, int]]:
        """How many instances there are, per saga and status, as counted beside them."""
        found = {}
        for tally in await self._store.tallies():
            by_status = {
                Status.RUNNING: tally.running,
                Status.STUCK: tally.stuck,
                Status.COMPLETED: tally.kept_completed,
                Status.FAILED: tally.kept_failed,
            }
            counted = {status.value: count for status, count in by_status.items() if count}
            if counted:
                found[tally.saga] = counted
        return found

    # What waits

    async def queues(self) -> list[QueueSeen]:
        """The work queues that hold jobs, or of which it is written that they are paused."""
        paused = {row.name: row for row in await self._store.queues() if row.is_paused}
        backlog, retried = await self._store.backlog(), await self._store.retried()
        seen = {
            name: QueueSeen(name, one.jobs, retried.get(name, 0), seeing.moment(one.oldest_at_ms))
            for name, one in backlog.queues.items()
        }
        for name, row in paused.items():
            one = seen.get(name, QueueSeen(name, 0, 0, None))
            since = seeing.moment(row.changed_at_ms)
            seen[name] = replace(one, is_paused=True, pause_reason=row.reason, paused_at=since)
        return [seen[name] for name in sorted(seen)]

    async def jobs(self, queue: str | None = None, *, after: int = 0) -> AsyncIterator[JobSeen]:
        """Jobs of a queue, or all, oldest first, behind a position."""
        async for row in _paged(lambda last: self._store.outbox(last, PAGE, queue), after):
            yield seeing.job(self._reading, row)

    async def inbox(self, *, after: int = 0) -> AsyncIterator[WaitingMessageSeen]:
        """Messages that wait for an instance, a retry, or a release, in order of arrival."""
        async for row in _paged(lambda last: self._store.inbox(last, PAGE), after):
            yield seeing.waiting(self._reading, row)

    async def mail(self) -> AsyncIterator[WaitingMessageSeen]:
        """What was accepted in PostgreSQL, and no owner of its shard has taken yet.

        In order of arrival; nothing for a store that one process owns.
        """
        overview = overview_of(self._store)
        if overview is None:
            return
        hosts, after = await overview.hosts(), 0
        while rows := await overview.mail(after, PAGE):
            for row in rows:
                shard = overview.shard_of(row.instance)
                yield seeing.mailed(self._reading, row, shard, owner_of(shard, hosts))
            after = rows[-1].position

    async def hosts(self) -> ClusterSeen | None:
        """Whose the shards are; None for a store that one process owns."""
        overview = overview_of(self._store)
        if overview is None:
            return None
        return seeing.cluster(overview.shards, await overview.hosts())

    async def dead_letters(
        self,
        *,
        saga: str | None = None,
        queue: str | None = None,
        reason: str | None = None,
        type: str | None = None,
        after: int = 0,
    ) -> AsyncIterator[DeadLetterSeen]:
        """Dead letters, oldest first, behind an id; of one saga, queue, reason or type."""
        async for row in _paged(lambda last: self._store.dead_letters(last, PAGE), after):
            wanted = ((queue, row.queue), (reason, row.reason), (type, row.type))
            is_wanted = all(one in (None, there) for one, there in wanted)
            if is_wanted and saga in (None, split_key(row.instance)[0]):
                yield seeing.dead_letter(self._reading, row)

    async def quarantined(self, saga: str | None = None) -> list[QuarantineSeen]:
        """The instances that are set aside, by saga and id."""
        rows = [row for key, row in (await self._asides()).items() if _is_of(saga, key)]
        held: dict[str, int] = {}
        for start in range(0, len(rows), PAGE):
            page = [row.instance for row in rows[start : start + PAGE]]
            held.update(await self._store.inbox_sizes(page))
        return [seeing.quarantine(row, held.get(row.instance, 0)) for row in rows]

    def deadlines(
        self, saga: str | None = None, *, before: datetime | None = None
    ) -> AsyncIterator[ArmedDeadline]:
        """The armed deadlines in the order in which they are due; see ``Runtime.deadlines``."""
        return armed_deadlines(self._store, saga, checked_before(before))

    async def _asides(self) -> dict[str, QuarantineRow]:
        return {row.instance: row for row in await self._store.quarantines()}


async def _paged(read: Callable[[int], Awaitable[list[Row]]], after: int) -> AsyncIterator[Row]:
    while True:
        rows = await read(after)
        for row in rows:
            yield row
        if len(rows) < PAGE:
            return
        after = rows[-1].position


def _is_of(saga: str | None, key: str) -> bool:
    return saga in (None, split_key(key)[0])
