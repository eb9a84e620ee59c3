"""Jobs that must be read from the store though they were not offered: in doubt, or released.

After a commit that failed, nobody knows whether its rows are there. They are read back in the order
of their positions, and what is committed meanwhile is read behind them, so that nobody overtakes.
What was done or rewritten while a read was under way is left out of it: it shows an old row.
Part of the dispatcher, apart for its length. Next to read: ``dispatcher.py``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from perdure.core.commit import OutboxRow
from perdure.errors import StoreError
from perdure.runtime.services import Services

__all__ = ["ReadBack"]

logger = logging.getLogger("perdure.workers")

Read = Callable[[], Awaitable[Sequence[OutboxRow]]]


class ReadBack:
    """Reads jobs until the store answers. ``hand_out`` takes a row, ``tell`` hears of any end."""

    def __init__(
        self,
        services: Services,
        hand_out: Callable[[OutboxRow], None],
        tell: Callable[[], None],
    ) -> None:
        self._services = services
        self._hand_out = hand_out
        self._tell = tell
        self._doubts: set[int] = set()
        self._readers = 0
        self._changed: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pausing = 0
        self._is_stopped = False

    @property
    def has_doubts(self) -> bool:
        """Rows are in doubt: what is committed now must come after them."""
        return bool(self._doubts)

    @property
    def is_settled(self) -> bool:
        """Nothing is read; what is to be read again waits for time to pass."""
        return len(self._tasks) == self._pausing

    def doubtful(self, rows: Sequence[OutboxRow]) -> None:
        """A commit with these rows failed: whether they are there is read."""
        if not rows or self._is_stopped:
            return  # the next runtime finds them
        is_reading = bool(self._doubts)
        self._doubts.update(row.position for row in rows)
        if not is_reading:
            self._spawn(self._read_doubts())

    def released(self, position: int) -> None:
        """The job at this position is done with, perhaps: those that follow it may start then."""
        if not self._is_stopped:  # else the next runtime reads them
            self._spawn(self._read_followers(position))

    def changed(self, row: OutboxRow) -> None:
        """The job is done, or its row is rewritten."""
        if self._readers:
            self._changed.add(row.position)

    async def stop(self) -> None:
        """Read nothing more."""
        self._is_stopped = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._doubts.clear()

    async def _read_doubts(self) -> None:
        store = self._services.store
        while self._doubts:
            positions = sorted(self._doubts)
            for row in await self._read(partial(store.jobs_at, positions)):
                self._hand_out(row)
            self._doubts.difference_update(positions)

    async def _read_followers(self, position: int) -> None:
        for row in await self._read(partial(self._services.store.jobs_after, position)):
            self._hand_out(row)

    async def _read(self, read: Read) -> Sequence[OutboxRow]:
        self._readers += 1
        try:
            rows = await self._until_read(read)
            return [row for row in rows if row.position not in self._changed]
        finally:
            self._readers -= 1
            if not self._readers:
                self._changed.clear()

    async def _until_read(self, read: Read) -> Sequence[OutboxRow]:
        while True:
            try:
                return await read()
            except StoreError as error:
                logger.warning("reading jobs failed, trying again: %s", error)
                await self._pause(self._services.settings.retry_pause_s)

    async def _pause(self, seconds: float) -> None:
        over = asyncio.Event()
        wake = self._services.clock.call_later(seconds, over.set)
        self._pausing += 1
        self._tell()
        try:
            await over.wait()
        finally:
            self._pausing -= 1
            wake.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("reading jobs back failed", exc_info=task.exception())
        self._tell()
