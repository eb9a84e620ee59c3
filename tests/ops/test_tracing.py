"""What is given to ``Tracing``, and providers that break: no turn and no job is harmed by them."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from datetime import timedelta

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler
from opentelemetry.trace import NonRecordingSpan, NoOpTracerProvider, SpanContext, TraceFlags

from perdure import MemoryStore, Runtime, errors
from perdure.errors import DefinitionError
from perdure.ops.tracing import Tracing
from tests.ops.parcels import RAISES, Ordered, Parcel, Tough, Weighed, depot
from tests.ops.spans import Traces
from tests.runtime.support import quickly, view_of


class Broken(Exception):
    """What a provider raises here."""


def broken(*_, **__):
    raise Broken("the provider is broken")


async def a_whole_process(tracing, clock, saga=Parcel):
    """Started, packed, weighed, collected by a deadline, driven: what it heard."""
    async with Runtime(MemoryStore(), [saga, depot()], tracing=tracing, clock=clock) as runtime:
        await runtime.publish(Ordered("a"))
        await runtime.settled()
        await runtime.publish(Weighed("a"))
        await clock.advance(timedelta(hours=4))
        await runtime.settled()
        view = await view_of(runtime, runtime.ref(saga, "a"))
        return list(view.state.heard)


WHOLE = ["Ordered", "Packed", "Weighed", "collect", "Driven"]


class BrokenProcessor(SpanProcessor):
    def __init__(self, where):
        setattr(self, where, broken)


class BrokenSampler(Sampler):
    def should_sample(self, *_, **__):
        raise Broken("the sampler is broken")

    def get_description(self):
        return "broken"


def with_processor(where):
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BrokenProcessor(where))
    return provider


class BrokenProvider(TracerProvider):
    get_tracer = broken


BROKEN = {
    "tracer": lambda: BrokenProvider(shutdown_on_exit=False),
    "sampler": lambda: TracerProvider(sampler=BrokenSampler(), shutdown_on_exit=False),
    "start": lambda: with_processor("on_start"),
    "end": lambda: with_processor("on_end"),
}


@pytest.mark.parametrize("what", BROKEN)
@quickly
async def test_a_broken_provider_harms_no_turn_and_no_job_and_is_told_once(clock, caplog, what):
    caplog.set_level(logging.INFO, "perdure.tracing")
    assert await a_whole_process(Tracing(BROKEN[what](), 1.0), clock) == WHOLE
    told = [record for record in caplog.records if record.name == "perdure.tracing"]
    assert len(told) == 1
    assert "is broken" in (told[0].exc_text or "")


@pytest.mark.parametrize("what", BROKEN)
@quickly
async def test_a_broken_provider_does_not_hide_what_the_handler_raised(clock, what):
    RAISES[:] = [ValueError("no van")]
    tracing = Tracing(BROKEN[what](), 1.0)
    async with Runtime(MemoryStore(), [Tough, depot()], tracing=tracing, clock=clock) as runtime:
        await runtime.publish(Ordered("a"))
        await clock.advance(timedelta(hours=4))
        [letter] = [one async for one in runtime.dead_letters.list()]
        assert "no van" in letter.error


@quickly
async def test_a_context_that_breaks_harms_no_sender(clock):
    class BrokenSpan(NonRecordingSpan):
        get_span_context = broken

    traces = Traces()
    with trace.use_span(BrokenSpan(SpanContext(1, 2, True, TraceFlags(1)))):
        assert await a_whole_process(traces.tracing, clock) == WHOLE


@pytest.mark.parametrize("provider", [None, NoOpTracerProvider()])
@quickly
async def test_without_an_sdk_nothing_is_traced(clock, provider):
    assert await a_whole_process(Tracing(provider, 1.0), clock) == WHOLE


@quickly
async def test_a_real_exporter_writes_every_span(clock, tmp_path):
    path = tmp_path / "spans.json"
    with path.open("w") as file:
        provider = TracerProvider(sampler=ALWAYS_ON, shutdown_on_exit=False)
        exporter = ConsoleSpanExporter(
            out=file, formatter=lambda span: span.to_json(indent=None) + "\n"
        )
        provider.add_span_processor(BatchSpanProcessor(exporter))
        await a_whole_process(Tracing(provider, 1.0), clock)
        provider.shutdown()
    spans = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted(span["name"] for span in spans) == [
        "depot ops-test.Drive",
        "depot ops-test.Pack",
        "parcel completed",
        "parcel ops-test.Driven",
        "parcel ops-test.Ordered",
        "parcel ops-test.Packed",
        "parcel ops-test.Weighed",
        "parcel perdure.DeadlineReached",
    ]
    known = {(span["context"]["trace_id"], span["context"]["span_id"]) for span in spans}
    linked = [link["context"] for span in spans for link in span["links"]]
    assert {(one["trace_id"], one["span_id"]) for one in linked} <= known
    assert len(linked) == 11


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), "all", None, True])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(DefinitionError, match="from 0 to 1"):
        Tracing(share=share)


@pytest.mark.parametrize("spans_per_s", [0, -1, float("nan"), float("inf"), "all", True])
def test_a_budget_that_is_none_is_refused(spans_per_s):
    with pytest.raises(DefinitionError, match="spans a second"):
        Tracing(spans_per_s=spans_per_s)


def test_a_provider_that_is_none_is_refused():
    with pytest.raises(DefinitionError, match="TracerProvider"):
        Tracing("otlp://localhost")  # type: ignore[arg-type]


@pytest.mark.parametrize("tracing", ["on", TracerProvider(shutdown_on_exit=False), True])
def test_a_runtime_wants_tracing_and_nothing_else(tracing):
    with pytest.raises(errors.DefinitionError, match=r"perdure\.ops\.tracing\.Tracing"):
        Runtime("memory://", [Parcel], tracing=tracing)


@pytest.mark.parametrize(
    ("library", "module", "extra"),
    [
        ("opentelemetry", "tracing", "otel"),
        ("prometheus_client", "prometheus", "prometheus"),
        ("starlette", "starlette", "service"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(library, module, extra):
    program = (
        f"import sys; sys.modules[{library!r}] = None\n"
        "import perdure\n"
        f"try:\n    import perdure.ops.{module}\n"
        "except ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    )
    assert f"pip install 'perdure[{extra}]'" in done.stdout


def test_the_runtime_itself_does_not_import_opentelemetry():
    program = (
        "import sys, perdure, perdure.runtime.watching.tracing\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == "[]"
