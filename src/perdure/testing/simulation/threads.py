"""No threads: workers that are plain functions are called on the simulated loop, a little later.

They take no virtual time; what takes time is that they begin late, and that their end is heard of
late. Next to read: ``runtime/threads.py``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from perdure.testing.simulation.loop import SimLoop

__all__ = ["InlineThreads"]


class InlineThreads:
    """Implements ``Threads``. ``delay_s()`` is drawn before a call and before its answer."""

    def __init__(self, loop: SimLoop, delay_s: Callable[[], float]) -> None:
        self.loop = loop
        self.delay_s = delay_s

    def calls(self, threads_max: int) -> InlineCalls:
        """See ``Threads.calls``."""
        return InlineCalls(self, threads_max)

    def start(self, function: Callable[[], None], name: str) -> None:
        """Nothing is outside of this loop, and no time passes within a callback."""


class InlineCalls:
    """Implements ``Calls``."""

    def __init__(self, threads: InlineThreads, threads_max: int) -> None:
        self._threads = threads
        self._free = threads_max
        self._waiting: deque[InlineCall] = deque()
        self._is_closed = False

    def run(self, function: Callable[[], None]) -> InlineCall:
        """See ``Calls.run``."""
        call = InlineCall(function)
        self._waiting.append(call)
        self.urge()
        return call

    def urge(self) -> None:
        """See ``Calls.urge``."""
        while self._waiting and self._free and not self._is_closed:
            self._free -= 1
            call = self._waiting.popleft()
            self._threads.loop.call_later(self._threads.delay_s(), self._call, call)

    def give_up(self, call: object) -> None:
        """See ``Calls.give_up``."""
        if call in self._waiting:
            self._waiting.remove(call)  # type: ignore[arg-type]

    def close(self) -> None:
        """See ``Calls.close``."""
        self._is_closed = True

    def _call(self, call: InlineCall) -> None:
        call.is_waiting = False
        loop, until_heard_s = self._threads.loop, self._threads.delay_s()
        loop.arrival_delay_s = until_heard_s
        try:
            call.function()
        finally:
            loop.arrival_delay_s = None
            loop.call_later(until_heard_s, self._returned)

    def _returned(self) -> None:
        self._free += 1
        self.urge()


class InlineCall:
    """A call that waits or was made."""

    def __init__(self, function: Callable[[], None]) -> None:
        self.function = function
        self.is_waiting = True
