"""Runtimes of one process share the limits of their work queues."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from typing import Any

from perdure import MemoryStore, Rate, Runtime, WorkQueue, message
from perdure.core.work import QueuePolicy, QueueState
from perdure.runtime.jobs.permits import Permits
from perdure.testing import SimulatedClock
from perdure.testing.sample_rows import outbox_row
from tests.runtime.support import quickly, rounds


@message(name="permits-test.work")
class Work:
    who: int
    number: int


class Place:
    """Where the workers of all runtimes meet."""

    def __init__(self):
        self.at_work = []
        self.most = 0
        self.done = []
        self.open = asyncio.Event()

    async def work(self, command):
        self.at_work.append(command)
        self.most = max(self.most, len(self.at_work))
        await self.open.wait()
        await asyncio.sleep(0)
        self.at_work.remove(command)
        self.done.append(command)


def runtimes(place, count, clock=None, **policy):
    """So many that share a queue."""
    queue = WorkQueue("permits-test", **policy)

    @queue.worker
    async def work(command: Work) -> None:
        await place.work(command)

    made = Runtime("memory://", [queue], clock=clock)._blueprint
    permits = Permits()
    return [Runtime.of(replace(made, store=MemoryStore(), permits=permits)) for _ in range(count)]


@quickly
async def test_a_queue_starts_no_more_jobs_than_its_concurrency_in_all_runtimes_together():
    place = Place()
    async with AsyncExitStack() as stack:
        several = [
            await stack.enter_async_context(one) for one in runtimes(place, 4, concurrency=3)
        ]
        for number in range(10):
            for who, one in enumerate(several):
                await one.enqueue(Work(who, number))
        await rounds()
        assert len(place.at_work) == 3
        place.open.set()
        await asyncio.gather(*(one.settled() for one in several))
        assert len(place.done) == 40
        assert place.most == 3


@quickly
async def test_a_runtime_with_much_to_do_lets_the_others_have_their_turn():
    place = Place()
    async with AsyncExitStack() as stack:
        busy, other = [
            await stack.enter_async_context(one) for one in runtimes(place, 2, concurrency=1)
        ]
        for number in range(20):
            await busy.enqueue(Work(0, number))
        for number in range(3):
            await other.enqueue(Work(1, number))
        place.open.set()
        await asyncio.gather(busy.settled(), other.settled())
        assert [command.who for command in place.done[:8]].count(1) == 3


@quickly
async def test_what_a_runtime_held_is_free_when_it_has_stopped():
    place = Place()
    async with AsyncExitStack() as stack:
        leaves, stays = runtimes(place, 2, concurrency=1)
        await leaves.start()
        await stack.enter_async_context(stays)
        await leaves.enqueue(Work(0, 1))
        await rounds()
        await stays.enqueue(Work(1, 1))
        await rounds()
        assert [command.who for command in place.at_work] == [0]
        stopping = asyncio.create_task(leaves.stop())
        await rounds()
        place.open.set()
        await stopping
        await stays.settled()
        assert [command.who for command in place.done] == [0, 1]


@quickly
async def test_who_waits_for_others_stops_without_waiting_for_them():
    place = Place()
    async with AsyncExitStack() as stack:
        works, waits = runtimes(place, 2, concurrency=1)
        await stack.enter_async_context(works)
        await waits.start()
        await works.enqueue(Work(0, 1))
        await rounds()
        await waits.enqueue(Work(1, 1))
        await rounds()
        await waits.stop()
        assert [command.who for command in place.at_work] == [0]
        await works.enqueue(Work(0, 2))
        place.open.set()
        await works.settled()
        assert len(place.done) == 2


@quickly
async def test_a_rate_holds_for_all_together():
    place, clock = Place(), SimulatedClock()
    place.open.set()
    async with AsyncExitStack() as stack:
        rate = Rate(2, per_s=10)
        several = [
            await stack.enter_async_context(one)
            for one in runtimes(place, 3, clock, concurrency=8, rate=rate)
        ]
        for who, one in enumerate(several):
            for number in range(2):
                await one.enqueue(Work(who, number))
        await clock.settle()
        assert len(place.done) == 2
        await clock.advance(timedelta(seconds=10))
        assert len(place.done) == 4
        await clock.advance(timedelta(seconds=10))
        assert len(place.done) == 6


class Idle:
    """A queue of one runtime that has nothing to start."""

    def __init__(self, policy):
        self.state = QueueState(policy)
        self.pumped = 0
        self.mine: Any = None

    def pump(self):
        self.pumped += 1
        self.mine.passed(self)


@quickly
async def test_a_turn_that_is_not_used_goes_to_the_next():
    policy = QueuePolicy(name="q", concurrency=1)
    mine = Permits().of(policy)
    busy, *idle = (Idle(policy) for _ in range(4))
    for one in (busy, *idle):
        one.mine = mine
        mine.enlist(one)
    assert mine.may_start(busy)
    busy.state.running[1] = outbox_row("Order/x", 1)
    assert not any(mine.may_start(one) for one in idle)
    busy.state.running.clear()
    mine.passed(busy)
    await rounds()
    assert [one.pumped for one in idle] == [1, 1, 1]
    assert mine.may_start(busy)
