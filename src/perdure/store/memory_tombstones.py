"""Tombstones in memory, and what goes with them. Next to read: ``memory.py``."""

from __future__ import annotations

from collections.abc import MutableMapping
from copy import copy
from typing import Any

from perdure.core.commit import JournalRow, TombstoneRow
from perdure.store.changes import Changes

__all__ = ["Tombstones"]


class Tombstones:
    """The tombstones of all instances that were purged."""

    def __init__(self) -> None:
        self._rows: dict[str, TombstoneRow] = {}

    def __contains__(self, instance: str) -> bool:
        return instance in self._rows

    def apply(
        self,
        changes: Changes,
        journal: MutableMapping[str, list[JournalRow]],
        snapshots: MutableMapping[str, Any],
    ) -> None:
        """Put the tombstones of some changes, and delete what they take along."""
        for instance, row in changes.tombstones.items():
            left = [t for t in journal.pop(instance, ()) if t.sequence_nr > row.swept_nr]
            if left:
                journal[instance] = left
            if row.is_over or instance in changes.purged:
                snapshots.pop(instance, None)
            if row.is_over:
                self._rows.pop(instance, None)
            else:
                self._rows[instance] = copy(row)

    def page(self, after: tuple[int, str], limit: int) -> list[TombstoneRow]:
        """In order of their moments; see ``Store.tombstones``."""
        found = sorted((row.due_at_ms, row.instance) for row in self._rows.values())
        return [copy(self._rows[key]) for place, key in found if (place, key) > after][:limit]
