"""The facts behind a verdict on health, from real rows: with the runtime, and without it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from perdure import (
    Effects,
    Fixed,
    NonRetryable,
    ProcessManager,
    Runtime,
    Settings,
    SqlStore,
    Supervision,
    WorkQueue,
    applies,
    continues,
    message,
    on_deadline,
    starts,
)
from perdure.core.commit import QueueRow
from perdure.errors import Escalated, HandlerFailed
from perdure.ops.health import (
    Health,
    HealthStatus,
    SagaThresholds,
    Thresholds,
    health,
    health_of_store,
)
from perdure.testing import SimulatedClock
from tests.runtime.support import FreeClock, parts, quickly, until

DAY = timedelta(days=1)
REPORTED = threading.Event()


@message(name="health-test.placed")
class Placed:
    id: str
    wish: str = ""


@message(name="health-test.told")
class Told:
    id: str
    what: str


@message(name="health-test.work")
class Work:
    id: str


@message(name="health-test.state")
class State:
    seen: int = 0


class Order(ProcessManager[State]):
    @starts(Placed, by="id")
    def placed(self, state: State, event: Placed, do: Effects) -> None:
        if event.wish == "work":
            do.send(Work(event.id))
        elif event.wish == "deadline":
            do.deadline("soon", timedelta(hours=1))

    @continues(Told, by="id")
    def told(self, state: State, event: Told, do: Effects) -> None:
        match event.what:
            case "complete":
                do.complete()
            case "fail":
                do.fail("told to")
            case "stick":
                do.stuck("told to")
            case "block":
                REPORTED.wait(5)
            case "raise":
                raise ValueError("told to")

    @on_deadline("soon")
    def soon(self, state: State, do: Effects) -> None: ...

    @applies(Told)
    def on_told(self, state: State, event: Told) -> State:
        return replace(state, seen=state.seen + 1)


class Fragile(Order):
    supervision = Supervision.quarantine()


def queue(*, fails: bool = False, paused_after: int | None = None) -> WorkQueue:
    work = WorkQueue("work", retry=Fixed(1.0, max_attempts=9), pause_after=paused_after)

    @work.worker
    async def do(command: Work) -> None:
        if command.id == "never":
            raise NonRetryable("it cannot")
        if fails:
            raise ConnectionError("not now")

    return work


@asynccontextmanager
async def running(
    store: Any, clock: SimulatedClock, *members: Any, **settings: Any
) -> AsyncIterator[Runtime]:
    async with Runtime(
        store, list(members or [Order]), Settings(**settings), clock=clock
    ) as runtime:
        yield runtime


async def tell(runtime: Runtime, id_: str, *what: str, saga: type = Order) -> None:
    for one in what:
        await runtime.send(runtime.ref(saga, id_), Told(id_, one))


def texts(found: Health) -> list[str]:
    return [issue.text for issue in found.issues]


PLAIN = Thresholds(disk_free=None, critical_disk_free=None)


@quickly
async def test_a_runtime_without_processes_is_healthy(store, clock):
    async with running(store, clock) as runtime:
        found = await health(runtime, PLAIN)
        assert (found.status, found.issues, found.at) == (HealthStatus.HEALTHY, (), clock.now)


@quickly
async def test_the_failure_rate_is_of_the_last_ones_that_ended(store, clock):
    async with running(store, clock) as runtime:
        for n in range(20):
            await runtime.publish(Placed(f"o-{n:02}"))
            await clock.advance(timedelta(minutes=1))
            await tell(runtime, f"o-{n:02}", "fail" if n >= 18 else "complete")
        assert texts(await health(runtime, PLAIN)) == []  # 10 % of 20
        last = replace(PLAIN, sample=10)
        assert texts(await health(runtime, last)) == [
            "High failure rate for Order: 20 % of the last 10 ended"
        ]
        assert texts(await health(runtime, replace(last, sample_min=11))) == []


@quickly
async def test_the_average_duration_is_of_the_completed_ones(store, clock):
    async with running(store, clock) as runtime:
        for n, (what, hours) in enumerate([("complete", 2), ("complete", 4), ("fail", 100)]):
            await runtime.publish(Placed(f"o-{n}"))
            await clock.advance(timedelta(hours=hours))
            await tell(runtime, f"o-{n}", what)
        few = replace(PLAIN, sample_min=1, failure_rate=None, critical_failure_rate=None)
        slow = replace(few, average_duration=timedelta(hours=2))
        assert texts(await health(runtime, slow)) == ["Slow processes for Order: 3 h on average"]
        assert texts(await health(runtime, replace(slow, average_duration=3 * DAY))) == []


@quickly
async def test_who_is_stuck_and_who_is_idle_for_too_long_is_counted(store, clock):
    async with running(store, clock) as runtime:
        for n in range(4):
            await runtime.publish(Placed(f"o-{n}"))
        await tell(runtime, "o-0", "stick")
        await tell(runtime, "o-1", "complete")
        await clock.advance(6 * DAY)
        await tell(runtime, "o-2", "nothing")
        assert texts(await health(runtime, PLAIN)) == ["1 process of Order appears stuck"]
        await clock.advance(2 * DAY)
        assert texts(await health(runtime, PLAIN)) == [
            "2 processes of Order appear stuck (1 without anything happening for 7 d)"
        ]
        lax = replace(PLAIN, sagas={"Order": SagaThresholds(stuck_process_age=30 * DAY)})
        assert texts(await health(runtime, lax)) == ["1 process of Order appears stuck"]
    async with running(store, clock) as again:  # nothing of it is lost with the process
        assert len(texts(await health(again, PLAIN))) == 1


@quickly
async def test_who_has_not_ended_in_time_is_too_old_whatever_happened_to_it(store, clock):
    async with running(store, clock) as runtime:
        for n in range(3):
            await runtime.publish(Placed(f"o-{n}"))
        await tell(runtime, "o-0", "complete")
        await clock.advance(3 * DAY)
        await tell(runtime, "o-1", "nothing")
        old = replace(PLAIN, max_process_age=2 * DAY)
        assert texts(await health(runtime, old)) == ["2 processes of Order not ended within 2 d"]


@quickly
async def test_dead_letters_and_quarantined_instances_are_counted(store, clock):
    async with running(store, clock, Order, Fragile) as runtime:
        await runtime.publish(Placed("o-1"))
        with pytest.raises(HandlerFailed):
            await tell(runtime, "o-1", "raise")
        await tell(runtime, "o-1", "raise", saga=Fragile)
        assert texts(await health(runtime, PLAIN)) == ["1 instance quarantined", "1 dead letter"]
        many = replace(PLAIN, dead_letters=2, quarantined=2)
        assert texts(await health(runtime, many)) == []


@quickly
async def test_a_paused_queue_and_jobs_tried_too_often_are_told(store, clock):
    async with running(store, clock, Order, queue(fails=True)) as runtime:
        await runtime.publish(Placed("o-1", "work"))
        await clock.advance(timedelta(seconds=4.5))
        few = replace(PLAIN, max_retry_count=4)
        assert texts(await health(runtime, few)) == [
            "1 job of work queue work tried more than 4 times without success"
        ]
        assert texts(await health(runtime, PLAIN)) == []
        await runtime.queue("work").pause("the provider is down")
        assert texts(await health(runtime, PLAIN)) == [
            "Work queue work is paused with 1 job: the provider is down"
        ]


@quickly
async def test_a_job_that_nobody_takes_lags_and_one_that_is_worked_on_does_not(store):
    clock, at_work, go_on = FreeClock(), asyncio.Event(), asyncio.Event()
    work = WorkQueue("work", concurrency=1, lease_s=10_000)

    @work.worker
    async def do(command: Work) -> None:
        at_work.set()
        await go_on.wait()

    async with running(store, clock, Order, work) as runtime:
        await runtime.publish(Placed("o-1", "work"))
        await at_work.wait()
        await clock.advance(timedelta(minutes=5))
        assert texts(await health(runtime, PLAIN)) == []
        await runtime.publish(Placed("o-2", "work"))
        await clock.advance(timedelta(minutes=2))
        assert texts(await health(runtime, PLAIN)) == [
            "Lag: the oldest of the jobs of work queue work has been due for 2 min"
        ]
        go_on.set()
        await runtime.settled()
        assert texts(await health(runtime, PLAIN)) == []


@quickly
async def test_deadlines_that_do_not_fire_lag_unless_their_instance_is_set_aside(store, clock):
    async with running(store, clock, Order, Fragile) as runtime:
        for id_ in (f"f-{n}" for n in range(25)):
            await runtime.send(runtime.ref(Fragile, id_), Placed(id_, "deadline"))
            await tell(runtime, id_, "raise", saga=Fragile)
        await clock.advance(timedelta(minutes=8))
        await runtime.send(runtime.ref(Order, "o-1"), Placed("o-1", "deadline"))
        await clock.advance(timedelta(minutes=54))
        assert texts(await health(runtime, PLAIN)) == ["25 instances quarantined"]
    clock = SimulatedClock(clock.now + timedelta(minutes=8))
    async with running(store, clock, Fragile) as runtime:  # nobody runs Order any more
        assert texts(await health(runtime, PLAIN)) == [
            "Lag: the oldest of the deadlines has been due for 2 min",
            "25 instances quarantined",
        ]


# The store


@quickly
async def test_a_store_that_cannot_be_read_is_critical_and_nothing_else_is_claimed(store, clock):
    async with running(store, clock) as runtime:
        await runtime.publish(Placed("o-1"))
        await tell(runtime, "o-1", "stick")
        store.fail_reads(1, operation="quarantines")
        found = await health(runtime, PLAIN)
        assert found.status is HealthStatus.CRITICAL
        [text] = texts(found)
        assert text.startswith("The store cannot be read: ")
        assert (await health(runtime, PLAIN)).status is HealthStatus.WARNING


@quickly
async def test_a_write_that_failed_is_critical_until_another_succeeds_also_in_silence(store, clock):
    async with running(store, clock, retry_pause_s=0.001) as runtime:
        store.fail_writes(1_000_000)
        sending = asyncio.create_task(runtime.publish(Placed("o-1")))
        await until(lambda: runtime.vitals().write_error is not None)
        assert not runtime.vitals().is_ready
        found = await health(runtime, PLAIN)
        assert found.status is HealthStatus.CRITICAL
        assert texts(found)[0].startswith("The last write failed: ")
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        store.heal()
        assert (await health(runtime, PLAIN)).status is HealthStatus.HEALTHY
        assert not await store.inner.queues() or not (await store.inner.queues())[0].is_paused


@quickly
async def test_a_write_that_hangs_is_told_and_asked_for_once(memory):
    limits = replace(PLAIN, answer_time=timedelta(milliseconds=20))
    async with Runtime(memory, [Order]) as runtime:
        memory.hold_writes()
        sending = asyncio.create_task(runtime.publish(Placed("o-1")))
        await until(lambda: runtime.vitals().writing_s > 0.02)
        found = await health(runtime, limits)
        assert found.status is HealthStatus.WARNING
        assert texts(found)[0].startswith("A write has been under way for ")
        memory.release()
        await sending
        assert (await health(runtime, limits)).status is HealthStatus.HEALTHY


@quickly
async def test_looking_again_and_again_in_an_outage_piles_nothing_up(memory, clock):
    async with running(memory, clock, retry_pause_s=0.001) as runtime:
        memory.fail_writes(1_000_000)
        sending = asyncio.create_task(runtime.publish(Placed("o-1")))
        await until(lambda: runtime.vitals().write_error is not None)
        memory.heal()
        memory.hold_writes()
        for _ in range(5):
            await runtime.probe(timeout_s=0.001)
        waiting = parts(runtime).services.commit._waiting
        assert not [ticket for ticket in waiting if isinstance(ticket.entry, QueueRow)]
        sending.cancel()
        memory.release()
        await asyncio.gather(sending, return_exceptions=True)


@quickly
async def test_the_disk_of_the_store_is_looked_at(tmp_path, clock):
    url = f"sqlite+aiosqlite:///{tmp_path}/orders.db"
    async with running(url, clock) as runtime:
        found = await health(runtime, Thresholds(disk_free=2**62, critical_disk_free=None))
        assert [issue.kind for issue in found.issues] == ["disk"]
        found = await health(runtime, Thresholds(disk_free=None, critical_disk_free=2**62))
        assert found.status is HealthStatus.CRITICAL


@quickly
async def test_a_store_is_looked_at_without_its_runtime_and_beside_it(tmp_path, clock):
    url = f"sqlite+aiosqlite:///{tmp_path}/orders.db"
    async with running(url, clock) as runtime:
        await runtime.publish(Placed("o-1"))
        await tell(runtime, "o-1", "stick")
        beside = SqlStore(url, read_only=True)
        await beside.open()
        found = await health_of_store(beside, PLAIN, clock=clock)
        assert texts(found) == texts(await health(runtime, PLAIN)) != []
    assert (await health_of_store(beside, PLAIN, clock=clock)).issues == found.issues
    await beside.close()
    assert (await health_of_store(beside, PLAIN, clock=clock)).status is HealthStatus.CRITICAL


# The runtime


@quickly
async def test_background_work_that_keeps_failing_is_told_until_it_works(memory):
    async with Runtime(memory, [Order], Settings(retry_pause_s=0.001)) as runtime:
        running_ = parts(runtime)
        fails = True

        async def work() -> None:
            if fails:
                raise KeyError("a mistake")

        broken = running_.services.background("counting", work)
        broken.start()
        await until(lambda: any(t.failures >= 3 for t in runtime.vitals().troubles))
        found = await health(runtime, PLAIN)
        assert found.status is HealthStatus.CRITICAL
        assert "counting: KeyError: 'a mistake'" in texts(found)[0]
        fails = False
        await until(lambda: not runtime.vitals().troubles)
        assert (await health(runtime, PLAIN)).status is HealthStatus.HEALTHY
        await broken.stop()


class Heard(logging.Handler):
    """Lets the handler that blocks go on when the watch has reported it."""

    def emit(self, record: logging.LogRecord) -> None:
        REPORTED.set()


@quickly
async def test_code_that_blocks_the_loop_is_told(memory):
    watch, heard = logging.getLogger("perdure.watch"), Heard()
    watch.addHandler(heard)
    async with Runtime(memory, [Order], Settings(loop_block_limit_s=0.05)) as runtime:
        await runtime.publish(Placed("o-1"))
        await tell(runtime, "o-1", "block")
        [text] = texts(await health(runtime, PLAIN))
        assert text.startswith("User code blocked the event loop ")
        assert text.endswith(" ago, once so far")
    watch.removeHandler(heard)


@quickly
async def test_a_runtime_that_does_not_run_says_so(memory, clock):
    runtime = Runtime(memory, [Order], clock=clock)
    assert texts(await health(runtime, PLAIN)) == ["The runtime is not running: new"]
    async with runtime:
        assert texts(await health(runtime, PLAIN)) == []
    found = await health(runtime, PLAIN)
    assert (found.status, texts(found)) == (
        HealthStatus.CRITICAL, ["The runtime is not running: stopped"]
    )  # fmt: skip


@quickly
async def test_a_runtime_that_a_saga_has_stopped_says_why(memory, clock):
    class Grave(Order):
        supervision = Supervision.escalate()

    runtime = Runtime(memory, [Grave], clock=clock)
    await runtime.start()
    await runtime.publish(Placed("o-1"))
    await tell(runtime, "o-1", "raise", saga=Grave)
    with pytest.raises(Escalated):
        await runtime.stopped()
    [text] = texts(await health(runtime, PLAIN))
    assert text.startswith("The runtime was stopped: ")
    assert "ValueError: told to" in text
    await runtime.stop()
