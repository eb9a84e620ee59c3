"""A message whose turn raises is tried again; others wait behind it, and order is kept."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure import MemoryStore, Outcome, Runtime, Status
from perdure.core.commit import InboxReason
from perdure.errors import HandlerFailed
from perdure.testing import SimulatedClock
from tests.effort import times
from tests.runtime.flaky import begun, flaky, letters, reasons, seconds, send
from tests.runtime.support import items, quickly, reopened, view_of
from tests.sagas import (
    TRIED,
    Begun,
    Closed,
    Dropping,
    Flaky,
    Passing,
    Shaky,
)


@pytest.fixture(autouse=True)
def _nothing_tried():
    TRIED.clear()


@quickly
async def test_a_message_that_raises_is_tried_again_and_the_others_wait_in_order(store, clock):
    async with flaky(store, clock) as runtime:
        ref = await begun(runtime)
        assert await send(runtime, ref, 1) is Outcome.APPLIED
        assert await send(runtime, ref, 2, fails=2) is Outcome.DELAYED
        assert await send(runtime, ref, 3) is Outcome.QUEUED
        assert await send(runtime, ref, 4, fails=1) is Outcome.QUEUED
        assert await send(runtime, ref, 5) is Outcome.QUEUED
        assert await reasons(store) == [
            ("m-2", InboxReason.DELAYED, 1),
            ("m-3", InboxReason.QUEUED, 0),
            ("m-4", InboxReason.QUEUED, 0),
            ("m-5", InboxReason.QUEUED, 0),
        ]
        assert await items(runtime, ref) == [1]
        await clock.advance(seconds(9))
        assert TRIED["x/2"] == 1
        await clock.advance(seconds(1))
        assert TRIED["x/2"] == 2
        assert await items(runtime, ref) == [1]
        await clock.advance(seconds(10))
        assert await items(runtime, ref) == [1, 2, 3]
        assert await reasons(store) == [
            ("m-4", InboxReason.DELAYED, 1),
            ("m-5", InboxReason.QUEUED, 0),
        ]
        await clock.advance(seconds(10))
        assert await items(runtime, ref) == [1, 2, 3, 4, 5]
        assert await reasons(store) == []
        again = await runtime.send(ref, Shaky("x", 2, 2), message_id="m-2")
        assert (again.duplicate, again.outcome, again.reply) == (True, Outcome.APPLIED, 2)
        assert await store.inner.dead_letters() == []


@quickly
async def test_the_last_attempt_ends_in_the_dead_letters_and_the_others_go_on(store, clock):
    async with flaky(store, clock) as runtime:
        ref = await begun(runtime)
        assert await send(runtime, ref, 1, fails=9) is Outcome.DELAYED
        assert await send(runtime, ref, 2) is Outcome.QUEUED
        await clock.advance(seconds(10))
        (row, _) = await store.inner.inbox()
        assert (row.attempts, row.error) == (2, "ValueError: shaken")
        await clock.advance(seconds(10))
        assert TRIED["x/1"] == 3
        assert await letters(store) == [("m-1", "ValueError", 3)]
        assert await items(runtime, ref) == [2]
        assert await reasons(store) == []
        await clock.advance(seconds(1000))
        assert TRIED["x/1"] == 3


@quickly
async def test_a_saga_may_let_others_pass(store, clock):
    async with flaky(store, clock, Passing) as runtime:
        ref = await begun(runtime, Passing)
        assert await send(runtime, ref, 1, fails=1) is Outcome.DELAYED
        assert await send(runtime, ref, 2) is Outcome.APPLIED
        await clock.advance(seconds(5))
        assert await send(runtime, ref, 3, fails=1) is Outcome.DELAYED
        await clock.advance(seconds(5))
        assert await items(runtime, ref) == [2, 1]
        await clock.advance(seconds(5))
        assert await items(runtime, ref) == [2, 1, 3]
        assert await reasons(store) == []


@quickly
async def test_what_is_of_no_use_is_not_tried_again_and_everything_else_is(store, clock):
    async with flaky(store, clock) as runtime:
        ref = await begun(runtime)
        with pytest.raises(HandlerFailed):
            await send(runtime, ref, 1, fails=1, why="never")
        assert await letters(store) == [("m-1", "NonRetryable", 1)]
        assert await send(runtime, ref, 2, fails=1, why="effect") is Outcome.DELAYED
        await clock.advance(seconds(10))
        assert await items(runtime, ref) == [2]


@quickly
async def test_an_ask_is_answered_with_none_when_its_message_waits(store, clock):
    async with flaky(store, clock) as runtime:
        ref = await begun(runtime)
        assert await ref.ask(Shaky("x", 1, 1), block=False) is None
        assert await ref.ask(Shaky("x", 2), block=False) is None
        ref.tell(Shaky("x", 3))
        await clock.advance(seconds(10))
        assert await items(runtime, ref) == [1, 2, 3]


@quickly
async def test_a_repeated_message_waits_once_and_is_told_so(store, clock):
    async with flaky(store, clock) as runtime:
        ref = await begun(runtime)
        outcomes = await asyncio.gather(
            *(send(runtime, ref, n, fails) for n, fails in [(1, 1), (2, 0), (1, 1), (2, 0)])
        )
        assert outcomes == [Outcome.DELAYED, Outcome.QUEUED, Outcome.DELAYED, Outcome.QUEUED]
        await clock.advance(seconds(9))
        assert await send(runtime, ref, 1, 1) is Outcome.DELAYED
        assert len(await store.inner.inbox()) == 2
        await clock.advance(seconds(1))
        assert await items(runtime, ref) == [1, 2]
        assert TRIED["x/1"] == 2


@pytest.mark.parametrize("idle", [False, True], ids=["resident", "passive"])
@quickly
async def test_what_waits_outlives_the_process_and_passivation(store, clock, idle):
    async with flaky(store, clock) as runtime:
        ref = await begun(runtime)
        await send(runtime, ref, 1, fails=2)
        await send(runtime, ref, 2)
        if idle:
            ref.stop(block=False)
            assert runtime.residents == 0
            assert await send(runtime, ref, 3) is Outcome.QUEUED
            await clock.advance(seconds(10))
            assert TRIED["x/1"] == 2
    again = reopened(store)
    await clock.advance(seconds(100))
    async with flaky(again, clock) as runtime:
        await clock.settle()
        if not idle:
            assert TRIED["x/1"] == 2
            assert await reasons(again) == [
                ("m-1", InboxReason.DELAYED, 2), ("m-2", InboxReason.QUEUED, 0),
            ]  # fmt: skip
            await clock.advance(seconds(10))
        ref = runtime.ref(Flaky, "x")
        assert await items(runtime, ref) == ([1, 2, 3] if idle else [1, 2])
        assert await again.inner.inbox() == []


@quickly
async def test_a_start_that_raises_waits_the_same_way(store, clock):
    async with flaky(store, clock) as runtime:
        ref = runtime.ref(Flaky, "x")
        assert await send(runtime, ref, 1) is Outcome.PARKED
        assert (await runtime.send(ref, Begun("x", 2))).outcome is Outcome.DELAYED
        assert await send(runtime, ref, 2) is Outcome.QUEUED
        assert await runtime.state(ref) is None
        await clock.advance(seconds(10))
    again = reopened(store)
    async with flaky(again, clock) as runtime:
        ref = runtime.ref(Flaky, "x")
        assert await send(runtime, ref, 3) is Outcome.QUEUED
        await clock.advance(seconds(10))
        assert await items(runtime, ref) == [1, 2, 3]
        assert await again.inner.inbox() == []


@quickly
async def test_a_start_that_fails_for_good_leaves_the_others_parked(store, clock):
    async with flaky(store, clock) as runtime:
        ref = runtime.ref(Flaky, "x")
        assert (await runtime.send(ref, Begun("x", 9), message_id="b")).outcome is Outcome.DELAYED
        assert await send(runtime, ref, 1) is Outcome.QUEUED
        await clock.advance(seconds(20))
        assert await letters(store) == [("b", "ValueError", 3)]
        (row,) = await store.inner.inbox()
        assert (row.reason, row.due_at_ms) == (InboxReason.MISSING, clock.now_ms() + 60_000)
        await begun(runtime, id="x")
        assert TRIED["x/begun"] == 4
        assert await items(runtime, ref) == [1]
        assert await store.inner.inbox() == []


@quickly
async def test_another_start_in_the_queue_begins_where_the_first_has_failed(store, clock):
    async with flaky(store, clock) as runtime:
        ref = runtime.ref(Flaky, "x")
        await runtime.send(ref, Begun("x", 3), message_id="b")
        await send(runtime, ref, 1)
        assert (await runtime.send(ref, Begun("x", 0))).outcome is Outcome.QUEUED
        await send(runtime, ref, 2)
        await clock.advance(seconds(20))
        assert await items(runtime, ref) == [1, 2]
        assert await store.inner.inbox() == []


@quickly
async def test_what_waited_for_a_start_that_failed_is_not_dropped_in_silence(store, clock):
    async with flaky(store, clock, Dropping) as runtime:
        ref = runtime.ref(Dropping, "x")
        assert await send(runtime, ref, 0) is Outcome.MISSING
        await runtime.send(ref, Begun("x", 9), message_id="b")
        assert await send(runtime, ref, 1) is Outcome.QUEUED
        await clock.advance(seconds(20))
        assert await letters(store) == [("b", "ValueError", 3), ("m-1", "missing", 0)]
        assert await store.inner.inbox() == []


@quickly
async def test_parked_messages_behind_one_that_raises_wait_with_it_and_do_not_expire(store, clock):
    async with flaky(store, clock) as runtime:
        ref = runtime.ref(Flaky, "x")
        assert await send(runtime, ref, 1, fails=2) is Outcome.PARKED
        assert await send(runtime, ref, 2) is Outcome.PARKED
        await clock.advance(seconds(55))
        await begun(runtime)
        await runtime.settled()
        assert await reasons(store) == [
            ("m-1", InboxReason.DELAYED, 1),
            ("m-2", InboxReason.MISSING, 0),
        ]
        await clock.advance(seconds(10))
        assert await store.inner.dead_letters() == []
        await clock.advance(seconds(10))
        assert await items(runtime, ref) == [1, 2]
        assert await store.inner.inbox() == []


@quickly
async def test_what_waits_when_the_instance_ends_is_told_to_a_finished_one(store, clock):
    async with flaky(store, clock, Passing) as runtime:
        ref = await begun(runtime, Passing)
        await send(runtime, ref, 1, fails=1)
        await runtime.send(ref, Closed("x"))
        await clock.advance(seconds(10))
        view = await view_of(runtime, ref)
        assert (view.status, view.state.items, TRIED["x/1"]) == (Status.COMPLETED, (), 1)
        assert await store.inner.inbox() == []
        assert await store.inner.dead_letters() == []


@quickly
async def test_jitter_comes_from_the_injected_randomness(store, clock):
    class Spread(Flaky):
        name = "Spread"
        retry = type(Flaky.retry)(10, jitter=0.5)

    async with Runtime(store, [Spread], clock=clock, random=lambda: 0.0) as runtime:
        ref = await begun(runtime, Spread)
        await send(runtime, ref, 1, fails=1)
        (row,) = await store.inner.inbox()
        assert row.due_at_ms == clock.now_ms() + 5_000


moves = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from([0, 0, 3, 10, 25])), min_size=1, max_size=12
)


@given(moves, st.booleans())
@settings(max_examples=times(40), deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_mix_of_failures_gives_what_one_by_one_would_have_given(script, restarts):
    """The state is that of the messages which succeeded in the end, in the order they were sent."""
    TRIED.clear()

    async def run() -> list[int]:
        clock, store = SimulatedClock(), MemoryStore()
        runtime = flaky(store, clock)
        await runtime.start()
        await begun(runtime)
        for n, (fails, pause_s) in enumerate(script):
            await send(runtime, runtime.ref(Flaky, "x"), n, fails)
            await clock.advance(seconds(pause_s))
            if restarts and n % 3 == 2:
                await runtime.stop()
                runtime = flaky(store, clock)
                await runtime.start()
        await clock.advance(seconds(10_000))
        found = await items(runtime, runtime.ref(Flaky, "x"))
        assert await store.inbox() == []
        dead = [letter.message_id for letter in await store.dead_letters()]
        assert dead == [f"m-{n}" for n, (fails, _) in enumerate(script) if fails >= 3]
        await runtime.stop()
        return found

    assert asyncio.run(run()) == [n for n, (fails, _) in enumerate(script) if fails < 3]
