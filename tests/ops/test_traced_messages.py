"""Who is traced, and what is stored with messages: senders' contexts, shares, hostile headers."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

from perdure import MemoryStore, Runtime
from perdure.errors import CorrelationFailed
from perdure.ops.otel import context_of, text_of
from perdure.ops.spans import OtelSpans
from perdure.ops.tracing import Tracing
from perdure.testing import SimulatedClock
from tests.ops.parcels import CURRENT, Ordered, Pack, Parcel, Weighed, depot
from tests.ops.spans import Traces, attribute, ids
from tests.runtime.support import parts, quickly

STATE = [("vendor", "1"), ("other", "2")]


def outside(sampled=True, state=None):
    """The context of some other service."""
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else 0)
    return SpanContext(0xABC, 0xDEF, True, flags, TraceState(STATE if state is None else state))


@asynccontextmanager
async def ambient(context):
    with trace.use_span(NonRecordingSpan(context)):
        yield


@asynccontextmanager
async def parcels(traces, store=None, clock=None):
    tracing = None if traces is None else traces.tracing
    where = store or MemoryStore()
    async with Runtime(where, [Parcel, depot()], tracing=tracing, clock=clock) as runtime:
        yield runtime


async def stored_headers(runtime, id="a"):
    """The headers of the instance's journaled messages, and of what waits in the outbox."""
    services = parts(runtime).services
    rows = await services.store.journal(f"parcel/{id}", 0, 100)
    return [services.journal.read_turn(row.body).headers for row in rows]


@quickly
async def test_off_stores_nothing_whatever_is_current():
    async with ambient(outside()), parcels(None) as runtime:
        await runtime.publish(Ordered("a"))
        await runtime.settled()
        assert await stored_headers(runtime) == [None, None]


@quickly
async def test_what_nobody_has_sampled_stores_nothing():
    async with ambient(outside(sampled=False)), parcels(Traces(0.0)) as runtime:
        await runtime.publish(Ordered("a"))
        await runtime.settled()
        assert await stored_headers(runtime) == [None, None]


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, TraceIdRatioBased(0.0)])
@quickly
async def test_what_the_providers_sampler_leaves_out_stores_nothing(sampler):
    traces = Traces(sampler=sampler)
    async with parcels(traces) as runtime:
        await runtime.publish(Ordered("a"))
        await runtime.settled()
        assert await stored_headers(runtime) == [None, None]
    assert traces.all == []


@quickly
async def test_a_sampled_cause_is_stored_and_honoured():
    traces = Traces(0.0)
    async with parcels(traces) as runtime:
        async with ambient(outside()):
            await runtime.publish(Ordered("a"))
        await runtime.settled()
        await runtime.publish(Weighed("a"))
        first = (await stored_headers(runtime))[0]
    assert first["traceparent"] == f"00-{0xABC:032x}-{0xDEF:016x}-01"
    assert first["tracestate"] == "vendor=1,other=2"
    graph = traces.graph()
    assert set(graph) == {"parcel/a #1", "parcel/a/1/0 !1", "parcel/a #2"}
    assert graph["parcel/a #1"] == {("cause", "outside")}
    [link] = traces.named()["parcel/a #1"].links
    assert link.context == outside()


@pytest.mark.parametrize("share", [0.0, 1.0])
@quickly
async def test_the_share_alone_decides_if_causes_are_not_honoured(share):
    traces = Traces()
    traces.tracing = Tracing(traces.provider, share, honours_causes=False)
    async with parcels(traces) as runtime:
        async with ambient(outside()):
            await runtime.publish(Ordered("a"))
            await runtime.enqueue(Pack("b"), job_id="j-1")
        await runtime.settled()
    graph = traces.graph()
    if share:
        assert graph["parcel/a #1"] == graph["j-1 !1"] == {("cause", "outside")}
        assert graph["parcel/a #2"] >= {("previous", "parcel/a #1")}
    else:
        assert graph == {}


@pytest.mark.parametrize("way", ["send", "tell", "ask", "thread"])
@quickly
async def test_every_way_of_sending_takes_the_senders_context_along(way):
    traces = Traces(0.0)
    async with parcels(traces) as runtime:
        ref = runtime.ref(Parcel, "a")
        async with ambient(outside()):
            if way == "send":
                await runtime.send(ref, Ordered("a"))
            elif way == "tell":
                ref.tell(Ordered("a"))
            elif way == "ask":
                await ref.ask(Ordered("a"), block=False)
        if way == "thread":

            def tell():
                with trace.use_span(NonRecordingSpan(outside())):
                    ref.tell(Ordered("a"))

            thread = threading.Thread(target=tell)
            thread.start()
            await asyncio.to_thread(thread.join)
        await asyncio.sleep(0)
        await runtime.settled()
    assert traces.graph()["parcel/a #1"] == {("cause", "outside")}


@quickly
async def test_the_turns_span_is_current_in_its_handler_alone():
    traces = Traces()
    CURRENT.clear()
    async with parcels(traces) as runtime:
        await runtime.publish(Ordered("a"))
        await runtime.settled()
        await runtime.publish(Weighed("a"))
        assert not trace.get_current_span().get_span_context().is_valid
    named = traces.named()
    assert [(name, ids(one)) for name, one in CURRENT] == [
        ("Packed a", ids(named["parcel/a #2"].context)),
        ("Weighed a", ids(named["parcel/a #3"].context)),
    ]


@quickly
async def test_no_span_leaks_into_the_turns_of_who_is_not_traced():
    traces = Traces(0.5)
    CURRENT.clear()
    async with parcels(traces) as runtime:
        spans = parts(runtime).services.spans
        assert isinstance(spans, OtelSpans)
        names = [f"{number}" for number in range(40)]
        await asyncio.gather(*(runtime.publish(Ordered(name)) for name in names))
        await runtime.settled()
        await asyncio.gather(*(runtime.publish(Weighed(name)) for name in names))
        traced = {name for name in names if spans.follows(f"parcel/{name}")}
    assert 5 < len(traced) < 35
    assert len(CURRENT) == 80
    for name, context in CURRENT:
        assert context.is_valid == (name.split()[1] in traced), name


@pytest.mark.parametrize("restarts", [False, True])
@quickly
async def test_turns_that_are_traced_for_their_causes_are_linked_to_each_other(restarts):
    traces, store, clock = Traces(0.0), MemoryStore(), SimulatedClock()
    async with parcels(traces, store, clock) as runtime:
        async with ambient(outside()):
            await runtime.publish(Ordered("a"))
        await runtime.settled()
        if not restarts:
            async with ambient(outside()):
                await runtime.publish(Weighed("a"))
    async with parcels(traces, store, clock) as runtime:
        if restarts:
            async with ambient(outside()):
                await runtime.publish(Weighed("a"))
        await clock.advance(timedelta(hours=4))
        await runtime.settled()
    assert traces.graph() == {
        "parcel/a #1": {("cause", "outside")},
        "parcel/a/1/0 !1": {("cause", "parcel/a #1")},
        "parcel/a #2": {("cause", "parcel/a/1/0 !1"), ("previous", "parcel/a #1")},
        "parcel/a #3": {("cause", "outside"), ("previous", "parcel/a #2")},
        "parcel/a #4": {("cause", "parcel/a #1"), ("previous", "parcel/a #3")},
        "parcel/a/4/0 !1": {("cause", "parcel/a #4")},
        "parcel/a #5": {("cause", "parcel/a/4/0 !1"), ("previous", "parcel/a #4")},
        "parcel/a completed": {("first", "parcel/a #1"), ("last", "parcel/a #5")},
    }


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@quickly
async def test_an_instance_is_traced_whole_or_not_at_all(share):
    traces, count = Traces(share), 60
    store = MemoryStore()
    async with parcels(traces, store) as runtime:
        for number in range(count):
            await runtime.publish(Ordered(f"{number}"))
        await runtime.settled()
    async with parcels(traces, store) as runtime:
        for number in range(count):
            await runtime.publish(Weighed(f"{number}"))
    turns: dict[str, set[int]] = {}
    for span in traces.ours:
        if (number := attribute(span, "perdure.sequence_nr")) is not None:
            turns.setdefault(str(attribute(span, "perdure.correlation_id")), set()).add(number)
    assert all(seen == {1, 2, 3} for seen in turns.values())
    assert abs(len(turns) - share * count) <= 12 * (0 < share < 1)


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "00",
        "garbage",
        "00-" + "0" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "1" * 32 + "-" + "0" * 16 + "-01",
        "ff-" + "1" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "1" * 32 + "-" + "1" * 16 + "-01-more",
        "00-" + "G" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "1" * 32 + "-" + "1" * 16 + "-01\n",
        "0" * 500,
        "\u202e" * 55,
    ],
)
@quickly
async def test_a_hostile_context_is_no_cause(parent):
    traces = Traces()
    headers = {"traceparent": parent, "tracestate": "=" * 400}
    async with parcels(traces) as runtime:
        await runtime.publish(Ordered("a"), headers=headers)
        await runtime.settled()
        assert (await stored_headers(runtime))[0].items() >= headers.items()
    assert traces.graph()["parcel/a #1"] == set()
    assert traces.graph()["parcel/a/1/0 !1"] == {("cause", "parcel/a #1")}


@quickly
async def test_a_hostile_state_costs_the_state_only():
    traces = Traces()
    headers = {"traceparent": text_of(outside()), "tracestate": ",=;\x00" * 100}
    async with parcels(traces) as runtime:
        await runtime.publish(Ordered("a"), headers=headers)
    [link] = traces.named()["parcel/a #1"].links
    assert ids(link.context) == ids(outside())


@quickly
async def test_a_header_of_ten_kilobytes_is_refused_as_any_other_is():
    async with parcels(Traces()) as runtime:
        with pytest.raises(CorrelationFailed, match="500 characters"):
            await runtime.publish(Ordered("a"), headers={"traceparent": "0" * 10_000})


@quickly
async def test_what_the_sender_says_itself_stands():
    traces = Traces()
    other = SpanContext(0x1, 0x2, True, TraceFlags(1))
    async with parcels(traces) as runtime, ambient(outside()):
        await runtime.publish(Ordered("a"), headers={"traceparent": text_of(other)})
    [link] = traces.named()["parcel/a #1"].links
    assert ids(link.context) == ids(other)


@quickly
async def test_the_limits_on_headers_hold_for_the_sender_alone():
    traces = Traces()
    full = {f"h-{number}": "x" for number in range(100)}
    long = [(f"key{number}", "v" * 100) for number in range(10)]
    async with parcels(traces) as runtime:
        async with ambient(outside()):
            await runtime.publish(Ordered("a"), headers=full)
        async with ambient(outside(state=long)):
            await runtime.publish(Ordered("b"))
        first = (await stored_headers(runtime, "a"))[0]
        second = (await stored_headers(runtime, "b"))[0]
    assert {name for name in first if not name.startswith("perdure.")} == set(full)
    assert set(second) == {"traceparent", "perdure.turn"}
    assert traces.graph()["parcel/b #1"] == {("cause", "outside")}


@quickly
async def test_the_senders_other_headers_travel_on_beside_the_new_cause():
    traces = Traces()
    seen = []
    queue = depot(lambda command, job: seen.append(dict(job.headers or {})))
    async with Runtime(MemoryStore(), [Parcel, queue], tracing=traces.tracing) as runtime:
        async with ambient(outside()):
            await runtime.publish(Ordered("a"), headers={"tenant": "x"})
        await runtime.settled()
        second = (await stored_headers(runtime))[1]
    turn, job = traces.named()["parcel/a #1"], traces.named()["parcel/a/1/0 !1"]
    assert seen == [{"tenant": "x", "traceparent": text_of(turn.context)}]
    assert second["traceparent"] == text_of(job.context)
    assert (second["tenant"], "tracestate" in second) == ("x", False)


@given(
    trace_id=st.integers(1, 2**128 - 1),
    span_id=st.integers(1, 2**64 - 1),
    flags=st.integers(0, 255),
)
def test_a_context_is_read_as_it_was_written(trace_id, span_id, flags):
    context = SpanContext(trace_id, span_id, True, TraceFlags(flags))
    assert context_of(text_of(context)) == context


@given(
    st.text() | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{30,34}-[0-9a-f]{16}-[0-9a-f]{2}.*"), st.text()
)
def test_no_text_is_read_as_a_context_that_is_none(parent, state):
    context = context_of(parent, state)
    assert context is None or (context.is_valid and text_of(context)[3:52] == parent[3:52])
