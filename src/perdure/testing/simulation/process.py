"""One simulated process: an event loop of its own, and what dies with it.

Its loop runs in a greenlet, so it can be left in the middle of a callback, between two statements
of a transaction say: to be taken up later (SIGSTOP, SIGCONT), or never (SIGKILL). A killed process
runs no ``finally`` and no handler: nothing is thrown into it before the run is over and nobody
looks any more. Knows no fault. Next to read: ``machine.py``.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Coroutine
from contextlib import suppress
from threading import get_ident
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet
from pykka import ActorRegistry

from perdure.actors import RunQueue
from perdure.runtime.runtime import Runtime
from perdure.testing.simulation.inline_store import InlineStore
from perdure.testing.simulation.loop import SimLoop

__all__ = ["SimProcess"]

URN = "urn:perdure-simulation:"


class SimProcess:
    """A process that runs one runtime. ``is_ready``: that has started, and takes messages."""

    store: InlineStore
    runtime: Runtime

    def __init__(self, number: int, now_ns: Callable[[], int], tie: Callable[[], float]) -> None:
        self.number = number
        self.loop = SimLoop(now_ns, tie)
        self.loop.set_exception_handler(self._on_exception)
        self.is_alive = True
        self.is_ready = False
        self.paused_until_ns = 0
        self.broken: list[str] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_left = False  # in the middle of a batch
        self._outside = getcurrent()
        self._greenlet = greenlet(self._live)

    # From outside

    @property
    def next_ns(self) -> int | None:
        """When it has something to do; None: never."""
        if not self.is_alive:
            return None
        next_ns = 0 if self._is_left else self.loop.next_ns
        return None if next_ns is None else max(next_ns, self.paused_until_ns)

    def begin(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have a coroutine run in it. If it raises, that is noted as ``broken``."""
        self.loop.call_soon(self._begin, work)

    def step(self) -> None:
        """Let it run one batch, or what is left of one in which it was paused."""
        running = asyncio._get_running_loop()
        asyncio._set_running_loop(self.loop)
        self.loop._thread_id = get_ident()  # type: ignore[attr-defined]
        try:
            self._greenlet.switch()
        finally:
            self.loop._thread_id = None  # type: ignore[attr-defined]
            asyncio._set_running_loop(running)

    def kill(self) -> None:
        """It is never run again. Everything of it stays as it is until ``bury``."""
        self.is_alive = self.is_ready = False
        self.store.die()

    def bury(self) -> None:
        """The run is over: free what it holds. Whatever that lets run has no effect any more."""
        self.is_alive = False
        self.store.die()
        running = asyncio._get_running_loop()
        asyncio._set_running_loop(self.loop)
        try:
            self.loop.abandon()
            while self._greenlet:  # what is thrown may be caught inside
                self._greenlet.throw(GreenletExit)
            self._close_tasks()
            self.loop.abandon()
            self.loop.close()
        finally:
            asyncio._set_running_loop(running)
        for ref in ActorRegistry.get_all():
            if ref.actor_urn.startswith(f"{URN}{self.number}/"):
                ActorRegistry.unregister(ref)

    def _close_tasks(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # coroutines that were never awaited
            for task in asyncio.all_tasks(self.loop):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                with suppress(BaseException):
                    task.get_coro().close()

    # From inside

    def leave(self) -> None:
        """Stand still here; return when it is stepped again, if ever."""
        self._is_left = True
        self._outside.switch()
        self._is_left = False

    def _live(self) -> None:
        while True:
            self.loop.run_batch()
            if not self.is_alive:  # thrown at, somewhere inside, by ``bury``
                return
            self._outside.switch()

    def _begin(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        names = iter(range(1, 1_000_000))
        RunQueue.current().new_urn = lambda: f"{URN}{self.number}/{next(names)}"
        task = self.loop.create_task(work())
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.broken.append(f"{task.exception()!r}")

    def _on_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if self.is_alive:
            self.broken.append(f"{context['message']}: {context.get('exception')!r}")
