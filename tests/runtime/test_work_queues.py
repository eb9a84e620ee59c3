"""Work queues from outside: enqueue, pause, resume, cancel, concurrency, rate, order, shutdown."""

import asyncio
import threading
from datetime import timedelta

import pytest

from perdure import Fixed, MemoryStore, NonRetryable, Rate, Runtime, SqlStore, WorkQueue
from perdure.errors import DuplicateWorker, UnknownJob, UnknownQueue, Unroutable
from perdure.testing import FaultyStore, SimulatedClock
from tests.runtime.errands import (
    Asked,
    Do,
    Done,
    Errand,
    desk,
    errand_of,
    errands,
    letters,
    queue_of,
    threaded_queue,
)
from tests.runtime.support import FreeClock, quickly, reopened, rounds, until


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    if request.param == "memory":
        return FaultyStore(MemoryStore())
    url = f"sqlite+aiosqlite:///{tmp_path}/jobs.db"
    return FaultyStore(SqlStore(url, synchronous="NORMAL"))


@quickly
async def test_a_job_without_a_saga_is_performed_by_the_same_workers(store):
    where = desk()
    async with errands(where, store=store) as runtime:
        job_id = await runtime.enqueue(Do("x"), correlation_id="cart-7", headers={"tenant": "a"})
        await runtime.settled()
        assert await store.inner.outbox() == []
    (job,) = where.jobs
    assert (job.key, job.saga, job.instance_id) == (job_id, "", "")
    assert (job.correlation_id, job.headers) == ("cart-7", {"tenant": "a"})


@quickly
async def test_its_result_is_published():
    where = desk(do=lambda command, job: Done(command.id, "by itself"))
    async with errands(where) as runtime:
        await runtime.publish(Asked("e-1"))
        await runtime.settled()
        await runtime.enqueue(Do("e-1"))
        await runtime.settled()
        assert (await errand_of(runtime)).done == ("by itself", "by itself")


@quickly
async def test_a_job_id_that_waits_or_runs_is_not_queued_again(store):
    where = desk()
    async with errands(where, store=store) as runtime:
        await runtime.queue("work").pause()
        ids = [await runtime.enqueue(Do("x"), job_id="newsletter-1") for _ in range(3)]
        assert ids == ["newsletter-1"] * 3
        assert await runtime.queue("work").depth() == 1
        await runtime.queue("work").resume()
        await runtime.settled()
    assert [job.key for job in where.jobs] == ["newsletter-1"]


@quickly
async def test_a_delayed_job_waits_for_its_moment_also_over_a_restart(store):
    clock, where = SimulatedClock(), desk()
    async with errands(where, store=store, clock=clock) as runtime:
        await runtime.enqueue(Do("x"), delay=timedelta(days=2))
        await clock.advance(timedelta(days=1))
        assert where.jobs == []
    async with errands(where, store=reopened(store), clock=clock) as runtime:
        await clock.advance(timedelta(hours=23))
        assert where.jobs == []
        await clock.advance(timedelta(hours=1))
        assert len(where.jobs) == 1


@quickly
async def test_a_command_for_an_unknown_queue_is_refused_at_its_sender():
    async with errands(desk()) as runtime:
        with pytest.raises(Unroutable, match=r"'nowhere'.*it has work"):
            await runtime.enqueue(Do("x"), queue="nowhere")
        with pytest.raises(UnknownQueue, match=r"it performs work"):
            runtime.queue("nowhere")


@quickly
async def test_a_command_that_two_queues_take_needs_a_name():
    where = desk()
    async with errands(where, queue_of("a"), queue_of("b")) as runtime:
        with pytest.raises(Unroutable, match=r"a, b.*queue="):
            await runtime.enqueue(Do("x"))
        await runtime.enqueue(Do("x"), queue="b")
        await runtime.settled()
    assert [job.queue for job in where.jobs] == ["b"]


def test_two_queues_of_one_name_are_an_error_of_the_definition():
    with pytest.raises(DuplicateWorker, match=r"named 'work'"):
        Runtime("memory://", [queue_of(), queue_of()], resources={"desk": desk()})


@quickly
async def test_a_paused_queue_starts_nothing_until_it_is_resumed_also_over_a_restart(store):
    where = desk()
    async with errands(where, store=store) as runtime:
        await runtime.queue("work").pause("the provider is down")
        await runtime.publish(Asked("e-1", count=3))
        await runtime.settled()
        assert where.jobs == []
    async with errands(where, store=reopened(store)) as runtime:
        queue = runtime.queue("work")
        await runtime.settled()
        assert where.jobs == []
        assert (queue.is_paused, queue.pause_reason) == (True, "the provider is down")
        assert await queue.depth() == 3
        await queue.resume()
        await runtime.settled()
        assert len(where.jobs) == 3
        assert await queue.depth() == 0


@quickly
async def test_a_queue_pauses_after_so_many_poisoned_jobs_in_a_row_and_keeps_the_rest(store):
    def deed(command, job):
        raise NonRetryable("poison")

    where = desk(do=deed)
    queue = queue_of(pause_after=3, concurrency=1)
    async with errands(where, queue, store=store) as runtime:
        for number in range(10):
            await runtime.enqueue(Do(f"x-{number}"))
        await runtime.settled()
        ref = runtime.queue("work")
        assert ref.is_paused
        assert "3 jobs in a row" in ref.pause_reason
        dead = len(await letters(runtime))
        assert 3 <= dead <= 4  # one more may have begun before the third was durable
        assert await ref.depth() == 10 - dead
    async with errands(where, queue, store=reopened(store)) as runtime:
        assert runtime.queue("work").is_paused
        where.deeds["do"] = lambda command, job: None
        await runtime.queue("work").resume()
        await runtime.settled()
        assert await runtime.queue("work").depth() == 0


@quickly
async def test_so_many_workers_run_at_a_time():
    running, most = [0], [0]

    async def deed(command, job):
        running[0] += 1
        most[0] = max(most[0], running[0])
        await rounds(3)
        running[0] -= 1

    async with errands(desk(do=deed), queue_of(concurrency=4)) as runtime:
        await runtime.publish(Asked("e-1", count=40))
        await runtime.settled()
    assert most[0] == 4


@quickly
async def test_the_rate_bounds_how_many_start():
    clock = SimulatedClock()
    times = []
    where = desk(do=lambda command, job: times.append(clock.monotonic_s()))
    async with errands(where, queue_of(rate=Rate(5, per_s=10.0)), clock=clock) as runtime:
        await runtime.publish(Asked("e-1", count=12))
        await clock.advance(timedelta(minutes=1))
    assert len(times) == 12
    assert [round(t) for t in times] == [0] * 5 + [10] * 5 + [20] * 2


@quickly
async def test_a_sequential_queue_keeps_the_order_also_over_retries_and_a_restart(store):
    clock, order = SimulatedClock(), []

    def deed(command, job):
        if command.number == 1 and job.attempt < 3:
            raise ConnectionError
        order.append(command.number)

    where = desk(do=deed)
    queue = queue_of(sequential=True, retry=Fixed(60, max_attempts=5))
    async with errands(where, queue, store=store, clock=clock) as runtime:
        await runtime.publish(Asked("e-1", count=5))
        await runtime.settled()
        assert order == [0]
    async with errands(where, queue, store=reopened(store), clock=clock) as runtime:
        await runtime.settled()
        assert order == [0]
        await clock.advance(timedelta(minutes=3))
        assert order == [0, 1, 2, 3, 4]


@quickly
async def test_cancelling_a_waiting_job_makes_it_a_dead_letter_and_tells_its_instance(store):
    where = desk()
    async with errands(where, store=store) as runtime:
        queue = runtime.queue("work")
        await queue.pause()
        await runtime.publish(Asked("e-1"))
        await queue.cancel("runtime-test.errand/e-1/1/0")
        await runtime.settled()
        assert (await errand_of(runtime)).failed == ("cancelled",)
        (letter,) = await letters(runtime)
        assert letter.reason == "cancelled"
        await queue.resume()
        await runtime.settled()
        assert where.jobs == []
        with pytest.raises(UnknownJob, match=r"no job 'nope'"):
            await queue.cancel("nope")


@quickly
async def test_cancelling_a_running_job_is_seen_by_its_worker():
    seen = []

    async def deed(command, job):
        try:
            await asyncio.Event().wait()
        finally:
            seen.append(job.is_cancelled)

    where = desk(do=deed)
    async with errands(where) as runtime:
        await runtime.publish(Asked("e-1"))
        await until(lambda: bool(where.jobs))
        await runtime.queue("work").cancel(where.jobs[0].key)
        await runtime.settled()
        assert (await errand_of(runtime)).failed == ("cancelled",)
    assert seen == [True]
    assert where.attempts() == [1]


@quickly
async def test_cancelling_a_thread_is_seen_through_the_job():
    gate = threading.Event()

    def deed(command, job):
        while not job.is_cancelled:
            gate.wait(0.001)
        gate.set()

    where = desk(do=deed)
    async with errands(where, threaded_queue()) as runtime:
        await runtime.publish(Asked("e-1"))
        await until(lambda: bool(where.jobs))
        await runtime.queue("work").cancel(where.jobs[0].key)
        await runtime.settled()
        assert (await errand_of(runtime)).failed == ("cancelled",)
        await asyncio.to_thread(gate.wait)


@quickly
async def test_stopping_waits_for_the_workers_and_their_results_are_applied(store):
    gate = asyncio.Event()

    async def deed(command, job):
        await gate.wait()
        return Done(command.id)

    where = desk(do=deed)
    async with errands(where, store=store) as runtime:
        await runtime.publish(Asked("e-1"))
        await until(lambda: bool(where.jobs))
        asyncio.get_running_loop().call_later(0.01, gate.set)
    async with errands(where, store=reopened(store)) as runtime:
        assert (await errand_of(runtime)).done == ("do",)
    assert where.attempts() == [1]


@quickly
async def test_a_job_that_outlives_the_budget_of_the_stop_is_done_by_the_next_runtime(store):
    where = desk(do=lambda command, job: asyncio.Event().wait())
    async with errands(where, store=store, shutdown_timeout_s=0.02) as runtime:
        await runtime.publish(Asked("e-1"))
        await until(lambda: bool(where.jobs))
    where.deeds["do"] = lambda command, job: Done(command.id)
    async with errands(where, store=reopened(store)) as runtime:
        await runtime.settled()
        assert (await errand_of(runtime)).done == ("do",)
    assert [job.key for job in where.jobs] == [where.jobs[0].key] * 2


@quickly
async def test_jobs_are_listed_with_what_they_wait_for():
    clock = FreeClock()
    where = desk(do=lambda command, job: 1 / 0)
    async with errands(where, queue_of(retry=Fixed(60)), clock=clock) as runtime:
        await runtime.publish(Asked("e-1"))
        await runtime.settled()
        (job,) = [job async for job in runtime.queue("work").jobs()]
        assert (job.attempts, job.is_running, job.content) == (1, False, Do("e-1"))
        assert job.due_at == clock.now + timedelta(seconds=60)
        assert "ZeroDivisionError" in job.error


@quickly
async def test_jobs_of_a_queue_nobody_performs_are_kept(store):
    elsewhere = WorkQueue("elsewhere")
    async with errands(desk(), queue_of(), elsewhere, store=store) as runtime:
        await runtime.enqueue(Do("x"), queue="elsewhere")
        await runtime.settled()
        (row,) = await store.inner.outbox()
        assert row.target == "elsewhere"
    assert Errand.name
