"""Rows fire at their moment: the next ones are held in memory, one wake-up is armed, no polling.

Serves deadlines, waiting messages and jobs. A row goes in the commit that journals what its firing
led to, not before, so a crash in between fires it again, and whoever it concerns knows it or not.
Next to read: ``core/deadlines.py`` (the queue), ``wakeups.py`` (what a firing does).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from perdure.core.deadlines import DueQueue, DueRow, Moment
from perdure.runtime.clock import Clock, Wake
from perdure.runtime.supervised import Background, insist
from perdure.runtime.watching.vitals import Troubles

__all__ = ["Timer"]

R = TypeVar("R", bound=DueRow)

FROM_THE_START: Moment = (-(2**63), "", "")
"""Also before what no moment is: a damaged one must be seen."""


class Timer(Generic[R]):
    """Fires rows in the order they are due, at most ``in_flight_max`` at a time.

        Timer(clock, store.deadlines, fire, lambda row: (row.instance, row.name),
              page=10_000, in_flight_max=1_000, pause_s=0.05)

    ``read(after, limit)`` gives the next rows from the store, by due_at_ms and key, beginning
    after ``start``. ``fire(row, done)`` has one delivered and calls ``done(again)`` when that is
    answered (again: it must be fired once more, later). A row that equals one in flight is not
    taken in; one of the same key that differs is. At most two pages are held.
    """

    def __init__(
        self,
        clock: Clock,
        read: Callable[[Any, int], Awaitable[Sequence[R]]],
        fire: Callable[[R, Callable[[bool], None]], None],
        key_of: Callable[[R], tuple[Any, ...]],
        page: int,
        in_flight_max: int,
        pause_s: float,
        start: Moment = FROM_THE_START,
        troubles: Troubles | None = None,
    ) -> None:
        self._clock = clock
        self._read = read
        self._fire = fire
        self._key_of = key_of
        self._page = page
        self._in_flight_max = in_flight_max
        self._pause_s = pause_s
        self._start = start
        self._queue = DueQueue(key_of, page)
        self._in_flight: dict[tuple[Any, ...], list[R]] = {}
        self._in_flight_count = 0
        self._wake: Wake | None = None
        self._wake_at_ms = 0
        self._troubles = troubles
        self._reading = Background(
            clock, pause_s, "reading what is due next", self._load_next, troubles=troubles
        )
        # Set (or, None, cleared) during a read, which may not have seen it.
        self._meanwhile: dict[tuple[Any, ...], R | None] | None = None
        self._is_running = False
        self._is_firing = False

    async def start(self) -> None:
        """Read the first page and fire what is overdue."""
        self._is_running = True
        await self._load(self._start)

    async def stop(self) -> None:
        """Fire nothing more."""
        self._is_running = False
        self._disarm()
        await self._reading.stop()

    def set(self, row: R) -> None:
        """A row was committed (or read again); replaces the one of its key."""
        key = self._key_of(row)
        if row in self._in_flight.get(key, ()):
            return
        if self._meanwhile is not None:
            self._meanwhile[key] = row
        self._queue.set(row)
        self._arm()

    def set_once(self, row: R) -> None:
        """As ``set``, but keeps the row that is there already."""
        if self._key_of(row) not in self._queue:
            self.set(row)

    def clear(self, *key: Any) -> None:
        """The row of this key is gone, or time does not concern it any more."""
        if self._meanwhile is not None:
            self._meanwhile[key] = None
        self._queue.clear(key)

    @property
    def is_reading(self) -> bool:
        """The next rows are being read from the store."""
        return self._reading.is_running

    async def read(self) -> None:
        """Wait for the reading that is under way, if any."""
        await self._reading.ended()

    def _arm(self) -> None:
        due_at_ms = self._queue.next_due_ms()
        if (
            not self._is_running
            or due_at_ms is None
            or self._in_flight_count >= self._in_flight_max
        ):
            return
        if self._wake is not None:
            if self._wake_at_ms <= due_at_ms:
                return
            self._disarm()
        self._wake_at_ms = due_at_ms
        self._wake = self._clock.call_at(due_at_ms, self._insist("firing", self._on_wake))

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
            while self._is_running and self._in_flight_count < self._in_flight_max:
                row = self._queue.pop_due(now_ms)
                if row is None:
                    break
                self._fire_one(row)
        finally:
            self._is_firing = False
        if self._queue.is_exhausted and self._is_running:
            self._reading.start()
        self._arm()

    def _fire_one(self, row: R) -> None:
        key = self._key_of(row)
        self._in_flight.setdefault(key, []).append(row)
        self._in_flight_count += 1

        def done(again: bool) -> None:
            if row not in self._in_flight.get(key, ()):
                return  # told before
            self._landed(key, row)
            if again and self._is_running:
                self._clock.call_later(
                    self._pause_s, self._insist("firing again", lambda: self.set_once(row))
                )
            self._fire_due()

        def fire() -> None:
            if self._is_running:
                self._fire(row, done)

        self._insist(f"firing {key}", fire)()

    def _landed(self, key: tuple[Any, ...], row: R) -> None:
        self._in_flight_count -= 1
        flying = self._in_flight[key]
        flying.remove(row)
        if not flying:
            del self._in_flight[key]

    def _insist(self, what: str, function: Callable[[], None]) -> Callable[[], None]:
        return insist(self._clock, self._pause_s, what, function, self._troubles)

    async def _load_next(self) -> None:
        while self._queue.is_exhausted and self._is_running:
            horizon = self._queue.horizon
            assert horizon is not None
            await self._load(horizon)

    async def _load(self, after: Moment) -> None:
        meanwhile = self._meanwhile = {}
        try:
            rows = await self._read(after, self._page)
        finally:
            self._meanwhile = None
        self._queue.page_loaded(rows, complete=len(rows) < self._page)
        for key, row in meanwhile.items():
            self._queue.clear(key)
            if row is not None:
                self.set(row)
        self._fire_due()
