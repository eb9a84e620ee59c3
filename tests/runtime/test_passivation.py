"""Leaving memory and coming back: nobody notices."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
from datetime import timedelta

import pytest

from perdure import Outcome, Runtime, Settings
from tests.runtime.support import (
    add,
    adding,
    in_loop,
    items,
    ledgers,
    open_ledger,
    quickly,
    reopened,
    rounds,
    until,
)
from tests.sagas import Added, Alarm, Armed, Ledger, Opened

HOSTILE = {
    "residents_max": 1,
    "idle_after_s": 0.001,
    "snapshot_every": 1,
    "batch_max": 1,
    "rehydrations_max": 2,
    "processed_window": 8,
    "accept_timeout_s": 60.0,
}


@quickly
async def test_an_idle_instance_leaves_memory_after_its_time(store, clock):
    async with ledgers(store, clock, idle_after_s=10) as runtime:
        ref = await open_ledger(runtime)
        await clock.advance(timedelta(seconds=6))
        await add(runtime, ref, 1)
        await clock.advance(timedelta(seconds=9))
        assert runtime.residents == 1
        await clock.advance(timedelta(seconds=1))
        assert runtime.residents == 0
        assert await items(runtime, ref) == [1]
        assert runtime.residents == 0  # looking wakes nobody
        await add(runtime, ref, 2)
        assert runtime.residents == 1


@quickly
async def test_without_an_idle_time_instances_stay(store, clock):
    async with ledgers(store, clock, idle_after_s=None) as runtime:
        await open_ledger(runtime)
        await clock.advance(timedelta(days=30))
        assert runtime.residents == 1


@quickly
async def test_the_longest_unused_leave_first(memory):
    async with ledgers(memory, residents_max=3) as runtime:
        refs = [await open_ledger(runtime, str(n)) for n in range(3)]
        await add(runtime, refs[0], 1)
        await open_ledger(runtime, "3")
        before = memory.calls["load"]
        await add(runtime, refs[0], 2)
        await add(runtime, refs[2], 2)
        assert memory.calls["load"] == before
        await add(runtime, refs[1], 2)
        assert memory.calls["load"] == before + 1


@quickly
async def test_no_more_are_resident_than_allowed(memory):
    async with ledgers(memory, residents_max=5, idle_after_s=None) as runtime:
        for n in range(20):
            await open_ledger(runtime, str(n))
            assert runtime.residents <= 5


@quickly
async def test_after_a_burst_the_surplus_leaves_memory(memory, clock):
    async with ledgers(memory, clock, residents_max=5, idle_after_s=None) as runtime:
        await asyncio.gather(*(open_ledger(runtime, str(n)) for n in range(300)))
        await clock.advance(timedelta(seconds=1))
        await rounds()
        assert runtime.residents <= 5


@quickly
async def test_what_is_at_work_stays(memory):
    async with ledgers(memory, residents_max=1, idle_after_s=0.001) as runtime:
        ref = await open_ledger(runtime)
        memory.hold_writes()
        tasks = adding(runtime, ref, 1)
        await memory.held()
        ref.stop(block=False)
        assert runtime.residents == 1
        memory.release()
        await asyncio.gather(*tasks)
        ref.stop(block=False)
        assert runtime.residents == 0


@pytest.mark.parametrize("mailbox_max", [1, 2, 3])
@in_loop(30)
async def test_nothing_shows_under_hostile_settings(store, mailbox_max):
    count = 120
    async with ledgers(store, mailbox_max=mailbox_max, **HOSTILE) as runtime:
        refs = [await open_ledger(runtime, str(n)) for n in range(4)]
        tasks = [task for n in range(count) for ref in refs for task in adding(runtime, ref, n)]
        receipts = await asyncio.gather(*tasks)
        assert all(r.outcome is Outcome.APPLIED and not r.duplicate for r in receipts)
        for position, ref in enumerate(refs):
            assert [r.reply for r in receipts[position::4]] == list(range(1, count + 1))
            assert await items(runtime, ref) == list(range(count))
            (again,) = await asyncio.gather(*adding(runtime, ref, count - 8))
            assert again.duplicate
    async with ledgers(reopened(store)) as runtime:
        for ref in refs:
            assert await items(runtime, ref) == list(range(count))


@in_loop(40)
async def test_no_message_falls_between_from_threads_and_coroutines(memory):
    each, settings = 300, {**HOSTILE, "processed_window": 10_000, "batch_max": 50}
    async with ledgers(memory, **settings) as runtime:
        refs = [await open_ledger(runtime, str(n)) for n in range(3)]
        rng = random.Random(1)
        futures: list = []

        def ask(sender: int) -> None:
            for n in range(each):
                ref = refs[(sender + n) % 3]
                content = Added(ref.correlation_id, sender * 10_000 + n)
                futures.append(ref.ask(content, block=False))

        threads = [threading.Thread(target=ask, args=(sender,)) for sender in range(4)]
        for thread in threads:
            thread.start()

        async def send(sender: int) -> None:
            for n in range(each):
                ref = refs[(sender + n) % 3]
                await add(runtime, ref, sender * 10_000 + n)
                refs[rng.randrange(3)].stop(block=False)  # aimed at the moment after an answer

        await asyncio.gather(*(send(sender) for sender in range(4, 8)))
        await asyncio.gather(*(asyncio.to_thread(thread.join) for thread in threads))
        for future in futures:
            assert isinstance(await future, int)
        found = [n for ref in refs for n in await items(runtime, ref)]
        assert sorted(found) == sorted(s * 10_000 + n for s in range(8) for n in range(each))
        for ref in refs:
            mine = await items(runtime, ref)
            for sender in range(8):
                from_one = [n for n in mine if n // 10_000 == sender]
                assert from_one == sorted(from_one)


@in_loop(30)
async def test_thousands_of_sends_at_the_very_moment_of_passivation(memory, clock):
    async with ledgers(memory, clock, idle_after_s=1.0, snapshot_every=5) as runtime:
        ref = await open_ledger(runtime)
        rng = random.Random(2)
        sent = 0
        for _ in range(700):
            advancing = asyncio.create_task(clock.advance(timedelta(seconds=1)))
            await rounds(rng.randrange(4))
            tasks = adding(runtime, ref, sent, sent + 1, sent + 2)
            sent += 3
            await asyncio.gather(advancing, *tasks)
        assert await items(runtime, ref) == list(range(sent))
        assert memory.calls["load"] > 300


@quickly
async def test_a_passive_instance_with_a_deadline_comes_back_for_it(store, clock):
    async with Runtime(store, [Alarm], Settings(idle_after_s=5), clock=clock) as runtime:
        await runtime.publish(Armed("x", "a", 60))
        await clock.advance(timedelta(seconds=30))
        assert runtime.residents == 0
        await clock.advance(timedelta(seconds=30))
        view = await runtime.state(runtime.ref(Alarm, "x"))
        assert view is not None
        assert view.state.heard == ("a",)


@quickly
async def test_mail_for_an_instance_that_is_still_being_read_waits_for_it(store):
    async with ledgers(store) as runtime:
        ref = await open_ledger(runtime)
        ref.stop(block=False)
        store.hold_loads()
        tasks = adding(runtime, ref, 1, 2)
        await store.loads_held()
        tasks += adding(runtime, ref, 3)
        await rounds()
        ref.stop(block=False)
        assert runtime.residents == 1
        store.release()
        assert [r.reply for r in await asyncio.gather(*tasks)] == [1, 2, 3]


@quickly
async def test_residents_may_go_and_come_while_others_are_at_work(store):
    async with ledgers(store, residents_max=2) as runtime:
        store.hold_writes()
        tasks = [asyncio.create_task(runtime.publish(Opened(str(n)))) for n in range(10)]
        await store.held()
        await until(lambda: runtime.residents >= 2)
        store.release()
        await asyncio.gather(*tasks)
        seen = [view.correlation_id async for view in runtime.instances(Ledger)]
        assert seen == sorted(str(n) for n in range(10))


@quickly
async def test_the_garbage_collector_is_as_before_when_the_runtime_has_stopped(memory):
    before = gc.get_threshold()
    gc.unfreeze()
    async with ledgers(memory, freeze_residents=True) as runtime:
        await open_ledger(runtime)
        assert gc.get_freeze_count() > 0
        assert gc.get_threshold()[0] > before[0]
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)
    async with ledgers(memory):
        assert gc.get_threshold() == before, "only where it was asked for"
