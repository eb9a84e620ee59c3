"""One instance with 500 messages in flight, against as many turns spread over 1,000 instances.

Next to read: ``throughput.py``, whose load is the other side.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.load import closed_loop, open_all, runtime_over
from benchmarks.measure import Bench, run_rounds, stopwatch
from benchmarks.result import Result
from benchmarks.throughput import many_instances

__all__ = ["QUICK", "Sizes", "run"]

TARGET = 0.6


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is in flight on either side, and how many turns each measure takes."""

    in_flight: int = 500
    instances: int = 1_000
    turns: int = 50_000


QUICK = Sizes(turns=10_000)


def run(bench: Bench, sizes: Sizes = Sizes()) -> Result:
    """Turns per second of the hot instance against those of many."""
    rounds = run_rounds(
        bench,
        [
            ("many", lambda: many_instances(bench, sizes.instances, _each(sizes, sizes.instances))),
            ("hot", lambda: _one_instance(bench, sizes)),
        ],
    )
    return Result(
        "hot",
        [
            *rounds.disturbance(),
            rounds.figure("ours", "turns/s", f"{sizes.instances:,} instances"),
            rounds.figure("hot", "turns/s", "one instance"),
            rounds.figure("hot cpu", "us/turn", "one instance, cpu"),
        ],
        [rounds.ratio("one / many", "hot", "ours", TARGET)],
        [f"{sizes.in_flight} messages of the one instance in flight; snapshots every 100 turns"],
    )


def _each(sizes: Sizes, senders: int) -> int:
    return max(sizes.turns // senders, 1)


def _one_instance(bench: Bench, sizes: Sizes) -> Mapping[str, float]:
    with bench.fresh() as path:

        async def main() -> dict[str, float]:
            async with runtime_over(path) as runtime:
                [ref] = await open_all(runtime, ["hot"])
                each = _each(sizes, sizes.in_flight)
                with stopwatch() as watch:
                    await closed_loop(runtime, [ref] * sizes.in_flight, each)
                count = each * sizes.in_flight
                return {"hot": watch.rate(count), "hot cpu": watch.cpu_us(count)}

        return asyncio.run(main())
