"""Commands performed end to end: orders from their start over three workers to their completion.

In one run with the ``throughput`` of plain turns, so that the ratio says what dispatch and workers
cost. And how soon a worker starts after the commit, and what 100,000 waiting retries cost.
Next to read: ``throughput.py``.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from benchmarks.counting import CountingStore
from benchmarks.load import names, url_of
from benchmarks.measure import Bench, percentile, run_rounds, stopwatch
from benchmarks.result import Ratio, Result
from benchmarks.throughput import many_instances
from perdure import (
    Effects,
    Fixed,
    ProcessManager,
    Runtime,
    Settings,
    SqlStore,
    WorkQueue,
    applies,
    continues,
    message,
    starts,
)

__all__ = [
    "IN_FLIGHT",
    "JOBS",
    "QUICK",
    "TURNS",
    "Fulfilment",
    "Sizes",
    "end_to_end",
    "place",
    "run",
    "unbounded",
    "workers",
]

TARGET = 0.4
TARGET_START_MS = 2.0
TURNS = 4
JOBS = 3
IN_FLIGHT = 1_000


@dataclass(frozen=True, slots=True)
class Sizes:
    """Orders end to end; orders one after another for the latency; retries that wait, and how long
    the runtime is watched meanwhile; turns for comparison."""

    orders: int = 2_000
    probes: int = 300
    retries: int = 100_000
    idle_s: float = 3.0
    turns: int = 30


QUICK = Sizes(orders=500, probes=100, retries=2_000, idle_s=1.0, turns=10)


@message(name="bench.Placed")
class Placed:
    order_id: str


@message(name="bench.Charge")
class Charge:
    order_id: str


@message(name="bench.Charged")
class Charged:
    order_id: str


@message(name="bench.Reserve")
class Reserve:
    order_id: str


@message(name="bench.Reserved")
class Reserved:
    order_id: str


@message(name="bench.Dispatch")
class Dispatch:
    order_id: str


@message(name="bench.Dispatched")
class Dispatched:
    order_id: str


@dataclass(frozen=True, slots=True)
class FulfilmentState:
    order_id: str = ""
    step: str = "new"


class Fulfilment(ProcessManager[FulfilmentState]):
    """Three commands, one after another, each performed by a worker."""

    name: ClassVar[str] = "bench.Fulfilment"

    @starts(Placed, by="order_id")
    def placed(self, state: FulfilmentState, event: Placed, do: Effects) -> None:
        do.send(Charge(event.order_id))

    @continues(Charged, by="order_id")
    def charged(self, state: FulfilmentState, event: Charged, do: Effects) -> None:
        do.send(Reserve(event.order_id))

    @continues(Reserved, by="order_id")
    def reserved(self, state: FulfilmentState, event: Reserved, do: Effects) -> None:
        do.send(Dispatch(event.order_id))

    @continues(Dispatched, by="order_id")
    def dispatched(self, state: FulfilmentState, event: Dispatched, do: Effects) -> None:
        do.complete()

    @applies(Placed)
    def fold_placed(self, state: FulfilmentState, event: Placed) -> FulfilmentState:
        return FulfilmentState(event.order_id, "placed")

    @applies(Charged)
    def fold_charged(self, state: FulfilmentState, event: Charged) -> FulfilmentState:
        return replace(state, step="charged")

    @applies(Reserved)
    def fold_reserved(self, state: FulfilmentState, event: Reserved) -> FulfilmentState:
        return replace(state, step="reserved")

    @applies(Dispatched)
    def fold_dispatched(self, state: FulfilmentState, event: Dispatched) -> FulfilmentState:
        return replace(state, step="dispatched")


def workers() -> WorkQueue:
    """A queue with a trivial worker for each command."""
    queue = WorkQueue("bench.work", concurrency=100)

    @queue.worker
    async def charge(command: Charge) -> Charged:
        return Charged(command.order_id)

    @queue.worker
    async def reserve(command: Reserve) -> Reserved:
        return Reserved(command.order_id)

    @queue.worker
    async def dispatch(command: Dispatch) -> Dispatched:
        return Dispatched(command.order_id)

    return queue


def run(bench: Bench, sizes: Sizes = Sizes()) -> Result:
    """Orders per second, in turns, against plain turns; and what waiting costs."""
    rounds = run_rounds(
        bench,
        [
            ("turns", lambda: _turns(bench, sizes)),
            ("orders", lambda: end_to_end(bench, sizes.orders)),
            ("start", lambda: _start(bench, sizes)),
            ("waiting", lambda: _waiting(bench, sizes)),
        ],
    )
    result = Result("work", rounds.disturbance())
    result.figures += [
        rounds.figure("turns", "turns/s", "throughput"),
        rounds.figure("turns cpu", "us/turn", "throughput cpu"),
        rounds.figure("orders", "instances/s"),
        rounds.figure("orders cpu", "us/turn"),
        rounds.figure("start p50", "ms"),
        rounds.figure("start p99", "ms"),
        rounds.figure("idle queries", "store calls"),
        rounds.figure("idle cpu", "of a core"),
    ]
    start, idle = rounds.median("start p50"), max(rounds.values["idle queries"])
    result.ratios += [
        rounds.ratio("orders in turns / throughput", "orders in turns", "turns", TARGET),
        rounds.ratio("the same by cpu", "turns cpu", "orders cpu"),
        Ratio("commit to worker start p50", start, TARGET_START_MS, at_least=False),
        Ratio("idle queries", idle, 0.0, at_least=False),
    ]
    result.notes += [
        f"an order is {TURNS} turns and three commands, each performed by a trivial coroutine",
        "start: from the end of the write that holds the command to the worker's first line",
        f"idle: {sizes.retries:,} failed jobs wait for their next attempt an hour later",
    ]
    return result


def _turns(bench: Bench, sizes: Sizes) -> Mapping[str, float]:
    found = many_instances(bench, IN_FLIGHT, sizes.turns)
    return {"turns": found["ours"], "turns cpu": found["ours cpu"]}


def unbounded() -> Settings:
    """Nobody leaves memory."""
    return Settings(idle_after_s=None, residents_max=1_000_000, freeze_residents=True)


def end_to_end(bench: Bench, orders: int) -> Mapping[str, float]:
    """Orders from their start to their completion."""
    with bench.fresh() as path:

        async def main() -> dict[str, float]:
            async with Runtime(url_of(path), [Fulfilment, workers()], unbounded()) as runtime:
                with stopwatch() as watch:
                    await place(runtime, names(orders))
                    await runtime.settled()
                await _check(runtime, orders)
            rate = watch.rate(orders)
            cpu = watch.cpu_us(orders * TURNS)
            return {
                "orders": rate,
                "orders in turns": rate * TURNS,
                "jobs": rate * JOBS,
                "orders cpu": cpu,
                "jobs cpu": cpu * TURNS / JOBS,
            }

        return asyncio.run(main())


async def place(runtime: Runtime, ids: list[str]) -> None:
    """Start an order for each id, many at a time."""
    waiting = iter(ids)

    async def sender() -> None:
        for id_ in waiting:
            await runtime.publish(Placed(id_), message_id=f"placed-{id_}")

    await asyncio.gather(*(sender() for _ in range(min(IN_FLIGHT, len(ids)))))


async def _check(runtime: Runtime, count: int) -> None:
    completed = [view async for view in runtime.instances(Fulfilment, status="completed")]
    if len(completed) != count:
        raise AssertionError(f"{len(completed)} of {count} orders were completed")


def _start(bench: Bench, sizes: Sizes) -> Mapping[str, float]:
    """One order at a time on an idle runtime."""
    taken: list[float] = []
    queue = WorkQueue("bench.probe")

    @queue.worker(commands=[Charge])
    async def charge(command: Charge) -> None:
        taken.append((time.perf_counter() - store.written_at) * 1e3)

    with bench.fresh() as path:
        store = CountingStore(SqlStore(url_of(path)))

        async def main() -> None:
            async with Runtime(store, [Fulfilment, queue], unbounded()) as runtime:
                for id_ in names(sizes.probes):
                    await runtime.publish(Placed(id_))
                    await runtime.settled()

        asyncio.run(main())
    return {"start p50": percentile(taken, 0.5), "start p99": percentile(taken, 0.99)}


def _waiting(bench: Bench, sizes: Sizes) -> Mapping[str, float]:
    logger = logging.getLogger("perdure.workers")
    before = logger.level
    logger.setLevel(logging.ERROR)  # each failed attempt is a warning
    try:
        with bench.fresh() as path:
            return asyncio.run(_idle(path, sizes))
    finally:
        logger.setLevel(before)


async def _idle(path: Path, sizes: Sizes) -> dict[str, float]:
    queue = WorkQueue("bench.failing", concurrency=1_000, retry=Fixed(3_600.0))

    @queue.worker(commands=[Charge])
    async def charge(command: Charge) -> None:
        raise ConnectionError("the bank does not answer")

    store = CountingStore(SqlStore(url_of(path)))
    async with Runtime(store, [Fulfilment, queue], unbounded()) as runtime:
        await place(runtime, names(sizes.retries))
        await runtime.settled()
        await asyncio.sleep(0.2)
        store.calls = 0
        with stopwatch() as watch:
            await asyncio.sleep(sizes.idle_s)
        return {"idle queries": float(store.calls), "idle cpu": watch.cpu_s / watch.wall_s}
