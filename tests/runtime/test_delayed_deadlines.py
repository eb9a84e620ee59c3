"""Deadlines whose handler raises await their retry, too, and hold nobody up but messages."""

from __future__ import annotations

import pytest

from perdure import Outcome
from perdure.testing import FaultyStore
from tests.runtime.flaky import begun, flaky, letters, seconds, send
from tests.runtime.support import items, quickly, reopened, view_of
from tests.sagas import (
    TRIED,
    Alarmed,
    Disarmed,
    Flaky,
    Passing,
)


@pytest.fixture(autouse=True)
def _nothing_tried():
    TRIED.clear()


@quickly
async def test_deadlines_are_not_held_back(store, clock):
    async with flaky(store, clock) as runtime:
        ref = await begun(runtime)
        await runtime.send(ref, Alarmed("x", 5))
        await send(runtime, ref, 1, fails=1)
        await send(runtime, ref, 2)
        await clock.advance(seconds(5))
        assert await items(runtime, ref) == [-1]
        await clock.advance(seconds(5))
        assert await items(runtime, ref) == [-1, 1, 2]


@pytest.mark.parametrize("restart", [False, True], ids=["running", "restarted"])
@quickly
async def test_a_deadline_whose_handler_raises_is_tried_again_and_not_fired_anew(
    store, clock, restart
):
    async with flaky(store, clock) as runtime:
        ref = await begun(runtime)
        await runtime.send(ref, Alarmed("x", 5, fails=2))
        await clock.advance(seconds(5))
        assert TRIED["x/late"] == 1
        assert "late" in (await view_of(runtime, ref)).deadlines
        assert len(await store.inner.deadlines()) == 1
        assert await send(runtime, ref, 1) is Outcome.QUEUED
        await clock.advance(seconds(9))
        assert TRIED["x/late"] == 1
    store = reopened(store) if restart else FaultyStore(store.inner)
    async with flaky(store, clock) as runtime:
        ref = runtime.ref(Flaky, "x")
        await clock.settle()
        assert await send(runtime, ref, 2) is Outcome.QUEUED
        assert TRIED["x/late"] == 1
        await clock.advance(seconds(1))
        assert TRIED["x/late"] == 2
        await clock.advance(seconds(10))
        assert await items(runtime, ref) == [-1, 1, 2]
        assert await store.inner.deadlines() == []
        assert await store.inner.inbox() == []


@quickly
async def test_a_deadline_that_fails_for_good_is_gone_with_a_dead_letter(store, clock):
    async with flaky(store, clock) as runtime:
        ref = await begun(runtime)
        await runtime.send(ref, Alarmed("x", 5, fails=9))
        await clock.advance(seconds(5))
        await send(runtime, ref, 1)
        await clock.advance(seconds(10))
    store = reopened(store)
    async with flaky(store, clock) as runtime:
        ref = runtime.ref(Flaky, "x")
        await clock.advance(seconds(10))
        assert await letters(store) == [("perdure.deadline/late/2", "ValueError", 3)]
        assert await store.inner.deadlines() == []
        assert await store.inner.inbox() == []
        assert await items(runtime, ref) == [1]
        outcomes = [entry.outcome async for entry in runtime.history(ref)]
        assert outcomes[2] is Outcome.FAILED


@quickly
async def test_a_delayed_deadline_that_was_cancelled_or_set_anew_does_nothing(store, clock):
    async with flaky(store, clock, Passing) as runtime:
        ref = await begun(runtime, Passing)
        await runtime.send(ref, Alarmed("x", 5, fails=1))
        await clock.advance(seconds(5))
        await runtime.send(ref, Disarmed("x", "late"))
        await clock.advance(seconds(10))
        assert TRIED["x/late"] == 1
        assert await store.inner.inbox() == []
        await runtime.send(ref, Alarmed("x", 5, fails=2))
        await clock.advance(seconds(5))
        await runtime.send(ref, Alarmed("x", 30))
        await clock.advance(seconds(10))
        assert TRIED["x/late"] == 2
        assert "late" in (await view_of(runtime, ref)).deadlines
        await clock.advance(seconds(20))
        assert await items(runtime, ref) == [-1]
        assert await store.inner.inbox() == await store.inner.deadlines() == []
