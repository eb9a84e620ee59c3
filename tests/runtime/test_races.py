"""Interleavings that are rare in the wild, brought about on purpose."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

from perdure import Runtime, Settings, errors
from perdure.testing import FaultyStore
from tests.runtime.support import (
    FreeClock,
    add,
    adding,
    items,
    ledgers,
    open_ledger,
    parts,
    quickly,
    reopened,
    rounds,
    state_of,
)
from tests.sagas import Added, Alarm, Armed


def in_thread(function) -> None:
    """Run it in another thread while the loop stands still."""
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


@quickly
async def test_what_one_thread_tells_is_not_overtaken_while_it_waits_for_room(memory, monkeypatch):
    async with ledgers(memory, mailbox_max=1) as runtime:
        ref = await open_ledger(runtime)
        memory.hold_writes()
        first = adding(runtime, ref, 0)
        await memory.held()
        handoff = parts(runtime).handoff
        wait = handoff._wait
        told: list[bool] = []

        def waiting(*args, **kwargs):
            if not told:
                told.append(True)
                in_thread(lambda: ref.tell(Added("x", 2)))  # the same sender goes on meanwhile
            wait(*args, **kwargs)

        monkeypatch.setattr(handoff, "_wait", waiting)
        in_thread(lambda: ref.tell(Added("x", 1)))
        memory.release()
        await asyncio.gather(*first)
        await rounds()
        await runtime.settled()
        assert await items(runtime, ref) == [0, 1, 2]


@quickly
async def test_after_a_long_outage_an_instance_is_served_again_soon(memory, clock):
    async with ledgers(memory, clock) as runtime:
        await runtime.publish(Added("x", 1))
        memory.fail_writes(12)  # its expiry cannot be written for a while
        await clock.advance(timedelta(seconds=120))
        assert len(await memory.inner.dead_letters()) == 1
        ref = await open_ledger(runtime)
        await add(runtime, ref, 2)
        assert await items(runtime, ref) == [2]


class StumblingStore(FaultyStore):
    """Its second look at deadlines takes its time, then fails."""

    def __init__(self, store) -> None:
        super().__init__(store)
        self.looks = 0
        self.looking = asyncio.Event()
        self.fails = asyncio.Event()

    async def deadlines(self, after=(-1, "", ""), limit=1000):
        self.looks += 1
        if self.looks == 2:
            self.looking.set()
            await self.fails.wait()
            raise errors.StoreUnavailable("stumbled")
        return await super().deadlines(after, limit)


@quickly
async def test_a_deadline_replaced_after_a_failed_look_at_the_store_is_told(memory):
    clock = FreeClock()
    limits = Settings(deadline_page=1, deadlines_in_flight_max=10)
    async with Runtime(memory, [Alarm], limits, clock=clock) as runtime:
        for n, after_s in enumerate((10, 20, 30)):
            await runtime.publish(Armed(str(n), "a", after_s))
    store = StumblingStore(reopened(memory).inner)
    async with Runtime(store, [Alarm], limits, clock=clock) as runtime:
        await clock.advance(timedelta(seconds=10))
        await store.looking.wait()
        await runtime.publish(Armed("n", "a", 0.5))
        store.fails.set()
        await rounds()
        await runtime.publish(Armed("n", "a", 5))
        for _ in range(40):
            await clock.advance(timedelta(seconds=1))
            await runtime.settled()
        for id in ("0", "1", "2", "n"):
            assert (await state_of(runtime, runtime.ref(Alarm, id))).heard == ("a",)
