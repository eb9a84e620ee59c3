"""The next due rows in memory: a heap in due order, exact under replacing and clearing.

A window on the store: it holds the rows up to a horizon, so that millions may wait. What lies
beyond is read when the window runs empty. Deadlines, waiting messages and jobs are all held so.
Pure; the clock and the store are elsewhere. Next to read: ``runtime/instances/timers.py``, which
fires them.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

__all__ = ["DueQueue", "DueRow", "Moment"]

Key: TypeAlias = tuple[Any, ...]
Moment: TypeAlias = tuple[Any, ...]
"""The place of a row in due order: (due_at_ms, *key)."""


class DueRow(Protocol):
    """A row with a moment. One without (None) is never in the queue."""

    @property
    def due_at_ms(self) -> int | None: ...


R = TypeVar("R", bound=DueRow)


class DueQueue(Generic[R]):
    """Rows in the order (due, *key).

    >>> queue = DueQueue(lambda row: (row.instance, row.name), page=10_000)
    >>> queue.set(DeadlineRow("Order/o-1", "pick", 1, due_at_ms=5_000))
    >>> queue.next_due_ms()
    5000

    ``page_loaded`` fills the window from the store; ``is_exhausted`` says that more must be read.
    When more than two pages are held, all but the first page are let go: the store has them.
    """

    def __init__(self, key_of: Callable[[R], Key], page: int) -> None:
        self._key_of = key_of
        self._page = page
        self._held: dict[Key, R] = {}
        self._heap: list[Moment] = []
        self._horizon: Moment | None = None

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, key: Key) -> bool:
        """Whether a row of this key is in the window."""
        return key in self._held

    def set(self, row: R) -> None:
        """A row was committed; replaces the one of the same key."""
        key = self._key_of(row)
        moment = (row.due_at_ms, *key)
        if row.due_at_ms is None or (self._horizon is not None and moment > self._horizon):
            self._held.pop(key, None)
            return
        self._held[key] = row
        heapq.heappush(self._heap, moment)
        if len(self._held) > 2 * self._page:
            self._shrink()
        elif len(self._heap) > 2 * len(self._held) + 64:
            self._heap = self._moments()
            heapq.heapify(self._heap)

    def clear(self, key: Key) -> None:
        """The row of this key is gone, or time does not concern it any more."""
        self._held.pop(key, None)

    def page_loaded(self, rows: Sequence[R], complete: bool) -> None:
        """Take in the next page from the store; ``complete``: nothing lies beyond it."""
        self._horizon = None if complete else self._moment_of(rows[-1])
        if self._horizon is not None:  # what was set before that was known may lie beyond it
            self._forget_beyond(self._horizon)
        for row in rows:
            self.set(row)

    @property
    def horizon(self) -> Moment | None:
        """Rows after this one are only in the store; None if there are none."""
        return self._horizon

    @property
    def is_exhausted(self) -> bool:
        """The window is empty, but the store holds more."""
        return not self._held and self._horizon is not None

    def next_due_ms(self) -> int | None:
        """When the first row of the window is due, or None."""
        heap = self._heap
        while heap:
            due_at_ms, *key = heap[0]
            held = self._held.get(tuple(key))
            if held is not None and held.due_at_ms == due_at_ms:
                found: int = due_at_ms
                return found
            heapq.heappop(heap)  # replaced or cleared since
        return None

    def pop_due(self, now_ms: int) -> R | None:
        """Take out the first row if it is due."""
        due_at_ms = self.next_due_ms()
        if due_at_ms is None or due_at_ms > now_ms:
            return None
        return self._held.pop(heapq.heappop(self._heap)[1:])

    def _moment_of(self, row: R) -> Moment:
        return (row.due_at_ms, *self._key_of(row))

    def _moments(self) -> list[Moment]:
        return [(row.due_at_ms, *key) for key, row in self._held.items()]

    def _forget_beyond(self, horizon: Moment) -> None:
        self._held = {
            key: row for key, row in self._held.items() if (row.due_at_ms, *key) <= horizon
        }

    def _shrink(self) -> None:
        """Keep the first page; a sorted list is a heap."""
        self._heap = heapq.nsmallest(self._page, self._moments())
        self._horizon = self._heap[-1]
        self._forget_beyond(self._horizon)
