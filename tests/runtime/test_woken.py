"""Messages that have waited come out again: in order, none lost, and the loop is not held up."""

from __future__ import annotations

import asyncio

import pytest

from perdure import Outcome
from perdure.errors import StoreUnavailable
from perdure.runtime.instances import woken
from perdure.runtime.instances.woken import BURST
from tests.runtime.flaky import begun, flaky, letters, reasons, seconds, send
from tests.runtime.support import (
    adding,
    items,
    ledgers,
    parts,
    quickly,
    reopened,
    rounds,
    until,
)
from tests.sagas import HANDLED, TRIED, Begun, Flaky, Ledger, Opened

MANY = 5 * BURST


@pytest.fixture(autouse=True)
def _nothing_tried():
    TRIED.clear()
    HANDLED.clear()


@pytest.mark.parametrize("mailbox_max", [1, 2, 3])
@pytest.mark.parametrize("lost", range(5))
@quickly
async def test_no_sender_that_waits_for_room_overtakes_after_lost_writes(store, mailbox_max, lost):
    """What waits in the inbox leaves its room when its incarnation is lost, before the others."""
    limits = {"mailbox_max": mailbox_max, "batch_max": 1, "write_attempts": 9}
    async with ledgers(store, retry_pause_s=0.0001, **limits) as runtime:
        ref = runtime.ref(Ledger, "x")
        await asyncio.gather(*adding(runtime, ref, 100, 101))
        store.fail_writes(lost)
        opening = asyncio.create_task(runtime.send(ref, Opened("x")))
        await asyncio.gather(opening, *adding(runtime, ref, *range(6)))
        assert await items(runtime, ref) == [100, 101, *range(6)]
        assert await store.inner.inbox() == []


@quickly
async def test_no_sender_overtakes_one_that_was_let_in_before_it(memory):
    """Messages that waited leave their room when their incarnation is lost: for whoever is next."""
    limits = {"mailbox_max": 4, "batch_max": 1, "retry_pause_s": 0.0001}
    async with ledgers(memory, **limits) as runtime:
        ref = runtime.ref(Ledger, "x")
        await asyncio.gather(*adding(runtime, ref, 100, 101))
        memory.hold_writes()
        opening = asyncio.create_task(runtime.send(ref, Opened("x")))
        await memory.held()
        later = adding(runtime, ref, *range(4))
        await rounds()
        assert parts(runtime).supervisor.admission.accepted == 4
        memory.fail_writes()
        memory.release()
        await asyncio.gather(opening, *later)
        assert await items(runtime, ref) == [100, 101, *range(4)]


@pytest.mark.parametrize("written", [False, True], ids=["before", "after the commit"])
@pytest.mark.parametrize("times", [1, 2, 3, 7])
@pytest.mark.parametrize("fails", [1, 2])
@quickly
async def test_a_wake_up_outlives_its_incarnation(store, clock, fails, times, written):
    """The write of a retry fails, maybe more often than is tried again: the moment comes anew."""
    async with flaky(store, clock, retry_pause_s=0.5, write_attempts=3) as runtime:
        ref = await begun(runtime)
        assert await send(runtime, ref, 0, fails=fails) is Outcome.DELAYED
        assert await send(runtime, ref, 1) is Outcome.QUEUED
        store.fail_writes(times, after_commit=written)
        await clock.advance(seconds(10 * fails))
        await clock.advance(seconds(200))
        assert await items(runtime, ref) == [0, 1]
        assert await store.inner.inbox() == []
        assert await letters(store) == []
        assert parts(runtime).supervisor.admission.accepted == 0


@quickly
async def test_a_wake_up_that_has_not_been_taken_goes_to_the_next_incarnation(memory, clock):
    """It came while the instance was read back, and that incarnation is lost as well."""
    async with flaky(memory, clock, retry_pause_s=0.5) as runtime:
        ref = await begun(runtime)
        assert await send(runtime, ref, 0, fails=1) is Outcome.DELAYED
        ref.stop(block=False)
        assert runtime.residents == 0
        memory.hold_loads()
        queued = asyncio.create_task(send(runtime, ref, 1))
        await rounds()
        advancing = asyncio.create_task(clock.advance(seconds(10)))
        await rounds()
        memory.fail_writes(2)
        memory.release()
        await advancing
        await clock.advance(seconds(5))
        assert await queued in (Outcome.QUEUED, Outcome.APPLIED)
        assert await items(runtime, ref) == [0, 1]
        assert await reasons(memory) == []


@quickly
async def test_others_have_the_loop_while_many_that_waited_have_their_turns(memory):
    async with ledgers(memory) as runtime:
        ref = runtime.ref(Ledger, "x")
        await asyncio.gather(*adding(runtime, ref, *range(MANY)))
        memory.hold_writes()
        opening = asyncio.create_task(runtime.send(ref, Opened("x")))
        later = adding(runtime, ref, MANY, MANY + 1)
        bursts, before = [], 0
        while before < MANY + 3:
            await asyncio.sleep(0)
            bursts.append(len(HANDLED) - before)
            before = len(HANDLED)
            ref.stop(block=False)  # it is at work, also in between
        assert max(bursts) == BURST + 1  # the start, too
        assert runtime.residents == 1
        memory.release()
        assert [(await one).outcome for one in [opening, *later]] == [Outcome.APPLIED] * 3
        assert await items(runtime, ref) == list(range(MANY + 2))


@pytest.mark.parametrize("how", ["a retry", "a start that is tried again", "a new process"])
@quickly
async def test_many_that_waited_keep_their_order(store, clock, how):
    async with flaky(store, clock) as runtime:
        ref = runtime.ref(Flaky, "x")
        if how == "a start that is tried again":
            assert (await runtime.send(ref, Begun("x", fails=1))).outcome is Outcome.DELAYED
        else:
            await begun(runtime)
        await send(runtime, ref, 0, fails=int(how != "a start that is tried again"))
        await asyncio.gather(*(send(runtime, ref, n) for n in range(1, MANY)))
        assert len(await store.inner.inbox()) >= MANY
    again = reopened(store) if how == "a new process" else store
    async with flaky(again, clock, snapshot_every=50) as runtime:
        ref = runtime.ref(Flaky, "x")
        await clock.advance(seconds(10))
        assert await items(runtime, ref) == list(range(MANY))
        assert await again.inner.inbox() == []


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 4])
@quickly
async def test_an_incarnation_lost_between_two_bursts_loses_nothing(memory, turns):
    async with ledgers(memory, retry_pause_s=0.0001) as runtime:
        ref = runtime.ref(Ledger, "x")
        await asyncio.gather(*adding(runtime, ref, *range(MANY)))
        memory.hold_writes()
        opening = asyncio.create_task(runtime.send(ref, Opened("x")))
        later = adding(runtime, ref, MANY, MANY + 1)
        await until(lambda: len(HANDLED) > turns * BURST)
        lost = parts(runtime).supervisor.active[ref.key]
        lost.on_lost(StoreUnavailable("gone"))
        parts(runtime).services.commit.withdraw_void()
        memory.release()
        assert [(await one).outcome for one in [opening, *later]] == [Outcome.APPLIED] * 3
        await runtime.settled()
        assert await items(runtime, ref) == list(range(MANY + 2))
        assert await memory.inner.inbox() == []
        assert parts(runtime).supervisor.admission._depth == {}


@quickly
async def test_the_mail_of_an_incarnation_waits_for_all_it_finds_in_the_inbox(memory):
    async with ledgers(memory, batch_max=1, retry_pause_s=0.0001) as runtime:
        ref = runtime.ref(Ledger, "x")
        await asyncio.gather(*adding(runtime, ref, *range(MANY)))
        memory.hold_writes()
        opening = asyncio.create_task(runtime.send(ref, Opened("x")))
        await memory.held()
        memory.let_through()
        await opening
        later = adding(runtime, ref, MANY, MANY + 1)
        await memory.held()
        memory.fail_writes()
        memory.release()
        assert [one.outcome for one in await asyncio.gather(*later)] == [Outcome.APPLIED] * 2
        assert await items(runtime, ref) == list(range(MANY + 2))


@pytest.mark.parametrize("fails", [1, 3], ids=["a retry starts it", "another start does"])
@quickly
async def test_a_start_that_waited_takes_no_more_of_the_others_along_at_once(
    memory, clock, caplog, fails
):
    async with flaky(memory, clock, mailbox_max=MANY) as runtime:
        ref = runtime.ref(Flaky, "x")
        await runtime.send(ref, Begun("x", fails=fails))
        await runtime.send(ref, Begun("x"))
        await asyncio.gather(*(send(runtime, ref, n) for n in range(MANY)))
        advancing = asyncio.create_task(clock.advance(seconds(10 * min(fails, 2))))
        bursts, before = [], TRIED.total()
        while TRIED.total() < MANY + 2:
            await asyncio.sleep(0)
            bursts.append(TRIED.total() - before)
            before = TRIED.total()
        await advancing
        assert max(bursts) <= BURST + 2  # what failed, the start, a burst
        assert "could not be processed" not in caplog.text
        assert await items(runtime, ref) == list(range(MANY))


@quickly
async def test_the_rest_of_those_that_waited_count_as_accepted(memory):
    async with ledgers(memory) as runtime:
        ref = runtime.ref(Ledger, "x")
        await asyncio.gather(*adding(runtime, ref, *range(MANY)))
        memory.hold_writes()
        opening = asyncio.create_task(runtime.send(ref, Opened("x")))
        await until(lambda: bool(HANDLED))
        assert parts(runtime).supervisor.admission.accepted == 1 + BURST + 1
        memory.release()
        await opening


@quickly
async def test_settled_includes_all_that_waited(memory, monkeypatch):
    monkeypatch.setattr(woken, "BURST", 1)
    async with ledgers(memory) as runtime:
        ref = runtime.ref(Ledger, "x")
        await asyncio.gather(*adding(runtime, ref, *range(30)))
        await runtime.send(ref, Opened("x"))
        await runtime.settled()
        assert len(HANDLED) == 31
