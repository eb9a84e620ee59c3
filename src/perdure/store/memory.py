"""A store in dictionaries, for tests and for processes that need not outlive their process.

Gives the same answers as the SQL store, from the same plan. Nothing here can fail half-way: the
plan is made first, then carried out without a single ``await``.
Next to read: ``write_plan.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import replace
from itertools import count, islice
from typing import TypeVar

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
from perdure.errors import StoreError, StoreLocked, StoreUnavailable
from perdure.store.protocol import LoadedInstance
from perdure.store.write_plan import Changes, first_numbers, net_changes, refusals

__all__ = ["MemoryStore"]

Row = TypeVar("Row", OutboxRow, InboxRow, DeadLetterRow)

PAGE_TURNS_MAX = 1_000
SNAPSHOTS_KEPT = 2


class MemoryStore:
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
        self._heads: dict[str, HeadRow] = {}
        self._deadlines: dict[tuple[str, str], DeadlineRow] = {}
        self._inbox: dict[tuple[str, str], InboxRow] = {}
        self._outbox: list[OutboxRow] = []
        self._dead_letters: list[DeadLetterRow] = []
        self._positions = count(1)

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
        accepted = [e for e, answer in zip(entries, answers, strict=True) if answer is None]
        self._apply(net_changes(accepted))
        return answers

    def _stands_at(self, instance: str) -> int:
        if instance in self._journal:
            return self._journal[instance][-1].sequence_nr
        return max(self._snapshots.get(instance, {0: None}))

    def _apply(self, changes: Changes) -> None:
        for turn in changes.journal:
            self._journal.setdefault(turn.instance, []).append(copy(turn))
        self._outbox += self._positioned(changes.outbox)
        for deadline_key, deadline in changes.deadlines.items():
            if deadline is None:
                self._deadlines.pop(deadline_key, None)
            else:
                self._deadlines[deadline_key] = copy(deadline)
        for instance, head in changes.heads.items():
            self._heads[instance] = copy(head)
        for inbox_key in changes.consumed:
            self._inbox.pop(inbox_key, None)
        for waiting in self._positioned(changes.inbox.values()):
            self._inbox.setdefault((waiting.instance, waiting.message_id), waiting)
        letters = [replace(letter, consumes_inbox=False) for letter in changes.dead_letters]
        self._dead_letters += self._positioned(letters)
        for snapshot in changes.snapshots.values():
            self._keep_snapshot(snapshot)

    def _positioned(self, rows: Iterable[Row]) -> list[Row]:
        return [replace(row, position=next(self._positions)) for row in rows]

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
        found = [
            head
            for head in self._heads.values()
            if head.instance > after and saga in (None, head.saga) and status in (None, head.status)
        ]
        found.sort(key=lambda head: head.instance)
        return [copy(head) for head in found[:limit]]

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

    async def outbox(self, after: int = 0, limit: int = 1000) -> list[OutboxRow]:
        """Commands and events that wait; see ``Store.outbox``."""
        self._check_open()
        return _page(self._outbox, after, limit)

    async def dead_letters(self, after: int = 0, limit: int = 1000) -> list[DeadLetterRow]:
        """Dead letters in order of arrival; see ``Store.dead_letters``."""
        self._check_open()
        return _page(self._dead_letters, after, limit)

    def _check_open(self) -> None:
        if not self._is_open:
            raise StoreUnavailable("the memory store is not open", remedy="open the store first")


def _page(rows: Iterable[Row], after: int, limit: int) -> list[Row]:
    return [copy(row) for row in islice((row for row in rows if row.position > after), limit)]
