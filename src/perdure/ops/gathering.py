"""Where the facts of health come from: a few bounded reads of the store, and the runtime's vitals.

    facts = await facts_of_runtime(runtime, thresholds)

What is asked depends on the thresholds: who has been idle for too long is asked of an index with
that moment. Every read is bounded, however much the store holds. Judges nothing.
Next to read: ``facts.py``, what it gathers; ``health.py``, the verdict.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from perdure.core.commit import DeadlineRow, HeadRow, InboxRow, OutboxRow, Status
from perdure.core.head_query import HeadQuery, Order
from perdure.core.tally import TallyRow
from perdure.errors import StoreError
from perdure.ops.cluster_facts import facts_of_cluster, facts_of_shards
from perdure.ops.facts import COUNTED_MAX, Facts, QueueFacts, SagaFacts, StoreFacts
from perdure.ops.thresholds import Thresholds
from perdure.runtime.clock import Clock
from perdure.runtime.runtime import Runtime
from perdure.runtime.watching.vitals import Phase, Vitals
from perdure.store.backlog import Backlog
from perdure.store.overview import overview_of
from perdure.store.protocol import Store

__all__ = ["facts_of_runtime", "facts_of_store"]

PAGE = 1_000
FIRST_PAGE = 20
UNFINISHED = (Status.RUNNING, Status.STUCK)
MILLISECOND = timedelta(milliseconds=1)


async def facts_of_runtime(runtime: Runtime, thresholds: Thresholds) -> Facts:
    """What is known of a runtime and the store it owns. If the last write failed, tries another."""
    vitals = await runtime.probe(timeout_s=thresholds.answer_time.total_seconds())
    if vitals.phase is not Phase.RUNNING:  # its store is not open, or will not be soon
        return Facts(at_ms=vitals.at_ms, store=StoreFacts(), vitals=vitals)
    facts = await _facts(runtime.store, thresholds, vitals.at_ms, vitals)
    with suppress(StoreError, TimeoutError):  # that it cannot be read is among the facts
        async with asyncio.timeout(thresholds.critical_answer_time.total_seconds()):
            return replace(facts, cluster=await facts_of_cluster(runtime))
    return facts


async def facts_of_store(
    store: Store, thresholds: Thresholds, clock: Clock, *, shards: bool = False
) -> Facts:
    """What is known of an open store alone; it may be open read-only. ``shards``: their owners."""
    facts = await _facts(store, thresholds, clock.now_ms(), None)
    if shards:
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(thresholds.critical_answer_time.total_seconds()):
                return replace(facts, cluster=await facts_of_shards(store))
    return facts


async def _facts(store: Store, thresholds: Thresholds, at_ms: int, vitals: Vitals | None) -> Facts:
    loop = asyncio.get_running_loop()
    began_s, limit_s = loop.time(), thresholds.critical_answer_time.total_seconds()
    disk_free = await _disk_free(store)
    under_way = frozenset() if vitals is None else vitals.under_way
    try:
        async with asyncio.timeout(limit_s):
            read = await _Reading(store, thresholds, at_ms, under_way).facts()
    except (StoreError, TimeoutError) as error:
        why = str(error) or f"no answer within {limit_s:g} s"
        return Facts(at_ms=at_ms, store=StoreFacts(error=why, disk_free=disk_free), vitals=vitals)
    took = StoreFacts(read_s=loop.time() - began_s, disk_free=disk_free)
    return replace(read, store=took, vitals=vitals)


async def _disk_free(store: Store) -> int | None:
    """Bytes that are left on the disk of the store's file, if it has one."""
    path = getattr(store, "path", None)
    if not isinstance(path, str):
        return None
    try:
        return (await asyncio.to_thread(shutil.disk_usage, Path(path).parent)).free
    except OSError:
        return None


class _Reading:
    """The reads of one look at a store."""

    def __init__(
        self, store: Store, thresholds: Thresholds, at_ms: int, under_way: frozenset[int]
    ) -> None:
        self._store = store
        self._thresholds = thresholds
        self._at_ms = at_ms
        self._under_way = under_way

    async def facts(self) -> Facts:
        aside = {row.instance for row in await self._store.quarantines()}
        backlog = await self._store.backlog()
        return Facts(
            at_ms=self._at_ms,
            store=StoreFacts(),
            sagas=await self._sagas(),
            queues=await self._queues(backlog),
            deadline_late_s=await self._deadline_late_s(aside),
            message_late_s=await self._message_late_s(aside),
            **await self._mail(),
            quarantined=len(aside),
            dead_letters=backlog.dead_letters,
        )

    # Processes

    async def _sagas(self) -> tuple[SagaFacts, ...]:
        tallies = await self._store.tallies()
        return tuple([await self._saga(tally) for tally in tallies if tally.kept])

    async def _saga(self, tally: TallyRow) -> SagaFacts:
        expected, sample = self._thresholds.of(tally.saga), self._thresholds.sample
        ended = await self._ended(tally.saga, sample) if tally.kept - _unfinished(tally) else []
        took = [
            head.updated_at_ms - head.started_at_ms
            for head in ended
            if head.status is Status.COMPLETED
        ]
        return SagaFacts(
            saga=tally.saga,
            ended=len(ended),
            failed=len(ended) - len(took),
            average_s=sum(took) / len(took) / 1000 if took else None,
            stuck=tally.stuck,
            idle=await self._since(
                tally, Order.UPDATED, expected.stuck_process_age, Status.RUNNING
            ),
            old=await self._since(tally, Order.STARTED, expected.max_process_age, *UNFINISHED),
        )

    async def _ended(self, saga: str, sample: int) -> list[HeadRow]:
        """The last ones that ended. What came for one since, and changed nothing, moves it up."""
        over = (Status.COMPLETED, Status.FAILED)
        query = HeadQuery(saga, over, Order.UPDATED, descending=True, limit=sample)
        return await self._store.find(query)

    async def _since(
        self, tally: TallyRow, order: Order, age: timedelta | None, *statuses: Status
    ) -> int:
        """How many have this status, and were started or last changed before so long ago."""
        if age is None or not _unfinished(tally):
            return 0
        before_ms = self._at_ms - age // MILLISECOND
        query = HeadQuery(tally.saga, statuses, order, high=before_ms, limit=COUNTED_MAX)
        return await self._store.count(query)

    # What is due

    async def _deadline_late_s(self, aside: set[str]) -> float:
        after, limit = (-1, "", ""), FIRST_PAGE
        while rows := await self._store.deadlines(after, limit):
            due = self._first_due(rows, aside)
            if due is not None:
                return due
            after = (rows[-1].due_at_ms, rows[-1].instance, rows[-1].name)
            limit = PAGE
        return 0.0

    async def _message_late_s(self, aside: set[str]) -> float:
        rows = await self._store.inbox_due(limit=PAGE)
        return self._first_due(rows, aside) or 0.0

    def _first_due(self, rows: list[DeadlineRow] | list[InboxRow], aside: set[str]) -> float | None:
        for row in rows:
            if row.instance not in aside and row.due_at_ms is not None:
                return max(0.0, (self._at_ms - row.due_at_ms) / 1000)
        return None

    async def _mail(self) -> dict[str, Any]:
        overview = overview_of(self._store)
        ahead = None if overview is None else await overview.mail_ahead()
        if ahead is None:
            return {}
        return {"mail": ahead.count, "mail_s": max(0.0, (self._at_ms - ahead.since_ms) / 1000)}

    # Jobs

    async def _queues(self, backlog: Backlog) -> tuple[QueueFacts, ...]:
        paused = {row.name: row.reason for row in await self._store.queues() if row.is_paused}
        retried = await self._retried()
        return tuple(
            [
                QueueFacts(
                    queue=name,
                    paused=paused.get(name),
                    depth=backlog.queues[name].jobs if name in backlog.queues else 0,
                    ready_s=0.0 if name in paused else await self._ready_s(name),
                    retried=retried[name],
                )
                for name in sorted(backlog.queues.keys() | paused.keys())
            ]
        )

    async def _retried(self) -> Counter[str]:
        """Jobs that were tried too often wait for a moment: they are among those of the index."""
        limit = self._thresholds.max_retry_count
        if limit is None:
            return Counter()
        rows = await self._store.jobs_due(limit=PAGE)
        return Counter(row.target for row in rows if row.attempts > limit)

    async def _ready_s(self, queue: str) -> float:
        limit = min(len(self._under_way) + 1, PAGE)
        rows = await self._store.jobs_ready(queue, self._at_ms, limit)
        return max([0.0, *(self._waited_s(row) for row in rows if self._may_start(row))])

    def _may_start(self, row: OutboxRow) -> bool:
        # One that follows another may start since that has ended; when that was, nobody knows.
        return row.position not in self._under_way and not row.after

    def _waited_s(self, row: OutboxRow) -> float:
        return (self._at_ms - max(row.created_at_ms, row.due_at_ms)) / 1000


def _unfinished(tally: TallyRow) -> int:
    return tally.running + tally.stuck
