"""How much is accepted, and what happens to senders when that is full."""

from __future__ import annotations

import asyncio
import logging
import threading
from datetime import timedelta

import pytest

from perdure import Outcome, Settings, errors
from perdure.core.correlation import VerdictKind
from perdure.messages import Message
from perdure.process_manager import define
from perdure.runtime.delivery import Delivery
from perdure.runtime.instances.admission import Admission
from tests.runtime.support import (
    FreeClock,
    add,
    adding,
    items,
    ledgers,
    open_ledger,
    parts,
    quickly,
    rounds,
    until,
)
from tests.sagas import HANDLED, Added, Ledger


async def finished(tasks) -> list:
    return await asyncio.gather(*tasks, return_exceptions=True)


@quickly
async def test_a_sender_waits_for_room_and_is_refused_after_its_time(memory):
    clock = FreeClock()
    async with ledgers(memory, clock, mailbox_max=2, accept_timeout_s=5) as runtime:
        ref, other = await open_ledger(runtime), await open_ledger(runtime, "y")
        memory.hold_writes()
        accepted = adding(runtime, ref, 1, 2)
        await memory.held()
        waiting = adding(runtime, ref, 3, 4)
        await clock.advance(timedelta(seconds=4.9))
        assert not any(task.done() for task in waiting)
        beside = adding(runtime, other, 1)
        await clock.advance(timedelta(seconds=0.1))
        await rounds()
        for refused in await finished(waiting):
            assert isinstance(refused, errors.MailboxFull)
            assert (refused.saga, refused.correlation_id) == ("Ledger", "x")
            assert refused.remedy
        assert not beside[0].done()
        memory.release()
        await asyncio.gather(*accepted, *beside)
        await add(runtime, ref, 5)
        assert await items(runtime, ref) == [1, 2, 5]
        assert await items(runtime, other) == [1]


@quickly
async def test_waiting_senders_are_served_in_their_order(store):
    async with ledgers(store, mailbox_max=3) as runtime:
        ref = await open_ledger(runtime)
        store.hold_writes()
        tasks = adding(runtime, ref, *range(40))
        await store.held()
        HANDLED.clear()
        await rounds()
        assert len(HANDLED) <= 3
        store.release()
        await asyncio.gather(*tasks)
        assert await items(runtime, ref) == list(range(40))


@quickly
async def test_one_full_instance_leaves_room_to_the_others_until_all_is_full(memory):
    clock = FreeClock()
    async with ledgers(
        memory, clock, mailbox_max=3, in_flight_max=5, accept_timeout_s=5
    ) as runtime:
        refs = [await open_ledger(runtime, str(n)) for n in range(4)]
        HANDLED.clear()
        memory.hold_writes()
        tasks = adding(runtime, refs[0], *range(10))
        await memory.held()
        others = [task for ref in refs[1:] for task in adding(runtime, ref, 1)]
        await until(lambda: len(HANDLED) == 5)
        await rounds()
        assert len(HANDLED) == 5  # three of the first, two of the others; the last one waits
        memory.release()
        await asyncio.gather(*tasks, *others)
        assert await items(runtime, refs[0]) == list(range(10))


@quickly
async def test_a_cancelled_waiter_frees_its_place(memory):
    async with ledgers(memory, mailbox_max=1, in_flight_max=2) as runtime:
        ref, other = await open_ledger(runtime), await open_ledger(runtime, "y")
        memory.hold_writes()
        first = adding(runtime, ref, 1)
        await memory.held()
        waiting = adding(runtime, ref, 2, 3, 4) + adding(runtime, other, 1, 2)
        await rounds()
        for task in (waiting[0], waiting[2], waiting[4]):
            task.cancel()
        await rounds()
        memory.release()
        await asyncio.gather(*first, waiting[1], waiting[3])
        assert await items(runtime, ref) == [1, 3]
        for n in range(5, 9):  # neither too much nor too little room is left
            await asyncio.gather(*adding(runtime, ref, n), *adding(runtime, other, n))
        assert parts(runtime).supervisor.admission.accepted == 0


@pytest.mark.parametrize("before", [True, False])
@quickly
async def test_a_waiter_cancelled_at_the_moment_it_is_refused_leaves_the_count_right(
    memory, before
):
    clock = FreeClock()
    async with ledgers(memory, clock, mailbox_max=1, accept_timeout_s=5) as runtime:
        ref = await open_ledger(runtime)
        memory.hold_writes()
        first = adding(runtime, ref, 1)
        await memory.held()
        waiting = adding(runtime, ref, 2)
        await rounds()
        if before:
            waiting[0].cancel()
        clock._now_ms += 5_000
        for entry in list(clock._wakes):
            if not entry.is_cancelled and entry.at_ms <= clock._now_ms:
                entry.wake()
        waiting[0].cancel()
        await finished(waiting)
        memory.release()
        await asyncio.gather(*first)
        async with asyncio.timeout(2):
            await runtime.settled()
        assert parts(runtime).supervisor.admission.accepted == 0


@quickly
async def test_a_waiter_cancelled_at_the_moment_it_is_let_in_frees_its_place(memory):
    async with ledgers(memory, mailbox_max=1) as runtime:
        ref = await open_ledger(runtime)
        memory.hold_writes()
        first = adding(runtime, ref, 1)
        await memory.held()
        (second,) = adding(runtime, ref, 2)
        third = adding(runtime, ref, 3)
        await rounds()
        first[0].add_done_callback(lambda _: second.cancel())
        memory.release()
        await asyncio.gather(*first, *third)
        await finished([second])
        assert await items(runtime, ref) in ([1, 3], [1, 2, 3])
        assert parts(runtime).supervisor.admission.accepted == 0


@quickly
async def test_a_tell_on_the_loop_that_finds_no_room_raises(memory):
    async with ledgers(memory, mailbox_max=2) as runtime:
        ref = await open_ledger(runtime)
        memory.hold_writes()
        ref.tell(Added("x", 1))
        ref.tell(Added("x", 2))
        with pytest.raises(errors.MailboxFull) as caught:
            ref.tell(Added("x", 3))
        assert caught.value.correlation_id == "x"
        asked = ref.ask(Added("x", 4), block=False)  # an ask waits
        memory.release()
        assert await asked == 3
        assert await items(runtime, ref) == [1, 2, 4]


@quickly
async def test_a_tell_that_was_handed_over_and_finds_no_room_is_a_dead_letter(store):
    clock = FreeClock()
    async with ledgers(store, clock, mailbox_max=1, accept_timeout_s=5) as runtime:
        ref = await open_ledger(runtime)
        store.hold_writes()
        first = adding(runtime, ref, 1)
        await store.held()
        asked: list = []

        def from_thread() -> None:
            ref.tell(Added("x", 2))
            asked.append(ref.ask(Added("x", 3), block=False))

        await asyncio.to_thread(from_thread)
        await rounds()
        await clock.advance(timedelta(seconds=5))
        await rounds()
        with pytest.raises(errors.MailboxFull):
            await asked[0]
        store.release()
        await asyncio.gather(*first)
        await runtime.settled()
        await add(runtime, ref, 4)
        (letter,) = await store.inner.dead_letters()
        assert (letter.reason, letter.instance) == ("MailboxFull", "Ledger/x")
        assert await items(runtime, ref) == [1, 4]


@quickly
async def test_a_thread_blocks_for_room_then_is_refused(memory):
    async with ledgers(memory, mailbox_max=100, in_flight_max=2, accept_timeout_s=0.05) as runtime:
        ref = await open_ledger(runtime)
        raised: list[Exception] = []

        def flood() -> None:
            try:
                for n in range(50):
                    ref.tell(Added("x", n))
            except errors.MailboxFull as error:
                raised.append(error)

        thread = threading.Thread(target=flood)
        thread.start()
        thread.join()  # the loop stands still: nothing is taken over meanwhile
        assert len(raised) == 1
        await rounds()
        await runtime.settled()
        await add(runtime, ref, 99)
        assert await items(runtime, ref) == [0, 1, 99]


@quickly
async def test_everything_sent_is_answered_and_what_is_held_is_bounded(memory):
    clock = FreeClock()
    sent = 5_000
    async with ledgers(
        memory, clock, mailbox_max=20, in_flight_max=50, accept_timeout_s=5
    ) as runtime:
        refs = [await open_ledger(runtime, str(n)) for n in range(10)]
        HANDLED.clear()
        memory.hold_writes()
        tasks = [task for n in range(sent // 10) for r in refs for task in adding(runtime, r, n)]
        await memory.held()
        await rounds()
        assert len(HANDLED) <= 50
        assert parts(runtime).supervisor.admission.accepted == 50
        await clock.advance(timedelta(seconds=5))
        memory.release()
        outcomes = await finished(tasks)
        applied = [one for one in outcomes if not isinstance(one, Exception)]
        refused = [one for one in outcomes if isinstance(one, errors.MailboxFull)]
        assert len(applied) + len(refused) == sent
        assert len(applied) == sum([len(await items(runtime, ref)) for ref in refs]) == 50


@quickly
async def test_what_may_not_wait_for_room_takes_that_of_others(clock):
    delivered: list[Delivery] = []
    admission = Admission(clock, Settings(mailbox_max=2), delivered.append)
    message = Message(None, "t", 1, b"", "m", 0)

    def delivery() -> Delivery:
        return Delivery(define(Ledger), "Ledger/x", message, VerdictKind.CONTINUE)

    counted = [delivery() for _ in range(4)]
    for one in counted:
        admission.count(one)
    assert not admission.enter(delivery())
    places = [admission.queue(delivery()) for _ in range(2)]
    lets_in = []
    for one in counted:
        one.answer(Outcome.APPLIED)
        lets_in.append([place.is_in for place in places])
    assert lets_in == [[False, False], [False, False], [True, False], [True, True]]
    assert delivered == [place.delivery for place in places]


@quickly
async def test_waiting_for_a_retry_with_all_room_taken_does_not_stop_simulated_time(memory, clock):
    async with ledgers(memory, clock, in_flight_max=1, shutdown_timeout_s=0.1) as runtime:
        ref = await open_ledger(runtime)
        memory.fail_writes()
        tasks = adding(runtime, ref, 1, 2)
        await rounds()
        async with asyncio.timeout(2):
            await clock.advance(timedelta(seconds=1))
        await asyncio.gather(*tasks)


@quickly
async def test_counts_stay_right_over_many_failures(memory, caplog):
    caplog.set_level(logging.ERROR)
    async with ledgers(memory, mailbox_max=3, in_flight_max=5, retry_pause_s=0.0005) as runtime:
        refs = [await open_ledger(runtime, str(n)) for n in range(3)]
        for n in range(30):
            memory.fail_writes(1, after_commit=bool(n % 2))
            await asyncio.gather(*(t for ref in refs for t in adding(runtime, ref, n, n + 1000)))
        await runtime.settled()
        assert parts(runtime).supervisor.admission.accepted == 0
        assert parts(runtime).supervisor.admission._depth == {}
        assert [r for r in caplog.records if r.name.startswith("perdure")] == []
