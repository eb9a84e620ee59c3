"""An event loop without an outside world: no sockets, no threads, no time of its own.

Whoever owns it runs it batch by batch, as ``run_forever`` would: everything that was ready at the
beginning of a batch, first come first served. Timers that are due at one instant have no order
among them, so ``tie()`` gives them one. Knows no process and no fault.
Next to read: ``process.py``.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from asyncio import TimerHandle
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any, NoReturn

__all__ = ["SimLoop"]

TIMERS_PURGED_FROM = 256
"""With fewer timers, cancelled ones are left to come up by themselves."""


class SimLoop(asyncio.BaseEventLoop):
    """A loop whose time is ``now_ns()``. ``arrival_delay_s`` is how late calls of others arrive."""

    _ready: deque[asyncio.Handle]

    def __init__(self, now_ns: Callable[[], int], tie: Callable[[], float]) -> None:
        super().__init__()
        self.now_ns = now_ns
        self._tie = tie
        self._timers: list[tuple[int, float, int, TimerHandle]] = []
        self._numbers = itertools.count()
        self._cancelled = 0
        self._is_abandoned = False
        self.arrival_delay_s: float | None = None

    # What asyncio asks of a loop

    def time(self) -> float:
        return self.now_ns() / 1e9

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> TimerHandle:
        handle = TimerHandle(when, callback, args, self, context)
        self._push(-int(-when * 1e9 // 1), handle)
        return handle

    def call_at_ns(self, at_ns: int, callback: Callable[..., object], *args: Any) -> TimerHandle:
        """``call_at`` in whole nanoseconds."""
        handle = TimerHandle(at_ns / 1e9, callback, args, self, None)
        self._push(at_ns, handle)
        return handle

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        if self.arrival_delay_s is None:
            return self.call_soon(callback, *args, context=context)
        return self.call_later(self.arrival_delay_s, callback, *args, context=context)

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        if self._is_abandoned:
            coro.close()
            raise RuntimeError("the process is dead")
        return super().create_task(coro, **options)

    def run_in_executor(self, *_: Any) -> NoReturn:  # type: ignore[override]
        raise RuntimeError("there are no threads in a simulation: they would not be deterministic")

    def _write_to_self(self) -> None:
        """There is no other thread that would have to wake the loop."""

    def _timer_handle_cancelled(self, handle: TimerHandle) -> None:
        self._cancelled += 1
        if self._cancelled > TIMERS_PURGED_FROM and self._cancelled * 2 > len(self._timers):
            self._timers = [entry for entry in self._timers if not entry[3].cancelled()]
            heapq.heapify(self._timers)
            self._cancelled = 0

    def _push(self, at_ns: int, handle: TimerHandle) -> None:
        handle._scheduled = True  # type: ignore[attr-defined]  # so that cancelling is told here
        heapq.heappush(self._timers, (at_ns, self._tie(), next(self._numbers), handle))

    # What its owner does

    @property
    def next_ns(self) -> int | None:
        """When it has something to do: a moment that has come, a later one, or never."""
        if self._ready:
            return 0
        timers = self._timers
        while timers and timers[0][3].cancelled():
            heapq.heappop(timers)
            self._cancelled -= 1
        return timers[0][0] if timers else None

    def run_batch(self) -> None:
        """Run what is ready now, in order; what becomes ready meanwhile waits for the next one."""
        ready, timers, now_ns = self._ready, self._timers, self.now_ns()
        while timers and timers[0][0] <= now_ns:
            timer = heapq.heappop(timers)[3]
            timer._scheduled = False  # type: ignore[attr-defined]
            if timer.cancelled():
                self._cancelled -= 1
            else:
                ready.append(timer)
        for _ in range(len(ready)):
            if self._is_abandoned:
                return
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def abandon(self) -> None:
        """Nothing of it is to run any more, whatever is thrown into it."""
        self._is_abandoned = True
        self._ready.clear()
        self._timers.clear()
