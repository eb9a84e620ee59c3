"""100,000 deadlines due at once: of resident instances, then overdue at a restart. And idleness.

Next to read: ``counting.py``, which counts what an idle runtime asks of its store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from benchmarks.counting import CountingStore
from benchmarks.limit import batched_rows
from benchmarks.load import names, runtime_over, url_of
from benchmarks.measure import Bench, run_rounds, stopwatch
from benchmarks.result import Ratio, Result
from benchmarks.sagas import Nap, Sleep
from perdure import Runtime, SqlStore
from perdure.testing.clock import SimulatedClock

__all__ = ["QUICK", "Sizes", "run"]

IN_FLIGHT = 1_000


@dataclass(frozen=True, slots=True)
class Sizes:
    """Each of the instances has one deadline that is due; the idle runtime is watched so long."""

    deadlines: int = 100_000
    idle_s: float = 3.0


QUICK = Sizes(deadlines=5_000, idle_s=1.0)


def run(bench: Bench, sizes: Sizes = Sizes()) -> Result:
    """Deadlines fired per second, and what a runtime does when none is due."""
    rounds = run_rounds(
        bench,
        [
            ("limit", lambda: batched_rows(bench, max(sizes.deadlines, 10_000), 1_000)),
            ("deadlines", lambda: _fire(bench, sizes)),
        ],
    )
    result = Result("deadlines", rounds.disturbance())
    result.figures += [
        rounds.figure("limit", "rows/s"),
        rounds.figure("resident", "fired/s"),
        rounds.figure("overdue at restart", "fired/s"),
        rounds.figure("idle queries", "store calls"),
        rounds.figure("idle cpu", "of a core"),
    ]
    most = max(rounds.values["idle queries"])
    result.ratios += [
        Ratio("idle queries", most, 0.0, at_least=False),
        rounds.ratio("resident / limit", "resident", "limit"),
        rounds.ratio("overdue / limit", "overdue at restart", "limit"),
    ]
    result.notes += [
        f"{sizes.deadlines:,} due at one moment of a simulated clock; time until all are committed",
        "overdue: from the start of a runtime, instances are rehydrated",
        f"idle: the system's clock, {sizes.deadlines:,} deadlines armed, {sizes.idle_s:g} s",
    ]
    return result


def _fire(bench: Bench, sizes: Sizes) -> Mapping[str, float]:
    with bench.fresh() as path:
        found = asyncio.run(_resident(path, sizes))
        found |= asyncio.run(_overdue(path, sizes))
    with bench.fresh() as path:
        return found | asyncio.run(_idle(path, sizes))


async def _sleep_all(runtime: Runtime, sizes: Sizes) -> None:
    waiting = iter(names(sizes.deadlines))

    async def worker() -> None:
        for id_ in waiting:
            await runtime.publish(Sleep(id_), message_id="sleep")

    await asyncio.gather(*(worker() for _ in range(min(IN_FLIGHT, sizes.deadlines))))


async def _fired(runtime: Runtime, which: str, count: int) -> None:
    """Wait until so many handlers have run and their turns are committed."""
    while Nap.fired[which] < count:  # noqa: ASYNC110  # A handler counts; it cannot await.
        await asyncio.sleep(0.005)
    await runtime.settled()


async def _resident(path: Path, sizes: Sizes) -> dict[str, float]:
    Nap.fired.update(first=0, second=0)
    clock = SimulatedClock()
    async with runtime_over(path, clock=clock) as runtime:
        await _sleep_all(runtime, sizes)
        with stopwatch() as watch:
            advancing = asyncio.ensure_future(clock.advance(timedelta(minutes=61)))
            await _fired(runtime, "first", sizes.deadlines)
            await advancing
    return {"resident": watch.rate(sizes.deadlines)}


async def _overdue(path: Path, sizes: Sizes) -> dict[str, float]:
    clock = SimulatedClock()
    await clock.advance(timedelta(hours=3))
    with stopwatch() as watch:
        async with runtime_over(path, clock=clock) as runtime:
            await _fired(runtime, "second", sizes.deadlines)
    if Nap.fired != {"first": sizes.deadlines, "second": sizes.deadlines}:
        raise AssertionError(f"fired {Nap.fired}, not {sizes.deadlines} each")
    return {"overdue at restart": watch.rate(sizes.deadlines)}


async def _idle(path: Path, sizes: Sizes) -> dict[str, float]:
    store = CountingStore(SqlStore(url_of(path)))
    async with runtime_over(store) as runtime:
        await _sleep_all(runtime, sizes)
        await runtime.settled()
        await asyncio.sleep(0.2)
        store.calls = 0
        with stopwatch() as watch:
            await asyncio.sleep(sizes.idle_s)
        return {"idle queries": float(store.calls), "idle cpu": watch.cpu_s / watch.wall_s}
