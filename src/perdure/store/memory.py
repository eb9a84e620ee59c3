"""A store in dictionaries, for tests and for processes that need not outlive their process.

Gives the same answers as the SQL store, from the same plan. Nothing here can fail half-way: the
plan is made first, then carried out without a single ``await``. A mistake that SQL leaves out with
its entry (an outbox position that is taken) fails the whole group here, before any of it is kept.
Next to read: ``write_plan.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import replace
from itertools import count, islice
from typing import Protocol, TypeVar

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
from perdure.errors import StoreError, StoreLocked
from perdure.store.backlog import Backlog, backlog_of
from perdure.store.changes import Changes, Present
from perdure.store.memory_heads import Heads
from perdure.store.memory_jobs import Jobs
from perdure.store.memory_looks import MemoryLooks
from perdure.store.memory_tombstones import Tombstones
from perdure.store.protocol import LoadedInstance
from perdure.store.write_plan import asked_of, first_numbers, net_changes, refusals

__all__ = ["MemoryStore"]

Row = TypeVar("Row", OutboxRow, InboxRow, DeadLetterRow)


class _HasBody(Protocol):
    body: bytes


PAGE_TURNS_MAX = 1_000
SNAPSHOTS_KEPT = 2


class MemoryStore(MemoryLooks):
    """Keeps everything in this object, over ``close`` and ``open``, and nothing beyond it.

    >>> store = MemoryStore()
    >>> epoch = await store.open()
    """

    def __init__(self) -> None:
        self.name = "memory, nothing is durable"
        self._epoch = 0
        self._is_open = False
        self._journal: dict[str, list[JournalRow]] = {}
        self._snapshots: dict[str, dict[int, SnapshotRow]] = {}
        self._heads = Heads()
        self._deadlines: dict[tuple[str, str], DeadlineRow] = {}
        self._inbox: dict[tuple[str, str], InboxRow] = {}
        self._jobs = Jobs()
        self._dead_letters: dict[int, DeadLetterRow] = {}
        self._queues: dict[str, QueueRow] = {}
        self._quarantines: dict[str, QuarantineRow] = {}
        self._tombstones = Tombstones()
        self._messages_arrived = count(1)
        self._letters_arrived = count(1)

    async def open(self) -> int:
        """Take ownership; see ``Store.open``."""
        if self._is_open:
            raise StoreLocked("the memory store is open already", remedy="close it first")
        self._is_open = True
        self._epoch += 1
        return self._epoch

    async def close(self) -> None:
        """Give up ownership; see ``Store.close``."""
        self._is_open = False

    async def write(self, entries: Sequence[Entry]) -> Sequence[StoreError | None]:
        """Write a group; see ``Store.write``."""
        self._check_open()
        losers = {
            instance: self._stands_at(instance)
            for instance, first in first_numbers(entries, self._epoch).items()
            if first != self._stands_at(instance) + 1
        }
        answers = refusals(entries, self._epoch, self._epoch, losers)
        try:
            changes = net_changes(entries, answers, self._present(entries))
            self._jobs.check_positions(changes)
        except ValueError as mistake:
            raise StoreError(
                f"the store cannot keep this group: {mistake}",
                remedy="nothing of it was written; give positions that grow",
            ) from mistake
        self._apply(changes)
        return answers

    def _present(self, entries: Sequence[Entry]) -> Present:
        asked, given_ids = asked_of(entries), self._jobs.given_ids
        return Present(
            {row.position for row in self._jobs.at(asked.jobs)},
            {position for position in asked.letters if position in self._dead_letters},
            {given: given_ids[given] for given in asked.given_ids if given in given_ids},
            {instance for instance in asked.purged if instance in self._tombstones},
        )

    def _stands_at(self, instance: str) -> int:
        if instance in self._journal:
            return self._journal[instance][-1].sequence_nr
        return max(self._snapshots.get(instance, {0: None}))

    def _apply(self, changes: Changes) -> None:
        for turn in changes.journal:
            self._journal.setdefault(turn.instance, []).append(copy(turn))
        self._jobs.apply(changes)
        for deadline_key, deadline in changes.deadlines.items():
            if deadline is None:
                self._deadlines.pop(deadline_key, None)
            else:
                self._deadlines[deadline_key] = copy(deadline)
        self._heads.apply(changes)
        self._apply_waiting(changes)
        self._tombstones.apply(changes, self._journal, self._snapshots)
        for snapshot in changes.snapshots.values():
            self._keep_snapshot(snapshot)
        for name, queue in changes.queues.items():
            self._queues[name] = copy(queue)
        for instance, quarantine in changes.quarantines.items():
            if quarantine.is_over:
                self._quarantines.pop(instance, None)
            else:
                self._quarantines[instance] = copy(quarantine)

    def _apply_waiting(self, changes: Changes) -> None:
        for key in changes.consumed:
            self._inbox.pop(key, None)
        for waiting in changes.inbox.values():
            self._put_waiting(waiting)
        for position in changes.letters_removed:
            self._dead_letters.pop(position, None)
        for letter in changes.dead_letters:
            position = next(self._letters_arrived)
            kept = replace(letter, consumes_inbox=False, position=position)
            self._dead_letters[position] = kept

    def _put_waiting(self, row: InboxRow) -> None:
        key = (row.instance, row.message_id)
        there = self._inbox.get(key)
        if there is None:
            position = next(self._messages_arrived)
            self._inbox[key] = replace(row, replaces=False, position=position)
        elif row.replaces:
            self._inbox[key] = replace(row, replaces=False, position=there.position)

    def _keep_snapshot(self, snapshot: SnapshotRow) -> None:
        kept = self._snapshots.setdefault(snapshot.instance, {})
        kept[snapshot.sequence_nr] = copy(snapshot)
        for number in sorted(kept)[:-SNAPSHOTS_KEPT]:
            del kept[number]

    async def load(self, instances: Sequence[str]) -> Sequence[LoadedInstance]:
        """Read several instances at once; see ``Store.load``."""
        self._check_open()
        return [self._load(instance) for instance in instances]

    def _load(self, instance: str) -> LoadedInstance:
        snapshots = self._snapshots.get(instance)
        snapshot = copy(snapshots[max(snapshots)]) if snapshots else None
        base = snapshot.sequence_nr if snapshot is not None else 0
        turns = self._turns(instance, base, PAGE_TURNS_MAX + 1)
        return LoadedInstance(
            instance,
            snapshot,
            turns[:PAGE_TURNS_MAX],
            [copy(row) for row in self._inbox.values() if row.instance == instance],
            has_more=len(turns) > PAGE_TURNS_MAX,
        )

    async def journal(self, instance: str, after: int = 0, limit: int = 1000) -> list[JournalRow]:
        """Turns of an instance; see ``Store.journal``."""
        self._check_open()
        return self._turns(instance, after, limit)

    def _turns(self, instance: str, after: int, limit: int) -> list[JournalRow]:
        history = self._journal.get(instance, [])
        start = max(0, after + 1 - history[0].sequence_nr) if history else 0
        return [copy(turn) for turn in islice(history, start, start + limit)]

    async def heads(
        self,
        saga: str | None = None,
        status: Status | None = None,
        after: str = "",
        limit: int = 1000,
    ) -> list[HeadRow]:
        """Instances in order of their key; see ``Store.heads``."""
        self._check_open()
        return self._heads.page(saga, status, after, limit)

    async def find(self, query: HeadQuery) -> list[HeadRow]:
        """Instances by status, moment or field; see ``Store.find``."""
        self._check_open()
        return self._heads.find(query)

    async def count(self, query: HeadQuery) -> int:
        """How many ``find`` would give; see ``Store.count``."""
        self._check_open()
        return len(self._heads.find(query))

    async def tallies(self) -> list[TallyRow]:
        """How many instances there are and were; see ``Store.tallies``."""
        self._check_open()
        return self._heads.tallies()

    async def tombstones(
        self, after: tuple[int, str] = (-1, ""), limit: int = 1000
    ) -> list[TombstoneRow]:
        """Tombstones in order of their moment; see ``Store.tombstones``."""
        self._check_open()
        return self._tombstones.page(after, limit)

    async def size(self) -> int:
        """The bytes of all bodies; see ``Store.size``."""
        self._check_open()
        kept: list[Iterable[_HasBody]] = [*self._journal.values(), self._jobs.of(None)]
        kept += [snapshots.values() for snapshots in self._snapshots.values()]
        kept += [self._inbox.values(), self._dead_letters.values()]
        return sum(len(row.body) for rows in kept for row in rows)

    async def deadlines(
        self, after: tuple[int, str, str] = (-1, "", ""), limit: int = 1000
    ) -> list[DeadlineRow]:
        """Armed deadlines in order of their moment; see ``Store.deadlines``."""
        self._check_open()
        found = sorted((d.due_at_ms, d.instance, d.name) for d in self._deadlines.values())
        page = [key for key in found if key > after][:limit]
        return [copy(self._deadlines[instance, name]) for _, instance, name in page]

    async def inbox(self, after: int = 0, limit: int = 1000) -> list[InboxRow]:
        """Waiting messages in order of arrival; see ``Store.inbox``."""
        self._check_open()
        return _page(self._inbox.values(), after, limit)

    async def inbox_due(
        self, after: tuple[int, str, str] = (-1, "", ""), limit: int = 1000
    ) -> list[InboxRow]:
        """Waiting messages in order of their moment; see ``Store.inbox_due``."""
        self._check_open()
        timed = (
            ((row.due_at_ms, *key), row)
            for key, row in self._inbox.items()
            if row.due_at_ms is not None
        )
        found = sorted((order, row) for order, row in timed if order > after)
        return [copy(row) for _, row in found[:limit]]

    async def outbox(
        self, after: int = 0, limit: int = 1000, queue: str | None = None
    ) -> list[OutboxRow]:
        """Commands and events that wait; see ``Store.outbox``."""
        self._check_open()
        return _page(self._jobs.of(queue), after, limit)

    async def jobs_ready(self, queue: str, now_ms: int, limit: int = 1000) -> list[OutboxRow]:
        """Jobs of a queue that may start; see ``Store.jobs_ready``."""
        self._check_open()
        dead = {letter.job for letter in self._dead_letters.values()}
        return self._jobs.ready(queue, now_ms, dead)[:limit]

    async def jobs_due(self, after: tuple[int, int] = (0, 0), limit: int = 1000) -> list[OutboxRow]:
        """Jobs in order of their moment; see ``Store.jobs_due``."""
        self._check_open()
        return self._jobs.due(after)[:limit]

    async def jobs_at(self, positions: Sequence[int]) -> list[OutboxRow]:
        """The jobs at these positions; see ``Store.jobs_at``."""
        self._check_open()
        return self._jobs.at(positions)

    async def jobs_after(self, position: int) -> list[OutboxRow]:
        """The jobs that follow one; see ``Store.jobs_after``."""
        self._check_open()
        return self._jobs.after(position)

    async def queues(self) -> list[QueueRow]:
        """What was written of work queues; see ``Store.queues``."""
        self._check_open()
        return [copy(self._queues[name]) for name in sorted(self._queues)]

    async def queue_depths(self) -> dict[str, int]:
        """Jobs per queue; see ``Store.queue_depths``."""
        self._check_open()
        return dict(Counter(row.target for row in self._jobs.of(None)))

    async def backlog(self) -> Backlog:
        """How much waits; see ``Store.backlog``."""
        self._check_open()
        letters = [letter.job for letter in self._dead_letters.values()]
        return backlog_of(self._jobs.of(None), letters, self._inbox)

    async def quarantines(self) -> list[QuarantineRow]:
        """Instances that are set aside; see ``Store.quarantines``."""
        self._check_open()
        return [copy(self._quarantines[key]) for key in sorted(self._quarantines)]

    async def inbox_sizes(self, instances: Sequence[str]) -> dict[str, int]:
        """Messages that wait, per instance; see ``Store.inbox_sizes``."""
        self._check_open()
        asked = set(instances)
        return dict(Counter(key for key, _ in self._inbox if key in asked))

    async def dead_letters(self, after: int = 0, limit: int = 1000) -> list[DeadLetterRow]:
        """Dead letters in order of arrival; see ``Store.dead_letters``."""
        self._check_open()
        return _page(self._dead_letters.values(), after, limit)


def _page(rows: Iterable[Row], after: int, limit: int) -> list[Row]:
    return [copy(row) for row in islice((row for row in rows if row.position > after), limit)]
