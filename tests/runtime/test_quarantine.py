"""An instance that is set aside: listed, its messages kept in order, nobody else touched, released.

Which failures lead to it is in ``test_supervision.py``; damaged rows in ``test_rehydration.py``.
"""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from perdure import (
    Fixed,
    MemoryStore,
    Outcome,
    QuarantinedInstance,
    Runtime,
    SqlStore,
    Status,
    continues,
    starts,
)
from perdure.core.commit import InboxReason, QuarantineRow, Settlement
from perdure.errors import (
    CorruptRecord,
    HandlerFailed,
    InstanceQuarantined,
    MailboxFull,
    OutcomeUnknown,
    RuntimeNotRunning,
    StoreError,
    StoreUnavailable,
    UnknownSaga,
)
from perdure.store.protocol import Store
from perdure.testing import FaultyStore, SimulatedClock
from tests.runtime.frail import (
    TRIED,
    Born,
    Frail,
    Hit,
    Quarantined,
    Restarted,
    born,
    frail,
    hit,
    quarantined,
    seen,
)
from tests.runtime.mortal import FATES, MortalStore, again, live
from tests.runtime.passing import PassingClock
from tests.runtime.support import FreeClock, parts, quickly, reopened, rounds

ALWAYS = 10**6


@pytest.fixture(autouse=True)
def _nothing_tried():
    TRIED.clear()


def seconds(n: float) -> timedelta:
    return timedelta(seconds=n)


async def aside(runtime: Runtime, fails: int = 1, id: str = "x") -> Any:
    """An instance that is quarantined, by message 1."""
    ref = await born(runtime, Quarantined, id)
    assert await hit(runtime, ref, 1, fails=fails) is Outcome.HELD
    return ref


async def passing(clock: SimulatedClock, work: asyncio.Future[Any]) -> Any:
    """Let time pass until it is done: something waits for its next try."""
    while not work.done():
        await rounds()
        await clock.advance(seconds(1))
    return await work


async def waiting(store: FaultyStore) -> list[tuple[str, InboxReason]]:
    return [(row.message_id, row.reason) for row in await store.inner.inbox()]


# -- held, listed, released


@quickly
async def test_who_is_quarantined_is_listed_with_the_reason_and_the_count(store, clock):
    async with frail(store, clock, Quarantined, Frail) as runtime:
        assert await quarantined(runtime) == []
        other = await born(runtime, Frail)
        refs = [await aside(runtime, id=id) for id in ("b", "a", "c")]
        await clock.advance(seconds(5))
        await hit(runtime, refs[1], 2)
        first, *rest = [one async for one in runtime.quarantined(Quarantined)]
        assert first == QuarantinedInstance(
            "Quarantined", "a", "failed", "ValueError: shaken", clock.now - seconds(5), 2
        )
        assert [one.correlation_id for one in rest] == ["b", "c"]
        assert await quarantined(runtime, "Frail") == []
        assert runtime.ref_to(first) == refs[1]
        with pytest.raises(UnknownSaga):
            runtime.quarantined("Nobody")
        assert await hit(runtime, other, 1) is Outcome.APPLIED
        assert runtime.residents == 1


@quickly
async def test_messages_are_held_in_order_and_have_their_turns_after_the_release(store, clock):
    async with frail(store, clock, Quarantined) as runtime:
        ref = await born(runtime, Quarantined)
        outcomes = await asyncio.gather(
            *(hit(runtime, ref, n, fails=int(n == 3)) for n in range(1, 7))
        )
        assert outcomes == [Outcome.APPLIED] * 2 + [Outcome.HELD] * 4
        assert await hit(runtime, ref, 7) is Outcome.HELD
        assert await ref.ask(Hit("x", 8), block=False) is None
        ref.tell(Hit("x", 9))
        await runtime.settled()
        assert [reason for _, reason in await waiting(store)] == [InboxReason.HELD] * 7
        assert await runtime.release(ref) is True
        assert await hit(runtime, ref, 10) is Outcome.APPLIED
        assert await seen(runtime, ref) == tuple(range(1, 11))
        assert await waiting(store) == []
        assert await store.inner.dead_letters() == []
        assert await store.inner.quarantines() == []


@pytest.mark.parametrize("released_by", ["this runtime", "the next one"])
@quickly
async def test_a_quarantine_outlives_its_runtime(store, clock, released_by):
    living = store
    async with frail(living, clock, Quarantined) as runtime:
        ref = await aside(runtime)
        await hit(runtime, ref, 2)
    for n in (3, 4, 5):
        living = reopened(living)
        async with frail(living, clock, Quarantined) as runtime:
            ref = runtime.ref(Quarantined, "x")
            assert await quarantined(runtime) == [("x", "failed", n - 1)]
            assert await hit(runtime, ref, n) is Outcome.HELD
            await clock.advance(seconds(100))
            assert TRIED["x/1"] == 1
            if n == 5 and released_by == "this runtime":
                await runtime.release(ref)
    living = reopened(living)
    async with frail(living, clock, Quarantined) as runtime:
        ref = runtime.ref(Quarantined, "x")
        assert await runtime.release(ref) is (released_by == "the next one")
        await runtime.settled()
        assert await seen(runtime, ref) == (1, 2, 3, 4, 5)
        assert await quarantined(runtime) == []


@quickly
async def test_a_release_is_given_once(store, clock):
    async with frail(store, clock, Quarantined) as runtime:
        ref = await aside(runtime)
        both = await asyncio.gather(runtime.release(ref), runtime.release(ref))
        assert list(both) == [True, True]
        assert await runtime.release(ref) is False
        assert await runtime.release(runtime.ref(Quarantined, "nobody")) is False
        await runtime.settled()
        assert TRIED["x/1"] == 2
        assert await seen(runtime, ref) == (1,)


@quickly
async def test_what_fails_again_is_set_aside_again_first_in_order(store, clock):
    async with frail(store, clock, Quarantined) as runtime:
        ref = await aside(runtime, fails=3)
        await hit(runtime, ref, 2)
        for attempts in (2, 3):
            await runtime.release(ref)
            await runtime.settled()
            assert TRIED["x/1"] == attempts
            assert await quarantined(runtime) == [("x", "failed", 2)]
            assert [id for id, _ in await waiting(store)] == ["m-1", "m-2"]
        await runtime.release(ref)
        await runtime.settled()
        assert await seen(runtime, ref) == (1, 2)


async def senders(runtime: Runtime, ref: Any, first: int, last: int, **how: Any) -> list[Any]:
    """Messages sent one after the other, by senders of whom some wait for room."""
    sending = []
    for n in range(first, last + 1):
        sending.append(asyncio.ensure_future(hit(runtime, ref, n, **(how if n == first else {}))))
    await rounds()
    return sending


@pytest.mark.parametrize("comes", ["first", "later"])
@quickly
async def test_who_waits_for_room_is_held_behind_those_that_are_in(store, clock, comes):
    async with frail(store, clock, Quarantined, mailbox_max=3) as runtime:
        ref = await born(runtime, Quarantined)
        if comes == "later":
            await hit(runtime, ref, 0)
        store.hold_writes()
        sending = await senders(runtime, ref, 1, 8, fails=1)
        store.release()
        assert set(await asyncio.gather(*sending)) == {Outcome.HELD}
        assert [id for id, _ in await waiting(store)] == [f"m-{n}" for n in range(1, 9)]
        await runtime.release(ref)
        await runtime.settled()
        assert (await seen(runtime, ref))[-8:] == tuple(range(1, 9))


def breaking(store: FaultyStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Loads of an instance say that its rows are damaged, until the list is emptied."""
    damaged, load = ["damaged"], store.load

    async def loading(keys):
        found = await load(keys)
        for one in found if damaged else ():
            one.corrupt = CorruptRecord("damaged", saga="?", correlation_id="x")
        return found

    monkeypatch.setattr(store, "load", loading)
    return damaged


@pytest.mark.parametrize("brings", ["deadline", "wake-up"])
@quickly
async def test_what_time_brings_makes_room_for_nobody_before_those_that_are_in(
    store, monkeypatch, brings
):
    clock = FreeClock()
    async with frail(store, clock, Delayed, mailbox_max=3) as runtime:
        ref = await born(runtime, Delayed)
        if brings == "deadline":
            await hit(runtime, ref, 0, at="deadline")
        else:
            assert await hit(runtime, ref, 0, fails=9) is Outcome.DELAYED
        parts(runtime).supervisor.passivate(ref.key)
        breaking(store, monkeypatch)
        store.hold_loads()
        await clock.advance(seconds(10))
        sending = await senders(runtime, ref, 1, 6)
        store.release()
        assert set(await asyncio.gather(*sending)) == {Outcome.HELD}
        held = [id for id, _ in await waiting(store) if id != "m-0"]
        assert held == [f"m-{n}" for n in range(1, 7)]


@quickly
async def test_a_deadline_behind_the_message_that_failed_makes_room_for_nobody(store):
    clock = FreeClock()
    async with frail(store, clock, Quarantined, mailbox_max=4) as runtime:
        ref = await born(runtime, Quarantined)
        await hit(runtime, ref, 0, at="deadline")
        store.hold_writes()
        sending = await senders(runtime, ref, 1, 1, fails=1)
        await clock.advance(seconds(1))
        sending += await senders(runtime, ref, 2, 8)
        store.release()
        assert set(await asyncio.gather(*sending)) == {Outcome.HELD}
        assert [id for id, _ in await waiting(store)] == [f"m-{n}" for n in range(1, 9)]


@quickly
async def test_what_a_lost_commit_left_open_revives_nobody_who_is_set_aside(store, monkeypatch):
    clock = FreeClock()
    async with frail(store, clock, Frail) as runtime:
        ref = await born(runtime, Frail)
        store.fail_writes(1, after_commit=True)
        store.fail_loads(1)
        lost = asyncio.ensure_future(hit(runtime, ref, 1))
        while not lost.done():
            await rounds()
            await clock.advance(seconds(0.011))
        with pytest.raises(OutcomeUnknown):
            await lost
        damaged = breaking(store, monkeypatch)
        assert await hit(runtime, ref, 2) is Outcome.HELD
        damaged.clear()  # mended; nobody has released it
        for _ in range(5):
            await clock.advance(seconds(1))
            await rounds()
        assert runtime.residents == 0
        assert await quarantined(runtime) == [("x", "corrupt", 1)]
        await runtime.release(ref)
        await runtime.settled()
        assert await seen(runtime, ref) == (1, 2)


@quickly
async def test_a_duplicate_is_held_once_and_dropped_without_a_dead_letter(store, clock):
    async with frail(store, clock, Quarantined) as runtime:
        ref = await born(runtime, Quarantined)
        await hit(runtime, ref, 0)
        await hit(runtime, ref, 1, fails=1)
        for n in (0, 2, 2, 0, 1):
            assert await hit(runtime, ref, n) is Outcome.HELD
        assert [id for id, _ in await waiting(store)] == ["m-1", "m-0", "m-2"]
        assert await quarantined(runtime) == [("x", "failed", 3)]
        await runtime.release(ref)
        await runtime.settled()
        assert await seen(runtime, ref) == (0, 1, 2)
        assert await waiting(store) == []
        assert await store.inner.dead_letters() == []


@quickly
async def test_many_held_messages_have_their_turns_in_order(store, clock):
    async with frail(store, clock, Quarantined) as runtime:
        ref = await aside(runtime)
        await asyncio.gather(*(hit(runtime, ref, n) for n in range(2, 300)))
        releasing = asyncio.create_task(runtime.release(ref))
        later = asyncio.gather(*(hit(runtime, ref, n) for n in range(300, 350)))
        await releasing
        assert set(await later) <= {Outcome.APPLIED, Outcome.HELD}
        await runtime.settled()
        assert await seen(runtime, ref) == tuple(range(1, 350))


@quickly
async def test_held_messages_are_bounded_and_repeated_ones_take_no_room(store, clock):
    async with frail(store, clock, Quarantined, waiting_max=4) as runtime:
        ref = await aside(runtime)
        for n in (2, 3, 2, 3, 2, 3, 4):
            assert await hit(runtime, ref, n) is Outcome.HELD
        for _ in range(2):
            with pytest.raises(MailboxFull) as caught:
                await hit(runtime, ref, 5)
            assert (caught.value.saga, caught.value.correlation_id) == ("Quarantined", "x")
        ref.tell(Hit("x", 6))
        await runtime.settled()
        assert [one.reason for one in await store.inner.dead_letters()] == ["MailboxFull"]
    async with frail(reopened(store), clock, Quarantined, waiting_max=5) as runtime:
        ref = runtime.ref(Quarantined, "x")
        assert await hit(runtime, ref, 5) is Outcome.HELD
        with pytest.raises(MailboxFull):
            await hit(runtime, ref, 6)
        await runtime.release(ref)
        await runtime.settled()
        assert await seen(runtime, ref) == (1, 2, 3, 4, 5)


# -- what time and work bring


@quickly
async def test_deadlines_stay_armed_do_not_spin_and_fire_after_the_release(store, clock):
    async with frail(store, clock, Quarantined) as runtime:
        ref = await born(runtime, Quarantined)
        await hit(runtime, ref, 7, at="deadline")
        await hit(runtime, ref, 1, fails=1)
        asked = store.queries
        await clock.advance(seconds(1000))
        assert store.queries == asked
        assert len(await store.inner.deadlines()) == 1
    living = reopened(store)
    async with frail(living, clock, Quarantined) as runtime:
        await clock.settle()
        asked = living.queries
        await clock.advance(seconds(1000))
        assert living.queries == asked
        ref = runtime.ref(Quarantined, "x")
        await runtime.release(ref)
        await runtime.settled()
        assert await seen(runtime, ref) == (7, 1)
        assert await living.inner.deadlines() == []


@quickly
async def test_a_deadline_that_is_not_due_yet_fires_after_the_release(store, clock):
    async with frail(store, clock, Quarantined) as runtime:
        ref = await born(runtime, Quarantined)
        await hit(runtime, ref, 7, at="deadline")
        await hit(runtime, ref, 1, fails=1)
        await runtime.release(ref)
        await runtime.settled()
        assert await seen(runtime, ref) == (1,)
        await clock.advance(seconds(1))
        assert await seen(runtime, ref) == (1, 7)


@quickly
async def test_results_are_held_with_the_end_of_their_jobs(store, clock):
    async with frail(store, clock, Quarantined, waiting_max=1) as runtime:
        ref = await born(runtime, Quarantined)
        await runtime.queue("fetching").pause()
        for n in (5, 6):
            await hit(runtime, ref, n, at="result")
        await hit(runtime, ref, 1, fails=1)
        await runtime.queue("fetching").resume()
        await runtime.settled()
        assert await store.inner.outbox() == []
        assert [reason for _, reason in await waiting(store)] == [InboxReason.HELD] * 3
        await runtime.release(ref)
        await runtime.settled()
        assert await seen(runtime, ref) == (1, 5, 6)


class Following(Quarantined):
    """Hears of what another saga publishes."""

    name = "Following"

    @starts(Born, by="id")
    def born(self, state, event, do): ...


class Publishing(Frail):
    name = "Publishing"

    @continues(Hit, by="id")
    def hit(self, state, event, do):
        do.publish(Hit(f"f{event.n}", 100 + event.n))
        do.publish(Hit(f"f{event.n}", 200 + event.n))


@quickly
async def test_published_events_are_held_for_it_and_reach_the_others(store, clock):
    async with frail(store, clock, Publishing, Following, Quarantined) as runtime:
        for saga in (Following, Quarantined):
            ref = await born(runtime, saga, "f1")
            if saga is Following:
                await hit(runtime, ref, 0, fails=1)
        await hit(runtime, await born(runtime, Publishing), 1)
        await runtime.settled()
        assert await store.inner.outbox() == []
        assert await quarantined(runtime) == [("f1", "failed", 3)]
        assert await seen(runtime, runtime.ref(Quarantined, "f1")) == (101, 201)
        await runtime.release(runtime.ref(Following, "f1"))
        await runtime.settled()
        assert await seen(runtime, runtime.ref(Following, "f1")) == (0, 101, 201)


async def set_aside_by_hand(store: FaultyStore, key: str) -> FaultyStore:
    """The rows, with the instance quarantined and nothing held for it."""
    await store.inner.open()
    row = QuarantineRow(key, "failed", "by hand", 0)
    await store.inner.write([Settlement(key, quarantine=row)])
    await store.inner.close()
    return reopened(store)


@quickly
async def test_what_came_due_meanwhile_is_not_forgotten_though_nothing_is_held(store, clock):
    async with frail(store, clock, Delayed) as runtime:
        ref, other = await born(runtime, Delayed), await born(runtime, Delayed, "y")
        await hit(runtime, ref, 7, at="deadline")
        assert await hit(runtime, other, 1, fails=1) is Outcome.DELAYED
        assert await hit(runtime, other, 2) is Outcome.QUEUED
    living = await set_aside_by_hand(await set_aside_by_hand(store, ref.key), other.key)
    async with frail(living, clock, Delayed) as runtime:
        await clock.advance(seconds(100))
        refs = [runtime.ref(Delayed, id) for id in "xy"]
        assert [await seen(runtime, one) for one in refs] == [(), ()]
        for one in refs:
            await runtime.release(one)
        await clock.advance(seconds(0))
        await runtime.settled()
        assert [await seen(runtime, one) for one in refs] == [(7,), (1, 2)]


class Delayed(Quarantined):
    name = "Delayed"
    retry = Fixed(10)


@quickly
async def test_a_redriven_message_waits_for_the_release(store, clock):
    async with frail(store, clock) as runtime:
        ref = await born(runtime, Frail)
        with pytest.raises(HandlerFailed):
            await hit(runtime, ref, 1, fails=1)
    async with frail(await set_aside_by_hand(store, "Frail/x"), clock) as runtime:
        ref = runtime.ref(Frail, "x")
        (letter,) = [one async for one in runtime.dead_letters.list()]
        assert await runtime.dead_letters.redrive(letter.id)
        await runtime.settled()
        assert await quarantined(runtime) == [("x", "failed", 1)]
        assert TRIED["x/1"] == 1
        await runtime.release(ref)
        await runtime.settled()
        assert await seen(runtime, ref) == (1,)


# -- looking at it


@quickly
async def test_looking_works_as_long_as_the_rows_are_sound(store, clock):
    async with frail(store, clock, Quarantined) as runtime:
        ref = await born(runtime, Quarantined)
        await hit(runtime, ref, 1)
        waiter = asyncio.create_task(runtime.result(ref))
        await rounds()
        await hit(runtime, ref, 2, fails=1)
        with pytest.raises(InstanceQuarantined, match="shaken") as caught:
            await waiter
        assert caught.value.remedy
        with pytest.raises(InstanceQuarantined):
            await runtime.result(ref)
        view = await runtime.state(ref)
        assert view is not None
        assert (view.status, view.state.seen) == (Status.RUNNING, (1,))
        assert view.quarantined is not None
        (listed,) = [one async for one in runtime.instances(Quarantined)]
        assert listed == view
        assert [turn.message_id async for turn in runtime.history(ref)][1:] == ["m-1"]
        cancelled = await runtime.cancel(ref, "enough")
        assert cancelled.outcome is Outcome.HELD
        await runtime.release(ref)
        await runtime.settled()
        view = await runtime.state(ref)
        assert view is not None
        assert (view.status, view.state.seen) == (Status.FAILED, (1, 2))
        assert view.quarantined is None


# -- faults


@pytest.mark.parametrize("after_commit", [False, True])
@quickly
async def test_holding_is_tried_again_in_order(store, clock, after_commit):
    async with frail(store, clock, Quarantined) as runtime:
        ref = await aside(runtime)
        store.fail_writes(2, after_commit=after_commit)
        sending = asyncio.gather(*(hit(runtime, ref, n) for n in range(2, 6)))
        await rounds()
        late = asyncio.gather(*(hit(runtime, ref, n) for n in range(6, 9)))
        await passing(clock, asyncio.gather(sending, late))
        assert sending.result() + late.result() == [Outcome.HELD] * 7
        assert [id for id, _ in await waiting(store)] == [f"m-{n}" for n in range(1, 9)]
        await runtime.release(ref)
        await runtime.settled()
        assert await seen(runtime, ref) == tuple(range(1, 9))


@pytest.mark.parametrize("after_commit", [False, True])
@quickly
async def test_a_quarantine_nobody_knows_of_leaves_nothing_behind(store, clock, after_commit):
    """Its commit failed, the message is tried again, and all is well: then so say the rows."""
    async with frail(store, clock, Quarantined) as runtime:
        ref = await born(runtime, Quarantined)
        store.fail_writes(after_commit=after_commit)
        await passing(clock, asyncio.create_task(hit(runtime, ref, 1, fails=1)))
        await runtime.settled()
        assert await seen(runtime, ref) == (1,)
        assert await quarantined(runtime) == []
    async with frail(reopened(store), clock, Quarantined) as runtime:
        assert await quarantined(runtime) == []
        assert await hit(runtime, runtime.ref(Quarantined, "x"), 2) is Outcome.APPLIED


@quickly
async def test_a_sender_is_told_when_the_store_fails_for_good(store, clock):
    async with frail(store, clock, Quarantined) as runtime:
        ref = await aside(runtime)
        store.fail_writes(3)
        with pytest.raises(OutcomeUnknown):
            await passing(clock, asyncio.create_task(hit(runtime, ref, 2)))
        assert await hit(runtime, ref, 3) is Outcome.HELD
        store.fail_reads(operation="inbox_sizes")
        await runtime.release(ref)
        await runtime.settled()
        assert await seen(runtime, ref) == (1, 3)


@quickly
async def test_a_count_that_fails_is_told(store, clock):
    async with frail(store, clock, Quarantined) as runtime:
        ref = await aside(runtime)
        store.fail_reads(operation="inbox_sizes")
        with pytest.raises(StoreUnavailable):
            await hit(runtime, ref, 2)
        assert await hit(runtime, ref, 2) is Outcome.HELD


@quickly
async def test_a_count_that_the_driver_cancels_is_told_and_hinders_no_release(
    store, clock, monkeypatch
):
    async with frail(store, clock, Quarantined) as runtime:
        ref = await aside(runtime)

        async def cancelled(keys):
            raise asyncio.CancelledError

        with monkeypatch.context() as patched:
            patched.setattr(store, "inbox_sizes", cancelled)
            with pytest.raises(StoreUnavailable):
                await hit(runtime, ref, 2)
        assert await hit(runtime, ref, 2) is Outcome.HELD
        await runtime.release(ref)
        await runtime.settled()
        assert await seen(runtime, ref) == (1, 2)


@quickly
async def test_a_release_that_cannot_read_leaves_the_quarantine_as_it_is(store, clock):
    async with frail(store, clock, Quarantined) as runtime:
        ref = await aside(runtime)
        store.fail_loads()
        releasing = asyncio.create_task(runtime.release(ref))
        await rounds()
        sending = asyncio.create_task(hit(runtime, ref, 2))
        with pytest.raises(StoreError):
            await releasing
        assert await sending is Outcome.HELD
        assert await quarantined(runtime) == [("x", "failed", 2)]
        await runtime.release(ref)
        await runtime.settled()
        assert await seen(runtime, ref) == (1, 2)


@pytest.mark.parametrize("after_commit", [False, True])
@quickly
async def test_a_release_whose_write_fails_is_carried_on(store, clock, after_commit):
    async with frail(store, clock, Quarantined) as runtime:
        ref = await aside(runtime)
        await hit(runtime, ref, 2)
        store.fail_writes(after_commit=after_commit)
        assert await passing(clock, asyncio.create_task(runtime.release(ref)))
        await runtime.settled()
        assert await seen(runtime, ref) == (1, 2)
        assert await store.inner.quarantines() == []


@quickly
async def test_a_release_waits_for_what_is_on_its_way_to_the_inbox(store, clock):
    async with frail(store, clock, Quarantined) as runtime:
        ref = await aside(runtime)
        await hit(runtime, ref, 2)
        store.hold_writes()
        sending = asyncio.create_task(hit(runtime, ref, 3))
        await store.held()
        releasing = asyncio.create_task(runtime.release(ref))
        await rounds()
        later = asyncio.create_task(hit(runtime, ref, 4))
        await rounds()
        store.release()
        assert await sending is Outcome.HELD
        assert await releasing
        assert await later is Outcome.APPLIED
        assert await seen(runtime, ref) == (1, 2, 3, 4)
        assert await waiting(store) == []


@quickly
async def test_a_stop_answers_whoever_waits_at_a_quarantine(store, clock):
    async with frail(store, clock, Quarantined, shutdown_timeout_s=0.05) as runtime:
        ref = await aside(runtime)
        store.hold_writes()
        sending = asyncio.create_task(hit(runtime, ref, 2))
        await store.held()
        releasing = asyncio.create_task(runtime.release(ref))
        await rounds()
        stopping = asyncio.create_task(runtime.stop())
        for waiter in (sending, releasing):
            with pytest.raises(RuntimeNotRunning):
                await waiter
        store.release()
        await stopping


@quickly
async def test_a_corrupt_instance_whose_quarantine_cannot_be_written_is_one_all_the_same(
    store, clock
):
    async with frail(store, clock) as runtime:
        await hit(runtime, await born(runtime, Frail), 1)
    spoil(store, "Frail/x")
    living = reopened(store)
    living.fail_writes(4)
    async with frail(living, clock) as runtime:
        ref = runtime.ref(Frail, "x")
        sending = asyncio.gather(hit(runtime, ref, 2), return_exceptions=True)
        await passing(clock, sending)
        await clock.advance(seconds(10))
        await runtime.settled()
        assert len(await quarantined(runtime)) == 1
        assert len(await living.inner.quarantines()) == 1


def spoil(store: FaultyStore, key: str) -> None:
    if isinstance(store.inner, MemoryStore):
        store.inner._journal[key][0].body = b"\xc1"
    else:
        assert isinstance(store.inner, SqlStore)
        with closing(sqlite3.connect(store.inner.path)) as connection, connection:
            change = "UPDATE journal SET body = X'C1' WHERE instance = ? AND sequence_nr = 1"
            assert connection.execute(change, [key]).rowcount == 1


@pytest.mark.parametrize("number", ["X'8004'", "'two'"])
@quickly
async def test_who_cannot_be_written_for_damage_is_set_aside_and_goes_on_when_mended(
    tmp_path, clock, number
):
    """Of a turn behind the snapshot: loading passes it over, the next turn has to follow it."""
    store = FaultyStore(SqlStore(f"sqlite+aiosqlite:///{tmp_path}/store.db"))
    async with frail(store, clock, snapshot_every=3) as runtime:
        ref = await born(runtime, Frail)
        for n in (1, 2, 3):
            await hit(runtime, ref, n)
    change_number(tmp_path / "store.db", "2", number)
    async with frail(reopened(store), clock, snapshot_every=3) as runtime:
        ref = runtime.ref(Frail, "x")
        many = await asyncio.gather(*(hit(runtime, ref, n) for n in (4, 5, 6)))
        assert many == [Outcome.HELD] * 3
        [one] = [one async for one in runtime.quarantined()]
        assert (one.reason, one.held) == ("corrupt", 3)
        assert "journal stands at" in one.error
        assert await runtime.release(ref)  # nothing is mended: the next turn says so
        await runtime.settled()
        assert await quarantined(runtime) == [("x", "corrupt", 3)]
    change_number(tmp_path / "store.db", number, "2")
    async with frail(reopened(store), clock, snapshot_every=3) as runtime:
        ref = runtime.ref(Frail, "x")
        await passing(clock, asyncio.ensure_future(hit(runtime, ref, 7)))
        await runtime.settled()
        assert await quarantined(runtime) == []
        assert await seen(runtime, ref) == (1, 2, 3, 4, 5, 6, 7)


def change_number(path: Any, before: str, after: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        change = f"UPDATE journal SET sequence_nr = {after} WHERE sequence_nr = {before}"
        assert connection.execute(change).rowcount == 1


@quickly
async def test_a_damaged_quarantine_row_does_not_keep_a_runtime_from_starting(tmp_path, clock):
    store = FaultyStore(SqlStore(f"sqlite+aiosqlite:///{tmp_path}/store.db"))
    async with frail(store, clock, Quarantined) as runtime:
        await aside(runtime)
        await born(runtime, Quarantined, "y")
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection, connection:
        connection.execute("UPDATE quarantines SET since_ms = 'long ago'")
    async with frail(reopened(store), clock, Quarantined) as runtime:
        ref = runtime.ref(Quarantined, "x")
        assert await hit(runtime, ref, 2) is Outcome.HELD
        assert await quarantined(runtime) == [("x", "unknown", 2)]
        assert await hit(runtime, runtime.ref(Quarantined, "y"), 2) is Outcome.APPLIED
        assert await runtime.release(ref)
        await runtime.settled()
        assert await seen(runtime, ref) == (1, 2)


@quickly
async def test_an_instance_that_is_set_aside_takes_no_memory_but_its_key(memory, clock):
    async with frail(memory, clock, Quarantined) as runtime:
        ref = await aside(runtime)
        await hit(runtime, ref, 2)
        supervisor = parts(runtime).supervisor
        assert runtime.residents == 0
        assert len(supervisor.restarts) == 0
        assert list(supervisor.quarantine.asides) == [ref.key]


# -- whichever write fails, or is the last of its process


@dataclass
class Story:
    """An instance is set aside, gets mail, and is released; each step may be repeated."""

    store: MortalStore
    saga: type
    clock: PassingClock = field(default_factory=PassingClock)
    seen: tuple[int, ...] = ()
    others: tuple[int, ...] = ()

    def runtime(self) -> Runtime:
        return frail(self.store, self.clock, self.saga)

    async def tell(self, runtime: Runtime) -> None:
        ref, other = runtime.ref(self.saga, "x"), runtime.ref(self.saga, "y")
        during = self.clock.during
        for one in (ref, other):
            born = Born(one.correlation_id)
            await during(runtime.send(one, born, message_id="born"))
        for n in (1, 2, 3, 4):
            await during(hit(runtime, ref, n, fails=BROKEN if n == 2 else 0))
            await during(hit(runtime, other, n))
        await self.clock.advance(timedelta(minutes=5))
        if not MENDED:
            assert len(await quarantined(runtime)) == 1
            MENDED.append(True)
            TRIED["x/2"] = BROKEN
        await during(runtime.release(ref))
        await self.clock.advance(timedelta(minutes=5))
        self.seen, self.others = await seen(runtime, ref), await seen(runtime, other)


BROKEN = 1_000
MENDED: list[bool] = []


@pytest.mark.parametrize("saga", [Quarantined, Restarted])
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize("fate", FATES)
def test_whichever_write_fails_the_story_ends_alike(tmp_path, kind, fate, saga):
    for at in range(1, 60):
        TRIED.clear()
        MENDED.clear()
        inner: Store = MemoryStore()
        if kind == "sqlite":
            url = f"sqlite+aiosqlite:///{tmp_path}/{at}.db"
            inner = SqlStore(url, synchronous="NORMAL")
        story = Story(MortalStore(inner, fate, at), saga)
        was_met = not live(story.runtime, story.store, story.tell) or story.store.writes >= at
        while story.seen == ():
            story.clock.forget()
            story.store = again(story.store)
            live(story.runtime, story.store, story.tell)
        assert story.seen == (1, 2, 3, 4), at
        assert story.others == (1, 2, 3, 4), at
        asyncio.run(nothing_left(again(story.store)))
        if not was_met:
            assert at > 10
            return
    raise AssertionError("the story has more writes than were tried")


async def nothing_left(store: MortalStore) -> None:
    await store.open()
    assert await store.quarantines() == []
    assert await store.inbox() == []
    assert await store.dead_letters() == []
    await store.close()
