"""What ``sql_looks.py`` reads, from dictionaries. Next to read: ``memory.py``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from copy import copy
from itertools import islice
from typing import TypeVar

from perdure.core.commit import (
    DeadLetterRow,
    DeadlineRow,
    InboxRow,
    JournalRow,
    OutboxRow,
    QuarantineRow,
    SnapshotRow,
)
from perdure.errors import StoreUnavailable
from perdure.store.memory_heads import Heads
from perdure.store.memory_jobs import Jobs
from perdure.store.protocol import InstanceRows

__all__ = ["MemoryLooks"]

Row = TypeVar("Row", DeadlineRow, InboxRow, OutboxRow, DeadLetterRow)


class MemoryLooks:
    """The part of a ``MemoryStore`` that is there for whoever looks."""

    _is_open: bool
    _journal: dict[str, list[JournalRow]]
    _snapshots: dict[str, dict[int, SnapshotRow]]
    _heads: Heads
    _deadlines: dict[tuple[str, str], DeadlineRow]
    _inbox: dict[tuple[str, str], InboxRow]
    _jobs: Jobs
    _dead_letters: dict[int, DeadLetterRow]
    _quarantines: dict[str, QuarantineRow]

    def _check_open(self) -> None:
        if not self._is_open:
            raise StoreUnavailable("the memory store is not open", remedy="open the store first")

    async def snapshots(self, instance: str) -> list[SnapshotRow]:
        """The snapshots of an instance; see ``Store.snapshots``."""
        self._check_open()
        found = self._snapshots.get(instance, {})
        return [copy(found[number]) for number in sorted(found, reverse=True)]

    async def rows_of(self, instance: str, limit: int = 1000) -> InstanceRows:
        """What concerns an instance beside its turns; see ``Store.rows_of``."""
        self._check_open()
        turns = self._journal.get(instance)
        inbox = [row for row in self._inbox.values() if row.instance == instance]
        deadlines = [row for row in self._deadlines.values() if row.instance == instance]
        deadlines.sort(key=lambda row: (row.due_at_ms, row.name))
        return InstanceRows(
            instance,
            self._heads.get(instance),
            turns[-1].sequence_nr if turns else 0,
            await self.snapshots(instance),
            _first(instance, deadlines, limit),
            _first(instance, inbox, limit),
            len(inbox),
            _first(instance, self._jobs.of(None), limit),
            _first(instance, self._dead_letters.values(), limit),
            copy(self._quarantines.get(instance)),
        )

    async def retried(self) -> dict[str, int]:
        """Jobs that have failed before; see ``Store.retried``."""
        self._check_open()
        jobs = self._jobs.of(None)
        return dict(Counter(row.target for row in jobs if row.attempts and row.due_at_ms))


def _first(instance: str, rows: Iterable[Row], limit: int) -> list[Row]:
    return [copy(row) for row in islice((r for r in rows if r.instance == instance), limit)]
