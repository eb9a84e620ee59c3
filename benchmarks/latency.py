"""How long an acknowledgement takes at 1, 10 and 100 messages in flight.

Next to read: ``limit.py`` for the plain commit it is compared with.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.limit import one_row_commits
from benchmarks.load import names, open_all, runtime_over
from benchmarks.measure import Bench, Measure, percentile, run_rounds
from benchmarks.result import Result
from benchmarks.sagas import Worked
from perdure import Runtime, SagaRef

__all__ = ["QUICK", "Sizes", "run"]

TARGET = 7.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many messages are timed; at more than 1 in flight, each is of another instance."""

    in_flight: tuple[int, ...] = (10, 100)
    warm_up: int = 1_500
    messages: int = 2_000
    messages_per_flight: int = 100


QUICK = Sizes(warm_up=100, messages=500, messages_per_flight=20)


def run(bench: Bench, sizes: Sizes = Sizes()) -> Result:
    """The time from send to receipt, against a plain one-row commit."""
    measures: list[tuple[str, Measure]] = [("1 in flight", partial(_pairs, bench, sizes))]
    for depth in sizes.in_flight:
        measures.append((f"{depth} in flight", partial(_acknowledgements, bench, depth, sizes)))
    rounds = run_rounds(bench, measures)
    result = Result("latency", rounds.disturbance())
    for name, label in (("limit", "plain commit"), ("1", "1 in flight")):
        result.figures.append(rounds.figure(f"{name} p50", "ms", f"{label}, p50"))
        result.figures.append(rounds.figure(f"{name} p99", "ms", f"{label}, p99"))
    ratio = rounds.ratio("p50 / plain p50", "1 p50", "limit p50", TARGET, False, floor=1.0)
    result.ratios.append(ratio)
    for depth in sizes.in_flight:
        result.figures.append(rounds.figure(f"{depth} p50", "ms", f"{depth} in flight, p50"))
        result.figures.append(rounds.figure(f"{depth} p99", "ms", f"{depth} in flight, p99"))
    result.notes += [
        "plain commit and 1 in flight: one of each in turn, after both write-ahead logs have gone "
        "round once, so that both wait for the same disk in the same state",
        "an acknowledgement includes such a commit: a ratio below 1 would not be true",
    ]
    return result


def _pairs(bench: Bench, sizes: Sizes) -> Mapping[str, float]:
    """One plain commit, one message, and so on. The plain one blocks the loop, which is idle."""
    plain: list[float] = []
    ours: list[float] = []
    with bench.fresh() as path, one_row_commits(bench, sizes.warm_up + sizes.messages) as commit:

        async def main() -> None:
            async with runtime_over(path) as runtime:
                [ref] = await open_all(runtime, ["one"])
                for number in range(sizes.warm_up + sizes.messages):
                    plain.append(commit())
                    await _timed(runtime, ref, number, ours)

        asyncio.run(main())
    return {
        **_percentiles("limit", plain[sizes.warm_up :]),
        **_percentiles("1", ours[sizes.warm_up :]),
    }


def _acknowledgements(bench: Bench, depth: int, sizes: Sizes) -> Mapping[str, float]:
    each = max(sizes.messages // depth, sizes.messages_per_flight)
    times: list[float] = []

    async def worker(runtime: Runtime, ref: SagaRef) -> None:
        for number in range(each):
            await _timed(runtime, ref, number, times)

    async def main(path: Path) -> None:
        async with runtime_over(path) as runtime:
            refs = await open_all(runtime, names(depth))
            await asyncio.gather(*(worker(runtime, ref) for ref in refs))

    with bench.fresh() as path:
        asyncio.run(main(path))
    return _percentiles(str(depth), times)


async def _timed(runtime: Runtime, ref: SagaRef, number: int, times: list[float]) -> None:
    id_ = ref.correlation_id
    started = time.perf_counter()
    await runtime.send(ref, Worked(id_, number), message_id=f"{id_}-{number}")
    times.append(time.perf_counter() - started)


def _percentiles(name: str, times: list[float]) -> dict[str, float]:
    return {
        f"{name} p50": percentile(times, 0.5) * 1e3,
        f"{name} p99": percentile(times, 0.99) * 1e3,
    }
