"""What it costs to be observed: the same load without and with, in pairs one right after the other.

``VARIANTS`` says what is switched on; another one is a line. Plain turns, and orders with commands
and workers. Metrics are scraped every second meanwhile, from a thread, which is more often than
anybody does. Traces go through a real SDK, ``BatchSpanProcessor`` and an exporter that encodes each
span, as one over a network does in a thread of this process, too.
Next to read: ``throughput.py``, ``work.py``.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from prometheus_client import CollectorRegistry, generate_latest

from benchmarks.load import closed_loop, names, open_all, runtime_over, url_of
from benchmarks.measure import Bench, Measure, Stopwatch, run_rounds, stopwatch
from benchmarks.result import Result
from benchmarks.work import JOBS, TURNS, Fulfilment, place, unbounded, workers
from perdure import Runtime
from perdure.observer import HOOKS, Observer
from perdure.ops.prometheus import Metrics
from perdure.ops.tracing import SPANS_PER_S, Tracing

__all__ = ["QUICK", "VARIANTS", "Sizes", "run"]

TARGET = 0.9
SCRAPE_S = 1.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """``turns`` of each instance, one message of each in flight; orders from start to end.

    ``orders_before``: not measured. They spend what the budget for spans lets begin at once.
    """

    instances: int = 1_000
    turns: int = 30
    orders: int = 2_500
    orders_before: int = 150


QUICK = Sizes(turns=10, orders=500)


class Counting(Observer):
    """Hears everything, and counts it."""

    heard = 0


def _count(self: Counting, event: object) -> None:
    self.heard += 1


for _methods in HOOKS.values():
    setattr(Counting, _methods[0], _count)


class Encoding(SpanExporter):
    """Makes JSON of spans, and drops it."""

    def __init__(self) -> None:
        self.spans = self.bytes = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += len(spans)
        self.bytes += sum(len(span.to_json(indent=None)) for span in spans)
        return SpanExportResult.SUCCESS


# What is switched on


@contextmanager
def _observed(runtime: Runtime) -> Iterator[None]:
    runtime.observe(Counting())
    yield


@contextmanager
def _metrics(runtime: Runtime) -> Iterator[None]:
    """Metrics, and somebody who scrapes them."""
    metrics, ended = Metrics(runtime, CollectorRegistry()), threading.Event()

    def scrape() -> None:
        while not ended.wait(SCRAPE_S):
            generate_latest(metrics.registry)

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        ended.set()  # not joined: the loop would stand still that a scrape may wait for


@contextmanager
def _transitions(runtime: Runtime) -> Iterator[None]:
    """State transitions go to a log that drops them."""
    logger, handler = logging.getLogger("perdure.transitions"), logging.NullHandler()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(logging.NOTSET)
        logger.removeHandler(handler)


@contextmanager
def _nothing(runtime: Runtime) -> Iterator[None]:
    yield


def _all_traced(provider: TracerProvider) -> Tracing:
    return Tracing(provider, spans_per_s=None)


@dataclass(frozen=True, slots=True)
class Variant:
    """Something that observes a runtime: while it is switched on, or from its start.

    ``target`` None: the ratio is shown, and not judged.
    """

    name: str
    switch_on: Callable[[Runtime], AbstractContextManager[None]] = _nothing
    traces: Callable[[TracerProvider], Tracing] | None = None
    target: float | None = None


OFF = Variant("off")

VARIANTS = (
    Variant("every event heard", _observed),
    Variant("transitions logged", _transitions),
    Variant("metrics", _metrics),
    Variant("traces", traces=Tracing),
    Variant("metrics and traces", _metrics, Tracing, TARGET),
    Variant("all traced", traces=_all_traced),
)


# What is measured


def _flush(tracing: Tracing | None) -> None:
    """Spans are exported when they began, whenever the exporter would have come to it."""
    if tracing is not None and isinstance(tracing.tracer_provider, TracerProvider):
        tracing.tracer_provider.force_flush()


async def _turns(path: Path, sizes: Sizes, variant: Variant, tracing: Tracing | None) -> Stopwatch:
    async with runtime_over(path, tracing=tracing) as runtime:
        refs = await open_all(runtime, names(sizes.instances))
        _flush(tracing)
        with variant.switch_on(runtime), stopwatch() as watch:
            await closed_loop(runtime, refs, sizes.turns)
            _flush(tracing)
        return watch


async def _orders(path: Path, sizes: Sizes, variant: Variant, tracing: Tracing | None) -> Stopwatch:
    settings, url = unbounded(), url_of(path)
    async with Runtime(url, [Fulfilment, workers()], settings, tracing=tracing) as runtime:
        await place(runtime, [f"before-{name}" for name in names(sizes.orders_before)])
        await runtime.settled()
        _flush(tracing)
        with variant.switch_on(runtime), stopwatch() as watch:
            await place(runtime, names(sizes.orders))
            await runtime.settled()
            _flush(tracing)
        return watch


@dataclass(frozen=True, slots=True)
class Load:
    """What is done meanwhile, and how many turns that is."""

    name: str
    run: Callable[[Path, Sizes, Variant, Tracing | None], Coroutine[Any, Any, Stopwatch]]
    turns: Callable[[Sizes], int]


LOADS = (
    Load("turns", _turns, lambda sizes: sizes.instances * sizes.turns),
    Load("orders", _orders, lambda sizes: sizes.orders * TURNS),
)


def run(bench: Bench, sizes: Sizes = Sizes()) -> Result:
    """Turns, and CPU time of each, with each variant against those without it."""
    pairs = [(load, variant) for load in LOADS for variant in VARIANTS]
    measures: list[tuple[str, Measure]] = []
    for number, (load, variant) in enumerate(pairs):
        pair = _pair(bench, sizes, load, variant, number)
        measures.append((f"{load.name}, {variant.name}", pair))
    rounds = run_rounds(bench, measures)
    result = Result("observed", rounds.disturbance())
    for (label, _), (_, variant) in zip(measures, pairs, strict=True):
        off, on = f"{label} off", label
        result.figures.append(rounds.figure(f"{on} cpu", "us/turn"))
        if variant.traces is not None:
            result.figures.append(rounds.figure(f"{on} spans", "spans", f"{on} spans, in all"))
        result.ratios += [
            rounds.ratio(f"{label} / off, by cpu", f"{off} cpu", f"{on} cpu", variant.target),
            rounds.ratio(f"{label} / off", on, off),
        ]
    result.notes += [
        "each variant beside the same load without it, before and after it in turn",
        f"orders: {TURNS} turns and {JOBS} jobs each; counted in turns; cpu is of all threads",
        f"metrics are scraped every {SCRAPE_S:g} s; traces: {SPANS_PER_S:g} spans a second at most",
    ]
    return result


def _pair(bench: Bench, sizes: Sizes, load: Load, variant: Variant, number: int) -> Measure:
    """Without and with, or with and without: each round the other way round."""
    rounds = count(number)

    def pair() -> Mapping[str, float]:
        found: dict[str, float] = {}
        order = (OFF, variant) if next(rounds) % 2 else (variant, OFF)
        for one in order:
            name = f"{load.name}, {variant.name}" + (" off" if one is OFF else "")
            found |= {f"{name}{what}": value for what, value in _once(bench, sizes, load, one)}
        return found

    return pair


def _once(bench: Bench, sizes: Sizes, load: Load, variant: Variant) -> Iterator[tuple[str, float]]:
    exporter = Encoding()
    provider = TracerProvider(shutdown_on_exit=False)
    tracing = None
    if variant.traces is not None:
        provider.add_span_processor(BatchSpanProcessor(exporter))
        tracing = variant.traces(provider)
    with bench.fresh() as path:
        watch = asyncio.run(load.run(path, sizes, variant, tracing))
    provider.shutdown()
    turns = load.turns(sizes)
    yield from (("", watch.rate(turns)), (" cpu", watch.cpu_us(turns)))
    if tracing is not None:
        yield " spans", float(exporter.spans)
