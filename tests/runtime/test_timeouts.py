"""The timeout of the whole process, reached again and again by a retry policy."""

from __future__ import annotations

from datetime import timedelta

import pytest

from perdure import Runtime, Status, TimeoutReached
from perdure.messages import RetryScheduled
from tests.runtime.support import quickly, reopened, view_of
from tests.sagas import Armed, Closed, Disarmed, Opened, Patient, PatientHandler


def seconds(n: float) -> timedelta:
    return timedelta(seconds=n)


async def opened(runtime, saga=Patient):
    ref = runtime.ref(saga, "x")
    await runtime.send(ref, Opened("x"))
    return ref


@pytest.mark.parametrize("restarts", [False, True])
@quickly
async def test_it_is_reached_as_often_as_the_policy_says_then_the_process_fails(
    store, clock, restarts
):
    start = clock.now.timestamp()
    runtime = Runtime(store, [Patient], clock=clock)
    await runtime.start()
    ref = await opened(runtime)
    for at, expected in [
        (60, ["timeout 0", f"retry 1 at {start + 70:g}"]),
        (70, ["timeout 1", f"retry 2 at {start + 90:g}"]),
    ]:
        await clock.advance(seconds(at - (clock.now.timestamp() - start) - 1))
        before = await view_of(runtime, ref)
        await clock.advance(seconds(1))
        view = await view_of(runtime, ref)
        assert list(view.state.heard[len(before.state.heard) :]) == expected
        assert view.status is Status.RUNNING
        assert list(view.deadlines) == [f"perdure.timeout.{len(view.state.heard) // 2}"]
        if restarts:
            await runtime.stop()
            store = reopened(store)
            runtime = Runtime(store, [Patient], clock=clock)
            await runtime.start()
            ref = runtime.ref(Patient, "x")
    await clock.advance(seconds(20))
    view = await view_of(runtime, ref)
    assert (view.status, view.failure) == (Status.FAILED, "timed out after maximum retries")
    assert view.state.heard[-1] == "timeout 2"
    assert await store.inner.deadlines() == []
    events = [event async for entry in runtime.history(ref) for event in entry.events]
    assert [e.retries for e in events if isinstance(e, TimeoutReached)] == [0, 1, 2]
    assert [e.attempt for e in events if isinstance(e, RetryScheduled)] == [1, 2]
    await runtime.stop()


@quickly
async def test_a_handler_runs_each_time_and_goes_on_after_the_last(store, clock):
    async with Runtime(store, [PatientHandler], clock=clock) as runtime:
        ref = await opened(runtime, PatientHandler)
        await clock.advance(seconds(1_000))
        view = await view_of(runtime, ref)
        assert view.status is Status.RUNNING
        assert sum(heard.startswith("timeout") for heard in view.state.heard) == 3
        assert view.deadlines == {}
        sent = [one.type async for entry in runtime.history(ref) for one in entry.sent]
        assert sent == ["runtime-test.escalated"] * 3


@pytest.mark.parametrize("how", ["completed", "cancelled", "set anew"])
@quickly
async def test_completing_cancelling_or_setting_it_anew_ends_the_retries(store, clock, how):
    async with Runtime(store, [Patient], clock=clock) as runtime:
        ref = await opened(runtime)
        await clock.advance(seconds(61))
        message = {
            "completed": Closed("x"),
            "cancelled": Disarmed("x", "perdure.timeout"),
            "set anew": Armed("x", "perdure.timeout", 500),
        }[how]
        await runtime.send(ref, message)
        deadlines = (await view_of(runtime, ref)).deadlines
        assert list(deadlines) == (["perdure.timeout"] if how == "set anew" else [])
        await clock.advance(seconds(300))
        assert len((await view_of(runtime, ref)).state.heard) == 2
        await clock.advance(seconds(201))
        heard = (await view_of(runtime, ref)).state.heard
        assert len(heard) == (4 if how == "set anew" else 2)
