"""Jobs as spans: what a worker does belongs to its own, and causes what follows from it."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager

import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode

from perdure import Fixed, MemoryStore, Runtime, WorkQueue
from perdure.runtime.clock import SystemClock
from tests.ops.parcels import Ordered, Pack, Packed, Parcel, depot
from tests.ops.spans import Traces, attribute, ids, name_of
from tests.runtime.support import quickly


@asynccontextmanager
async def parcels(traces, queue, **options):
    async with Runtime(
        MemoryStore(), [Parcel, queue], tracing=traces.tracing, **options
    ) as runtime:
        yield runtime


def threaded(pack):
    queue = WorkQueue("depot", concurrency=2)

    @queue.worker
    def packing(command: Pack) -> Packed:
        pack(command)
        return Packed(command.id)

    return queue


def on_loop(pack):
    queue = WorkQueue("depot", concurrency=2)

    @queue.worker
    async def packing(command: Pack) -> Packed:
        await pack(command)
        return Packed(command.id)

    return queue


@quickly
async def test_each_attempt_is_a_span_and_the_result_is_caused_by_the_last():
    traces, attempts = Traces(), []

    def pack(command, job):
        attempts.append(job.attempt)
        if job.attempt < 3:
            raise ConnectionError("nobody there")

    async with parcels(traces, depot(pack)) as runtime:
        await runtime.publish(Ordered("p-1"))
        while len(attempts) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await runtime.settled()
    graph, named = traces.graph(), traces.named()
    for number in (1, 2, 3):
        assert graph[f"parcel/p-1/1/0 !{number}"] == {("cause", "parcel/p-1 #1")}
    assert graph["parcel/p-1 #2"] >= {("cause", "parcel/p-1/1/0 !3")}
    assert named["parcel/p-1/1/0 !2"].status.status_code is StatusCode.ERROR
    assert [event.name for event in named["parcel/p-1/1/0 !2"].events] == ["exception"]
    assert named["parcel/p-1/1/0 !3"].status.status_code is StatusCode.UNSET
    assert named["parcel/p-1/1/0 !3"].name == "depot ops-test.Pack"
    assert attribute(named["parcel/p-1/1/0 !3"], "messaging.destination.name") == "depot"


@quickly
async def test_a_failure_for_good_is_caused_by_the_last_attempt():
    traces = Traces()

    def pack(command, job):
        raise ConnectionError("nobody there")

    async with parcels(traces, depot(pack, Fixed(0.001, max_attempts=1))) as runtime:
        await runtime.publish(Ordered("p-1"))
        await runtime.settled()
    assert traces.graph()["parcel/p-1 #2"] >= {("cause", "parcel/p-1/1/0 !1")}


def parents_of(traces):
    """Of each of the user's spans: which job its parent is."""
    jobs = {ids(one.context): name_of(one) for one in traces.ours}
    return {one.name: jobs[ids(one.parent)] for one in traces.users_spans()}


@quickly
async def test_a_coroutines_own_spans_are_children_of_its_job_however_many_run_at_once():
    traces, both = Traces(), asyncio.Barrier(2)

    async def pack(command):
        await both.wait()
        with traces.users.start_as_current_span(f"weigh {command.id}"):
            await both.wait()

    async with parcels(traces, on_loop(pack)) as runtime:
        await asyncio.gather(runtime.publish(Ordered("a")), runtime.publish(Ordered("b")))
        await runtime.settled()
    assert parents_of(traces) == {
        "weigh a": "parcel/a/1/0 !1",
        "weigh b": "parcel/b/1/0 !1",
    }


@quickly
async def test_a_plain_functions_own_spans_are_children_of_its_job_on_its_thread():
    traces, both = Traces(), threading.Barrier(2, timeout=5)

    def pack(command):
        both.wait()
        with traces.users.start_as_current_span(f"weigh {command.id}"):
            both.wait()

    async with parcels(traces, threaded(pack)) as runtime:
        await asyncio.gather(runtime.publish(Ordered("a")), runtime.publish(Ordered("b")))
        await runtime.settled()
    assert parents_of(traces) == {
        "weigh a": "parcel/a/1/0 !1",
        "weigh b": "parcel/b/1/0 !1",
    }


@quickly
async def test_no_span_is_current_where_none_was_before():
    traces = Traces()
    async with parcels(traces, depot()) as runtime:
        await runtime.publish(Ordered("a"))
        await runtime.settled()
        assert not trace.get_current_span().get_span_context().is_valid
        asyncio.get_running_loop().call_soon(
            lambda: seen.append(trace.get_current_span().get_span_context().is_valid)
        )
        seen: list[bool] = []
        await asyncio.sleep(0)
        assert seen == [False]


@quickly
async def test_what_a_worker_sends_is_caused_by_its_job():
    traces = Traces()
    runtimes: list[Runtime] = []

    async def pack(command):
        if command.id == "a":
            await runtimes[0].publish(Ordered("b"))

    async with parcels(traces, on_loop(pack)) as runtime:
        runtimes.append(runtime)
        await runtime.publish(Ordered("a"))
        await runtime.settled()
    assert traces.graph()["parcel/b #1"] == {("cause", "parcel/a/1/0 !1")}


@pytest.mark.parametrize("share", [1.0, 0.0])
@quickly
async def test_an_enqueued_job_is_caused_by_whoever_enqueued_it(share):
    traces = Traces(share)
    async with parcels(traces, depot()) as runtime:
        with traces.users.start_as_current_span("request") as request:
            await runtime.enqueue(Pack("a"), job_id="j-1")
        await runtime.enqueue(Pack("b"), job_id="j-2")
        await runtime.settled()
    named = traces.named()
    [link] = named["j-1 !1"].links
    assert ids(link.context) == ids(request.get_span_context())
    assert ("j-2 !1" in named) == (share == 1.0)
    if share:
        assert not named["j-2 !1"].links


@quickly
async def test_a_job_that_is_taken_from_its_worker_ends_its_span():
    traces, begun = Traces(), asyncio.Event()

    async def pack(command):
        begun.set()
        await asyncio.sleep(60)

    async with parcels(traces, on_loop(pack)) as runtime:
        await runtime.publish(Ordered("a"))
        await begun.wait()
        await runtime.queue("depot").cancel("parcel/a/1/0")
        await runtime.settled()
    span = traces.named()["parcel/a/1/0 !1"]
    assert "cancelled" in (span.status.description or "")
    assert traces.graph()["parcel/a #2"] >= {("cause", "parcel/a/1/0 !1")}


@quickly
async def test_time_is_the_sdks_own_on_the_systems_clock():
    traces, clock = Traces(), SystemClock()
    before = clock.now_ms()
    async with parcels(traces, depot()) as runtime:
        await runtime.publish(Ordered("a"))
        await runtime.settled()
    for span in traces.ours:
        began, ended = span.start_time or 0, span.end_time or 0
        assert before * 1_000_000 <= began <= ended <= (clock.now_ms() + 1) * 1_000_000
