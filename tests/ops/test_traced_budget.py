"""So many spans a second and no more: what is left out costs nothing, is counted, and said."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from prometheus_client import CollectorRegistry

from perdure import MemoryStore, Runtime, Settings
from perdure.ops import spans as ops_spans
from perdure.ops.budget import Budget
from perdure.ops.otel import text_of
from perdure.ops.prometheus import Metrics
from perdure.ops.tracing import Tracing
from perdure.testing import SimulatedClock
from tests.ops.parcels import Ordered, Pack, Parcel, Weighed, depot
from tests.ops.spans import Traces
from tests.runtime.support import parts, quickly, reopened

PER_S = 0.5
"""A span every two seconds, and five at once."""

STARTED = 3
"""Spans of a parcel that is ordered: its turn, the packing, the turn of its result."""

OUTSIDE = SpanContext(0xABC, 0xDEF, True, TraceFlags(1))


@asynccontextmanager
async def parcels(store, clock, traces, **settings):
    async with Runtime(
        store, [Parcel, depot()], Settings(**settings), clock=clock, tracing=traces.tracing
    ) as runtime:
        yield runtime


async def ordered(runtime, id="p-1"):
    await runtime.publish(Ordered(id))
    await runtime.settled()


async def weighed(runtime, times, id="p-1"):
    for _ in range(times):
        await runtime.publish(Weighed(id))


def turns(traces):
    return {name.partition("#")[2] for name in traces.named() if "#" in name}


def left_out(runtime):
    return spans_of(runtime).left_out


def spans_of(runtime):
    spans = parts(runtime).services.spans
    assert isinstance(spans, ops_spans.OtelSpans)
    return spans


# The budget by itself


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=30))
def test_a_budget_is_a_bucket_of_ten_seconds_that_fills_at_its_rate(steps):
    clock, tokens, left = SimulatedClock(), 40, 0
    budget = Budget(4, clock)
    for quarters, wanted in steps:
        clock._now_ms += 250 * quarters
        tokens = min(tokens + quarters, 40)
        begun = 0
        for _ in range(wanted):
            if not budget.is_spent(clock.monotonic_s()):
                budget.take()
                begun += 1
        assert begun == min(wanted, tokens)
        tokens -= begun
        left += wanted - begun
        assert budget.left_out == left
        assert budget.is_open == (tokens > 0)


@pytest.mark.parametrize(("per_s", "at_once"), [(0.01, 1), (0.1, 1), (0.5, 5), (8, 80)])
def test_a_budget_has_at_least_one_span_at_once(per_s, at_once):
    clock = SimulatedClock()
    budget, begun = Budget(per_s, clock), 0
    while not budget.is_spent(clock.monotonic_s()):
        budget.take()
        begun += 1
    assert begun == at_once
    clock._now_ms += int(1_000 / per_s)
    assert budget.is_open


def test_no_budget_is_never_spent():
    clock = SimulatedClock()
    budget = Budget(None, clock)
    for _ in range(10_000):
        budget.take()
    assert budget.is_open
    assert not budget.is_spent(clock.monotonic_s())


def test_what_is_taken_unasked_is_paid_for_by_the_next():
    clock = SimulatedClock()
    budget = Budget(4, clock)
    for _ in range(44):
        budget.take()
    clock._now_ms += 1_000
    assert budget.is_spent(clock.monotonic_s())
    clock._now_ms += 250
    assert not budget.is_spent(clock.monotonic_s())


def test_what_is_left_out_is_told_once_a_minute_aloud_the_first_time(caplog):
    caplog.set_level(logging.INFO, "perdure.tracing")
    clock = SimulatedClock()
    budget = Budget(0.01, clock)
    budget.take()
    for _ in range(50):
        assert budget.is_spent(clock.monotonic_s())
        clock._now_ms += 1_900
    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert [level for level, _ in told] == ["WARNING", "INFO"]
    assert "spans_per_s=0.01; 1 spans" in told[0][1]
    assert "33 spans were left out so far" in told[1][1]


# In a runtime


@quickly
async def test_unless_told_otherwise_all_is_traced_up_to_a_hundred_a_second(memory, clock):
    traces = Traces()
    traces.tracing = Tracing(traces.provider)
    assert traces.tracing.share == 1.0
    async with parcels(memory, clock, traces) as runtime:
        await ordered(runtime)
        assert len(traces.all) == STARTED
        await asyncio.gather(*(weighed(runtime, 110) for _ in range(10)))
        assert len(traces.all) == 1_000
        assert left_out(runtime) == 1_100 + STARTED - 1_000
        await clock.advance(timedelta(seconds=1))
        await weighed(runtime, 200)
        assert len(traces.all) == pytest.approx(1_100, abs=1)


@quickly
async def test_what_is_over_the_budget_is_left_alone(memory, clock, monkeypatch):
    traces = Traces(spans_per_s=PER_S)
    async with parcels(memory, clock, traces) as runtime:
        await ordered(runtime)
        await weighed(runtime, 2)
        assert left_out(runtime) == 0
        for name in ("cause_in", "context_of", "OtelTurnSpan", "OtelJobSpan"):
            monkeypatch.delattr(ops_spans, name)
        with trace.use_span(NonRecordingSpan(OUTSIDE)):
            await weighed(runtime, 1)
            await runtime.enqueue(Pack("b"))
        await runtime.settled()
        await ordered(runtime, "p-2")
        spans = spans_of(runtime)
        assert (spans.guard.count, spans.left_out) == (0, 4)  # the job of p-2 has no cause
        services = parts(runtime).services
        rows = await services.store.journal("parcel/p-1", 0, 10)
        headers = [services.journal.read_turn(row.body).headers for row in rows]
    assert ["perdure.turn" in (one or {}) for one in headers] == [True] * 4 + [False]
    assert turns(traces) == {"1", "2", "3", "4"}


@pytest.mark.parametrize("snapshot_every", [100, 4])
@pytest.mark.parametrize("between", ["nothing", "passivation", "restart"])
@quickly
async def test_the_previous_turn_is_the_last_that_was_traced(store, clock, between, snapshot_every):
    traces = Traces(spans_per_s=PER_S)
    async with parcels(store, clock, traces, snapshot_every=snapshot_every) as runtime:
        await ordered(runtime)
        await weighed(runtime, 4)
        if between == "passivation":
            runtime.ref(Parcel, "p-1").stop(block=False)
            assert runtime.residents == 0
        if between != "restart":
            await clock.advance(timedelta(seconds=2))
            await weighed(runtime, 1)
    if between == "restart":
        async with parcels(reopened(store), clock, traces) as runtime:
            await weighed(runtime, 1)
    assert turns(traces) == {"1", "2", "3", "4", "7"}
    is_known = between == "nothing" or snapshot_every == 100
    previous = {("previous", "parcel/p-1 #4")} if is_known else set()
    assert traces.graph()["parcel/p-1 #7"] == previous


@quickly
async def test_a_deadline_whose_turn_was_left_out_has_no_cause(store, clock):
    traces = Traces(spans_per_s=0.1)
    async with parcels(store, clock, traces) as runtime:
        spans_of(runtime)._budget.take()
        await ordered(runtime)
        await clock.advance(timedelta(hours=4))
        await runtime.settled()
    assert list(traces.named()) == ["parcel/p-1 #3"]
    assert traces.graph()["parcel/p-1 #3"] == set()


@pytest.mark.parametrize(
    ("share", "is_spent", "reads"), [(1.0, False, True), (1.0, True, False), (0.0, False, False)]
)
@quickly
async def test_a_rehydration_reads_more_only_of_who_may_be_traced_now(
    memory, clock, share, is_spent, reads
):
    traces = Traces(share, spans_per_s=PER_S)
    async with parcels(memory, clock, traces, snapshot_every=2) as runtime:
        await ordered(runtime)
        await weighed(runtime, 2 if is_spent else 1)
        runtime.ref(Parcel, "p-1").stop(block=False)
        assert runtime.residents == 0
        before = memory.calls["journal"]
        await weighed(runtime, 1)
        assert (memory.calls["journal"] > before) is reads


@quickly
async def test_what_nobody_wants_traced_is_not_counted(memory, clock):
    traces = Traces(0.0, spans_per_s=0.01)
    async with parcels(memory, clock, traces) as runtime:
        with trace.use_span(NonRecordingSpan(OUTSIDE)):
            await runtime.publish(Ordered("p-1"))
        await runtime.settled()
        assert left_out(runtime) == 2  # what followed from it: the job, and its result
        await runtime.publish(Weighed("p-1"), headers={"tenant": "a"})
        await runtime.enqueue(Pack("b"))
        await ordered(runtime, "p-2")
        assert left_out(runtime) == 2
    assert list(traces.named()) == ["parcel/p-1 #1"]


@quickly
async def test_a_deadline_that_no_traced_turn_has_armed_is_not_counted(memory, clock):
    traces = Traces(0.0, spans_per_s=1e-5)
    async with parcels(memory, clock, traces) as runtime:
        await ordered(runtime)
        with trace.use_span(NonRecordingSpan(OUTSIDE)):
            await weighed(runtime, 1)
        await clock.advance(timedelta(hours=4))
        await runtime.settled()
        assert left_out(runtime) == 0
    assert list(traces.named()) == ["parcel/p-1 #3"]


@quickly
async def test_a_cause_that_is_not_sampled_costs_nothing_of_the_budget(memory, clock):
    traces = Traces(0.0, spans_per_s=PER_S)
    headers = {"traceparent": text_of(SpanContext(0xABC, 0xDEF, True, TraceFlags(0)))}
    async with parcels(memory, clock, traces) as runtime:
        for number in range(10):
            await runtime.publish(Ordered(f"{number}"), headers=headers)
        await runtime.settled()
        assert left_out(runtime) == 0
    assert traces.all == []


@quickly
async def test_the_share_alone_decides_who_is_left_out_if_causes_are_not_honoured(memory, clock):
    traces = Traces()
    traces.tracing = Tracing(traces.provider, 0.0, spans_per_s=0.01, honours_causes=False)
    async with parcels(memory, clock, traces) as runtime:
        spans_of(runtime)._budget.take()
        with trace.use_span(NonRecordingSpan(OUTSIDE)):
            await runtime.publish(Ordered("p-1"))
            await runtime.enqueue(Pack("b"))
        await runtime.settled()
        assert left_out(runtime) == 0


@quickly
async def test_the_end_of_a_process_is_paid_for_too(memory, clock):
    traces = Traces(spans_per_s=PER_S)
    async with parcels(memory, clock, traces) as runtime:
        await ordered(runtime)
        await clock.advance(timedelta(hours=4))
        await runtime.settled()  # its deadline's turn, a job, the last turn, its end
        assert "parcel/p-1 completed" in traces.named()
        before = len(traces.all)
        await ordered(runtime, "p-2")
        assert len(traces.all) - before == 1


@quickly
async def test_a_span_that_the_sampler_leaves_out_has_begun(memory, clock):
    traces = Traces(spans_per_s=PER_S, sampler=ALWAYS_OFF)
    async with parcels(memory, clock, traces) as runtime:
        await ordered(runtime)
        await weighed(runtime, 5)
        assert left_out(runtime) == 2


@quickly
async def test_a_metric_says_how_many_were_left_out(memory, clock):
    traces, registry = Traces(spans_per_s=PER_S), CollectorRegistry()
    async with parcels(memory, clock, traces) as runtime:
        Metrics(runtime, registry)
        await ordered(runtime)
        await weighed(runtime, 7)
        assert registry.get_sample_value("perdure_spans_left_out_total") == 5
    async with Runtime(MemoryStore(), [Parcel, depot()]) as runtime:
        Metrics(runtime, registry)
        assert registry.get_sample_value("perdure_spans_left_out_total") is None
