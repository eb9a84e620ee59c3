"""One shard in this process, from its claim to its release: a ``Runtime`` of its own.

    claimed ──started──> up ──leave(), fenced, escalated──> leaving ──stopped──> released
       └────────── it cannot start ───────────────────────────────────────────────┘

Whatever ends it, the way out is the same: nobody brings it anything more, it answers what it has
accepted, its mail is taken no more, and it is released if it is still ours.
Next to read: ``host.py``, which has some of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from perdure.errors import Escalated, StoreError
from perdure.runtime.blueprint import Blueprint
from perdure.runtime.running import Running
from perdure.runtime.runtime import Runtime

__all__ = ["Shard", "ShardRuntime", "ShardWatcher"]

logger = logging.getLogger("perdure.cluster")


class ShardWatcher(Protocol):
    """Who brings the shards of this process their mail; ``cluster/router.py``. On the loop."""

    def shard_came(self, shard: int, running: Running) -> None:
        """Its runtime has started, and owns it: bring its mail."""
        ...

    def shard_leaves(self, shard: int) -> None:
        """Its runtime begins to stop, for whatever reason: bring nothing more.

        What it has accepted is answered still, before ``shard_gone``.
        """
        ...

    async def shard_gone(self, shard: int) -> None:
        """Its runtime has stopped. Awaited before the shard is released."""
        ...


class ShardRuntime(Runtime):
    """The runtime of one shard. ``on_leaving`` is called when it begins to stop, whyever."""

    on_leaving: Callable[[], None] = staticmethod(lambda: None)
    _tells_at = logging.DEBUG  # the front says it for all

    def _begin_to_stop(self) -> None:
        if self._running is not None and self._stopping is None:
            self.on_leaving()
        super()._begin_to_stop()

    @property
    def escalated(self) -> Escalated | None:
        """Why a saga has stopped it."""
        return self._escalated


class Keeper(Protocol):
    """What a shard needs of its host."""

    def came(self, shard: Shard, running: Running) -> None:
        """It is up."""
        ...

    async def looked_over(self, shard: Shard, running: Running) -> None:
        """It is up: see what is in it."""
        ...

    def leaves(self, shard: Shard) -> None:
        """It takes nothing more."""
        ...

    async def left(self, shard: Shard) -> None:
        """It has stopped: bring it nothing, release it. ``shard.error`` is why, if it failed."""
        ...


class Shard:
    """A claimed shard; lives as a task. ``up`` resolves when it has started, or cannot."""

    def __init__(self, number: int, epoch: int, blueprint: Blueprint, keeper: Keeper) -> None:
        self.number = number
        self.epoch = epoch
        self.error: Exception | None = None
        self.is_lost = False
        self.is_up = False
        self.runtime = ShardRuntime.of(blueprint)
        self.runtime.on_leaving = self._begins_to_leave
        self.up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._keeper = keeper
        self._is_asked_to_leave = asyncio.Event()
        self.task = asyncio.get_running_loop().create_task(self._live())

    def leave(self) -> None:
        """Finish what was accepted, and go."""
        self._begins_to_leave()

    def lost(self) -> None:
        """Somebody else has it."""
        if not self.is_lost:
            self.is_lost = True
            if not self._is_asked_to_leave.is_set():
                logger.warning("shard %d was taken over by another process", self.number)
            self.leave()

    @property
    def is_leaving(self) -> bool:
        """It goes, or has gone."""
        return self._is_asked_to_leave.is_set()

    def _begins_to_leave(self) -> None:
        if not self._is_asked_to_leave.is_set():
            self._is_asked_to_leave.set()
            self._keeper.leaves(self)

    async def _live(self) -> None:
        try:
            await self._run()
        except Exception as error:
            self.error = error
            logger.error("shard %d cannot be run here: %s", self.number, error or repr(error))
        self._begins_to_leave()
        await self._go()
        if not self.up.done():
            self.up.set_result(None)

    async def _run(self) -> None:
        await self.runtime.start()
        running = self.runtime.running
        if running is None or self.is_leaving:
            return
        self.epoch, self.is_up = running.services.epoch, True
        self._keeper.came(self, running)
        self.up.set_result(None)
        with suppress(StoreError):  # the next owner says it
            await self._keeper.looked_over(self, running)
        await self._is_asked_to_leave.wait()

    async def _go(self) -> None:
        """Stop the runtime, be released. A failure of one step must not keep the next one."""
        try:
            await self._keeper.left(self)
        except StoreError as error:
            logger.warning("shard %d could not be released: %s", self.number, error)
        except Exception:
            logger.exception("shard %d did not end well", self.number)
