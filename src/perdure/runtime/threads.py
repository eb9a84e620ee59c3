"""Threads for workers that are plain functions: reused, bounded, and given up when they hang.

A pool of the standard library is joined when the interpreter exits, so one worker that hangs would
keep the process from ending; these threads are daemons. Knows calls, not jobs.
Next to read: ``jobs/attempt.py``.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

__all__ = ["Call", "Calls", "SystemThreads", "Threads", "WorkerThreads"]

logger = logging.getLogger("perdure.workers")


class Call(Protocol):
    """A call that waits, runs, or is over."""

    is_waiting: bool


class Calls(Protocol):
    """Where the workers of a runtime that are plain functions are called."""

    def run(self, function: Callable[[], None]) -> Call:
        """Have the function called; it must not raise."""
        ...

    def urge(self) -> None:
        """Some call waits for long: look whether it can begin."""
        ...

    def give_up(self, call: Call) -> None:
        """The call takes too long: do not begin it, or count on its end."""
        ...

    def close(self) -> None:
        """Take no further calls."""
        ...


class Threads(Protocol):
    """What a runtime asks of threads, injected: the system's, or (in a simulation) none."""

    def calls(self, threads_max: int) -> Calls:
        """Where up to so many workers that are plain functions are called at a time."""
        ...

    def start(self, function: Callable[[], None], name: str) -> None:
        """Run the function beside the event loop for good, on a thread that ends with the process.

        It looks at the loop from outside; where nothing is outside, there is nothing to look at.
        """
        ...


class SystemThreads:
    """The system's threads."""

    def calls(self, threads_max: int) -> WorkerThreads:
        """See ``Threads.calls``."""
        return WorkerThreads(threads_max)

    def start(self, function: Callable[[], None], name: str) -> None:
        """See ``Threads.start``."""
        threading.Thread(target=function, name=name, daemon=True).start()


class WorkerThreads:
    """Runs calls on up to ``threads_max`` threads; further calls wait, first come first served.

    threads = WorkerThreads(32)
    lease = threads.run(charge)
    threads.give_up(lease)  # it hangs: its thread ends when it returns, and another takes its place
    """

    def __init__(self, threads_max: int) -> None:
        self._threads_max = threads_max
        self._changed = threading.Condition()
        self._waiting: deque[_Call] = deque()
        self._count = 0
        self._idle = 0
        self._is_closed = False

    def run(self, function: Callable[[], None]) -> _Call:
        """Have the function called on a thread; it must not raise."""
        call = _Call(function)
        with self._changed:
            self._waiting.append(call)
            if self._idle >= len(self._waiting):
                self._changed.notify()
            elif self._count < self._threads_max:
                self._spawn()
        return call

    def urge(self) -> None:
        """Some call waits for long: perhaps a thread can be started now that could not before."""
        with self._changed:
            if self._waiting and not self._idle and self._count < self._threads_max:
                self._spawn()

    def give_up(self, call: Call) -> None:
        """The call takes too long: if it has begun, its thread is not counted any more."""
        assert isinstance(call, _Call)
        with self._changed:
            if call.is_given_up:
                return
            call.is_given_up = True
            if call in self._waiting:
                self._waiting.remove(call)
            elif call.is_running:
                self._count -= 1
                if self._waiting and not self._idle:
                    self._spawn()

    def close(self) -> None:
        """Take no further calls; idle threads end, busy ones when their call returns."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _spawn(self) -> None:
        thread = threading.Thread(target=self._work, name="perdure-worker", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the system gives no more: those that are there go on
            logger.error("no further thread for workers: %s", error)
        else:
            self._count += 1

    def _work(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                self._idle -= 1
                if not self._waiting:
                    self._count -= 1
                    return
                call = self._waiting.popleft()
                call.is_waiting, call.is_running = False, True
            try:
                call.function()
            except BaseException:  # a mistake of ours: it must not end the thread unnoticed
                logger.exception("a worker's thread raised")
            with self._changed:
                call.is_running = False
                if call.is_given_up:
                    return


class _Call:
    """A call that waits, runs, or is over."""

    __slots__ = ("function", "is_given_up", "is_running", "is_waiting")

    def __init__(self, function: Callable[[], None]) -> None:
        self.function = function
        self.is_waiting = True
        self.is_running = False
        self.is_given_up = False
