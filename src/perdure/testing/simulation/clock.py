"""The clocks of one simulated process: a monotonic one, and a wall clock that may be set.

Behaves as ``SystemClock`` does: a wake-up by wall time looks again within a minute after the clock
was set. Next to read: ``runtime/clock.py``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from perdure.runtime.clock import RECHECK_S
from perdure.testing.simulation.loop import SimLoop

__all__ = ["START_MS", "ProcessClock", "stopwatch"]

START_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z, when every simulation begins."""

NS_PER_MS = 1_000_000


def stopwatch() -> Callable[[], float]:
    """Real seconds since now: how long a run takes. Nothing simulated may ask for it."""
    began_s = time.perf_counter()
    return lambda: time.perf_counter() - began_s


class ProcessClock:
    """Implements ``Clock``. ``offset_ms`` is how far the wall clock is off, shared by a machine."""

    def __init__(
        self, loop: SimLoop, now_ns: Callable[[], int], offset_ms: Callable[[], int]
    ) -> None:
        self._loop = loop
        self._now_ns = now_ns
        self._offset_ms = offset_ms
        self._wakes: dict[_WallWake, None] = {}

    def now_ms(self) -> int:
        return START_MS + self._now_ns() // NS_PER_MS + self._offset_ms()

    def monotonic_s(self) -> float:
        return self._now_ns() / 1e9

    def call_at(self, at_ms: int, wake: Callable[[], None]) -> _WallWake:
        return _WallWake(self, at_ms, wake)

    def call_later(self, delay_s: float, wake: Callable[[], None]) -> asyncio.TimerHandle:
        return self._loop.call_later(delay_s, wake)

    def attach(self, settled: Callable[[], Awaitable[None]]) -> None:
        """Nothing to do: the world steps time itself."""

    def detach(self, settled: Callable[[], Awaitable[None]]) -> None:
        """Nothing to do."""

    def was_set(self, number: Callable[[], float]) -> None:
        """The wall clock was set: what waits for it finds out within a minute."""
        for wake in list(self._wakes):
            wake.look_again(self._now_ns() + int(number() * RECHECK_S * 1e9))

    def moment_of(self, at_ms: int) -> int:
        """The world's time at which the wall clock shows this, as it is set now."""
        return (at_ms - START_MS - self._offset_ms()) * NS_PER_MS

    def arm(self, wake: _WallWake, at_ns: int) -> asyncio.TimerHandle:
        """Look at the clock then."""
        self._wakes[wake] = None
        return self._loop.call_at_ns(max(at_ns, self._now_ns()), wake.look)

    def disarm(self, wake: _WallWake) -> None:
        """It waits no more."""
        self._wakes.pop(wake, None)


class _WallWake:
    """A wake-up by wall time."""

    def __init__(self, clock: ProcessClock, at_ms: int, wake: Callable[[], None]) -> None:
        self._clock = clock
        self._at_ms = at_ms
        self._wake = wake
        self._handle = clock.arm(self, clock.moment_of(at_ms))

    def look(self) -> None:
        """The wall time may have come."""
        if self._clock.now_ms() >= self._at_ms:
            self._clock.disarm(self)
            self._wake()
        else:
            self._handle = self._clock.arm(self, self._clock.moment_of(self._at_ms))

    def look_again(self, at_ns: int) -> None:
        """The clock was set, and that is noticed then."""
        self._handle.cancel()
        self._handle = self._clock.arm(self, at_ns)

    def cancel(self) -> None:
        self._clock.disarm(self)
        self._handle.cancel()
