"""Throughput over a journal of 1,000,000 rows of 200,000 instances, against an empty one.

The old rows are turns of the measured saga, written through the store. Messages go to instances
drawn at random: resident ones (what the grown index costs), and cold ones (rehydrated first).
Next to read: ``throughput.py``.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.load import closed_loop, names, open_all, runtime_over, scattered, url_of
from benchmarks.measure import Bench, run_rounds, stopwatch
from benchmarks.result import Result
from benchmarks.sagas import Order
from perdure import SqlStore, Status
from perdure.core.commit import HeadRow, JournalRow, TurnRecord

__all__ = ["QUICK", "Sizes", "run"]

TARGET = 0.4
GROUP = 5_000


@dataclass(frozen=True, slots=True)
class Sizes:
    """``working_set`` instances are made resident; each measure takes ``turns`` turns."""

    instances: int = 200_000
    rows_each: int = 5
    working_set: int = 20_000
    empty_instances: int = 2_000
    turns: int = 40_000


QUICK = Sizes(instances=20_000, working_set=4_000, turns=10_000)


def run(bench: Bench, sizes: Sizes = Sizes()) -> Result:
    """Turns per second over the grown journal against an empty one."""
    with bench.fresh() as path:
        bench.tell("filling the journal")
        asyncio.run(_grow(bench, path, sizes))
        rounds = run_rounds(
            bench,
            [
                ("empty", lambda: _empty(bench, sizes)),
                ("grown", lambda: asyncio.run(_grown(path, sizes))),
            ],
        )
    total = sizes.instances * sizes.rows_each
    return Result(
        "grown",
        [
            *rounds.disturbance(),
            rounds.figure("empty", "turns/s", "empty journal"),
            rounds.figure("resident", "turns/s", f"{total:,} rows, resident"),
            rounds.figure("cold", "turns/s", f"{total:,} rows, cold"),
        ],
        [
            rounds.ratio("resident / empty", "resident", "empty", TARGET),
            rounds.ratio("cold / empty", "cold", "empty"),
        ],
        [
            f"resident: {sizes.working_set:,} of {sizes.instances:,} instances, rehydrated before, "
            "drawn at random, 1,000 in flight",
            f"cold: the first message to each of these {sizes.working_set:,}, rehydration included",
            f"empty: {sizes.empty_instances:,} resident instances, drawn at random",
        ],
    )


def _empty(bench: Bench, sizes: Sizes) -> Mapping[str, float]:
    with bench.fresh() as path:

        async def main() -> dict[str, float]:
            async with runtime_over(path) as runtime:
                refs = await open_all(runtime, names(sizes.empty_instances))
                targets = random.Random(5).choices(refs, k=sizes.turns)
                with stopwatch() as watch:
                    await scattered(runtime, targets)
                return {"empty": watch.rate(sizes.turns)}

        return asyncio.run(main())


async def _grown(path: Path, sizes: Sizes) -> dict[str, float]:
    chooser = random.Random()
    async with runtime_over(path) as runtime:
        ids = chooser.sample(range(sizes.instances), sizes.working_set)
        refs = [runtime.ref(Order, f"o-{number:06}") for number in ids]
        first = chooser.randrange(1 << 40)
        with stopwatch() as cold:
            await scattered(runtime, refs, first)
        targets = chooser.choices(refs, k=sizes.turns)
        with stopwatch() as resident:
            await scattered(runtime, targets, first + len(refs))
        return {"cold": cold.rate(len(refs)), "resident": resident.rate(sizes.turns)}


async def _grow(bench: Bench, path: Path, sizes: Sizes) -> None:
    with bench.fresh() as small:
        turns = await _pattern(small, sizes.rows_each)
    store = SqlStore(url_of(path))
    epoch = await store.open()
    try:
        for group in _groups(turns, sizes.instances, epoch):
            answers = await store.write(group)
            if any(answers):
                raise AssertionError(f"a row was refused: {answers}")
    finally:
        await store.close()


async def _pattern(path: Path, turns: int) -> list[JournalRow]:
    """The rows of one instance, as a runtime writes them."""
    async with runtime_over(path) as runtime:
        [ref] = await open_all(runtime, ["o-pattern"])
        await closed_loop(runtime, [ref], turns - 1)
    store = SqlStore(url_of(path))
    await store.open()
    try:
        return await store.journal(ref.key)
    finally:
        await store.close()


def _groups(turns: list[JournalRow], instances: int, epoch: int) -> Iterator[list[TurnRecord]]:
    """The pattern's rows under all instances' keys, turn by turn."""
    for row in turns:
        for start in range(0, instances, GROUP):
            numbers = range(start, min(start + GROUP, instances))
            yield [_record(row, number, epoch) for number in numbers]


def _record(row: JournalRow, number: int, epoch: int) -> TurnRecord:
    id_ = f"o-{number:06}"
    key = f"{Order.name}/{id_}"
    record = TurnRecord(replace(row, instance=key, epoch=epoch))
    if row.sequence_nr == 1:
        record.head = HeadRow(key, Order.name, id_, Status.RUNNING, 1, 1)
    return record
