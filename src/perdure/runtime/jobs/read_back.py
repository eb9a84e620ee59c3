"""Jobs that must be read from the store though they were not offered: in doubt, or released.

After a commit that failed, nobody knows whether its rows are there. They are read back in the order
of their positions, and what is committed meanwhile is read behind them, so that nobody overtakes.
What was done or rewritten while a read was under way is left out of it: it shows an old row.
Part of the dispatcher, apart for its length. Next to read: ``dispatcher.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from perdure.core.commit import OutboxRow
from perdure.runtime.services import Services

__all__ = ["ReadBack"]

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
        self._doubts: set[int] = set()
        self._in_reading: set[int] = set()
        self._released: set[int] = set()
        self._readers = 0
        self._changed: set[int] = set()
        self._reading_doubts = services.background("reading jobs in doubt", self._read_doubts, tell)
        self._reading_followers = services.background(
            "reading the jobs that follow", self._read_followers, tell
        )
        self._is_stopped = False

    @property
    def has_doubts(self) -> bool:
        """Rows are in doubt: what is committed now must come after them."""
        return bool(self._doubts or self._in_reading)

    @property
    def is_settled(self) -> bool:
        """Nothing is read; what is to be read again waits for time to pass."""
        return not (self._reading_doubts.is_running or self._reading_followers.is_running)

    def doubtful(self, rows: Sequence[OutboxRow]) -> None:
        """A commit with these rows failed: whether they are there is read."""
        if not rows or self._is_stopped:
            return  # the next runtime finds them
        self._doubts.update(row.position for row in rows)
        self._reading_doubts.start()

    def released(self, position: int) -> None:
        """The job at this position is done with, perhaps: those that follow it may start then."""
        if not self._is_stopped:  # else the next runtime reads them
            self._released.add(position)
            self._reading_followers.start()

    def changed(self, row: OutboxRow) -> None:
        """The job is done, or its row is rewritten."""
        if self._readers:
            self._changed.add(row.position)

    async def stop(self) -> None:
        """Read nothing more."""
        self._is_stopped = True
        await self._reading_doubts.stop()
        await self._reading_followers.stop()
        self._doubts.clear()

    async def _read_doubts(self) -> None:
        while self._doubts:
            # Doubted anew while it is read, a position is read anew: it may be written since.
            self._in_reading, self._doubts = self._doubts, set()
            try:
                await self._read_doubts_at(sorted(self._in_reading))
            except BaseException:
                self._doubts |= self._in_reading
                raise
            finally:
                self._in_reading = set()

    async def _read_doubts_at(self, positions: list[int]) -> None:
        for row in await self._read(partial(self._services.store.jobs_at, positions)):
            self._hand_out(row)

    async def _read_followers(self) -> None:
        while self._released:
            released, self._released = list(self._released), set()
            outcomes = await asyncio.gather(
                *(self._read_followers_of(position) for position in released),
                return_exceptions=True,
            )
            failed = [error for error in outcomes if error is not None]
            if failed:
                self._released.update(released)  # reading twice changes nothing
                raise failed[0]

    async def _read_followers_of(self, position: int) -> None:
        for row in await self._read(partial(self._services.store.jobs_after, position)):
            self._hand_out(row)

    async def _read(self, read: Read) -> Sequence[OutboxRow]:
        self._readers += 1
        try:
            rows = await read()
            return [row for row in rows if row.position not in self._changed]
        finally:
            self._readers -= 1
            if not self._readers:
                self._changed.clear()
