"""``sagas``: ordered sagas and workflows of five trivial steps, end to end, 1,000 in flight.

In one run with ``work``, so that the ratio says what the steps' bookkeeping costs beside plain
commands and their workers. Next to read: ``work.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.counting import CountingStore
from benchmarks.load import names, url_of
from benchmarks.measure import Bench, run_rounds, stopwatch
from benchmarks.result import Ratio, Result
from benchmarks.work import IN_FLIGHT, end_to_end, unbounded
from perdure import Context, OrderedSaga, Runtime, SqlStore, Workflow, message, step, workflow
from perdure.runtime.definitions import Saga

__all__ = ["QUICK", "Sizes", "run"]

TARGET = 0.8
STEPS = 5


@dataclass(frozen=True, slots=True)
class Sizes:
    """Instances of each kind; orders for comparison; workflows asleep, and how long the runtime is
    watched meanwhile."""

    instances: int = 2_000
    orders: int = 2_000
    asleep: int = 100_000
    idle_s: float = 3.0


QUICK = Sizes(instances=300, orders=500, asleep=2_000, idle_s=1.0)


@message(name="bench.Trip")
class Trip:
    trip_id: str
    steps: int = 0


@message(name="bench.Document")
class Document(Trip):
    pass


def ordered_saga() -> OrderedSaga:
    """Five steps, each with a compensation."""
    saga = OrderedSaga("bench.trip", Trip, by="trip_id")

    def declare(field: str) -> None:
        async def perform(trip: Trip) -> Mapping[str, Any]:
            return {"steps": trip.steps + 1}

        async def undo(trip: Trip) -> None: ...

        saga.step(name=field, concurrency=100)(perform)
        saga.compensates(field, concurrency=100)(undo)

    for field in ("first", "second", "third", "fourth", "fifth"):
        declare(field)
    return saga


def listed() -> Workflow:
    """Five steps."""

    def named(field: str) -> Any:
        @step(name=field, concurrency=100)
        async def perform(document: Document) -> Mapping[str, Any]:
            return {"steps": document.steps + 1}

        return perform

    fields = ("first", "second", "third", "fourth", "fifth")
    return Workflow("bench.document", Document, by="trip_id", steps=map(named, fields))


@message(name="bench.Walked")
class Walked(Trip):
    pass


@step(concurrency=500)
async def walk(walked: Walked) -> Walked:
    """The one step, performed five times."""
    return Walked(walked.trip_id, walked.steps + 1)


@workflow("bench.walked", Walked, by="trip_id", steps=[walk])
async def walked(ctx: Context, event: Walked) -> Walked:
    """Five steps of a coroutine."""
    for number in range(STEPS):
        event = await ctx.step(walk, event, key=str(number))
    return event


@message(name="bench.Nightfall")
class Nightfall:
    sleeper: str


@workflow("bench.asleep", Nightfall, by="sleeper", steps=[])
async def asleep(ctx: Context, event: Nightfall) -> None:
    """Sleeps for a month."""
    await ctx.sleep(days=30)


def run(bench: Bench, sizes: Sizes = Sizes()) -> Result:
    """Steps per second against the jobs per second of plain commands."""
    rounds = run_rounds(
        bench,
        [
            ("work", lambda: end_to_end(bench, sizes.orders)),
            ("ordered", lambda: _steps(bench, "ordered", ordered_saga(), Trip, sizes)),
            ("workflow", lambda: _steps(bench, "workflow", listed(), Document, sizes)),
            ("coroutine", lambda: _steps(bench, "coroutine", walked, Walked, sizes)),
            ("asleep", lambda: _asleep(bench, sizes)),
        ],
    )
    result = Result("sagas", rounds.disturbance())
    result.figures += [
        rounds.figure("jobs", "jobs/s", "work"),
        rounds.figure("jobs cpu", "us/job", "work cpu"),
        rounds.figure("ordered", "steps/s", "ordered sagas"),
        rounds.figure("ordered cpu", "us/step"),
        rounds.figure("workflow", "steps/s", "workflows"),
        rounds.figure("workflow cpu", "us/step"),
        rounds.figure("coroutine", "steps/s", "coroutine workflows"),
        rounds.figure("coroutine cpu", "us/step"),
        rounds.figure("asleep queries", "store calls"),
        rounds.figure("asleep cpu", "of a core"),
    ]
    result.ratios += [
        rounds.ratio("ordered / work", "ordered", "jobs", TARGET),
        rounds.ratio("workflow / work", "workflow", "jobs", TARGET),
        rounds.ratio("ordered / work by cpu", "jobs cpu", "ordered cpu"),
        rounds.ratio("workflow / work by cpu", "jobs cpu", "workflow cpu"),
        rounds.ratio("coroutine / work", "coroutine", "jobs"),
        Ratio("asleep queries", max(rounds.values["asleep queries"]), 0.0, at_least=False),
    ]
    result.notes.append(f"asleep: {sizes.asleep:,} coroutines in ctx.sleep(days=30)")
    result.notes.append(
        f"{STEPS} steps in a row, {min(IN_FLIGHT, sizes.instances):,} instances in flight; work: "
        "orders of three commands, counted in commands"
    )
    return result


def _steps(bench: Bench, label: str, saga: Saga, data: type, sizes: Sizes) -> Mapping[str, float]:
    with bench.fresh() as path:

        async def main() -> dict[str, float]:
            async with Runtime(url_of(path), [saga], unbounded()) as runtime:
                with stopwatch() as watch:
                    await _begin(runtime, saga, data, sizes.instances)
                done = [view async for view in runtime.instances(saga, status="completed")]
            assert len(done) == sizes.instances
            assert all(view.result.steps == STEPS for view in done)
            steps = sizes.instances * STEPS
            return {label: watch.rate(steps), f"{label} cpu": watch.cpu_us(steps)}

        return asyncio.run(main())


def _asleep(bench: Bench, sizes: Sizes) -> Mapping[str, float]:
    with bench.fresh() as path:
        store = CountingStore(SqlStore(url_of(path)))

        async def main() -> dict[str, float]:
            async with Runtime(store, [asleep], unbounded()) as runtime:
                await _publish(runtime, map(Nightfall, names(sizes.asleep)))
                await runtime.settled()
                await asyncio.sleep(0.2)
                store.calls = 0
                with stopwatch() as watch:
                    await asyncio.sleep(sizes.idle_s)
                calls = float(store.calls)
            return {"asleep queries": calls, "asleep cpu": watch.cpu_s / watch.wall_s}

        return asyncio.run(main())


async def _publish(runtime: Runtime, messages: Iterable[Any]) -> None:
    waiting = iter(messages)

    async def sender() -> None:
        for one in waiting:
            await runtime.publish(one)

    await asyncio.gather(*(sender() for _ in range(IN_FLIGHT)))


async def _begin(runtime: Runtime, saga: Saga, data: type, count: int) -> None:
    waiting = iter(names(count))

    async def caller() -> None:
        for id_ in waiting:
            await runtime.publish(data(id_), message_id=f"begin-{id_}")
            await runtime.result(runtime.ref(saga, id_))

    await asyncio.gather(*(caller() for _ in range(min(IN_FLIGHT, count))))
