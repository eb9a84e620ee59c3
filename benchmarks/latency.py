"""How long an acknowledgement takes at 1, 10 and 100 messages in flight.

Next to read: ``limit.py`` for the plain commit it is compared with.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from benchmarks.limit import one_row_commits
from benchmarks.load import names, open_all, runtime_over
from benchmarks.measure import Bench, Measure, percentile, run_rounds
from benchmarks.result import Figure, Ratio, Result
from benchmarks.sagas import Worked
from perdure import Runtime, SagaRef

__all__ = ["QUICK", "Sizes", "run"]

TARGET = 7.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """Messages in flight (one per instance), and how many are timed at each."""

    in_flight: tuple[int, ...] = (1, 10, 100)
    messages: int = 2_000
    messages_per_flight: int = 100


QUICK = Sizes(messages=500, messages_per_flight=20)


def run(bench: Bench, sizes: Sizes = Sizes()) -> Result:
    """The time from send to receipt, against a plain one-row commit."""
    measures: list[tuple[str, Measure]] = [
        ("plain commit", lambda: one_row_commits(bench, sizes.messages))
    ]
    for depth in sizes.in_flight:
        measures.append((f"{depth} in flight", partial(_acknowledgements, bench, depth, sizes)))
    rounds = run_rounds(bench, measures)
    figures: list[Figure] = [rounds.figure("limit p50", "ms"), rounds.figure("limit p99", "ms")]
    for depth in sizes.in_flight:
        figures.append(rounds.figure(f"{depth} p50", "ms", f"{depth} in flight, p50"))
        figures.append(rounds.figure(f"{depth} p99", "ms", f"{depth} in flight, p99"))
        figures.append(rounds.figure(f"{depth} rate", "turns/s", f"{depth} in flight, rate"))
    ratios: list[Ratio] = []
    if 1 in sizes.in_flight:
        ratios.append(rounds.ratio("p50 / limit p50", "1 p50", "limit p50", TARGET, False))
        ratios += [
            rounds.ratio(f"rate at {depth} / at 1", f"{depth} rate", "1 rate")
            for depth in sizes.in_flight
            if depth > 1
        ]
    return Result("latency", figures, ratios, ["limit: plain sqlite3, one row per commit"])


def _acknowledgements(bench: Bench, depth: int, sizes: Sizes) -> Mapping[str, float]:
    each = max(sizes.messages // depth, sizes.messages_per_flight)
    with bench.fresh() as path:

        async def main() -> tuple[list[float], float]:
            async with runtime_over(path) as runtime:
                refs = await open_all(runtime, names(depth))
                times: list[float] = []
                started = time.perf_counter()
                await asyncio.gather(*(_timed(runtime, ref, each, times) for ref in refs))
                return times, time.perf_counter() - started

        times, wall_s = asyncio.run(main())
    return {
        f"{depth} p50": percentile(times, 0.5) * 1e3,
        f"{depth} p99": percentile(times, 0.99) * 1e3,
        f"{depth} rate": len(times) / wall_s,
    }


async def _timed(runtime: Runtime, ref: SagaRef, messages: int, times: list[float]) -> None:
    id_ = ref.correlation_id
    for number in range(messages):
        started = time.perf_counter()
        await runtime.send(ref, Worked(id_, number), message_id=f"{id_}-{number}")
        times.append(time.perf_counter() - started)
