"""The life of a host in its process: a thread with an event loop of its own, and what runs there.

    life = HostLife(make, on_over)
    life.begin()
    life.facts()          # from any thread: {"state": "running", "shards": [0, 4], …}
    await life.drain()    # from any loop: what it has accepted is finished, its shards are free

    failed <──> starting ──> running ──drain──> draining ──> drained
                                └──> over

A loop of its own, since user code that blocks it must not keep Ray from being answered. Starting is
tried again, for ever: a store that is away comes back. One that has run and stops by itself is
over: its shards were taken, since Ray held it for dead and has made another one (or a saga has
escalated). It must take nothing again, so its process has to end: ``on_over`` is called, and Ray
starts the host anew if this was the one that it knows. Knows no Ray. Next: ``ray_host.py``.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Collection, Coroutine
from enum import StrEnum
from typing import Any, Protocol

from perdure.errors import DefinitionError, PerdureError

__all__ = ["HostLife", "Hosted", "State"]

logger = logging.getLogger("perdure.ray")

PAUSE_S = 0.5
"""Before a host that failed is tried again; doubled each time in a row."""

PAUSE_MAX_S = 8.0


class Hosted(Protocol):
    """What a host runs: the runtimes of its shards."""

    async def start(self) -> None:
        """Take the shards, whoever has them, and go on with what is under way there."""
        ...

    async def stop(self) -> None:
        """Finish what was accepted, and give the shards up."""
        ...

    def stopped(self) -> Coroutine[Any, Any, None]:
        """Wait until it has stopped by itself; may raise why."""
        ...

    @property
    def shards(self) -> Collection[int]:
        """Those that it owns now."""
        ...

    def look(self, shard: int) -> None:
        """There may be mail for this shard; never fails."""
        ...


class State(StrEnum):
    """Where a host stands."""

    STARTING = "starting"
    RUNNING = "running"
    FAILED = "failed"
    DRAINING = "draining"
    DRAINED = "drained"
    OVER = "over"


class HostLife:
    """What one process of a host does, until it is drained or over."""

    def __init__(self, make: Callable[[], Awaitable[Hosted]], on_over: Callable[[], None]) -> None:
        self.state = State.STARTING
        self._make = make
        self._on_over = on_over
        self._hosted: Hosted | None = None
        self._error: BaseException | None = None
        self._failures = 0
        self._loop = asyncio.new_event_loop()
        self._told = asyncio.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="perdure-host", daemon=True)

    def begin(self) -> None:
        """Start the thread."""
        self._thread.start()

    def facts(self) -> dict[str, Any]:
        """How it stands, in plain values; from any thread."""
        hosted, error = self._hosted, self._error
        return {
            "state": str(self.state),
            "shards": [] if hosted is None else sorted(hosted.shards),
            "failures": self._failures,
            "error": None if error is None else f"{type(error).__name__}: {error}",
            "is_final": isinstance(error, DefinitionError),
        }

    def look(self, shard: int) -> None:
        """There may be mail for this shard; from any thread."""
        if not self._over.is_set():
            self._loop.call_soon_threadsafe(self._look, shard)

    async def drain(self) -> None:
        """Finish what was accepted and give the shards up; from any loop, as often as you like."""
        if not self._over.is_set():
            self._loop.call_soon_threadsafe(self._told.set)
        await asyncio.to_thread(self._over.wait)

    def _look(self, shard: int) -> None:
        if self._hosted is not None:
            self._hosted.look(shard)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._live())
        finally:
            self._over.set()

    async def _live(self) -> None:
        hosted = None
        while hosted is None and not self._told.is_set():
            hosted = await self._started()
        if hosted is not None:
            await self._until_stopped(hosted)
        if self._told.is_set():
            self.state = State.DRAINED
        else:
            self.state = State.OVER
            logger.error("the host is over: %s", self._error or "its shards are another's now")
            self._on_over()

    async def _started(self) -> Hosted | None:
        self.state = State.STARTING
        try:
            hosted = await self._make()
            await hosted.start()
        except (Exception, SystemExit) as error:  # such as a module that cannot be imported
            self._error, self.state = error, State.FAILED
            self._failures += 1
            is_ours = isinstance(error, PerdureError)  # which says all by its words
            logger.error("the host cannot start, and tries again: %s", error, exc_info=not is_ours)
            await self._pause()
            return None
        return hosted

    async def _until_stopped(self, hosted: Hosted) -> None:
        self._hosted, self._error, self._failures = hosted, None, 0
        self.state = State.RUNNING
        stopped, told = self._task(hosted.stopped()), self._task(self._told.wait())
        await asyncio.wait({stopped, told}, return_when=asyncio.FIRST_COMPLETED)
        if self._told.is_set():
            self.state = State.DRAINING
        try:
            await hosted.stop()
            if not self._told.is_set():
                await stopped
        except Exception as error:
            self._error = error
            logger.exception("stopping the host")
        finally:
            stopped.cancel()
            told.cancel()
            await asyncio.gather(stopped, told, return_exceptions=True)
            self._hosted = None

    def _task(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return self._loop.create_task(coroutine)

    async def _pause(self) -> None:
        pause_s = min(PAUSE_S * 2 ** min(self._failures - 1, 10), PAUSE_MAX_S)
        try:
            async with asyncio.timeout(pause_s):
                await self._told.wait()
        except TimeoutError:
            return
