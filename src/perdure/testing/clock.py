"""A clock that stands still until a test advances it.

    clock = SimulatedClock(datetime(2026, 1, 1, tzinfo=UTC))
    async with Runtime("memory://", [Booking], clock=clock) as runtime:
        await runtime.publish(BookingMade("b-1"))
        await clock.advance(timedelta(days=90))        # every deadline on the way has fired

Next to read: ``runtime/clock.py``, the protocol it implements.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from perdure.messages import datetime_of, milliseconds_of

__all__ = ["SimulatedClock"]


class _SimulatedWake:
    """A wake-up in the clock's heap."""

    __slots__ = ("at_ms", "is_cancelled", "number", "wake")

    def __init__(self, at_ms: float, number: int, wake: Callable[[], None]) -> None:
        self.at_ms = at_ms
        self.number = number
        self.wake = wake
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True

    def __lt__(self, other: _SimulatedWake) -> bool:
        return (self.at_ms, self.number) < (other.at_ms, other.number)


class SimulatedClock:
    """Implements ``Clock``. Wall time and monotonic time go together."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now_ms: float = milliseconds_of(start)
        self._started_ms = self._now_ms
        self._wakes: list[_SimulatedWake] = []
        self._numbers = itertools.count()
        self._settled: list[Callable[[], Awaitable[None]]] = []

    @property
    def now(self) -> datetime:
        """The simulated time (aware, UTC)."""
        return datetime_of(int(self._now_ms))

    def now_ms(self) -> int:
        return int(self._now_ms)

    def monotonic_s(self) -> float:
        return (self._now_ms - self._started_ms) / 1000

    def call_at(self, at_ms: int, wake: Callable[[], None]) -> _SimulatedWake:
        """Wakes at once (in the loop's next round) for a time that has come."""
        if at_ms <= self._now_ms:
            return self._wake_now(wake)
        return self._push(at_ms, wake)

    def call_later(self, delay_s: float, wake: Callable[[], None]) -> _SimulatedWake:
        if delay_s <= 0:
            return self._wake_now(wake)
        return self._push(self._now_ms + delay_s * 1000, wake)

    def attach(self, settled: Callable[[], Awaitable[None]]) -> None:
        self._settled.append(settled)

    def detach(self, settled: Callable[[], Awaitable[None]]) -> None:
        if settled in self._settled:
            self._settled.remove(settled)

    async def advance(self, by: timedelta) -> None:
        """``advance_to`` the present plus this."""
        await self.advance_to(self.now + by)

    async def advance_to(self, at: datetime) -> None:
        """Step from one wake-up to the next until ``at``; settle the runtimes at each step.

        So what a deadline does at its moment, such as setting the next one, happens at that moment.
        A time in the past leaves the clock where it is.
        """
        at_ms = milliseconds_of(at)
        await self.settle()
        while self._wakes and self._wakes[0].at_ms <= at_ms:
            due = heapq.heappop(self._wakes)
            if due.is_cancelled:
                continue
            self._now_ms = max(self._now_ms, due.at_ms)
            due.wake()
            await self.settle()
        self._now_ms = max(self._now_ms, at_ms)

    async def settle(self) -> None:
        """Wait until nothing is under way in the attached runtimes; time stands still."""
        for settled in self._settled:
            await settled()

    def _push(self, at_ms: float, wake: Callable[[], None]) -> _SimulatedWake:
        entry = _SimulatedWake(at_ms, next(self._numbers), wake)
        heapq.heappush(self._wakes, entry)
        return entry

    def _wake_now(self, wake: Callable[[], None]) -> _SimulatedWake:
        """Woken in the loop's next round, or by an advance if that comes first."""
        entry = self._push(self._now_ms, wake)
        asyncio.get_running_loop().call_soon(self._wake_due)
        return entry

    def _wake_due(self) -> None:
        while self._wakes and self._wakes[0].at_ms <= self._now_ms:
            due = heapq.heappop(self._wakes)
            if not due.is_cancelled:
                due.wake()
