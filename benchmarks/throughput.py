"""How many turns per second at 1,000 instances in flight, and how many on a busy event loop.

Next to read: ``hot.py``, ``latency.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.limit import batched_rows
from benchmarks.load import OtherWork, closed_loop, names, open_all, runtime_over
from benchmarks.measure import Bench, run_rounds, stopwatch
from benchmarks.result import Result

__all__ = ["QUICK", "Sizes", "many_instances", "run"]

TARGET = 0.06
TARGET_BUSY = TARGET / 3


@dataclass(frozen=True, slots=True)
class Sizes:
    """``turns`` are per instance; ``busy`` is the share of other work in the second variant."""

    instances: int = 1_000
    turns: int = 100
    turns_busy: int = 30
    limit_rows: int = 100_000
    busy: float = 0.5


QUICK = Sizes(turns=15, turns_busy=5, limit_rows=20_000)


def run(bench: Bench, sizes: Sizes = Sizes()) -> Result:
    """Turns per second against rows per second of plain sqlite3, or of plain asyncpg."""
    measures = [
        ("limit", lambda: _limit(bench, sizes)),
        ("ours", lambda: many_instances(bench, sizes.instances, sizes.turns)),
    ]
    if sizes.busy:
        measures.append(("busy", lambda: _busy(bench, sizes)))
    rounds = run_rounds(bench, measures)
    result = Result("throughput", rounds.disturbance())
    result.figures += [
        rounds.figure("limit", "rows/s"),
        rounds.figure("limit cpu", "us/row"),
        rounds.figure("ours", "turns/s"),
        rounds.figure("ours cpu", "us/turn"),
    ]
    result.ratios.append(rounds.ratio("ours / limit", "ours", "limit", TARGET))
    result.ratios.append(rounds.ratio("the same by cpu", "limit cpu", "ours cpu"))
    if sizes.busy:
        result.figures.append(rounds.figure("busy", "turns/s", f"ours, loop {sizes.busy:.0%} busy"))
        result.figures.append(rounds.figure("other work", "of the time"))
        result.ratios += [
            rounds.ratio("busy / limit", "busy", "limit", TARGET_BUSY),
            rounds.ratio("busy / ours", "busy", "ours"),
        ]
    result.notes.append("by cpu: limit's per row / ours per turn; depends less on who else is busy")
    result.notes.append(
        f"{sizes.instances:,} instances, one message of each in flight; the driver shares the loop"
    )
    return result


def many_instances(
    bench: Bench, instances: int, turns: int, busy: float = 0.0
) -> Mapping[str, float]:
    """Turns per second of instances that were started before."""
    with _fresh(bench) as store:

        async def main() -> dict[str, float]:
            async with runtime_over(store) as runtime:
                refs = await open_all(runtime, names(instances))
                other = OtherWork(busy) if busy else None
                with stopwatch() as watch:
                    await closed_loop(runtime, refs, turns)
                count = instances * turns
                found = {"ours": watch.rate(count), "ours cpu": watch.cpu_us(count)}
                if other is not None:
                    found = {"busy": watch.rate(count), "other work": other.achieved}
                    other.stop()
                return found

        return asyncio.run(main())


def _limit(bench: Bench, sizes: Sizes) -> Mapping[str, float]:
    if bench.server is None:
        return batched_rows(bench, sizes.limit_rows, sizes.instances)
    from benchmarks.postgres import unnested_rows

    return unnested_rows(bench.server, sizes.limit_rows, sizes.instances)


@contextmanager
def _fresh(bench: Bench) -> Iterator[Path | str]:
    """An empty store: a file, or the URL of a schema on the server."""
    if bench.server is None:
        with bench.fresh() as path:
            yield path
        return
    from benchmarks.postgres import fresh_schema

    with fresh_schema(bench.server) as url:
        yield url


def _busy(bench: Bench, sizes: Sizes) -> Mapping[str, float]:
    return many_instances(bench, sizes.instances, sizes.turns_busy, sizes.busy)
