"""A simulated clock for tests in which something waits for time to pass before it can settle."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from typing import TypeVar

from perdure.testing import SimulatedClock

T = TypeVar("T")


class PassingClock(SimulatedClock):
    """Gives everything under way some turns of the loop, then passes on, settled or not."""

    async def during(self, work: Awaitable[T]) -> T:
        """Let time pass until it is done."""
        task = asyncio.ensure_future(work)
        while not task.done():
            await asyncio.sleep(0)
            await self.advance(timedelta(milliseconds=10))
        return await task

    def forget(self) -> None:
        """The process whose clock this was has ended."""
        self._settled.clear()
        self._wakes.clear()
