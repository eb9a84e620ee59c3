"""Time, injected: the system's, or (``perdure.testing.SimulatedClock``) one that tests advance.

Nothing else in perdure asks the system what time it is. Next to read: ``instances/timers.py``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

__all__ = ["Clock", "SystemClock", "Wake"]

RECHECK_S = 60.0
"""A wake-up further away is looked at again after this time: the wall clock may have been set."""


class Wake(Protocol):
    """A wake-up that can be cancelled."""

    def cancel(self) -> None:
        """Do not wake; may be called late or twice."""
        ...


class Clock(Protocol):
    """What the runtime asks of time. ``*_ms`` is wall time since the epoch, ``*_s`` monotonic."""

    def now_ms(self) -> int:
        """The wall time, in whole milliseconds since the epoch."""
        ...

    def monotonic_s(self) -> float:
        """Seconds since any moment; never goes back."""
        ...

    def call_at(self, at_ms: int, wake: Callable[[], None]) -> Wake:
        """Call when the wall time is reached, never before it."""
        ...

    def call_later(self, delay_s: float, wake: Callable[[], None]) -> Wake:
        """Call after a delay."""
        ...

    def attach(self, settled: Callable[[], Awaitable[None]]) -> None:
        """A runtime says how to wait until nothing is under way in it."""
        ...

    def detach(self, settled: Callable[[], Awaitable[None]]) -> None:
        """That runtime has stopped."""
        ...


class SystemClock:
    """The system's clocks, and wake-ups on the running event loop."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return time.monotonic()

    def call_at(self, at_ms: int, wake: Callable[[], None]) -> Wake:
        return _WallWake(self, at_ms, wake)

    def call_later(self, delay_s: float, wake: Callable[[], None]) -> Wake:
        return asyncio.get_running_loop().call_later(delay_s, wake)

    def attach(self, settled: Callable[[], Awaitable[None]]) -> None:
        """Nothing to do: this clock waits for nobody."""

    def detach(self, settled: Callable[[], Awaitable[None]]) -> None:
        """Nothing to do."""


class _WallWake:
    """A wake-up by wall time over the loop's monotonic timers."""

    def __init__(self, clock: SystemClock, at_ms: int, wake: Callable[[], None]) -> None:
        self._clock = clock
        self._at_ms = at_ms
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self._handle = self._arm()

    def _arm(self) -> asyncio.TimerHandle:
        delay_s = (self._at_ms - self._clock.now_ms()) / 1000
        return self._loop.call_later(min(max(delay_s, 0.0), RECHECK_S), self._look)

    def _look(self) -> None:
        if self._clock.now_ms() >= self._at_ms:
            self._wake()
        else:
            self._handle = self._arm()

    def cancel(self) -> None:
        self._handle.cancel()
