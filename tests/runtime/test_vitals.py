"""A runtime tells how it is: its phase, what it holds, what of it keeps failing."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from perdure import Runtime, Settings
from perdure.errors import StoreLocked, StoreUnavailable
from perdure.runtime.supervised import Background, insist
from perdure.runtime.watching.vitals import Phase, Troubles
from perdure.testing import SimulatedClock
from tests.runtime.support import add, adding, ledgers, open_ledger, quickly, rounds, until
from tests.sagas import Ledger


@quickly
async def test_its_phase_follows_its_life_also_when_it_begins_again(memory):
    runtime = Runtime(memory, [Ledger])
    assert runtime.phase == "new"
    for _ in range(2):
        memory.hold_reads()
        starting = asyncio.create_task(runtime.start())
        await rounds()
        assert runtime.phase == "starting"
        memory.release()
        await starting
        assert runtime.phase == "running"
        stopping = asyncio.create_task(runtime.stop())
        await asyncio.sleep(0)
        assert runtime.phase == "stopping"
        await stopping
        assert runtime.phase == "stopped"


@quickly
async def test_one_that_could_not_start_is_new(memory):
    async with Runtime(memory, [Ledger]):
        other = Runtime(memory, [Ledger])
        with pytest.raises(StoreLocked):
            await other.start()
        assert other.vitals().phase is Phase.NEW
        assert not other.vitals().is_ready


@quickly
async def test_what_it_holds_is_counted(memory):
    async with ledgers(memory, in_flight_max=7) as runtime:
        ref = await open_ledger(runtime)
        memory.hold_writes()
        sending = adding(runtime, ref, 1, 2, 3)
        await until(lambda: runtime.vitals().in_flight == 3)
        vitals = runtime.vitals()
        assert (vitals.residents, vitals.in_flight_max, vitals.is_ready) == (1, 7, True)
        await until(lambda: runtime.vitals().writing_s > 0)
        memory.release()
        await asyncio.gather(*sending)
        vitals = runtime.vitals()
        assert (vitals.in_flight, vitals.writing_s, vitals.write_error) == (0, 0.0, None)


@quickly
async def test_a_probe_writes_nothing_while_all_is_well(memory):
    async with ledgers(memory) as runtime:
        ref = await open_ledger(runtime)
        before = memory.writes
        assert (await runtime.probe()).is_ready
        assert memory.writes == before
        await add(runtime, ref, 1)


@quickly
async def test_a_probe_after_a_failed_write_leaves_nothing_that_anybody_sees(store):
    async with ledgers(store, retry_pause_s=0.001) as runtime:
        ref = await open_ledger(runtime)
        store.fail_writes(3, error=StoreUnavailable("no room"))
        await asyncio.gather(*adding(runtime, ref, 1), return_exceptions=True)
        store.heal()
        assert (await runtime.probe()).is_ready
        assert await store.inner.queue_depths() == {}
        await add(runtime, ref, 2)
    async with ledgers(store) as again:
        await add(again, again.ref(Ledger, "x"), 3)


@quickly
async def test_each_piece_of_work_that_fails_is_a_trouble_of_its_own_until_it_works():
    clock, troubles = SimulatedClock(), Troubles()
    fails = True

    async def work() -> None:
        if fails:
            raise KeyError("x")

    def call() -> None:
        if fails:
            raise ValueError("y\nand more")

    twins = [Background(clock, 0.1, "reading", work, troubles=troubles) for _ in range(2)]
    for one in twins:
        one.start()
    insist(clock, 0.1, "the sweep", call, troubles)()
    await rounds()
    found = [(trouble.what, trouble.failures, trouble.error) for trouble in troubles.present()]
    assert found == [
        ("reading", 1, "KeyError: 'x'"),
        ("reading", 1, "KeyError: 'x'"),
        ("the sweep", 1, "ValueError: y and more"),
    ]
    await clock.advance(timedelta(milliseconds=100))
    await rounds()
    assert [trouble.failures for trouble in troubles.present()] == [2, 2, 2]
    await twins[0].stop()  # nobody wants it any more
    assert len(troubles.present()) == 2
    fails = False
    await clock.advance(timedelta(seconds=1))
    await rounds()
    assert troubles.present() == ()


@quickly
async def test_readings_of_the_store_that_fail_are_troubles_until_the_outage_is_over(memory):
    memory.fail_reads(3, operation="inbox")
    async with Runtime(memory, [Ledger], Settings(retry_pause_s=0.002)) as runtime:
        await until(lambda: bool(runtime.vitals().troubles))
        [trouble] = runtime.vitals().troubles
        assert trouble.what == "looking over the inbox"
        await until(lambda: not runtime.vitals().troubles)
