"""Gives actors their turn on an event loop: one callback per loop iteration, however many they are.

Knows asyncio and that an actor can run a burst; must not know mailboxes or messages.
Next to read: ``actor.py`` for what a burst is.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import threading
import uuid
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

__all__ = ["RunQueue", "Runnable"]

logger = logging.getLogger(__name__)

_ATTRIBUTE = "_perdure_run_queue"


class Runnable(Protocol):
    """What the run queue needs of an actor."""

    def run_burst(self, limit: int) -> bool:
        """Process up to ``limit`` envelopes. True: there is more, queue me again."""


class RunQueue:
    """The actors of one event loop that have something to do, in turn.

        run_queue = RunQueue.current()
        run_queue.schedule(actor)

    An actor runs at most ``burst_max`` envelopes, then goes to the back, and the loop gets to its
    sockets and timers. Nothing an actor raises reaches another one, or the loop. An actor must be
    queued once at most; its mailbox sees to that. A loop is taken to be run by one thread.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, burst_max: int = 64) -> None:
        self.loop = loop
        self.burst_max = burst_max
        self._ready: deque[Runnable] = deque()
        self._is_armed = False  # A drain is coming.
        self.arrivals: deque[Callable[[], None]] = deque()  # From other threads.
        self._is_called = False  # Their admission is coming.
        # Compared instead of asking asyncio for the running loop, which is a system call in 3.11.
        # None until the loop has run: until then every thread is another one.
        self.thread_id = threading.get_ident() if asyncio._get_running_loop() is loop else None
        self.is_closed = loop.is_closed
        self._work: set[asyncio.Task[None]] = set()
        # How actors get their names: a simulation has names that come again.
        self.new_urn: Callable[[], str] = _random_urn
        # One context for all, or actors would inherit the context variables of whichever sender
        # happened to arm the drain.
        self._context = contextvars.Context()

    @classmethod
    def current(cls) -> RunQueue:
        """The run queue of the running event loop. Raises ``RuntimeError`` without one."""
        return cls.of(asyncio.get_running_loop())

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> RunQueue:
        """The run queue that all actors of ``loop`` share; call it in the thread of the loop."""
        # Kept on the loop itself: a table of loops would keep each loop alive by its own entry.
        run_queue: RunQueue | None = getattr(loop, _ATTRIBUTE, None)
        if run_queue is None:
            run_queue = cls(loop)
            setattr(loop, _ATTRIBUTE, run_queue)
        return run_queue

    def schedule(self, actor: Runnable) -> None:
        """Queue an actor, from the thread of the loop."""
        self._ready.append(actor)
        if not self._is_armed:
            self._arm()

    def schedule_threadsafe(self, actor: Runnable) -> None:
        """Queue an actor from any thread."""
        if threading.get_ident() == self.thread_id:
            self.schedule(actor)
        else:
            self.post(functools.partial(self.schedule, actor))

    def post(self, arrival: Callable[[], None]) -> None:
        """Have ``arrival()`` called in the thread of the loop; one wake-up serves many.

        If the loop is closed, it is called here, as is all that was under way.
        """
        # Append first, then look: the admission takes back its flag before it takes the arrivals,
        # so it either finds this one, or this one calls for the next admission.
        self.arrivals.append(arrival)
        if self._is_called and not self.is_closed():
            return
        self._is_called = True
        try:
            self.loop.call_soon_threadsafe(self._answer_call, context=self._context)
        except RuntimeError:
            self.admit()

    def admit(self) -> None:
        """Let in what other threads have posted so far."""
        while self.arrivals:
            try:
                self.arrivals.popleft()()
            except IndexError:  # Two threads, after the loop was closed.
                return
            except BaseException:
                logger.exception("What another thread posted failed")

    def start_work(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine as a task that is kept alive until it is done."""
        task = self.loop.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return task

    def _arm(self) -> None:
        self.loop.call_soon(self._drain, context=self._context)
        self._is_armed = True

    def _answer_call(self) -> None:
        self.thread_id = threading.get_ident()
        self._is_called = False
        self.admit()

    def _drain(self) -> None:
        self._is_armed = False
        try:
            # Who is queued from here on waits for the next iteration.
            for _ in range(len(self._ready)):
                self._run(self._ready.popleft())
        finally:
            # Left over only if an interrupt hit this very loop, between two actors.
            if self._ready and not self._is_armed:
                self._arm()

    def _run(self, actor: Runnable) -> None:
        try:
            if actor.run_burst(self.burst_max):
                self.schedule(actor)
        except BaseException:
            # An actor handles what its user's code raises; this is the wall behind it.
            logger.exception("%r broke out of its turn and is not run again", actor)


def _random_urn() -> str:
    return uuid.uuid4().urn
