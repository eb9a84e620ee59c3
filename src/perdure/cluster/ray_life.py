"""The life of a host in its process: a thread with an event loop of its own, and what runs there.

    life = HostLife(make, on_superseded)
    life.begin()
    life.facts()          # from any thread: {"state": "running", "shards": [0, 4], …}
    await life.drain()    # from any loop: what it has accepted is finished, its shards are free

    starting ──> running ──drain──> draining ──> drained
       ^            │
       └── failed <─┴── (tries again, for ever: a store that is away comes back)

A loop of its own, since user code that blocks it must not keep Ray from being answered. A host
that was superseded (``Fenced``: Ray took it for dead, and has made another one) must end: then
``on_superseded`` is called. Knows no Ray. Next to read: ``ray_host.py``.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Collection, Coroutine
from enum import StrEnum
from typing import Any, Protocol

from perdure.errors import DefinitionError, Fenced

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
        """Wait until it has stopped by itself. Raises why, as ``Fenced``."""
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
    SUPERSEDED = "superseded"


class HostLife:
    """What one process of a host does, over and over, until it is drained or superseded."""

    def __init__(
        self, make: Callable[[], Awaitable[Hosted]], on_superseded: Callable[[], None]
    ) -> None:
        self.state = State.STARTING
        self._make = make
        self._on_superseded = on_superseded
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
        while not self._told.is_set():
            try:
                await self._run_once()
            except Fenced as error:
                logger.warning("superseded, this host ends: %s", error)
                self._error, self.state = error, State.SUPERSEDED
                self._on_superseded()
                return
            except (Exception, SystemExit) as error:  # such as a module that cannot be imported
                self._error, self.state = error, State.FAILED
                self._failures += 1
                logger.exception("the host has failed, and tries again")
                await self._pause()
            finally:
                self._hosted = None
        self.state = State.DRAINED

    async def _run_once(self) -> None:
        """Run until drained. Raises why it cannot start, or has stopped."""
        self.state = State.STARTING
        hosted = await self._make()
        await hosted.start()
        self._hosted, self._error, self._failures = hosted, None, 0
        self.state = State.RUNNING
        waiting = {self._task(hosted.stopped()), self._task(self._told.wait())}
        done, left = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        if self._told.is_set():
            self.state = State.DRAINING
        await hosted.stop()
        for task in done:
            task.result()
        if not self._told.is_set():
            raise RuntimeError("the runtime has stopped by itself")

    def _task(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return self._loop.create_task(coroutine)

    async def _pause(self) -> None:
        pause_s = min(PAUSE_S * 2 ** min(self._failures - 1, 10), PAUSE_MAX_S)
        try:
            async with asyncio.timeout(pause_s):
                await self._told.wait()
        except TimeoutError:
            return
