"""Jobs in doubt are read until it is known whether they are there."""

from __future__ import annotations

import asyncio
from types import MethodType, SimpleNamespace
from typing import Any

from perdure import Settings
from perdure.runtime.clock import SystemClock
from perdure.runtime.jobs.read_back import ReadBack
from perdure.runtime.services import Services
from perdure.runtime.watching.vitals import Troubles
from tests.runtime.support import quickly

_row: Any = SimpleNamespace


class Table:
    """A store whose read shows what was there when it began, and ends when it is let."""

    def __init__(self) -> None:
        self.positions: set[int] = set()
        self.reads = 0
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()

    async def jobs_at(self, positions: list[int]) -> list[Any]:
        shown = [_row(position=one) for one in positions if one in self.positions]
        self.reads += 1
        self.begun.set()
        await self.may_end.wait()
        if self.reads == 2:
            raise OSError("the store fails")
        return shown


@quickly
async def test_what_is_doubted_anew_while_it_is_read_is_read_anew():
    table, handed_out, there = Table(), [], asyncio.Event()

    def hand_out(row: Any) -> None:
        handed_out.append(row.position)
        there.set()

    services: Any = _row(store=table, clock=SystemClock(), settings=Settings(retry_pause_s=0.001))
    services.troubles = Troubles()
    services.background = MethodType(Services.background, services)
    reading = ReadBack(services, hand_out, lambda: None)
    reading.doubtful([_row(position=5)])  # a first try, which was not written
    await table.begun.wait()
    table.positions.add(5)  # the second one was
    assert reading.has_doubts
    reading.doubtful([_row(position=5)])
    table.may_end.set()
    async with asyncio.timeout(5):
        await there.wait()
    assert handed_out == [5]
    assert table.reads == 3
    await asyncio.sleep(0)
    assert not reading.has_doubts
    await reading.stop()
