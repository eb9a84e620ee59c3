"""Turns do not wait for their commits; what a failed commit leaves behind is settled by reading."""

from __future__ import annotations

import asyncio
import logging
import random
from functools import partial

import pytest

from perdure import MemoryStore, Outcome, Runtime, Settings, errors
from perdure.core.commit import JournalRow, TurnRecord
from tests.runtime.support import (
    add,
    adding,
    items,
    ledgers,
    open_ledger,
    quickly,
    reopened,
    rounds,
    until,
    view_of,
)
from tests.sagas import HANDLED, Added, Ledger, Struck

written_or_not = pytest.mark.parametrize("written", [False, True], ids=["before", "after"])


@quickly
async def test_a_hundred_messages_are_turned_while_the_first_write_is_held(store):
    async with ledgers(store) as runtime:
        ref = await open_ledger(runtime)
        await add(runtime, ref, 1000)
        HANDLED.clear()
        store.hold_writes()
        answered: list[int] = []

        def note(n: int, _) -> None:
            answered.append(n)

        tasks = adding(runtime, ref, *range(100))
        for n, task in enumerate(tasks):
            task.add_done_callback(partial(note, n))
        await store.held()
        await until(lambda: len(HANDLED) == 100)
        assert await items(runtime, ref) == [1000]  # queries see what is committed
        assert answered == []
        store.release()
        receipts = await asyncio.gather(*tasks)
        assert [r.reply for r in receipts] == list(range(2, 102))
        assert answered == list(range(100))
        assert await items(runtime, ref) == [1000, *range(100)]
        assert store.writes <= 5  # they shared few transactions


@written_or_not
@quickly
async def test_a_failed_write_loses_nothing_doubles_nothing_and_keeps_the_order(store, written):
    async with ledgers(store, retry_pause_s=0.001, batch_max=10) as runtime:
        ref = await open_ledger(runtime)
        store.fail_writes(2, after_commit=written)
        first = adding(runtime, ref, *range(50))
        await rounds()
        later = adding(runtime, ref, *range(50, 60))  # new mail does not overtake
        receipts = await asyncio.gather(*first, *later)
        assert [r.reply for r in receipts] == list(range(1, 61))
        assert not any(r.duplicate for r in receipts)
        assert await items(runtime, ref) == list(range(60))


@written_or_not
@quickly
async def test_a_failed_group_hurts_no_other_instance(store, written):
    async with ledgers(store, retry_pause_s=0.001) as runtime:
        refs = [await open_ledger(runtime, f"x{n}") for n in range(20)]
        store.fail_writes(after_commit=written)
        tasks = [task for ref in refs for task in adding(runtime, ref, 1, 2, 3)]
        assert {r.outcome for r in await asyncio.gather(*tasks)} == {Outcome.APPLIED}
        for ref in refs:
            assert await items(runtime, ref) == [1, 2, 3]
            rows = await store.inner.journal(ref.key)
            assert [row.sequence_nr for row in rows] == [1, 2, 3, 4]


@pytest.mark.parametrize("seed", range(4))
@quickly
async def test_eight_senders_over_failing_writes_append_each_number_once_in_their_order(
    store, seed
):
    chance = random.Random(seed)

    async def send_all(runtime, ref, sender) -> None:
        for n in range(25):
            number = sender * 1000 + n
            await runtime.send(ref, Added("x", number), message_id=str(number))
            if chance.random() < 0.2:
                store.fail_writes(after_commit=chance.random() < 0.5)
            if chance.random() < 0.1:
                ref.stop(block=False)

    async with ledgers(
        store, retry_pause_s=0.0005, batch_max=3, snapshot_every=2, write_attempts=50
    ) as runtime:
        ref = await open_ledger(runtime)
        await asyncio.gather(*(send_all(runtime, ref, sender) for sender in range(8)))
        store.heal()
        found = await items(runtime, ref)
        assert sorted(found) == sorted(s * 1000 + n for s in range(8) for n in range(25))
        for sender in range(8):
            mine = [n for n in found if n // 1000 == sender]
            assert mine == sorted(mine)
        assert (await view_of(runtime, ref)).state.doubled == sum(2 * n for n in found if n % 2)
    async with ledgers(reopened(store)) as runtime:
        assert await items(runtime, runtime.ref(Ledger, "x")) == found


@quickly
async def test_after_its_attempts_a_message_is_refused_and_the_next_one_is_served(store):
    async with ledgers(store, retry_pause_s=0.001, write_attempts=3) as runtime:
        ref = await open_ledger(runtime)
        store.fail_writes(3)
        with pytest.raises(errors.StoreUnavailable, match="nothing of it was kept") as caught:
            await add(runtime, ref, 1)
        assert (caught.value.saga, caught.value.correlation_id) == ("Ledger", "x")
        await add(runtime, ref, 2)
        assert await items(runtime, ref) == [2]


@quickly
async def test_an_outcome_that_cannot_be_read_back_is_called_unknown(store):
    async with ledgers(store, retry_pause_s=0.001) as runtime:
        ref = await open_ledger(runtime)
        store.fail_writes(after_commit=True)
        store.fail_loads()
        with pytest.raises(errors.OutcomeUnknown, match="same message id 'm'") as caught:
            await runtime.send(ref, Added("x", 1), message_id="m")
        assert caught.value.correlation_id == "x"
        assert (await runtime.send(ref, Added("x", 1), message_id="m")).duplicate
        assert await items(runtime, ref) == [1]


@quickly
async def test_a_load_that_fails_refuses_its_mail_and_is_tried_again_by_the_next(store):
    async with ledgers(store) as runtime:
        ref = await open_ledger(runtime)
        other = await open_ledger(runtime, "y")
        for one in (ref, other):
            one.stop(block=False)
        store.fail_loads(instance=ref.key)
        with pytest.raises(errors.StoreUnavailable):
            await add(runtime, ref, 1)
        await add(runtime, ref, 2)
        await add(runtime, other, 3)
        assert (await items(runtime, ref), await items(runtime, other)) == ([2], [3])


async def intrude(store, key: str, number: int, epoch: int = 1) -> None:
    """Another writer takes the instance's next number, with what it finds in the last turn."""
    last = (await store.inner.journal(key))[-1]
    row = JournalRow(key, number, epoch, f"intruder-{number}", last.body)
    assert list(await store.inner.write([TurnRecord(row)])) == [None]


@quickly
async def test_a_second_writer_makes_conflicts_that_are_settled(store, caplog):
    caplog.set_level(logging.ERROR)
    async with ledgers(store, retry_pause_s=0.001) as runtime:
        ref, other = await open_ledger(runtime), await open_ledger(runtime, "y")
        await add(runtime, ref, 10)
        store.hold_writes()
        tasks = adding(runtime, ref, 1) + adding(runtime, other, 1)
        await store.held()
        failing = asyncio.create_task(runtime.send(ref, Struck("x", "error")))
        tasks += adding(runtime, ref, 2)
        await rounds()
        await intrude(store, ref.key, 3)
        store.release()
        assert {r.outcome for r in await asyncio.gather(*tasks)} == {Outcome.APPLIED}
        with pytest.raises(errors.HandlerFailed):
            await failing
        assert await items(runtime, ref) == [10, 10, 1, 2]
        assert await items(runtime, other) == [1]
        await runtime.settled()
        assert [r for r in caplog.records if r.name.startswith("perdure")] == []


@quickly
async def test_turns_left_out_beside_a_dead_letter_that_was_written(memory, caplog):
    caplog.set_level(logging.ERROR)
    async with ledgers(memory, retry_pause_s=0.001, mailbox_max=4) as runtime:
        ref = await open_ledger(runtime)
        memory.hold_writes()
        first = adding(runtime, ref, 1)
        await memory.held()
        second = adding(runtime, ref, 2)
        failing = asyncio.create_task(runtime.send(ref, Struck("x", "error")))
        third = adding(runtime, ref, 3)
        await rounds()
        memory.let_through()
        await first[0]
        await memory.held()
        memory.leave_out(ref.key)
        memory.release()
        await asyncio.gather(*second, *third)
        with pytest.raises(errors.HandlerFailed):
            await failing
        assert await items(runtime, ref) == [1, 2, 3]
        for _ in range(3):  # all room is free again, and not more than that
            assert len(await asyncio.gather(*adding(runtime, ref, 4, 5, 6, 7))) == 4
        assert [r for r in caplog.records if r.name.startswith("perdure")] == []


@quickly
async def test_a_runtime_whose_store_was_taken_tells_its_senders_and_stops(memory):
    inner = memory.inner
    assert isinstance(inner, MemoryStore)
    runtime = Runtime(memory, [Ledger], Settings(shutdown_timeout_s=1))
    await runtime.start()
    ref, other = await open_ledger(runtime), await open_ledger(runtime, "y")
    inner._is_open = False  # another process opens it: the epoch moves on
    await inner.open()
    tasks = adding(runtime, ref, 1, 2) + adding(runtime, other, 1)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {errors.Fenced}
    with pytest.raises((errors.Fenced, errors.RuntimeNotRunning)):
        await runtime.send(ref, Added("x", 3))
    await runtime.stop()
    assert {key: len(rows) for key, rows in inner._journal.items()} == {ref.key: 1, other.key: 1}


@quickly
async def test_one_group_may_hold_fenced_turns_only(memory):
    runtime = Runtime(memory, [Ledger])
    await runtime.start()
    ref = await open_ledger(runtime)
    memory.leave_out(ref.key, 10, error=errors.Fenced("another owner"))
    with pytest.raises(errors.Fenced):
        await add(runtime, ref, 1)
    with pytest.raises((errors.Fenced, errors.RuntimeNotRunning)):
        await add(runtime, ref, 2)
    await runtime.stop()
    async with ledgers(reopened(memory)) as runtime:
        assert await items(runtime, runtime.ref(Ledger, "x")) == []


@pytest.mark.parametrize("batch_max", [1, 2, 1000])
@quickly
async def test_no_group_is_larger_than_allowed_and_none_is_delayed(store, batch_max):
    async with ledgers(store, batch_max=batch_max) as runtime:
        ref = await open_ledger(runtime)
        store.hold_writes()
        tasks = adding(runtime, ref, *range(20))
        await store.held()
        await rounds()
        before = store.writes
        store.release()
        await asyncio.gather(*tasks)
        groups = store.writes - before
        assert groups == {1: 19, 2: 9, 1000: 1}[batch_max] or groups <= 20 // batch_max + 1
