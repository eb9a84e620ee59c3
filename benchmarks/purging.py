"""What purging costs: latency of sends beside 100,000 ended instances, kept or being purged.

The ended instances are written through the store; each measure has a copy of that file. And the
throughput of short lives that end, kept, or deleted as soon as they have ended.
Next to read: ``latency.py``.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import ClassVar

from benchmarks.load import names, open_all, url_of
from benchmarks.measure import Bench, Measure, percentile, run_rounds, stopwatch
from benchmarks.result import Result
from benchmarks.sagas import Opened, Order, OrderState, Worked
from perdure import (
    Effects,
    ProcessManager,
    Retention,
    Runtime,
    SagaRef,
    Settings,
    SqlStore,
    Status,
    applies,
    continues,
    starts,
    stops,
)
from perdure.core.commit import HeadRow, JournalRow, TurnRecord
from perdure.messages import message

__all__ = ["QUICK", "Sizes", "run"]

TARGET = 1.25
GROUP = 5_000
MONTH = timedelta(days=30)


@message(name="bench.Ended")
class Ended:
    order_id: str


class Past(ProcessManager[OrderState]):
    """Lives for a few turns; nothing is sent."""

    name: ClassVar[str] = "bench.Past"

    @starts(Opened, by="order_id")
    def opened(self, state: OrderState, event: Opened, do: Effects) -> None: ...

    @continues(Worked, by="order_id")
    def worked(self, state: OrderState, event: Worked, do: Effects) -> None: ...

    @stops(Ended, by="order_id")
    def ended(self, state: OrderState, event: Ended, do: Effects) -> None: ...

    @applies(Worked)
    def fold(self, state: OrderState, event: Worked) -> OrderState:
        return OrderState(event.order_id, event.number)


class PastPurged(Past):
    name = Past.name
    retention = Retention.keep_for(MONTH)


class PastDeleted(Past):
    name = Past.name
    retention = Retention.delete()


@dataclass(frozen=True, slots=True)
class Sizes:
    """``ended`` instances of ``turns`` turns each; so many messages are timed, and lives led."""

    ended: int = 100_000
    turns: int = 4
    in_flight: tuple[int, ...] = (1, 10, 100)
    warm_up: int = 200
    messages: int = 3_000
    lives: int = 4_000


QUICK = Sizes(ended=5_000, messages=500, lives=500)


def run(bench: Bench, sizes: Sizes = Sizes()) -> Result:
    """Percentiles of latency, and lives per second, with and without purges."""
    with bench.fresh() as path:
        bench.tell("writing those that have ended")
        asyncio.run(_fill(bench, path, sizes))
        measures: list[tuple[str, Measure]] = []
        for depth in sizes.in_flight:
            for name, saga in (("kept", Past), ("purged", PastPurged)):
                measure = partial(_latency, bench, path, name, saga, depth, sizes)
                measures.append((f"{name}, {depth} in flight", measure))
        for name, saga in (("kept", Past), ("deleted", PastDeleted)):
            measures.append((f"lives, {name}", partial(_lives, bench, name, saga, sizes)))
        rounds = run_rounds(bench, measures)
    result = Result("purging", rounds.disturbance())
    for depth in sizes.in_flight:
        for part in ("p50", "p99"):
            for name in ("kept", "purged"):
                label = f"{name} {depth} {part}"
                result.figures.append(
                    rounds.figure(label, "ms", f"{depth} in flight, {name}, {part}")
                )
            label = f"{depth} in flight: {part} purged / kept"
            target = TARGET if part == "p99" else None
            pair = f"purged {depth} {part}", f"kept {depth} {part}"
            result.ratios.append(rounds.ratio(label, *pair, target, False))
        result.figures.append(
            rounds.figure(f"purges {depth}", "1/s", f"{depth} in flight, purges per second")
        )
    for name in ("kept", "deleted"):
        result.figures.append(rounds.figure(f"lives {name}", "1/s", f"lives, {name}"))
    result.figures.append(rounds.figure("left", "", "lives that were not purged yet at the end"))
    result.ratios.append(rounds.ratio("lives: deleted / kept", "lives deleted", "lives kept"))
    result.notes += [
        f"{sizes.ended:,} instances of {sizes.turns} turns that have ended 31 days ago, in a file "
        "of their own for each measure; purged: they are kept for 30 days",
        f"lives: {sizes.turns} messages each, one after another, 100 lives at a time",
    ]
    return result


@asynccontextmanager
async def _runtime(path: Path, saga: type[Past]) -> AsyncIterator[Runtime]:
    settings = Settings(idle_after_s=None, residents_max=1_000_000)
    async with Runtime(url_of(path), [Order, saga], settings) as runtime:
        yield runtime


def _latency(
    bench: Bench, filled: Path, name: str, saga: type[Past], depth: int, sizes: Sizes
) -> Mapping[str, float]:
    times: list[float] = []

    async def worker(runtime: Runtime, ref: SagaRef) -> None:
        id_ = ref.correlation_id
        for number in range((sizes.warm_up + sizes.messages) // depth):
            started = time.perf_counter()
            await runtime.send(ref, Worked(id_, number), message_id=f"{id_}-{number}")
            times.append(time.perf_counter() - started)

    async def main(path: Path) -> float:
        async with _runtime(path, saga) as runtime:
            refs = await open_all(runtime, names(depth))
            with stopwatch() as watch:
                await asyncio.gather(*(worker(runtime, ref) for ref in refs))
            tallies = await runtime.store.tallies()
            left = sum(one.kept_completed for one in tallies if one.saga == Past.name)
            return watch.rate(sizes.ended - left)

    with bench.fresh() as path:
        shutil.copy(filled, path)
        purges = asyncio.run(main(path))
    kept = times[sizes.warm_up :]
    found = {
        f"{name} {depth} p50": percentile(kept, 0.5) * 1e3,
        f"{name} {depth} p99": percentile(kept, 0.99) * 1e3,
    }
    return {**found, f"purges {depth}": purges} if name == "purged" else found


def _lives(bench: Bench, name: str, saga: type[Past], sizes: Sizes) -> Mapping[str, float]:
    async def life(runtime: Runtime, id_: str) -> None:
        ref = runtime.ref(saga, id_)
        await runtime.send(ref, Opened(id_), message_id="opened")
        for number in range(sizes.turns - 2):
            await runtime.send(ref, Worked(id_, number), message_id=f"{number}")
        await runtime.send(ref, Ended(id_), message_id="ended")

    async def main(path: Path) -> dict[str, float]:
        async with _runtime(path, saga) as runtime:
            waiting = iter(names(sizes.lives))

            async def worker() -> None:
                for id_ in waiting:
                    await life(runtime, id_)

            with stopwatch() as watch:
                await asyncio.gather(*(worker() for _ in range(100)))
            tallies = await runtime.store.tallies()
            left = sum(one.kept_completed for one in tallies if one.saga == Past.name)
            found = {f"lives {name}": watch.rate(sizes.lives)}
            return {**found, "left": float(left)} if name == "deleted" else found

    with bench.fresh() as path:
        return asyncio.run(main(path))


async def _fill(bench: Bench, path: Path, sizes: Sizes) -> None:
    with bench.fresh() as small:
        turns = await _pattern(small, sizes.turns)
    store = SqlStore(url_of(path))
    epoch = await store.open()
    try:
        for group in _groups(turns, sizes, epoch):
            if any(await store.write(group)):
                raise AssertionError("a row was refused")
    finally:
        await store.close()


async def _pattern(path: Path, turns: int) -> list[JournalRow]:
    """The rows of one instance, as a runtime writes them."""
    async with _runtime(path, Past) as runtime:
        ref = runtime.ref(Past, "pattern")
        await runtime.send(ref, Opened("pattern"))
        for number in range(turns - 2):
            await runtime.send(ref, Worked("pattern", number))
        await runtime.send(ref, Ended("pattern"))
    store = SqlStore(url_of(path))
    await store.open()
    try:
        return await store.journal(ref.key)
    finally:
        await store.close()


def _groups(turns: list[JournalRow], sizes: Sizes, epoch: int) -> Iterator[list[TurnRecord]]:
    ended_at_ms = int((time.time() - timedelta(days=31).total_seconds()) * 1000)
    for row in turns:
        for start in range(0, sizes.ended, GROUP):
            numbers = range(start, min(start + GROUP, sizes.ended))
            yield [_record(row, number, epoch, len(turns), ended_at_ms) for number in numbers]


def _record(row: JournalRow, number: int, epoch: int, last: int, at_ms: int) -> TurnRecord:
    id_ = f"p-{number:06}"
    key = f"{Past.name}/{id_}"
    record = TurnRecord(replace(row, instance=key, epoch=epoch))
    status = {1: Status.RUNNING, last: Status.COMPLETED}.get(row.sequence_nr)
    if status is not None:
        record.head = HeadRow(key, Past.name, id_, status, at_ms - 1_000, at_ms + number)
    return record
