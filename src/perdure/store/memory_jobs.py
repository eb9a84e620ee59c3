"""The outbox in memory. Next to read: ``memory.py``."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from copy import copy

from perdure.core.commit import OutboxRow
from perdure.store.changes import Changes

__all__ = ["Jobs"]


class Jobs:
    """The jobs of all queues by position; ``given_ids`` are the positions of those with one."""

    def __init__(self) -> None:
        self.given_ids: dict[str, int] = {}
        self._outbox: dict[int, OutboxRow] = {}

    def check_positions(self, changes: Changes) -> None:
        """Raises ValueError if a row cannot be put at its position."""
        for position in changes.outbox:
            is_free = position not in self._outbox or position in changes.jobs_removed
            if position <= 0 or not is_free:
                raise ValueError(f"an outbox row cannot have position {position}")

    def apply(self, changes: Changes) -> None:
        """Remove the jobs that go, then put the new ones."""
        for position in changes.jobs_removed:
            removed = self._outbox.pop(position, None)
            if removed is not None and removed.given_id:
                del self.given_ids[removed.given_id]
        for job in changes.outbox.values():
            self._outbox[job.position] = copy(job)
            if job.given_id:
                self.given_ids[job.given_id] = job.position

    def of(self, queue: str | None) -> list[OutboxRow]:
        """Those of a queue, or all, by position: a row put back comes before later ones."""
        rows = [row for row in self._outbox.values() if queue in (None, row.target)]
        rows.sort(key=lambda row: row.position)
        return rows

    def ready(self, queue: str, now_ms: int, dead: Collection[int]) -> list[OutboxRow]:
        """Those of a queue that may start; ``dead`` are the positions of dead letters."""
        return _by_moment(
            row
            for row in self.of(queue)
            if row.due_at_ms <= now_ms
            and not (row.after and (row.after in self._outbox or row.after in dead))
        )

    def due(self, after: tuple[int, int]) -> list[OutboxRow]:
        """Those that wait for a moment."""
        return _by_moment(
            row
            for row in self._outbox.values()
            if row.due_at_ms > 0 and (row.due_at_ms, row.position) > after
        )

    def at(self, positions: Iterable[int]) -> list[OutboxRow]:
        """Those at these positions, in their order."""
        found = (self._outbox.get(position) for position in sorted(set(positions)))
        return [copy(row) for row in found if row is not None]

    def after(self, position: int) -> list[OutboxRow]:
        """Those that follow one."""
        return [copy(row) for row in self.of(None) if row.after == position > 0]


def _by_moment(rows: Iterable[OutboxRow]) -> list[OutboxRow]:
    ordered = sorted(rows, key=lambda row: (row.due_at_ms, row.position))
    return [copy(row) for row in ordered]
