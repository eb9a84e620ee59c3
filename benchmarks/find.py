"""How long it takes to find, count and judge instances among 1,000,000, and what the writer feels.

The instances are filled in through the store's own write, turn by turn of a real definition. Each
question is asked through the public API; ``--plans`` prints SQLite's plans of the queries behind.
Next to read: ``grown.py``.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import ClassVar

from benchmarks.load import closed_loop, names, open_all, url_of
from benchmarks.measure import Bench, percentile, run_rounds, stopwatch
from benchmarks.result import Figure, Ratio, Result
from benchmarks.sagas import Order
from perdure import (
    Between,
    Effects,
    Indexed,
    InstanceView,
    ProcessManager,
    Runtime,
    Settings,
    SqlStore,
    Status,
    applies,
    message,
    starts,
    stops,
)
from perdure.codec.journal import JournalCodec
from perdure.core.commit import TurnRecord
from perdure.core.correlation import VerdictKind
from perdure.core.head_query import HeadQuery
from perdure.core.head_query import Order as HeadOrder
from perdure.core.instance import Instance
from perdure.core.outcome import Encoder, record_of
from perdure.core.turn import step
from perdure.messages import Message, datetime_of
from perdure.ops.health import Thresholds, health
from perdure.process_manager import define
from perdure.runtime.definitions import codec_of
from perdure.store.find_statements import counting, finding

__all__ = ["QUICK", "Sale", "Sizes", "run"]

LIMIT_MS = 100.0
TARGET_WRITER = 0.9
LOOK_EACH_S = 5.0
"""A dashboard asks everything so often."""

GROUP = 5_000
MONTH_MS = 30 * 86_400_000
PAGE = 100
EXPECTED = Thresholds(average_duration=timedelta(hours=1), max_process_age=timedelta(days=20))


@message(name="bench.Sold")
class Sold:
    sale_id: str
    customer: str
    amount: int


@message(name="bench.Delivered")
class Delivered:
    sale_id: str
    outcome: str


@dataclass(frozen=True, slots=True)
class SaleState:
    customer: Indexed[str] = ""
    amount: Indexed[int] = 0


class Sale(ProcessManager[SaleState]):
    """Found by its customer and its amount; ten sales a customer."""

    name: ClassVar[str] = "bench.Sale"

    @starts(Sold, by="sale_id")
    def sold(self, state: SaleState, event: Sold, do: Effects) -> None:
        """Nothing is sent."""

    @stops(Delivered, by="sale_id")
    def delivered(self, state: SaleState, event: Delivered, do: Effects) -> None:
        if event.outcome == "failed":
            do.fail("not delivered")
        elif event.outcome == "stuck":
            do.stuck("nobody is at home")

    @applies(Sold)
    def fold(self, state: SaleState, event: Sold) -> SaleState:
        return SaleState(event.customer, event.amount)


@dataclass(frozen=True, slots=True)
class Sizes:
    """``asked``: so often each question; ``turns`` of each of 1,000 instances are the writer's."""

    instances: int = 1_000_000
    asked: int = 30
    writers: int = 1_000
    turns: int = 40
    plans: bool = False


QUICK = Sizes(instances=20_000, asked=10, turns=10)


def run(bench: Bench, sizes: Sizes = Sizes()) -> Result:
    """Milliseconds per question, and the writer's turns with and without somebody who asks."""
    with bench.fresh() as path:
        bench.tell(f"filling in {sizes.instances:,} instances")
        with stopwatch() as filling:
            asyncio.run(_fill(path, sizes.instances))
        bench.tell("asking")
        asked = asyncio.run(_ask(path, sizes))
        rounds = run_rounds(
            bench,
            [
                ("alone", lambda: asyncio.run(_write(path, sizes, "alone", None))),
                ("looked at", lambda: asyncio.run(_write(path, sizes, "looked at", LOOK_EACH_S))),
                ("searched", lambda: asyncio.run(_write(path, sizes, "searched", 0.0))),
            ],
        )
        notes = _plans(path) if sizes.plans else []
    result = Result("find", rounds.disturbance())
    for name, times in asked.items():
        result.figures.append(Figure(f"{name}, p50", percentile(times, 0.5), "ms"))
        result.figures.append(Figure(f"{name}, max", max(times), "ms"))
    slowest = max(max(times) for times in asked.values())
    result.figures += [
        Figure("filled in", filling.rate(sizes.instances), "instances/s"),
        rounds.figure("alone", "turns/s", "writer alone"),
        rounds.figure("looked at", "turns/s", f"asked all of it every {LOOK_EACH_S:g} s"),
        rounds.figure("searched", "turns/s", "asked without a pause"),
    ]
    result.ratios += [
        Ratio(f"slowest / {LIMIT_MS:g} ms", slowest / LIMIT_MS, 1.0, at_least=False),
        rounds.ratio("looked at / alone", "looked at", "alone", TARGET_WRITER),
        rounds.ratio("the same by cpu", "alone cpu", "looked at cpu"),
        rounds.ratio("searched / alone", "searched", "alone"),
    ]
    result.notes.append(
        f"{sizes.instances:,} instances, two indexed fields; a question reads {PAGE} at most, from "
        "a place drawn at random; whoever asks shares the loop with the writer"
    )
    result.notes += notes
    return result


# Filling


async def _fill(path: Path, instances: int) -> None:
    store = SqlStore(url_of(path), synchronous="NORMAL")
    epoch = await store.open()
    try:
        turns = _turns(instances, epoch)
        while group := list(islice(turns, GROUP)):
            answers = await store.write(group)
            if any(answers):
                raise AssertionError(f"a row was refused: {answers}")
    finally:
        await store.close()


def _turns(instances: int, epoch: int) -> Iterator[TurnRecord]:
    """One turn or two of each instance, in the order of their beginnings, over a month."""
    definition = define(Sale)
    codec = codec_of([definition], (), 1_000_000)
    journal, encoder = JournalCodec(codec), Encoder(codec.encode, codec.encode_value)
    chooser, start_ms = random.Random(7), time.time_ns() // 1_000_000 - MONTH_MS
    for number in range(instances):
        id_ = f"s-{number:07}"
        now_ms = start_ms + MONTH_MS * number // instances
        contents: list[object] = [Sold(id_, customer(number, instances), chooser.randrange(10**6))]
        outcome = chooser.choices(["", "done", "failed", "stuck"], [200, 740, 50, 1])[0]
        if outcome:
            contents.append(Delivered(id_, outcome))
        instance = Instance(f"{Sale.name}/{id_}", id_, definition.initial_state())
        for content in contents:
            name, version, body = codec.encode(content)
            m = Message(content, name, version, body, f"{id_}/{name}", now_ms)
            kind = VerdictKind.STOP if isinstance(content, Delivered) else VerdictKind.START
            turn = step(definition, instance, m, kind, False, now_ms, encoder)
            yield record_of(turn, Sale.name, epoch, journal.encode_turn(turn), False)
            instance, now_ms = turn.after, now_ms + chooser.randrange(5_000_000)


def customer(number: int, instances: int) -> str:
    """Whose sale it is."""
    return f"c-{number * 7919 % max(instances // 10, 1):06}"


# Asking

Question = Callable[[], Awaitable[object]]


async def _read(views: AsyncIterator[InstanceView], at_least: int = 0) -> None:
    count = 0
    async for _ in views:
        count += 1
    if count < at_least:
        raise AssertionError(f"{count} were found")


def _questions(runtime: Runtime, instances: int) -> dict[str, Question]:
    chooser, store, saga = random.Random(11), runtime.store, Sale.name
    ended, running = (Status.COMPLETED, Status.FAILED), (Status.RUNNING,)
    now_ms = time.time_ns() // 1_000_000

    def old_ms() -> int:
        return now_ms - chooser.randrange(MONTH_MS)

    def amounts() -> Between:
        low = chooser.randrange(10**6 - 10_000)
        return Between(low, low + 10_000)

    def place() -> str:
        return f"s-{chooser.randrange(instances):07}"

    def find(at_least: int = 0, **what: object) -> Awaitable[None]:
        return _read(runtime.find(Sale, limit=PAGE, **what), at_least)  # type: ignore[arg-type]

    def page() -> Awaitable[None]:
        return find(after=_anybody(place()), order_by="id")

    def latest(statuses: tuple[Status, ...], limit: int) -> Awaitable[object]:
        query = HeadQuery(saga, statuses, HeadOrder.UPDATED, descending=True, limit=limit)
        return store.find(query)

    return {
        "by status": lambda: find(status="stuck"),
        "by three statuses": lambda: find(1, status=["running", "stuck", "failed"]),
        "by field": lambda: find(
            1, where={"customer": customer(chooser.randrange(instances), instances)}
        ),
        "by field and status": lambda: find(
            where={"customer": customer(chooser.randrange(instances), instances)}, status="running"
        ),
        "by a range of a field": lambda: find(where={"amount": amounts()}),
        "by age": lambda: find(
            status="running", older_than=timedelta(milliseconds=chooser.randrange(MONTH_MS))
        ),
        "by idleness, longest first": lambda: find(
            idle_for=timedelta(milliseconds=chooser.randrange(MONTH_MS)), order_by="updated"
        ),
        "a page by id": page,
        "the newest by field": lambda: find(1, order_by="amount", descending=True),
        "counts": runtime.counts,
        "the last 1,000 that ended": lambda: latest(ended, 1_000),
        "how many run for long": lambda: store.count(
            HeadQuery(saga, running, HeadOrder.STARTED, high=old_ms(), limit=10_000)
        ),
        "bytes of the store": store.size,
        "health": lambda: health(runtime, EXPECTED),
    }


def _anybody(id_: str) -> InstanceView:
    """A view that stands for a place in the order of ids."""
    at = datetime_of(0)
    return InstanceView(Sale.name, id_, Status.RUNNING, None, 1, at, at)


async def _ask(path: Path, sizes: Sizes) -> dict[str, list[float]]:
    asked: dict[str, list[float]] = {}
    async with _runtime(path) as runtime:
        questions = _questions(runtime, sizes.instances)
        for _ in range(sizes.asked):
            for name, question in questions.items():
                started = time.perf_counter()
                await question()
                asked.setdefault(name, []).append((time.perf_counter() - started) * 1e3)
    return asked


def _runtime(path: Path) -> Runtime:
    settings = Settings(idle_after_s=None, residents_max=1_000_000, freeze_residents=True)
    return Runtime(url_of(path), [Order, Sale], settings)


# What the writer feels


async def _write(path: Path, sizes: Sizes, name: str, pause_s: float | None) -> Mapping[str, float]:
    """Turns per second of other instances, while somebody asks everything again and again."""
    first = time.time_ns()
    async with _runtime(path) as runtime:
        refs = await open_all(runtime, names(sizes.writers))
        asking = None
        if pause_s is not None:
            asking = asyncio.create_task(_go_on_asking(runtime, sizes, pause_s))
        with stopwatch() as watch:
            await closed_loop(runtime, refs, sizes.turns, first)
        if asking is not None:
            asking.cancel()
            with suppress(asyncio.CancelledError):
                await asking
        turns = sizes.writers * sizes.turns
        return {name: watch.rate(turns), f"{name} cpu": watch.cpu_us(turns)}


async def _go_on_asking(runtime: Runtime, sizes: Sizes, pause_s: float) -> None:
    questions = _questions(runtime, sizes.instances)
    while True:
        for question in questions.values():
            await question()
            await asyncio.sleep(pause_s / len(questions))


# Plans


def _plans(path: Path) -> list[str]:
    found: list[str] = []
    with closing(sqlite3.connect(path)) as connection:
        for order in HeadOrder:
            queries = {
                "": finding(order, False).one_by_one,
                ", descending": finding(order, True).one_by_one,
                ", counted": counting(order),
            }
            for what, sql in queries.items():
                parameters = [None] * sql.count("?")
                plan = connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters).fetchall()
                found.append(f"by {order}{what}: " + "; ".join(step[3] for step in plan))
    return found
