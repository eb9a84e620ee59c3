"""What tracing costs: the same load with it and without, in pairs one right after the other.

A real SDK: ``TracerProvider``, ``BatchSpanProcessor``, and an exporter that drops the spans, or
turns each into JSON first (an exporter over a network encodes, too, in a thread of this process).
Plain turns, and orders with commands and workers.
Next to read: ``throughput.py``, ``work.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from benchmarks.load import closed_loop, names, open_all, url_of
from benchmarks.measure import Bench, Rounds, run_rounds, stopwatch
from benchmarks.result import Result
from benchmarks.sagas import Order
from benchmarks.work import JOBS, TURNS, Fulfilment, place, unbounded, workers
from perdure import Runtime
from perdure.ops.tracing import SHARE, Tracing

__all__ = ["QUICK", "Sizes", "run"]

TARGET = 0.9


@dataclass(frozen=True, slots=True)
class Sizes:
    """``turns`` of each of the instances; orders end to end; the shares that are measured."""

    instances: int = 1_000
    turns: int = 30
    orders: int = 2_000
    shares: tuple[float, ...] = (1.0, 0.1, 0.01, SHARE)


QUICK = Sizes(turns=10, orders=500)


class Dropping(SpanExporter):
    """Takes spans, as an exporter does; ``encoded``: after it has made JSON of each."""

    def __init__(self, encoded: bool = False) -> None:
        self.spans = self.bytes = 0
        self._encoded = encoded

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += len(spans)
        if self._encoded:
            self.bytes += sum(len(span.to_json(indent=None)) for span in spans)
        return SpanExportResult.SUCCESS


class Provider(TracerProvider):
    """A real provider over a dropping exporter."""

    def __init__(self, encoded: bool) -> None:
        super().__init__(shutdown_on_exit=False)
        self.exporter = Dropping(encoded)
        self.add_span_processor(BatchSpanProcessor(self.exporter))

    def close(self) -> None:
        """Export what is left."""
        self.shutdown()


def run(bench: Bench, sizes: Sizes = Sizes()) -> Result:
    """Turns per second with tracing against without."""
    variants = [(f"{share:g}", share, False) for share in sizes.shares]
    variants.append(("0.1 to JSON", 0.1, True))
    measures: list[tuple[str, Callable[[], Mapping[str, float]]]] = []
    pairs = [(load, variant) for load in (_turns, _orders) for variant in variants]
    for number, (load, (name, share, encoded)) in enumerate(pairs):
        label = f"{load.__name__[1:]} {name}"
        traced_first = number % 2 == 0
        pair = partial(_pair, bench, sizes, load, label, share, encoded, traced_first)
        measures.append((label, pair))
    rounds = run_rounds(bench, measures)
    return _result(rounds, [label for label, _ in measures])


def _result(rounds: Rounds, labels: Sequence[str]) -> Result:
    result = Result("traced", rounds.disturbance())
    for label in labels:
        target = TARGET if label.endswith(f" {SHARE:g}") else None
        result.figures.append(rounds.figure(f"{label} cpu", "us/turn"))
        result.figures.append(rounds.figure(f"{label} spans", "spans/turn"))
        result.ratios.append(rounds.ratio(f"{label} / off", label, f"{label} off", target))
        result.ratios.append(
            rounds.ratio(f"{label}, by cpu", f"{label} off cpu", f"{label} cpu", None)
        )
    result.notes += [
        "each share beside the same load without tracing, right before or after it",
        f"orders: {TURNS} turns and {JOBS} jobs each; counted in turns; cpu is of all threads",
        "to JSON: the exporter's thread encodes every span, as one over a network would",
    ]
    return result


def _pair(
    bench: Bench,
    sizes: Sizes,
    load: Callable[[Bench, Sizes, Tracing | None], tuple[float, float]],
    label: str,
    share: float,
    encoded: bool,
    traced_first: bool,
) -> Mapping[str, float]:
    found: dict[str, float] = {}
    for is_traced in (traced_first, not traced_first):
        with closing(Provider(encoded)) as provider:
            rate, cpu_us = load(bench, sizes, Tracing(provider, share) if is_traced else None)
        name = label if is_traced else f"{label} off"
        found |= {name: rate, f"{name} cpu": cpu_us}
        if is_traced:
            turns = sizes.orders * TURNS if load is _orders else sizes.instances * sizes.turns
            found[f"{label} spans"] = provider.exporter.spans / turns
    return found


def _turns(bench: Bench, sizes: Sizes, tracing: Tracing | None) -> tuple[float, float]:
    with bench.fresh() as path:

        async def main() -> tuple[float, float]:
            async with Runtime(url_of(path), [Order], unbounded(), tracing=tracing) as runtime:
                refs = await open_all(runtime, names(sizes.instances))
                with stopwatch() as watch:
                    await closed_loop(runtime, refs, sizes.turns)
                count = sizes.instances * sizes.turns
                return watch.rate(count), watch.cpu_us(count)

        return asyncio.run(main())


def _orders(bench: Bench, sizes: Sizes, tracing: Tracing | None) -> tuple[float, float]:
    with bench.fresh() as path:

        async def main() -> tuple[float, float]:
            async with Runtime(
                url_of(path), [Fulfilment, workers()], unbounded(), tracing=tracing
            ) as runtime:
                with stopwatch() as watch:
                    await place(runtime, names(sizes.orders))
                    await runtime.settled()
                return watch.rate(sizes.orders * TURNS), watch.cpu_us(sizes.orders * TURNS)

        return asyncio.run(main())
