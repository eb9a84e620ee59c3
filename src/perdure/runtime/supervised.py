"""Background work that goes on: what fails is logged, and taken up again after a growing pause.

A background loop that ended by an unexpected exception would stop its function without a word:
nothing written any more, no deadline fired. So none of them is a bare task or callback:

    reading = Background(clock, pause_s, "reading what is due next", read)
    reading.start()                                   # a task; again if it fails
    clock.call_later(delay_s, insist(clock, pause_s, "the sweep", sweep))    # a call; likewise

Whatever the work has in its hands when it raises, it must put down so that it finds it again.
Knows nothing of what the work is. After the supervision of Erlang/OTP.
Next to read: ``instances/timers.py``, ``instances/rehydration.py``, which are built on it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from perdure.runtime.clock import Clock, Wake
from perdure.runtime.watching.outages import forget, log_end, log_failure
from perdure.runtime.watching.vitals import Troubles

__all__ = ["DOUBLINGS_MAX", "UNEXPECTED", "Background", "growing_s", "insist"]

DOUBLINGS_MAX = 6
"""A pause before a retry grows no further: others wait, too."""

LONG_S = 60.0
"""Work that fails after so long had gone on. After less it may only have waited for the store,
which takes up to half a minute to say that it is away; the pauses must grow then, too."""

UNEXPECTED = (Exception, asyncio.CancelledError)
"""Nobody cancels a plain call: one that raises ``CancelledError`` has passed on somebody else's."""


def growing_s(pause_s: float, failures: int) -> float:
    """The pause after so many failures in a row: doubled each time, up to 64 times the first."""
    return float(pause_s * 2 ** min(failures - 1, DOUBLINGS_MAX))


def insist(
    clock: Clock,
    pause_s: float,
    what: str,
    function: Callable[[], None],
    troubles: Troubles | None = None,
) -> Callable[[], None]:
    """The function, for a clock to call: if it raises, it is called again after a pause."""
    failures = 0

    def call() -> None:
        nonlocal failures
        try:
            function()
        except UNEXPECTED as error:
            failures += 1
            delay_s = growing_s(pause_s, failures)
            log_failure(call, what, error, pause_s=delay_s, now_s=clock.monotonic_s())
            clock.call_later(delay_s, call)
            if troubles is not None:
                troubles.failed(call, what, failures, error)
        else:
            if failures:
                failures = 0
                log_end(call, what)
                if troubles is not None:
                    troubles.over(call)

    return call


class Background:
    """One piece of background work, a task at a time, begun whenever it is wanted.

    ``work`` makes the coroutine; it ends when there is nothing more to do. If it raises, also
    ``CancelledError`` that is not by ``stop``, it is begun again after a pause, which doubles up to
    64 times ``pause_s``. ``changed`` is called when it has ended or pauses. ``troubles`` are told
    how often in a row it has failed.
    """

    def __init__(
        self,
        clock: Clock,
        pause_s: float,
        what: str,
        work: Callable[[], Coroutine[Any, Any, None]],
        changed: Callable[[], None] = lambda: None,
        troubles: Troubles | None = None,
    ) -> None:
        self._clock = clock
        self._pause_s = pause_s
        self._what = what
        self._work = work
        self._changed = changed
        self._troubles = Troubles() if troubles is None else troubles
        self._task: asyncio.Task[None] | None = None
        self._pause: Wake | None = None
        self._failures = 0
        self._began_s = 0.0
        self._is_stopped = False

    @property
    def is_running(self) -> bool:
        """It is at work; while it pauses, it waits for time to pass."""
        return self._task is not None

    def start(self) -> None:
        """Begin, if it is neither at work nor pauses."""
        if self._task is None and self._pause is None and not self._is_stopped:
            self._begin()

    async def ended(self) -> None:
        """Wait until it is not at work; whoever gives up waiting does not cancel it."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def stop(self) -> None:
        """Cancel it, for good."""
        self._is_stopped = True
        self._troubles.over(self)
        forget(self, self._what)
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _begin(self) -> None:
        self._pause = None
        self._began_s = self._clock.monotonic_s()
        task = self._task = asyncio.get_running_loop().create_task(self._run())
        task.add_done_callback(self._over)

    async def _run(self) -> None:
        try:
            await self._work()
        except BaseException as error:
            self._task = None
            if not self._is_stopped:
                self._failed(error)
            if not isinstance(error, Exception):
                raise
        else:
            self._task = None
            if self._failures:
                self._failures = 0
                self._troubles.over(self)
                log_end(self, self._what)
            self._changed()

    def _over(self, task: asyncio.Task[None]) -> None:
        """One that was cancelled before its first step has not said so."""
        if self._task is task:
            self._task = None
            if not self._is_stopped:
                self._failed(asyncio.CancelledError())

    def _failed(self, error: BaseException) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._began_s > max(LONG_S, growing_s(self._pause_s, self._failures + 1)):
            self._failures = 0
        self._failures += 1
        delay_s = growing_s(self._pause_s, self._failures)
        log_failure(self, self._what, error, pause_s=delay_s, now_s=now_s)
        self._pause = self._clock.call_later(delay_s, self._begin)
        self._troubles.failed(self, self._what, self._failures, error)
        self._changed()
