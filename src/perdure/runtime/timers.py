"""Deadlines fire: the next due ones are held in memory, one wake-up is armed, nothing polls.

A fired deadline is a delivery like any other; its row goes in the commit that journals the firing,
not before, so a crash in between fires it again and the instance then knows it or not.
Next to read: ``core/deadlines.py`` (the queue), ``saga_actor.py`` (what a firing does).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from perdure.core.commit import DeadlineRow
from perdure.core.deadlines import DeadlineQueue
from perdure.runtime.clock import Clock, Wake

__all__ = ["Timer"]

logger = logging.getLogger("perdure.timers")

After = tuple[int, str, str]
Page = Callable[[After, int], Awaitable[Sequence[DeadlineRow]]]

FROM_THE_START: After = (-1, "", "")


class Timer:
    """Fires rows in the order they are due, at most ``in_flight_max`` at a time.

    ``read(after, limit)`` gives the next rows from the store; ``fire(row, done)`` has one delivered
    and calls ``done(again)`` when that is answered (again: it must be fired once more, later).
    """

    def __init__(
        self,
        clock: Clock,
        read: Page,
        fire: Callable[[DeadlineRow, Callable[[bool], None]], None],
        page: int,
        in_flight_max: int,
        pause_s: float,
    ) -> None:
        self._clock = clock
        self._read = read
        self._fire = fire
        self._page = page
        self._in_flight_max = in_flight_max
        self._pause_s = pause_s
        self._queue = DeadlineQueue()
        self._in_flight: set[tuple[str, str, int]] = set()
        self._wake: Wake | None = None
        self._wake_at_ms = 0
        self._reading: asyncio.Task[None] | None = None
        # Set (or, None, cleared) during a read, which may not have seen it.
        self._meanwhile: dict[tuple[str, str], DeadlineRow | None] | None = None
        self._is_running = False
        self._is_firing = False

    async def start(self) -> None:
        """Read the first page and fire what is overdue."""
        self._is_running = True
        await self._load(FROM_THE_START)

    async def stop(self) -> None:
        """Fire nothing more."""
        self._is_running = False
        self._disarm()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    def set(self, row: DeadlineRow) -> None:
        """A row was committed (or read again); replaces the one of its instance and name."""
        if (row.instance, row.name, row.sequence_nr) in self._in_flight:
            return
        if self._meanwhile is not None:
            self._meanwhile[row.instance, row.name] = row
        self._queue.set(row)
        self._arm()

    def set_once(self, row: DeadlineRow) -> None:
        """As ``set``, but keeps the row that is there already."""
        if (row.instance, row.name) not in self._queue:
            self.set(row)

    def clear(self, instance: str, name: str) -> None:
        """The row is gone."""
        if self._meanwhile is not None:
            self._meanwhile[instance, name] = None
        self._queue.clear(instance, name)

    @property
    def is_reading(self) -> bool:
        """The next rows are being read from the store."""
        return self._reading is not None

    async def read(self) -> None:
        """Wait for the reading that is under way, if any."""
        if self._reading is not None:
            await asyncio.gather(self._reading, return_exceptions=True)

    def _arm(self) -> None:
        due_at_ms = self._queue.next_due_ms()
        if not self._is_running or due_at_ms is None or len(self._in_flight) >= self._in_flight_max:
            return
        if self._wake is not None:
            if self._wake_at_ms <= due_at_ms:
                return
            self._disarm()
        self._wake_at_ms = due_at_ms
        self._wake = self._clock.call_at(due_at_ms, self._on_wake)

    def _disarm(self) -> None:
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None

    def _on_wake(self) -> None:
        self._wake = None
        self._fire_due()

    def _fire_due(self) -> None:
        if self._is_firing:
            return  # answered at once, from within: the loop below goes on
        self._is_firing = True
        now_ms = self._clock.now_ms()
        try:
            while self._is_running and len(self._in_flight) < self._in_flight_max:
                row = self._queue.pop_due(now_ms)
                if row is None:
                    break
                self._fire_one(row)
        finally:
            self._is_firing = False
        if self._queue.is_exhausted and self._reading is None and self._is_running:
            horizon = self._queue.horizon
            assert horizon is not None
            self._reading = asyncio.get_running_loop().create_task(self._load_next(horizon))
        self._arm()

    def _fire_one(self, row: DeadlineRow) -> None:
        key = (row.instance, row.name, row.sequence_nr)
        self._in_flight.add(key)

        def done(again: bool) -> None:
            self._in_flight.discard(key)
            if again and self._is_running:
                self._clock.call_later(self._pause_s, lambda: self.set_once(row))
            self._fire_due()

        self._fire(row, done)

    async def _load_next(self, after: After) -> None:
        try:
            await self._load(after)
        except Exception as error:
            logger.warning("reading deadlines failed, trying again: %s", error)
            self._clock.call_later(self._pause_s, self._fire_due)
            return
        finally:
            self._reading = None
        self._fire_due()  # the page may be used up already

    async def _load(self, after: After) -> None:
        meanwhile = self._meanwhile = {}
        try:
            rows = await self._read(after, self._page)
        finally:
            self._meanwhile = None
        self._queue.page_loaded(rows, complete=len(rows) < self._page)
        for (instance, name), row in meanwhile.items():
            self._queue.clear(instance, name)
            if row is not None:
                self.set(row)
        self._fire_due()
