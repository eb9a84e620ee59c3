"""Turns and jobs as linked spans: over retries, failures, passivation, snapshots and restarts."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from perdure import Runtime, Settings
from perdure.errors import HandlerFailed
from perdure.messages import milliseconds_of
from tests.ops.parcels import RAISES, Damaged, Ordered, Parcel, Tough, Weighed, depot
from tests.ops.spans import Traces, attribute, name_of
from tests.runtime.support import quickly, reopened, view_of

HOURS = timedelta(hours=4)


@asynccontextmanager
async def parcels(store, clock, traces, *, saga=Parcel, queue=None, **settings):
    members = [saga, queue or depot()]
    tracing = None if traces is None else traces.tracing
    async with Runtime(
        store, members, Settings(**settings), clock=clock, tracing=tracing
    ) as runtime:
        yield runtime


WHOLE = {
    "parcel/p-1 #1": set(),
    "parcel/p-1/1/0 !1": {("cause", "parcel/p-1 #1")},
    "parcel/p-1 #2": {("cause", "parcel/p-1/1/0 !1"), ("previous", "parcel/p-1 #1")},
    "parcel/p-1 #3": {("previous", "parcel/p-1 #2")},
    "parcel/p-1 #4": {("cause", "parcel/p-1 #1"), ("previous", "parcel/p-1 #3")},
    "parcel/p-1/4/0 !1": {("cause", "parcel/p-1 #4")},
    "parcel/p-1 #5": {("cause", "parcel/p-1/4/0 !1"), ("previous", "parcel/p-1 #4")},
    "parcel/p-1 completed": {("first", "parcel/p-1 #1"), ("last", "parcel/p-1 #5")},
}
"""Started, packed by a worker, weighed from outside, collected by a deadline of turn 1, driven."""


@pytest.mark.parametrize("snapshot_every", [1, 2, 3, 100])
@pytest.mark.parametrize("between", ["nothing", "passivation", "restart"])
@quickly
async def test_the_links_of_a_process_are_the_same_whatever_happens_between(
    store, clock, between, snapshot_every
):
    traces = Traces()
    settings = Settings(snapshot_every=snapshot_every)

    async def started():
        runtime = Runtime(store, [Parcel, depot()], settings, clock=clock, tracing=traces.tracing)
        await runtime.start()
        return runtime

    async def go_on(runtime):
        nonlocal store
        await runtime.settled()
        if between == "passivation":
            runtime.ref(Parcel, "p-1").stop(block=False)
            assert runtime.residents == 0
        elif between == "restart":
            await runtime.stop()
            store = reopened(store)
            return await started()
        return runtime

    runtime = await started()
    await runtime.publish(Ordered("p-1"))
    runtime = await go_on(runtime)
    await runtime.publish(Weighed("p-1"))
    runtime = await go_on(runtime)
    await clock.advance(HOURS)
    await runtime.settled()
    await runtime.stop()
    assert traces.graph() == WHOLE
    trace_ids = [one.context.trace_id for one in traces.ours]
    assert len(set(trace_ids)) == len(trace_ids)
    assert all(one.parent is None for one in traces.ours)
    kinds = {name: one.kind for name, one in traces.named().items()}
    assert kinds.pop("parcel/p-1 completed") is SpanKind.INTERNAL
    assert set(kinds.values()) == {SpanKind.CONSUMER}


@quickly
async def test_a_deadline_knows_who_armed_it_also_in_the_same_incarnation(memory, clock):
    traces = Traces()
    async with parcels(memory, clock, traces, idle_after_s=None) as runtime:
        await runtime.publish(Ordered("p-1"))
        await runtime.settled()
        await runtime.publish(Weighed("p-1"))
        await clock.advance(HOURS)
        await runtime.settled()
    assert traces.graph() == WHOLE


@quickly
async def test_a_span_says_what_the_turn_came_to(memory, clock):
    traces = Traces()
    async with parcels(memory, clock, traces) as runtime:
        await runtime.publish(Ordered("p-1"), message_id="m-1", correlation_id="cart-7")
        await runtime.settled()
    first = traces.named()["parcel/p-1 #1"]
    assert first.name == "parcel ops-test.Ordered"
    expected = {
        "messaging.system": "perdure",
        "messaging.operation.type": "process",
        "messaging.message.id": "m-1",
        "messaging.message.conversation_id": "cart-7",
        "perdure.saga": "parcel",
        "perdure.correlation_id": "p-1",
        "perdure.message_type": "ops-test.Ordered",
        "perdure.attempt": 1,
        "perdure.sequence_nr": 1,
        "perdure.outcome": "applied",
        "perdure.commands": 1,
        "perdure.events": 0,
        "perdure.handling_s": 0.0,
    }
    assert dict(first.attributes or {}) == expected
    assert first.status.status_code is StatusCode.UNSET


@quickly
async def test_a_span_lasts_from_the_handler_to_the_commit_by_the_runtimes_clock(memory, clock):
    traces = Traces()
    async with parcels(memory, clock, traces) as runtime:
        began = milliseconds_of(clock.now) * 1_000_000
        memory.hold_writes()
        sending = asyncio.create_task(runtime.publish(Ordered("p-1")))
        await memory.held()
        assert traces.all == []
        clock._now_ms += 70
        memory.release()
        await sending
        [span] = [one for one in traces.ours if name_of(one).endswith("#1")]
        assert (span.start_time, span.end_time) == (began, began + 70_000_000)


@quickly
async def test_a_message_that_is_tried_again_has_a_span_for_each_attempt(store, clock):
    traces = Traces()
    RAISES[:] = [ValueError("dented"), ValueError("torn")]
    async with parcels(store, clock, traces) as runtime:
        await runtime.publish(Ordered("p-1"))
        await runtime.settled()
        await runtime.publish(Damaged("p-1"))
        for _ in range(3):
            await clock.advance(timedelta(seconds=10))
    graph = traces.graph()
    previous = {("previous", "parcel/p-1 #2")}
    assert graph["parcel/p-1 ops-test.Damaged !1"] == previous
    assert graph["parcel/p-1 ops-test.Damaged !2"] == previous
    assert graph["parcel/p-1 #3"] == previous
    named = traces.named()
    assert attribute(named["parcel/p-1 #3"], "perdure.attempt") == 3
    failed = named["parcel/p-1 ops-test.Damaged !2"]
    assert failed.status.status_code is StatusCode.ERROR
    assert "torn" in (failed.status.description or "")
    [event] = failed.events
    assert (event.name, attribute(event, "exception.type")) == ("exception", "ValueError")
    assert named["parcel/p-1 #3"].status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("error", [ValueError("\ud800"), SystemExit(3), asyncio.CancelledError()])
@quickly
async def test_whatever_a_handler_raises_ends_its_span(memory, clock, error):
    traces = Traces()
    RAISES[:] = [error]
    async with parcels(memory, clock, traces, saga=Tough) as runtime:
        await runtime.publish(Ordered("p-1"))
        await runtime.settled()
        with pytest.raises(HandlerFailed):
            await runtime.publish(Damaged("p-1"))
        await runtime.publish(Weighed("p-1"))
    assert traces.graph()["tough/p-1 #3"] == {("previous", "tough/p-1 #2")}
    span = traces.named()["tough/p-1 ops-test.Damaged !1"]
    assert span.status.status_code is StatusCode.ERROR
    assert [event.name for event in span.events] == ["exception"]


@quickly
async def test_a_failed_turn_that_is_journaled_is_the_previous_one_of_the_next(store, clock):
    traces = Traces()
    RAISES[:] = [ValueError("no van")]
    async with parcels(store, clock, traces, saga=Tough) as runtime:
        await runtime.publish(Ordered("p-1"))
        await runtime.settled()
        await clock.advance(HOURS)
        await runtime.settled()
    store = reopened(store)
    async with parcels(store, clock, traces, saga=Tough) as runtime:
        await runtime.publish(Weighed("p-1"))
    graph = traces.graph()
    failed = "tough/p-1 perdure.DeadlineReached !1"
    assert graph[failed] == {("cause", "tough/p-1 #1"), ("previous", "tough/p-1 #2")}
    assert graph["tough/p-1 #4"] == {("previous", failed)}


@quickly
async def test_a_turn_whose_commit_fails_has_its_span_and_the_next_attempt_another(store, clock):
    traces = Traces()
    async with parcels(store, clock, traces, retry_pause_s=0.001) as runtime:
        await runtime.publish(Ordered("p-1"))
        await runtime.settled()
        store.fail_writes()
        sending = asyncio.create_task(runtime.publish(Weighed("p-1")))
        while not sending.done():
            await asyncio.sleep(0)
            await clock.advance(timedelta(milliseconds=1))
        await sending
    assert traces.graph()["parcel/p-1 #3"] == {("previous", "parcel/p-1 #2")}
    lost = traces.named()["parcel/p-1 ops-test.Weighed !1"]
    assert attribute(lost, "perdure.outcome") == "unknown"
    assert lost.status.status_code is StatusCode.ERROR


@quickly
async def test_a_turn_that_was_committed_without_being_told_is_still_the_previous_one(store, clock):
    traces = Traces()
    async with parcels(store, clock, traces, retry_pause_s=0.001) as runtime:
        await runtime.publish(Ordered("p-1"))
        await runtime.settled()
        store.fail_writes(after_commit=True)
        sending = asyncio.create_task(runtime.publish(Weighed("p-1")))
        while not sending.done():
            await asyncio.sleep(0)
            await clock.advance(timedelta(milliseconds=1))
        assert (await sending)[0].sequence_nr == 3
        await runtime.publish(Weighed("p-1"))
    untold = "parcel/p-1 ops-test.Weighed !1"
    assert traces.graph()["parcel/p-1 #4"] == {("previous", untold)}


@quickly
async def test_a_repeated_message_has_no_second_span(store, clock):
    traces = Traces()
    async with parcels(store, clock, traces) as runtime:
        await runtime.publish(Ordered("p-1"), message_id="m-1")
        await runtime.settled()
        await runtime.publish(Ordered("p-1"), message_id="m-1")
        await asyncio.gather(*(runtime.publish(Weighed("p-1"), message_id="m-2") for _ in range(5)))
    assert [name for name in traces.named() if " #" in name] == [
        f"parcel/p-1 #{number}" for number in (1, 2, 3)
    ]


@quickly
async def test_pipelined_turns_are_linked_one_to_the_next_before_any_commit(store, clock):
    traces = Traces()
    async with parcels(store, clock, traces) as runtime:
        await runtime.publish(Ordered("p-1"))
        await runtime.settled()
        await asyncio.gather(*(runtime.publish(Weighed("p-1")) for _ in range(20)))
    graph = traces.graph()
    for number in range(3, 23):
        assert graph[f"parcel/p-1 #{number}"] == {("previous", f"parcel/p-1 #{number - 1}")}


@quickly
async def test_a_summary_tells_how_long_the_whole_process_took(memory, clock):
    traces = Traces()
    async with parcels(memory, clock, traces) as runtime:
        await runtime.publish(Ordered("p-1"))
        await clock.advance(HOURS)
        await runtime.settled()
    summary = traces.named()["parcel/p-1 completed"]
    assert summary.name == "parcel completed"
    assert attribute(summary, "perdure.duration_s") == HOURS.total_seconds()
    assert attribute(summary, "perdure.turns") == 4
    assert summary.start_time == summary.end_time


@quickly
async def test_what_apply_sees_is_the_same_when_it_is_folded_again(store, clock):
    traces = Traces()
    async with parcels(store, clock, traces) as runtime:
        await runtime.publish(Ordered("p-1"))
        await runtime.settled()
        await runtime.publish(Weighed("p-1"), headers={"tenant": "a"})
        ref = runtime.ref(Parcel, "p-1")
        before = (await view_of(runtime, ref)).state
        ref.stop(block=False)
        assert (await view_of(runtime, ref)).state == before
    assert "perdure.turn=00-" in before.headers[0]


@quickly
async def test_a_trace_that_cannot_be_read_costs_a_link_and_nothing_else(store, clock):
    traces = Traces()
    async with parcels(store, clock, traces, snapshot_every=2) as runtime:
        await runtime.publish(Ordered("p-1"))
        await runtime.settled()
        runtime.ref(Parcel, "p-1").stop(block=False)
        assert runtime.residents == 0
        store.fail_reads(operation="journal")
        await runtime.publish(Weighed("p-1"))
        await runtime.publish(Weighed("p-1"))
    graph = traces.graph()
    assert graph["parcel/p-1 #3"] == set()
    assert graph["parcel/p-1 #4"] == {("previous", "parcel/p-1 #3")}
