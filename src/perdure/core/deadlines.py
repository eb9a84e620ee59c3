"""The next deadlines in memory: a heap in due order, exact under replacing and cancelling.

A window on the store: it holds the deadlines up to a horizon, so that millions may be armed. What
lies beyond is read when the window runs empty. Pure; the clock and the store are elsewhere.
Next to read: ``runtime/timers.py``, which fires them.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from perdure.core.commit import DeadlineRow

__all__ = ["DeadlineQueue"]


class DeadlineQueue:
    """Armed deadlines in the order (due, instance, name).

    >>> queue = DeadlineQueue()
    >>> queue.set(DeadlineRow("Order/o-1", "pick", 1, due_at_ms=5_000))
    >>> queue.next_due_ms()
    5000

    ``page_loaded`` fills the window from the store; ``is_exhausted`` says that more must be read.
    """

    def __init__(self) -> None:
        self._armed: dict[tuple[str, str], DeadlineRow] = {}
        self._heap: list[tuple[int, str, str]] = []
        self._horizon: tuple[int, str, str] | None = None

    def __len__(self) -> int:
        return len(self._armed)

    def __contains__(self, key: tuple[str, str]) -> bool:
        """Whether (instance, name) is armed in the window."""
        return key in self._armed

    def set(self, row: DeadlineRow) -> None:
        """A deadline was committed; replaces the one of the same instance and name."""
        entry = (row.due_at_ms, row.instance, row.name)
        if self._horizon is not None and entry > self._horizon:
            self._armed.pop((row.instance, row.name), None)
            return
        self._armed[row.instance, row.name] = row
        heapq.heappush(self._heap, entry)
        if len(self._heap) > 2 * len(self._armed) + 64:
            self._heap = [(r.due_at_ms, r.instance, r.name) for r in self._armed.values()]
            heapq.heapify(self._heap)

    def clear(self, instance: str, name: str) -> None:
        """A deadline was cancelled or has fired."""
        self._armed.pop((instance, name), None)

    def page_loaded(self, rows: Sequence[DeadlineRow], complete: bool) -> None:
        """Take in the next page from the store; ``complete``: nothing lies beyond it."""
        self._horizon = None if complete else (rows[-1].due_at_ms, rows[-1].instance, rows[-1].name)
        horizon = self._horizon
        if horizon is not None:  # what was set before the horizon was known may lie beyond it
            self._armed = {
                key: row
                for key, row in self._armed.items()
                if (row.due_at_ms, row.instance, row.name) <= horizon
            }
        for row in rows:
            self.set(row)

    @property
    def horizon(self) -> tuple[int, str, str] | None:
        """Deadlines after this one are only in the store; None if there are none."""
        return self._horizon

    @property
    def is_exhausted(self) -> bool:
        """The window is empty, but the store holds more."""
        return not self._armed and self._horizon is not None

    def next_due_ms(self) -> int | None:
        """When the first deadline of the window is due, or None."""
        heap = self._heap
        while heap:
            due_at_ms, instance, name = heap[0]
            armed = self._armed.get((instance, name))
            if armed is not None and armed.due_at_ms == due_at_ms:
                return due_at_ms
            heapq.heappop(heap)  # replaced or cancelled since
        return None

    def pop_due(self, now_ms: int) -> DeadlineRow | None:
        """Take out the first deadline if it is due."""
        due_at_ms = self.next_due_ms()
        if due_at_ms is None or due_at_ms > now_ms:
            return None
        _, instance, name = heapq.heappop(self._heap)
        return self._armed.pop((instance, name))
