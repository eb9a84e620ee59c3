"""Deadlines: told once, in order, never early, also to who is passive or was not running."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from perdure import Runtime, Settings, Status, TimeoutReached
from perdure.core.commit import DeadlineRow
from tests.runtime.support import (
    FreeClock,
    in_loop,
    open_ledger,
    parts,
    quickly,
    reopened,
    rounds,
    state_of,
    view_of,
)
from tests.sagas import (
    Added,
    Alarm,
    Armed,
    Closed,
    Disarmed,
    Graceful,
    Ledger,
    Limited,
    Opened,
)


def alarms(store, clock, *sagas, **settings) -> Runtime:
    return Runtime(store, sagas or [Alarm], Settings(**settings), clock=clock)


async def heard(runtime, id="x", saga=Alarm) -> list[str]:
    return list((await state_of(runtime, runtime.ref(saga, id))).heard)


def seconds(n: float) -> timedelta:
    return timedelta(seconds=n)


@quickly
async def test_a_deadline_is_told_once_at_its_time_and_is_gone(store, clock):
    async with alarms(store, clock) as runtime:
        await runtime.publish(Armed("x", "a", 10))
        due = clock.now + seconds(10)
        assert (await view_of(runtime, runtime.ref(Alarm, "x"))).deadlines == {"a": due}
        await clock.advance(seconds(9.999))
        assert await heard(runtime) == []
        await clock.advance(seconds(0.001))
        assert await heard(runtime) == ["a"]
        await clock.advance(timedelta(days=10))
        assert await heard(runtime) == ["a"]
        assert await store.inner.deadlines() == []
        assert (await view_of(runtime, runtime.ref(Alarm, "x"))).deadlines == {}
        turns = [turn async for turn in runtime.history(runtime.ref(Alarm, "x"), after=1)]
        assert [(t.at, t.message.due_at, t.deadlines_cleared) for t in turns] == [(due, due, ["a"])]


@quickly
async def test_no_deadline_is_told_early_also_beside_one_that_is_due(store, clock):
    async with alarms(store, clock) as runtime:
        await runtime.publish(Armed("x", "a", 10))
        await runtime.publish(Armed("x", "b", 10.003))
        await runtime.publish(Armed("y", "b", 10.001))
        await clock.advance(seconds(11))
        for id in "xy":
            turns = [turn async for turn in runtime.history(runtime.ref(Alarm, id))]
            told = [turn for turn in turns if turn.type == "perdure.DeadlineReached"]
            assert [turn.at for turn in told] == [turn.message.due_at for turn in told]


@quickly
async def test_a_deadline_of_the_same_name_replaces_and_cancelling_removes(store, clock):
    async with alarms(store, clock) as runtime:
        await runtime.publish(Armed("x", "a", 10))
        await runtime.publish(Armed("x", "a", 20))
        await runtime.publish(Armed("x", "b", 5))
        await runtime.publish(Disarmed("x", "b"))
        await runtime.publish(Disarmed("x", "never set"))
        await clock.advance(seconds(15))
        assert await heard(runtime) == []
        await runtime.publish(Armed("x", "a", 1))  # earlier than before
        await clock.advance(seconds(2))
        assert await heard(runtime) == ["a"]
        await clock.advance(seconds(60))
        assert await heard(runtime) == ["a"]


@quickly
async def test_what_is_due_comes_before_a_message_in_due_order(store):
    clock = FreeClock()
    async with alarms(store, clock) as runtime:
        await runtime.publish(Armed("x", "b", 2))
        await runtime.publish(Armed("x", "a", 1))
        clock._now_ms += 5_000  # time passes, nobody was woken yet
        (receipt,) = await runtime.publish(Added("x", 7))
        assert receipt.reply == "a,b,7"
        await clock.advance(seconds(1))
        await runtime.settled()
        assert await heard(runtime) == ["a", "b", "7"]


@quickly
async def test_overdue_deadlines_fire_at_the_start_without_any_message(store, clock):
    async with alarms(store, clock) as runtime:
        for n in range(5):
            await runtime.publish(Armed(f"x{n}", "a", 10 + n))
    await clock.advance(timedelta(days=1))
    async with alarms(reopened(store), clock) as runtime:
        await clock.settle()
        for n in range(5):
            assert await heard(runtime, f"x{n}") == ["a"]


@quickly
async def test_an_old_row_that_reports_a_replaced_deadline_does_nothing(store, clock):
    async with alarms(store, clock) as runtime:
        await runtime.publish(Armed("x", "a", 10))
        await runtime.publish(Armed("x", "a", 100))
        deadlines = parts(runtime).supervisor.wakeups._deadlines
        for number in (1, 1, 7):
            deadlines._fire_one(DeadlineRow("Alarm/x", "a", number, 0))
        await runtime.settled()
        assert await heard(runtime) == []
        assert (await view_of(runtime, runtime.ref(Alarm, "x"))).sequence_nr == 2
        await clock.advance(seconds(100))
        assert await heard(runtime) == ["a"]


@quickly
async def test_one_that_arms_itself_again_at_once_takes_one_turn_each_and_lets_others_in(
    store, clock
):
    async with alarms(store, clock) as runtime:
        await runtime.publish(Armed("x", "again", 1))
        clock._now_ms += 1_000
        (receipt,) = await runtime.publish(Added("x", 7))
        assert receipt.reply == "again,7"  # not all five before the message
        await clock.advance(seconds(1))
        await rounds(200)
        await runtime.settled()
        assert await heard(runtime) == ["again", "7", "again", "again", "again"]


@in_loop(110)
async def test_twenty_thousand_at_once_fire_once_each_in_due_order(memory, clock):
    instances, names = 5_000, ["a", "b", "nobody", "handles these"]
    async with alarms(
        memory, clock, deadline_page=1_000, deadlines_in_flight_max=200, residents_max=500
    ) as runtime:
        for start in range(0, instances, 500):
            await asyncio.gather(
                *(
                    runtime.publish(Armed(str(n), name, 3600 + 4 - order))
                    for n in range(start, start + 500)
                    for order, name in enumerate(names)
                )
            )
    again = reopened(memory)
    async with alarms(
        again, clock, deadline_page=1_000, deadlines_in_flight_max=200, residents_max=500
    ) as runtime:
        await clock.advance(timedelta(hours=2))
        await clock.settle()
        assert await again.inner.deadlines() == []
        for n in range(0, instances, 97):
            assert await heard(runtime, str(n)) == ["b", "a"]
            assert (await view_of(runtime, runtime.ref(Alarm, str(n)))).sequence_nr == 8
        assert again.calls["deadlines"] >= 20_000 // 1_000


@quickly
async def test_a_deadline_whose_handler_raises_is_journaled_and_not_tried_again(store, clock):
    async with alarms(store, clock) as runtime:
        await runtime.publish(Armed("x", "bad", 1))
        await runtime.publish(Armed("x", "a", 2))
        await clock.advance(seconds(600))
        turns = [str(t.outcome) async for t in runtime.history(runtime.ref(Alarm, "x"))]
        assert turns == ["applied", "applied", "failed", "applied"]
        assert await heard(runtime) == ["a"]
        (letter,) = await store.inner.dead_letters()
        assert (letter.instance, letter.type) == ("Alarm/x", "perdure.DeadlineReached")
        assert "bad deadline" in letter.error
        assert await store.inner.deadlines() == []
    async with alarms(reopened(store), clock) as runtime:
        await clock.advance(seconds(600))
        assert await heard(runtime) == ["a"]


@quickly
async def test_a_process_that_takes_too_long_fails_or_does_what_it_declares(store, clock):
    async with alarms(store, clock, Limited, Graceful) as runtime:
        await runtime.publish(Opened("x"))
        await clock.advance(timedelta(minutes=59))
        await runtime.publish(Armed("x", "a", 7200))  # does not put it off
        await clock.advance(timedelta(minutes=1))
        failed = await runtime.state(runtime.ref(Limited, "x"))
        assert failed is not None
        assert (failed.status, failed.failure) == (Status.FAILED, "timed out")
        assert failed.deadlines == {}
        graceful = await runtime.state(runtime.ref(Graceful, "x"))
        assert graceful is not None
        assert (graceful.status, graceful.state.heard) == (Status.RUNNING, ("timeout",))
        turns = [t async for t in runtime.history(runtime.ref(Graceful, "x"))]
        assert isinstance(turns[-1].message, TimeoutReached)
        assert [sent.type for sent in turns[-1].sent] == ["runtime-test.escalated"]
        await clock.advance(timedelta(hours=3))
        assert await heard(runtime, "x", Graceful) == ["timeout", "a"]


@quickly
async def test_the_deadlines_of_a_finished_instance_are_gone(store, clock):
    async with alarms(store, clock, Limited) as runtime:
        await runtime.publish(Armed("x", "a", 10))
        assert len(await store.inner.deadlines()) == 2
        await runtime.publish(Closed("x"))
        assert await store.inner.deadlines() == []
        await clock.advance(timedelta(days=1))
        assert (await view_of(runtime, runtime.ref(Limited, "x"))).sequence_nr == 2


@quickly
async def test_ninety_days_with_nobody_awake_and_no_query(store, clock):
    async with alarms(store, clock, idle_after_s=5) as runtime:
        for n in range(3):
            await runtime.publish(Armed(str(n), "a", 90 * 86_400))
        await clock.advance(timedelta(days=1))
        assert runtime.residents == 0
        before = store.queries
        await clock.advance(timedelta(days=88))
        await rounds(200)
        assert store.queries == before
        await clock.advance(timedelta(days=1))
        assert [await heard(runtime, str(n)) for n in range(3)] == [["a"]] * 3


@quickly
async def test_what_is_armed_while_a_page_is_read_is_not_lost(store, clock):
    async with alarms(store, clock, deadline_page=2, deadlines_in_flight_max=2) as runtime:
        await asyncio.gather(*(runtime.publish(Armed(str(n), "a", 10 + n)) for n in range(6)))
    again = reopened(store)
    free = FreeClock(clock.now)
    async with alarms(again, free, deadline_page=2, deadlines_in_flight_max=2) as runtime:
        again.hold_reads()
        await free.advance(seconds(11))
        await again.reads_held()  # the second page was read, its answer is on the way
        await runtime.publish(Armed("new", "a", 0.5))
        await runtime.publish(Armed("3", "a", 50))
        await runtime.publish(Disarmed("2", "a"))
        again.release()
        await runtime.settled()
        await free.advance(seconds(3))
        await runtime.settled()
        assert await heard(runtime, "new") == ["a"]
        assert await heard(runtime, "2") == await heard(runtime, "3") == []
        for _ in range(20):
            await free.advance(seconds(10))
            await runtime.settled()
        assert await heard(runtime, "2") == []
        for n in (0, 1, 3, 4, 5):
            assert await heard(runtime, str(n)) == ["a"]


@quickly
async def test_a_page_that_cannot_be_read_is_read_later(store, clock):
    async with alarms(store, clock, deadline_page=2) as runtime:
        await asyncio.gather(*(runtime.publish(Armed(str(n), "a", 10 + n)) for n in range(6)))
    again = reopened(store)
    async with alarms(again, clock, deadline_page=2) as runtime:
        again.fail_reads(3, operation="deadlines")
        await clock.advance(seconds(60))
        assert [await heard(runtime, str(n)) for n in range(6)] == [["a"]] * 6


@quickly
async def test_a_deadline_whose_instance_cannot_be_loaded_is_told_later(store, clock):
    async with alarms(store, clock) as runtime:
        await runtime.publish(Armed("x", "a", 10))
        runtime.ref(Alarm, "x").stop(block=False)
        store.fail_loads(3)
        await clock.advance(seconds(20))
        assert await heard(runtime) == ["a"]


@quickly
async def test_one_that_is_to_be_told_later_does_not_displace_its_successor(store, clock):
    async with alarms(store, clock) as runtime:
        ref = runtime.ref(Alarm, "x")
        await runtime.publish(Armed("x", "a", 10))
        ref.stop(block=False)
        store.fail_loads()
        await clock.advance(seconds(10))  # fails; will be tried again in a moment
        await runtime.publish(Armed("x", "a", 20))  # tells the due one first, then arms anew
        assert await heard(runtime) == ["a"]
        for _ in range(3):
            await clock.advance(seconds(20))
            await rounds()
        assert await heard(runtime) == ["a", "a"]


@pytest.mark.parametrize("written", [False, True])
@quickly
async def test_a_firing_whose_commit_fails_is_told_once(store, clock, written):
    async with alarms(store, clock) as runtime:
        await runtime.publish(Armed("x", "a", 10))
        store.fail_writes(5, after_commit=written)
        await clock.advance(seconds(30))
        assert await heard(runtime) == ["a"]
        assert [row.sequence_nr for row in await store.inner.journal("Alarm/x")] == [1, 2]
        assert await store.inner.deadlines() == []


@quickly
async def test_a_deadline_set_by_a_turn_whose_outcome_was_unknown_is_told(store, clock):
    async with alarms(store, clock) as runtime:
        await runtime.publish(Armed("x", "b", 5))
        store.fail_writes(after_commit=True)
        arming = asyncio.create_task(runtime.publish(Armed("x", "a", 10)))
        await rounds()
        await clock.advance(seconds(1))
        await arming
        await clock.advance(seconds(20))
        assert await heard(runtime) == ["b", "a"]


@quickly
async def test_deadlines_of_sagas_that_do_not_run_here_are_kept(store, clock):
    async with alarms(store, clock) as runtime:
        for start in range(0, 3_000, 1_000):
            await asyncio.gather(
                *(runtime.publish(Armed(str(n), "a", 10)) for n in range(start, start + 1_000))
            )
    await clock.advance(seconds(60))
    async with alarms(reopened(store), clock, Ledger) as runtime:
        await open_ledger(runtime)
        await clock.advance(seconds(60))
    async with alarms(reopened(store), clock) as runtime:
        await clock.settle()
        assert await heard(runtime, "2999") == ["a"]


@quickly
async def test_a_message_id_that_looks_like_a_deadlines_does_no_harm(store, clock, monkeypatch):
    async with alarms(store, clock) as runtime:
        await runtime.publish(Armed("x", "a", 10))
        try:
            await runtime.publish(Added("x", 1), message_id="perdure.deadline/a/1")
        except Exception as refused:
            assert "perdure.deadline" in str(refused)  # noqa: PT017 - or it is simply applied
        supervisor = parts(runtime).supervisor
        taken = supervisor.wakeups.deadline
        calls = 0

        def limited(*args):
            nonlocal calls
            calls += 1
            assert calls < 100, "the same deadline for ever, in one turn"
            return taken(*args)

        monkeypatch.setattr(supervisor.wakeups, "deadline", limited)
        clock._now_ms += 10_000
        await runtime.publish(Added("x", 2))
        await clock.advance(seconds(1))
        assert "a" in await heard(runtime)


@quickly
async def test_a_deadline_beyond_the_calendar_can_be_looked_at(memory, clock):
    async with alarms(memory, clock) as runtime:
        try:
            await runtime.publish(Armed("x", "a", 8e13))
        except Exception as refused:
            assert type(refused).__module__ == "perdure.errors"  # noqa: PT017
        await runtime.publish(Armed("x", "b", 1))
        assert await runtime.state(runtime.ref(Alarm, "x")) is not None


@quickly
async def test_the_clock_has_told_everything_due_when_it_has_advanced(memory, clock):
    async with alarms(memory, clock) as runtime:
        await runtime.publish(Armed("x", "again", 1))
        await clock.advance(seconds(1))
        assert await heard(runtime) == ["again"] * 5
