"""What becomes of an instance whose turn has failed for good: strategy by strategy, point by point.

How an instance is quarantined and released is in ``test_quarantine.py``.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import ClassVar

import pytest

from perdure import Exponential, Fixed, Outcome, Runtime, Status, Supervision
from perdure.core.commit import InboxReason
from perdure.errors import (
    Escalated,
    HandlerFailed,
    InstanceFinished,
    RuntimeNotRunning,
    SagaFailed,
    StoreUnavailable,
)
from perdure.runtime.jobs.dispatcher import Dispatcher
from perdure.testing import SimulatedClock
from tests.runtime.frail import (
    POINTS,
    TRIED,
    Born,
    Escalating,
    Frail,
    Hit,
    Quarantined,
    Restarted,
    Stopped,
    born,
    frail,
    hit,
    quarantined,
    seen,
)
from tests.runtime.support import parts, quickly, reopened, rounds, view_of

ALWAYS = 10**6


@pytest.fixture(autouse=True)
def _nothing_tried():
    TRIED.clear()


def seconds(n: float) -> timedelta:
    return timedelta(seconds=n)


async def strike(runtime, ref, at, fails, n=1):
    """Have turn ``n`` fail at the point, also if that comes later; what its sender was told."""
    try:
        return await hit(runtime, ref, n, at=at, fails=fails)
    except HandlerFailed:
        return HandlerFailed


async def letters(store):
    return [(one.reason, one.attempts) for one in await store.inner.dead_letters()]


async def waiting(store):
    return [(row.reason, row.attempts) for row in await store.inner.inbox()]


# -- the matrix


@pytest.mark.parametrize("at", POINTS)
@quickly
async def test_resume_makes_a_dead_letter_and_lets_the_instance_live(store, clock, at):
    async with frail(store, clock) as runtime:
        ref, other = await born(runtime, Frail), await born(runtime, Frail, "y")
        told = await strike(runtime, ref, at, ALWAYS)
        assert told is (HandlerFailed if at in ("handle", "apply") else Outcome.APPLIED)
        await clock.advance(seconds(100))
        assert TRIED["x/1"] == 1
        assert await letters(store) == [("ValueError", 1)]
        assert await hit(runtime, ref, 2) is Outcome.APPLIED
        assert await seen(runtime, ref) == (2,)
        assert await hit(runtime, other, 3) is Outcome.APPLIED
        assert await quarantined(runtime) == []


@pytest.mark.parametrize("at", POINTS)
@quickly
async def test_restart_tries_again_first_after_each_pause(store, clock, at):
    async with frail(store, clock, Restarted) as runtime:
        ref, other = await born(runtime, Restarted), await born(runtime, Restarted, "y")
        told = await strike(runtime, ref, at, 3)
        assert told is (Outcome.DELAYED if at in ("handle", "apply") else Outcome.APPLIED)
        await clock.advance(seconds(1))  # the deadline is reached, the result is there
        await runtime.settled()
        assert TRIED["x/1"] == 1
        assert await waiting(store) == [(InboxReason.DELAYED, 1)]
        assert await hit(runtime, ref, 2) is Outcome.QUEUED
        assert await hit(runtime, other, 3) is Outcome.APPLIED
        for attempts in (2, 3):
            await clock.advance(seconds(8.9))
            assert TRIED["x/1"] == attempts - 1
            await clock.advance(seconds(1.1))
            assert TRIED["x/1"] == attempts
            assert await seen(runtime, ref) == ()
        await clock.advance(seconds(10))
        assert TRIED["x/1"] == 4
        assert await seen(runtime, ref) == (1, 2)
        assert await waiting(store) == []
        assert await letters(store) == []
        assert await quarantined(runtime) == []


@pytest.mark.parametrize("at", POINTS)
@quickly
async def test_restarts_end_in_a_quarantine(store, clock, at):
    async with frail(store, clock, Restarted) as runtime:
        ref, other = await born(runtime, Restarted), await born(runtime, Restarted, "y")
        await strike(runtime, ref, at, ALWAYS)
        await clock.advance(seconds(1))
        assert await hit(runtime, ref, 2) is Outcome.QUEUED
        await clock.advance(seconds(100))
        assert TRIED["x/1"] == 4  # the first attempt and three restarts
        assert await quarantined(runtime) == [("x", "restarts", 2)]
        assert await waiting(store) == [(InboxReason.HELD, 4), (InboxReason.QUEUED, 0)]
        assert await letters(store) == []
        assert await hit(runtime, ref, 4) is Outcome.HELD
        assert await hit(runtime, other, 3) is Outcome.APPLIED


@pytest.mark.parametrize("at", POINTS)
@quickly
async def test_stop_ends_the_instance_with_its_dead_letter(store, clock, at):
    async with frail(store, clock, Stopped) as runtime:
        ref, other = await born(runtime, Stopped), await born(runtime, Stopped, "y")
        await hit(runtime, ref, 9, at="deadline", fails=0)
        if at == "deadline":
            await clock.advance(seconds(2))
        writes = store.writes
        told = await strike(runtime, ref, at, ALWAYS)
        assert told is (HandlerFailed if at in ("handle", "apply") else Outcome.APPLIED)
        await clock.advance(seconds(100))
        assert TRIED["x/1"] == 1
        if at == "handle":
            assert store.writes == writes + 1
        view = await view_of(runtime, ref)
        assert (view.status, view.failure) == (Status.FAILED, "ValueError: shaken")
        assert view.deadlines == {}
        assert await store.inner.deadlines() == []
        assert await letters(store) == [("ValueError", 1)]
        with pytest.raises(SagaFailed, match="shaken"):
            await runtime.result(ref)
        assert await hit(runtime, ref, 2) is Outcome.FINISHED
        assert await hit(runtime, other, 3) is Outcome.APPLIED
        assert await store.inner.outbox() == []
    async with frail(reopened(store), clock, Stopped) as runtime:  # as the journal has it
        again = await view_of(runtime, runtime.ref(Stopped, "x"))
        assert (again.status, again.failure) == (view.status, view.failure)
        assert (again.state, again.deadlines) == (view.state, view.deadlines)


@pytest.mark.parametrize("at", POINTS)
@quickly
async def test_quarantine_sets_the_instance_aside_at_once(store, clock, at):
    async with frail(store, clock, Quarantined) as runtime:
        ref, other = await born(runtime, Quarantined), await born(runtime, Quarantined, "y")
        told = await strike(runtime, ref, at, 1)
        assert told is (Outcome.HELD if at in ("handle", "apply") else Outcome.APPLIED)
        await clock.advance(seconds(1))
        await runtime.settled()
        assert TRIED["x/1"] == 1
        assert await quarantined(runtime) == [("x", "failed", 1)]
        assert await waiting(store) == [(InboxReason.HELD, 1)]
        assert await store.inner.outbox() == []  # the job whose result is held has ended
        assert await hit(runtime, ref, 2) is Outcome.HELD
        assert await hit(runtime, other, 3) is Outcome.APPLIED
        assert await runtime.release(ref)
        await runtime.settled()
        assert TRIED["x/1"] == 2
        assert await seen(runtime, ref) == (1, 2)
        assert await waiting(store) == []
        assert await quarantined(runtime) == []
        assert await store.inner.deadlines() == []


@pytest.mark.parametrize("at", POINTS)
@quickly
async def test_escalate_stops_the_runtime_and_loses_nothing(store, at):
    clock = SimulatedClock()

    async def serve() -> None:
        async with frail(store, clock, Escalating) as runtime:
            ref = await born(runtime, Escalating)
            told = await strike(runtime, ref, at, 1)
            assert told is (Outcome.DELAYED if at in ("handle", "apply") else Outcome.APPLIED)
            if at == "deadline":
                await clock.advance(seconds(1))
            with pytest.raises(Escalated):
                await runtime.stopped()
            await hit(runtime, ref, 2)  # which is refused

    with pytest.raises(Escalated, match="shaken") as caught:
        await serve()
    error = caught.value
    assert (error.saga, error.correlation_id) == ("Escalating", "x")
    assert error.remedy
    assert isinstance(error.__cause__, ValueError)
    assert isinstance(error.__context__, RuntimeNotRunning)
    assert TRIED["x/1"] == 1
    again = reopened(store)
    async with frail(again, clock, Escalating) as runtime:
        await clock.advance(seconds(1))
        await runtime.settled()
        assert TRIED["x/1"] == 2
        assert await seen(runtime, runtime.ref(Escalating, "x")) == (1,)
        assert await waiting(again) == []
        assert await letters(again) == []


class Broken(Restarted):
    """Its applier cannot fold any more what is in the journal."""

    name = "Frail"
    supervision = Supervision.stop()

    def apply(self, state, event, metadata=None):
        if type(event) is Hit and event.n == 1:
            raise ValueError("cannot fold")
        return super().apply(state, event, metadata)


@quickly
async def test_whatever_the_strategy_an_instance_that_cannot_be_folded_is_set_aside(store, clock):
    async with frail(store, clock) as runtime:
        ref, other = await born(runtime, Frail), await born(runtime, Frail, "y")
        await hit(runtime, ref, 1)
    again = reopened(store)
    async with frail(again, clock, Broken) as runtime:
        ref, other = runtime.ref(Broken, "x"), runtime.ref(Broken, "y")
        assert await hit(runtime, ref, 2) is Outcome.HELD
        assert await quarantined(runtime, Broken) == [("x", "replay", 1)]
        assert await hit(runtime, other, 2) is Outcome.APPLIED


# -- corners


class Patient(Restarted):
    """Its own retries come first."""

    name = "Patient"
    retry = Fixed(1, max_attempts=2)
    supervision = Supervision.restart(max_restarts=2, backoff=Fixed(10))


@quickly
async def test_retries_come_before_restarts_and_both_count_in_the_row(store, clock):
    async with frail(store, clock, Patient) as runtime:
        ref = await born(runtime, Patient)
        await strike(runtime, ref, "handle", ALWAYS)
        for pause, attempts in ((1, 2), (10, 3), (10, 4)):
            assert await waiting(store) == [(InboxReason.DELAYED, attempts - 1)]
            await clock.advance(seconds(pause))
            assert TRIED["x/1"] == attempts
        assert await quarantined(runtime) == [("x", "restarts", 1)]


@quickly
async def test_restarts_are_not_endless_however_often_the_process_ends(store, clock):
    living = store
    for _ in range(10):
        async with frail(living, clock, Restarted) as runtime:
            if not TRIED:
                ref = await born(runtime, Restarted)
                await strike(runtime, ref, "handle", ALWAYS)
            await clock.advance(seconds(10))
            found = await quarantined(runtime)
        living = reopened(living)
    assert TRIED["x/1"] == 4
    assert found == [("x", "restarts", 1)]


@quickly
async def test_the_budget_is_the_instance_s_and_within_a_time(store, clock):
    async with frail(store, clock, Restarted) as runtime:
        ref, other = await born(runtime, Restarted), await born(runtime, Restarted, "y")
        for n in (1, 2, 3):
            await strike(runtime, ref, "handle", 1, n)
            await clock.advance(seconds(10))
        assert await seen(runtime, ref) == (1, 2, 3)
        await strike(runtime, other, "handle", 1)
        await clock.advance(seconds(29.9))  # the first of the three restarts still counts
        await strike(runtime, ref, "handle", 1, 4)
        assert await quarantined(runtime) == [("x", "restarts", 1)]
        await runtime.release(ref)
        await clock.advance(seconds(60))
        for n in (5, 6, 7, 8):
            await strike(runtime, ref, "handle", 1, n)
            await clock.advance(seconds(30))
        assert await seen(runtime, ref) == (1, 2, 3, 4, 5, 6, 7, 8)
        assert await quarantined(runtime) == []


@quickly
async def test_a_restarted_instance_is_read_again(store, clock):
    async with frail(store, clock, Restarted) as runtime:
        ref = await born(runtime, Restarted)
        await runtime.settled()
        loads = store.calls["load"]
        await strike(runtime, ref, "handle", 1)
        assert ref.key not in parts(runtime).supervisor.active  # and costs nothing meanwhile
        await clock.advance(seconds(10))
        assert store.calls["load"] == loads + 1
        assert await seen(runtime, ref) == (1,)


@quickly
async def test_mail_behind_a_failure_goes_to_the_next_incarnation_in_order(store, clock):
    async with frail(store, clock, Restarted) as runtime:
        ref = await born(runtime, Restarted)
        outcomes = await asyncio.gather(
            *(hit(runtime, ref, n, fails=2 if n == 3 else 0) for n in range(1, 8))
        )
        assert outcomes == [Outcome.APPLIED] * 2 + [Outcome.DELAYED] + [Outcome.QUEUED] * 4
        await clock.advance(seconds(20))
        assert await seen(runtime, ref) == (1, 2, 3, 4, 5, 6, 7)


@pytest.mark.parametrize(
    ("saga", "told", "after"),
    [(Restarted, Outcome.QUEUED, (1, 2)), (Quarantined, Outcome.HELD, (1, 2))],
)
@quickly
async def test_a_message_behind_a_deadline_that_fails_is_not_lost(store, clock, saga, told, after):
    async with frail(store, clock, saga) as runtime:
        ref = await born(runtime, saga)
        await strike(runtime, ref, "deadline", 1)
        clock._now_ms += 2_000  # it is due, and the timer has not noticed yet
        assert await hit(runtime, ref, 2) is told
        assert TRIED["x/1"] == 1
        await runtime.release(ref)
        await clock.advance(seconds(10))
        assert await seen(runtime, ref) == after


class Passing(Restarted):
    name = "Passing"
    lets_pass = True


@quickly
async def test_a_saga_that_lets_pass_does_so_while_it_is_restarted(store, clock):
    async with frail(store, clock, Passing) as runtime:
        ref = await born(runtime, Passing)
        outcomes = await asyncio.gather(
            *(hit(runtime, ref, n, fails=1 if n == 2 else 0) for n in range(1, 5))
        )
        assert outcomes == [Outcome.APPLIED, Outcome.DELAYED, Outcome.APPLIED, Outcome.APPLIED]
        await clock.advance(seconds(10))
        assert await seen(runtime, ref) == (1, 3, 4, 2)


@pytest.mark.parametrize(
    ("saga", "told", "aside"),
    [
        (Frail, HandlerFailed, False),
        (Restarted, HandlerFailed, False),
        (Stopped, HandlerFailed, False),
        (Quarantined, Outcome.HELD, True),
    ],
)
@quickly
async def test_what_is_hopeless_skips_the_restart_and_no_other_strategy(
    store, clock, saga, told, aside
):
    async with frail(store, clock, saga) as runtime:
        ref = await born(runtime, saga)
        try:
            outcome = await hit(runtime, ref, 1, fails=ALWAYS, is_final=True)
        except HandlerFailed:
            outcome = HandlerFailed
        assert outcome is told
        await clock.advance(seconds(100))
        assert TRIED["x/1"] == 1
        assert bool(await quarantined(runtime)) is aside
        assert len(await letters(store)) == (not aside)
        status = (await view_of(runtime, ref)).status
        assert status is (Status.FAILED if saga is Stopped else Status.RUNNING)


@pytest.mark.parametrize("saga", [Frail, Stopped])
@quickly
async def test_an_instance_that_never_began_is_not_ended(store, clock, saga):
    async with frail(store, clock, saga) as runtime:
        ref = runtime.ref(saga, "x")
        with pytest.raises(HandlerFailed):
            await runtime.send(ref, Born("x", fails=1))
        assert await runtime.state(ref) is None
        assert await letters(store) == [("ValueError", 1)]
        assert (await runtime.send(ref, Born("x", fails=1))).outcome is Outcome.APPLIED


@pytest.mark.parametrize("saga", [Restarted, Quarantined])
@quickly
async def test_an_instance_whose_first_message_fails_can_be_had_later(store, clock, saga):
    async with frail(store, clock, saga) as runtime:
        ref = runtime.ref(saga, "x")
        receipt = await runtime.send(ref, Born("x", fails=1))
        assert receipt.outcome is (Outcome.DELAYED if saga is Restarted else Outcome.HELD)
        assert await runtime.state(ref) is None
        await hit(runtime, ref, 1)
        await runtime.release(ref)
        await clock.advance(seconds(10))
        assert await seen(runtime, ref) == (1,)


@quickly
async def test_a_repeated_message_that_ended_its_instance_is_answered_so(store, clock):
    async with frail(store, clock, Stopped) as runtime:
        ref = await born(runtime, Stopped)
        first, second = await asyncio.gather(
            *(hit(runtime, ref, 1, fails=ALWAYS) for _ in range(2)), return_exceptions=True
        )
        assert isinstance(first, HandlerFailed)
        assert isinstance(second, HandlerFailed)
        again = await runtime.send(ref, Hit("x", 1), message_id="m-1")
        assert (again.outcome, again.duplicate) == (Outcome.FAILED, True)
        assert TRIED["x/1"] == 1
        with pytest.raises(InstanceFinished):
            await runtime.cancel(ref)


@pytest.mark.parametrize("is_passive", [False, True])
@quickly
async def test_the_letter_of_the_message_that_ended_its_instance_is_not_redriven(
    store, clock, is_passive
):
    async with frail(store, clock, Stopped) as runtime:
        ref = await born(runtime, Stopped)
        with pytest.raises(HandlerFailed, match="start another one") as told:
            await hit(runtime, ref, 1, fails=1)
        assert "redrive" not in str(told.value)
        (letter,) = [one async for one in runtime.dead_letters.list()]
        if is_passive:
            assert parts(runtime).supervisor.passivate(ref.key)
        with pytest.raises(InstanceFinished, match="discard the letter"):
            await runtime.dead_letters.redrive(letter.id)
        assert await runtime.dead_letters.redrive_all() == 0
        assert await letters(store) == [("ValueError", 1)]
        assert await waiting(store) == []
        assert await runtime.dead_letters.discard(letter.id)
        assert not await runtime.dead_letters.redrive(letter.id)


@pytest.mark.parametrize("is_passive", [False, True])
@quickly
async def test_a_redriven_message_that_was_sent_anew_leaves_no_row_and_no_letter(
    store, clock, is_passive
):
    async with frail(store, clock, Frail) as runtime:
        ref = await born(runtime, Frail)
        with pytest.raises(HandlerFailed):
            await hit(runtime, ref, 1, fails=1)
        assert await hit(runtime, ref, 1) is Outcome.APPLIED
        if is_passive:
            assert parts(runtime).supervisor.passivate(ref.key)
        assert await runtime.dead_letters.redrive_all() == 1
        await runtime.settled()
        assert await waiting(store) == []
        assert await letters(store) == []
        assert parts(runtime).supervisor.passivate(ref.key)
        assert await hit(runtime, ref, 2) is Outcome.APPLIED
        assert await letters(store) == []
        assert await seen(runtime, ref) == (1, 2)


class Eager(Escalating):
    name = "Eager"
    lets_pass: ClassVar[bool] = True


@pytest.mark.parametrize("saga", [Escalating, Eager])
@quickly
async def test_others_are_answered_when_one_escalates(store, clock, saga):
    runtime = frail(store, clock, saga)
    await runtime.start()
    ref, other = await born(runtime, saga), await born(runtime, saga, "y")
    outcomes = await asyncio.gather(
        *(hit(runtime, ref, n, fails=1 if n == 2 else 0) for n in (1, 2, 3)),
        hit(runtime, other, 1),
    )
    third = Outcome.APPLIED if saga is Eager else Outcome.QUEUED
    assert outcomes == [Outcome.APPLIED, Outcome.DELAYED, third, Outcome.APPLIED]
    with pytest.raises(Escalated):
        await runtime.stopped()
    await runtime.stop()
    async with frail(reopened(store), clock, saga) as runtime:
        await clock.settle()
        await runtime.settled()
        taken = await seen(runtime, runtime.ref(saga, "x"))
        assert taken == ((1, 3, 2) if saga is Eager else (1, 2, 3))


@pytest.mark.parametrize("start", ["slow", "broken"])
@quickly
async def test_an_escalation_while_the_runtime_starts_is_told_as_one(
    store, clock, monkeypatch, start
):
    with pytest.raises(Escalated):
        async with frail(store, clock, Escalating) as runtime:
            await hit(runtime, await born(runtime, Escalating), 1, fails=100)
    begin = Dispatcher.start

    async def later(self, admit):
        await runtime._ending.wait()
        if start == "broken":
            raise StoreUnavailable("not open")
        await begin(self, admit)

    runtime = frail(reopened(store), clock, Escalating)
    monkeypatch.setattr(Dispatcher, "start", later)
    with pytest.raises(Escalated, match="shaken"):
        await runtime.start()
    monkeypatch.undo()
    async with frail(reopened(store), clock) as again:
        await again.settled()


@quickly
async def test_an_error_of_the_service_is_not_hidden_by_an_escalation(store, clock):
    runtime = frail(store, clock, Escalating)

    async def serve() -> None:
        async with runtime:
            ref = await born(runtime, Escalating)
            await strike(runtime, ref, "handle", 1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await serve()
    with pytest.raises(Escalated):
        await runtime.stopped()


def test_a_runtime_that_escalated_may_run_again(memory, clock):
    runtime = frail(memory, clock, Escalating)

    async def serve(fails: int) -> None:
        async with runtime:
            ref = await born(runtime, Escalating)
            await strike(runtime, ref, "handle", fails)
            if fails:
                await runtime.stopped()
            await runtime.settled()
            assert await seen(runtime, ref) == (1,)

    with pytest.raises(Escalated):
        asyncio.run(serve(1))
    asyncio.run(serve(0))


@quickly
async def test_whoever_waits_for_the_stop_waits_for_it_only(store, clock):
    runtime = frail(store, clock)
    async with runtime:
        waiter = asyncio.create_task(runtime.stopped())
        await hit(runtime, await born(runtime, Frail), 1)
        assert not waiter.done()
    await waiter


@quickly
async def test_one_poison_instance_slows_nobody(memory, clock):
    """G13: exactly the configured attempts; nothing is awaited or read for it in between."""
    async with frail(memory, clock, Restarted) as runtime:
        refs = [await born(runtime, Restarted, str(n)) for n in range(200)]
        poisoned = refs[::100]
        for ref in poisoned:
            assert await strike(runtime, ref, "handle", ALWAYS) is Outcome.DELAYED
        reads = memory.queries - memory.writes
        for ref in refs:
            if ref not in poisoned:
                assert await hit(runtime, ref, 2) is Outcome.APPLIED
        assert memory.queries - memory.writes == reads
        await clock.advance(seconds(1000))
        assert [TRIED[f"{ref.correlation_id}/1"] for ref in poisoned] == [4, 4]
        assert len(await quarantined(runtime)) == len(poisoned)


@pytest.mark.parametrize("after_commit", [False, True])
@pytest.mark.parametrize("saga", [Restarted, Stopped, Quarantined])
@quickly
async def test_a_commit_that_fails_does_not_change_the_end(store, clock, saga, after_commit):
    async with frail(store, clock, saga) as runtime:
        ref = await born(runtime, saga)
        store.fail_writes(after_commit=after_commit)
        sending = asyncio.gather(
            hit(runtime, ref, 1, fails=ALWAYS), hit(runtime, ref, 2), return_exceptions=True
        )
        while not sending.done():
            await rounds()
            await clock.advance(seconds(1))
        await clock.advance(seconds(100))
        await runtime.settled()
        first, second = await sending
        if saga is Stopped:
            assert first is Outcome.FAILED or isinstance(first, HandlerFailed)
            assert second is Outcome.FINISHED
            assert len(await letters(store)) == 1
        else:
            assert second in (Outcome.HELD, Outcome.QUEUED)
            [(id, _, held)] = await quarantined(runtime)
            assert (id, held) == ("x", 2)
            assert [row.message_id for row in await store.inner.inbox()] == ["m-1", "m-2"]
            assert await letters(store) == []


@quickly
async def test_pauses_grow_as_the_backoff_says(store, clock):
    class Growing(Frail):
        name = "Growing"
        supervision = Supervision.restart(5, timedelta(hours=1), Exponential(1, factor=3, jitter=0))

    async with frail(store, clock, Growing) as runtime:
        ref = await born(runtime, Growing)
        await strike(runtime, ref, "handle", ALWAYS)
        begun = clock.now_ms()
        pauses = []
        for _ in range(5):
            (row,) = await store.inner.inbox()
            assert row.due_at_ms is not None
            pauses.append(row.due_at_ms - begun)
            begun = row.due_at_ms
            await clock.advance(seconds((row.due_at_ms - clock.now_ms()) / 1000))
        assert pauses == [1_000, 3_000, 9_000, 27_000, 81_000]
        assert await quarantined(runtime) == [("x", "restarts", 1)]


def test_a_runtime_can_be_made_with_every_strategy():
    for saga in (Frail, Restarted, Stopped, Quarantined, Escalating):
        Runtime("memory://", [saga])
