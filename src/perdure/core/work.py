"""One work queue in memory: what may start now, in which order, how many at a time, how fast.

A window on the store, which holds every job: so many rows are kept here, the rest is read when
room is left (``needs_more``, ``begin_refill``, ``refilled``). Pure: the clock, the store and the
workers are elsewhere, and nothing here knows sagas. Every operation is O(log n).
Next to read: ``runtime/jobs/dispatcher.py``, which asks it.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterable

from perdure.core.commit import OutboxRow
from perdure.core.queue_policy import QueuePolicy, Rate

__all__ = ["QueuePolicy", "QueueState", "Rate"]


class QueueState:
    """The jobs of one queue that wait or run, and whether the store holds more.

    >>> state = QueueState(QueuePolicy(name="payments", concurrency=8))
    >>> state.offer(row)                            # committed, and may start now
    True
    >>> state.take(now_s=0.0) is row                # now it runs
    True
    >>> state.done(row.position)                    # its row is gone: the slot is free

    A row is known here from its offer until ``done`` or ``postponed``, which are called when the
    store agrees; it is not taken in a second time meanwhile. ``release`` frees the slot earlier.
    Times are seconds of any monotonic clock.

    A row with attempts of which nothing says how they ended may have ended its process: it is
    performed alone, so that the innocent that ran beside it then are done, and it is found out.

    A sequential queue runs one job at a time, by position, and a postponed one holds up all later
    ones until it is offered again. After a start, ``postponed`` is to be called for those of its
    rows that have a ``due_at_ms``, before the first refill.
    """

    __slots__ = (
        "_awaited",
        "_awaited_heap",
        "_changed",
        "_failed_in_a_row",
        "_heap",
        "_held",
        "_is_missed",
        "_is_refilling",
        "_sequential",
        "_settling",
        "_starts",
        "_suspect",
        "_window",
        "is_partial",
        "is_paused",
        "pause_reason",
        "policy",
        "running",
    )

    def __init__(
        self,
        policy: QueuePolicy,
        window: int = 1_000,
        *,
        is_partial: bool = False,
        starts: deque[float] | None = None,
    ) -> None:
        self.policy = policy
        self.running: dict[int, OutboxRow] = {}
        self.is_partial = is_partial
        """The store may hold rows that may start and are not known here."""
        self.is_paused = False
        self.pause_reason = ""
        self._window = window
        self._sequential = policy.sequential
        self._held: dict[int, OutboxRow] = {}
        self._heap: list[int] = []  # positions of held rows, and of some that are not any more
        self._settling: set[int] = set()
        self._awaited: dict[int, OutboxRow] = {}  # of a sequential queue: postponed, not due yet
        self._awaited_heap: list[int] = []
        self._starts = starts  # of others, too, who share the rate
        if policy.rate is not None and starts is None:
            self._starts = deque(maxlen=policy.rate.count)
        self._suspect = 0  # the position of the last suspect that was taken
        self._failed_in_a_row = 0
        self._is_refilling = False
        self._is_missed = False  # something was left to the store since the refill began
        self._changed: set[int] = set()  # while a refill reads: what it may show as it was before

    def offer(self, row: OutboxRow) -> bool:
        """The row may start now; False: it stays in the store until a refill reads it.

        While the store holds more, new rows queue up behind it there. A row that is known already
        is left as it is.
        """
        position = row.position
        if position in self._held or position in self.running or position in self._settling:
            return True
        if position in self._awaited:
            del self._awaited[position]  # the head of a sequential queue: never left to the store
        elif len(self._held) >= self._window or (self.is_partial and not self._is_retry(row)):
            self.is_partial = self._is_missed = True
            return False
        self._held[position] = row
        heapq.heappush(self._heap, position)
        return True

    def take(self, now_s: float) -> OutboxRow | None:
        """The row that starts now, the lowest position first; None if none may."""
        row = self._next()
        if row is None:
            return None
        starts = self._starts
        if starts is not None:
            if self._next_start_s(starts, now_s) > now_s:
                return None
            starts.append(now_s)
        position = row.position
        heapq.heappop(self._heap)
        del self._held[position]
        self.running[position] = row
        if self._is_suspect(row):
            self._suspect = position
        return row

    def wait_s(self, now_s: float) -> float | None:
        """How long until ``take`` gives a row, if the rate is all that holds it up; else None."""
        starts = self._starts
        if starts is None or self._next() is None:
            return None
        start_s = self._next_start_s(starts, now_s)
        if start_s <= now_s:
            return None
        wait_s = start_s - now_s
        # The subtraction may have been rounded down; whoever waits must not come too early.
        return wait_s if now_s + wait_s >= start_s else wait_s + math.ulp(start_s)

    def release(self, position: int) -> None:
        """The worker has ended, but the store does not say so yet: free its slot, start no other.

        ``done`` or ``postponed`` follows. In a sequential queue the slot stays taken until then.
        """
        if not self._sequential and self.running.pop(position, None) is not None:
            self._settling.add(position)

    def ended(self, succeeded: bool) -> bool:
        """A worker has done its job, or it has failed for good; the store may not say so yet.

        True if this failure paused the queue: it was one of ``pause_after`` in a row.
        """
        self._failed_in_a_row = 0 if succeeded else self._failed_in_a_row + 1
        pause_after = self.policy.pause_after
        if self.is_paused or pause_after is None or self._failed_in_a_row < pause_after:
            return False
        self.pause(f"{self._failed_in_a_row} jobs in a row failed for good")
        return True

    def done(self, position: int) -> None:
        """The row has left the store."""
        self._forget(position)

    def postponed(self, row: OutboxRow) -> None:
        """The row in the store has a later ``due_at_ms`` now; it is offered again at that time."""
        position = row.position
        self._forget(position)
        if self._sequential:
            self._awaited[position] = row
            heapq.heappush(self._awaited_heap, position)

    def leave(self, row: OutboxRow) -> None:
        """It was just taken, and stays in the store, for another owner; of a sequential queue, all
        behind it do."""
        if self._starts:
            self._starts.pop()  # its own: the rate is for those that are performed
        self.postponed(row)
        self._awaited[row.position] = row

    def drop(self, position: int) -> OutboxRow | None:
        """Cancelled: never start it, whether it waits here or in the store; the row if it was here.

        ``done`` follows when the row has left the store. A running one stays.
        """
        if position in self.running:
            return None
        row = self._held.pop(position, None) or self._awaited.pop(position, None)
        self._settling.add(position)
        if len(self._heap) > 2 * len(self._held) + 64:
            self._heap = sorted(self._held)
        return row

    def is_under_way(self, position: int) -> bool:
        """It runs, or has ended and the store does not say so yet."""
        return position in self.running or position in self._settling

    @property
    def under_way(self) -> set[int]:
        """The positions of those that are."""
        return self._settling.union(self.running)

    def pause(self, reason: str) -> None:
        """Start nothing more; what runs goes on."""
        self.is_paused = True
        self.pause_reason = reason

    def resume(self) -> None:
        """Start again; failures are counted anew."""
        self.is_paused = False
        self.pause_reason = ""
        self._failed_in_a_row = 0

    @property
    def needs_more(self) -> bool:
        """Time to read more from the store: it has more, half the window is free, none is read."""
        return (
            self.is_partial
            and not self.is_paused
            and not self._is_refilling
            and len(self._held) * 2 < self._window
        )

    def begin_refill(self) -> int:
        """The store is about to be read; how many rows to ask for, so that some of them are new.

        ``refilled`` or ``refill_failed`` follows.
        """
        self._is_refilling = True
        self._is_missed = False
        known = len(self.running) + len(self._settling) + len(self._awaited)
        return self._window + known

    def refilled(self, rows: Iterable[OutboxRow], complete: bool) -> None:
        """Take in what was read; ``complete``: no row that may start lay beyond the last one.

        Rows that are known, or whose row changed since the reading began, are left out.
        """
        is_missed = self._is_missed or not complete
        for row in rows:
            if self._is_known(row.position):
                continue
            if len(self._held) >= self._window:
                is_missed = True
                break
            self._held[row.position] = row
            heapq.heappush(self._heap, row.position)
        self.is_partial = is_missed
        self._end_refill()

    def refill_failed(self) -> None:
        """The store could not be read: ``needs_more`` is true again."""
        self._end_refill()

    def more_in_store(self) -> None:
        """Rows that may start have come into the store without being offered."""
        self.is_partial = self._is_missed = True

    @property
    def waiting_count(self) -> int:
        """How many rows wait in memory, those that a sequential queue awaits included."""
        return len(self._held) + len(self._awaited)

    @property
    def settling_count(self) -> int:
        """How many rows have been released or dropped, and are still in the store."""
        return len(self._settling)

    @property
    def is_idle(self) -> bool:
        """Nothing runs, waits or is being settled, here or, as far as known, in the store."""
        return not (
            self.running or self._held or self._settling or self._awaited or self.is_partial
        )

    def _end_refill(self) -> None:
        self._is_refilling = self._is_missed = False
        self._changed.clear()

    def _first(self) -> int | None:
        """The lowest position held, unless a lower one is awaited."""
        heap, held = self._heap, self._held
        while heap and heap[0] not in held:
            heapq.heappop(heap)  # dropped since
        if not heap:
            return None
        awaited = self._awaited_heap
        while awaited and awaited[0] not in self._awaited:
            heapq.heappop(awaited)
        return None if awaited and awaited[0] < heap[0] else heap[0]

    def _next(self) -> OutboxRow | None:
        """The row that ``take`` gives, but for the rate."""
        if self.is_paused or len(self.running) >= self.policy.concurrency:
            return None
        position = self._first()
        if position is None or self._suspect in self.running:
            return None
        row = self._held[position]
        if self._is_suspect(row) and (self.running or self._settling):
            return None  # not before what the others have done is durable
        return row

    def _next_start_s(self, starts: deque[float], now_s: float) -> float:
        """When the rate lets the next one start."""
        assert self.policy.rate is not None
        return starts[0] + self.policy.rate.per_s if len(starts) == starts.maxlen else now_s

    def _is_suspect(self, row: OutboxRow) -> bool:
        """Whether nothing says how its last attempt ended: it may have ended its process."""
        return row.attempts > 0 and not row.error

    def _is_retry(self, row: OutboxRow) -> bool:
        """Whether it may pass what was left to the store, where its due time puts it last."""
        return row.attempts > 0 and not self._sequential

    def _is_known(self, position: int) -> bool:
        return (
            position in self._held
            or position in self.running
            or position in self._settling
            or position in self._awaited
            or position in self._changed
        )

    def _forget(self, position: int) -> bool:
        """Let go of the row, wherever it is; whether it was anywhere."""
        if self._is_refilling:
            self._changed.add(position)
        if self.running.pop(position, None) is not None:
            return True
        if position in self._settling:
            self._settling.discard(position)
            return True
        return (self._held.pop(position, None) or self._awaited.pop(position, None)) is not None
