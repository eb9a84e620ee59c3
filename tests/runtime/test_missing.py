"""Messages for an instance that does not exist."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from perdure import Outcome, Runtime, Settings, Status
from tests.runtime.support import adding, items, ledgers, open_ledger, quickly, reopened, rounds
from tests.sagas import Added, Closed, Ignoring, Ledger, Opened, Replying, Starting, Struck


@quickly
async def test_parked_messages_are_applied_in_order_once_the_instance_starts(store, clock):
    async with ledgers(store, clock) as runtime:
        ref = runtime.ref(Ledger, "x")
        parked = await asyncio.gather(*adding(runtime, ref, *range(100)))
        assert {(r.outcome, r.sequence_nr) for r in parked} == {(Outcome.PARKED, None)}
        assert await runtime.state(ref) is None
        assert len(await store.inner.inbox()) == 100
        opening = asyncio.create_task(runtime.send(ref, Opened("x")))
        later = adding(runtime, ref, 100, 101)
        assert (await opening).sequence_nr == 1
        assert [r.sequence_nr for r in await asyncio.gather(*later)] == [102, 103]
        assert await items(runtime, ref) == list(range(102))
        assert await store.inner.inbox() == []
        again = await runtime.send(ref, Added("x", 5), message_id="x-5")
        assert (again.duplicate, again.outcome, again.reply) == (True, Outcome.APPLIED, 6)


@quickly
async def test_parked_messages_outlive_the_process_and_passivation(store, clock):
    async with ledgers(store, clock) as runtime:
        ref = runtime.ref(Ledger, "x")
        await asyncio.gather(*adding(runtime, ref, 1, 2))
        ref.stop(block=False)
        assert runtime.residents == 0
        await asyncio.gather(*adding(runtime, ref, 3))
    async with ledgers(reopened(store), clock) as runtime:
        ref = runtime.ref(Ledger, "x")
        await asyncio.gather(*adding(runtime, ref, 2, 4))
        await open_ledger(runtime)
        assert await items(runtime, ref) == [1, 2, 3, 4]


@quickly
async def test_a_repeated_parked_message_waits_once_and_not_longer(store, clock):
    async with ledgers(store, clock) as runtime:
        ref = runtime.ref(Ledger, "x")
        for _ in range(3):
            (receipt,) = await asyncio.gather(*adding(runtime, ref, 1))
            assert receipt.outcome is Outcome.PARKED
            await clock.advance(timedelta(seconds=19))
        assert len(await store.inner.inbox()) == 1
        await clock.advance(timedelta(seconds=3))
        await rounds()
        assert await store.inner.inbox() == []
        assert [letter.reason for letter in await store.inner.dead_letters()] == ["expired"]


@quickly
async def test_a_parked_message_that_waits_too_long_becomes_a_dead_letter(store, clock):
    async with ledgers(store, clock) as runtime:
        await runtime.publish(Added("x", 1), message_id="m")
        await clock.advance(timedelta(seconds=59))
        assert await store.inner.dead_letters() == []
        await clock.advance(timedelta(seconds=1))
        (letter,) = await store.inner.dead_letters()
        assert (letter.instance, letter.message_id, letter.type) == (
            "Ledger/x", "m", "runtime-test.added",
        )  # fmt: skip
        assert await store.inner.inbox() == []
        await open_ledger(runtime)
        assert await items(runtime, runtime.ref(Ledger, "x")) == []
        (receipt,) = await runtime.publish(Added("x", 1), message_id="m")
        assert (receipt.outcome, receipt.duplicate) == (Outcome.APPLIED, False)


@quickly
async def test_a_message_parked_anew_after_expiry_has_its_whole_time(store, clock):
    async with ledgers(store, clock) as runtime:
        await runtime.publish(Added("x", 1), message_id="m")
        await clock.advance(timedelta(seconds=60))
        (receipt,) = await runtime.publish(Added("x", 1), message_id="m")
        assert receipt.outcome is Outcome.PARKED
        await clock.advance(timedelta(seconds=30))
        await rounds()
        await clock.advance(timedelta(seconds=1))
        assert len(await store.inner.dead_letters()) == 1
        await open_ledger(runtime)
        assert await items(runtime, runtime.ref(Ledger, "x")) == [1]


@quickly
async def test_expiry_outlives_the_process(store, clock):
    async with ledgers(store, clock) as runtime:
        await runtime.publish(Added("x", 1))
        await runtime.publish(Added("y", 1))
    again = reopened(store)
    async with ledgers(again, clock) as runtime:
        await open_ledger(runtime, "y")
        await clock.advance(timedelta(seconds=61))
        assert [letter.instance for letter in await again.inner.dead_letters()] == ["Ledger/x"]
        assert await again.inner.inbox() == []


@quickly
async def test_an_expiry_whose_write_fails_is_tried_again(store, clock):
    async with ledgers(store, clock) as runtime:
        await runtime.publish(Added("x", 1))
        store.fail_writes(6)
        await clock.advance(timedelta(seconds=75))
        assert len(await store.inner.dead_letters()) == 1
        assert await store.inner.inbox() == []
        await open_ledger(runtime)


@quickly
async def test_parked_messages_of_an_instance_that_started_before_a_crash_need_no_further_mail(
    store,
):
    runtime = Runtime(store, [Ledger], Settings(batch_max=1, shutdown_timeout_s=0.25))
    await runtime.start()
    ref = runtime.ref(Ledger, "x")
    await asyncio.gather(*adding(runtime, ref, 1, 2))
    store.hold_writes()
    opening = asyncio.create_task(runtime.send(ref, Opened("x")))
    await store.held()
    store.let_through()
    await opening
    await store.held()
    store.fail_writes(100)
    stopping = asyncio.create_task(runtime.stop())
    await rounds()
    store.release()
    await stopping
    again = reopened(store)
    async with ledgers(again) as runtime:
        await runtime.settled()
        ref = runtime.ref(Ledger, "x")
        assert await items(runtime, ref) == [1, 2]
        assert await again.inner.inbox() == []


@quickly
async def test_a_parked_message_that_fails_is_a_dead_letter_and_the_others_go_on(store):
    async with ledgers(store) as runtime:
        ref = runtime.ref(Ledger, "x")
        await asyncio.gather(*adding(runtime, ref, 1))
        await runtime.send(ref, Struck("x", "error"))
        await asyncio.gather(*adding(runtime, ref, 2))
        await open_ledger(runtime)
        await runtime.settled()
        assert await items(runtime, ref) == [1, 2]
        assert await store.inner.inbox() == []
        (letter,) = await store.inner.dead_letters()
        assert letter.reason == "ValueError"


@quickly
async def test_a_parked_message_that_fails_is_buried_once_also_over_a_failed_write(store):
    async with ledgers(store, batch_max=1, retry_pause_s=0.001) as runtime:
        ref = runtime.ref(Ledger, "x")
        await runtime.send(ref, Struck("x", "error"))
        await runtime.send(ref, Closed("x"))
        store.hold_writes()
        opening = asyncio.create_task(runtime.send(ref, Opened("x")))
        await store.held()
        store.let_through()
        await opening
        await store.held()  # the dead letter
        store.fail_writes()
        store.release()
        assert (await runtime.send(ref, Added("x", 1))).outcome is Outcome.FINISHED
        assert len(await store.inner.dead_letters()) == 1
        assert [row.sequence_nr for row in await store.inner.journal(ref.key)] == [1, 2, 3]
        assert await store.inner.inbox() == []


@quickly
async def test_a_parked_stop_ends_the_instance_as_soon_as_it_starts(store):
    async with ledgers(store) as runtime:
        ref = runtime.ref(Ledger, "x")
        await asyncio.gather(*adding(runtime, ref, 1))
        assert (await runtime.send(ref, Closed("x"))).outcome is Outcome.PARKED
        await asyncio.gather(*adding(runtime, ref, 2))
        await open_ledger(runtime)
        await runtime.settled()
        view = await runtime.state(ref)
        assert view is not None
        assert (view.status, view.state.items, view.sequence_nr) == (Status.COMPLETED, (1,), 4)


@quickly
async def test_a_stop_reaches_a_passive_instance(store):
    async with ledgers(store) as runtime:
        ref = await open_ledger(runtime)
        ref.stop(block=False)
        receipt = await runtime.send(ref, Closed("x"))
        assert (receipt.outcome, receipt.reply) == (Outcome.APPLIED, "closed with 0")
        assert [v.status async for v in runtime.instances(Ledger)] == [Status.COMPLETED]


@pytest.mark.parametrize("written", [False, True], ids=["before", "after the commit"])
@quickly
async def test_parking_and_unparking_survive_failed_writes(store, written):
    async with ledgers(store, retry_pause_s=0.001) as runtime:
        ref = runtime.ref(Ledger, "x")
        store.fail_writes(after_commit=written)
        parked = await asyncio.gather(*adding(runtime, ref, 1, 2, 3))
        assert {r.outcome for r in parked} == {Outcome.PARKED}
        store.fail_writes(after_commit=written)
        opening = asyncio.create_task(runtime.send(ref, Opened("x")))
        receipts = await asyncio.gather(opening, *adding(runtime, ref, 4, 5))
        assert {r.outcome for r in receipts} == {Outcome.APPLIED}
        assert await items(runtime, ref) == [1, 2, 3, 4, 5]
        assert await store.inner.inbox() == []


@quickly
async def test_other_policies_forget_answer_or_start(store):
    async with Runtime(store, [Ignoring, Starting, Replying]) as runtime:
        for saga, outcome, reply in (
            (Ignoring, Outcome.MISSING, None),
            (Replying, Outcome.MISSING, "nobody here"),
            (Starting, Outcome.APPLIED, 1),
        ):
            ref = runtime.ref(saga, "x")
            receipt = await runtime.send(ref, Added("x", 2))
            assert (receipt.outcome, receipt.reply) == (outcome, reply)
            await runtime.send(ref, Opened("x"))
            await runtime.send(ref, Added("x", 4))
        assert await items(runtime, runtime.ref(Ignoring, "x")) == [4]
        assert await items(runtime, runtime.ref(Replying, "x")) == [4]
        assert await items(runtime, runtime.ref(Starting, "x")) == [2, 4]
        assert await store.inner.inbox() == []
